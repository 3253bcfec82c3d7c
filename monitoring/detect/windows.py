"""Whether the latest rows differ from those before them: two-sample evidence for a change at each of many rows.

For every row of the history the mean from it on is compared with the level before it, and each comparison is a
likelihood ratio of a fixed shift against none. Their sum over the rows is a Shiryaev-Roberts statistic (see ``bets``).
The level before is not the reference's alone: it may have wandered a little and slowly, as seasons do. So the reference
counts as a prior of variance ``WANDER``^2, the rows before the change say the rest, and more than such a wander is not
forgiven, however slowly it comes. A change of the whole has no direction beforehand: each is as likely, at a fixed
length (the mean of the likelihood ratio over a sphere; Watson, Williams: Biometrika 1956).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import hyp0f1

from monitoring.detect import bets
from monitoring.detect.ranks import Counts, Floats

AGES: Final = np.unique(np.concatenate([np.arange(1, 12), 12 * 1.12 ** np.arange(25)]).astype(np.int64))
"""Rows from a change to now at which it is looked for, 1 to 182: each of the first ones, then ever fewer."""
WEIGHTS: Final = np.diff(AGES, prepend=0).astype(np.float64)
"""For how many rows each of them stands."""
WANDER = 0.3
"""How far the level of a score may lie from its reference's without being a change, in sd."""
LENGTH = 1.0
"""Of a change of the whole, in sd along its own direction."""
BLOCK = 16
"""Rows of a mean, whose scatter tells how much more such means differ than those of independent rows."""
_FEW = 6
"""Blocks below which their scatter says nothing."""
_TRIMMED = 1.05
"""What leaving the largest of about ten differences takes from their mean."""
_LOG_CAP = float(np.log(bets.CAP))
_FAR = 600.0
"""Where the sphere's mean would overflow; its evidence is far above the cap there."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The K places of a possible change in a history of T rows."""

    ages: Counts
    """Rows from the change to now, [K]."""
    shares: Floats
    """How much of them each scanner group is, [K, G]."""
    filled: float
    """How much of the history these rows fill, to 1."""
    spread: float
    """How much more the mean of some rows scatters than independent rows' would, from 1."""


def windows(y: Floats, groups: Counts, many: int, history: int) -> Windows:
    """Of uncorrelated scores ``y`` [T, F] and the group [T] of each, of ``many`` groups; T is ``history`` at most."""
    ages = AGES[: np.searchsorted(AGES, len(y), side="right")]
    shares = np.ones((len(ages), 1))
    if many > 1:
        of = groups[::-1, None] == np.arange(many)
        shares = of.cumsum(axis=0)[ages - 1] / ages[:, None]
    return Windows(ages, shares, len(y) / history, _spread(y))


def compare(
    its: Windows, x: Floats, known: NDArray[np.bool_] | None, n: Floats, wander: Floats
) -> tuple[Floats, Floats]:
    """The mean of ``x`` [T, C] since each place less the level before it, and how many rows that is worth, both [K, C].

    Unknown values count for nothing (``known`` None: all are). ``n`` [G, C]: values in each group's reference that are
    no row of ``x``.
    ``wander`` [C]: the variance that the level of a column may have.
    """
    if known is None:
        since, before = _split(x, its.ages)
        after = its.ages[:, None].astype(np.float64)
        rows_before = len(x) - after
    else:
        since, before = _split(x * known, its.ages)
        after, rows_before = _split(known.astype(np.float64), its.ages)
    error = its.shares**2 @ (1 / np.maximum(n, 1))
    by_rows = rows_before / its.spread
    level = 1 / ((1 - its.filled) / error + its.filled / (error + wander) + by_rows)
    shift = since / np.maximum(after, 1) - before / np.maximum(rows_before, 1) * by_rows * level
    return shift, 1 / (its.spread / np.maximum(after, 1) + level)


def location(shift: Floats, rows: Floats) -> Floats:
    """Log evidence of each fixed shift at each place and column of what ``compare`` gave, [K, C, 4]."""
    return np.asarray(rows[..., None] * (shift[..., None] * bets.LOCATION - bets.LOCATION**2 / 2))


def together(shift: Floats, rows: Floats) -> Floats:
    """Log evidence [K] of a shift in any direction of uncorrelated scores, from what ``compare`` gave of them."""
    worth = rows[:, 0]
    far = np.minimum(LENGTH * worth * np.sqrt((shift**2).sum(axis=1)), _FAR)
    return np.asarray(np.log(hyp0f1(shift.shape[1] / 2, far**2 / 4)) - worth * LENGTH**2 / 2)


def summed(log_e: Floats) -> Floats:
    """The sum over the rows of evidence at the places [K, ...], kept finite."""
    return np.asarray(np.minimum(np.tensordot(WEIGHTS[: len(log_e)], finite(log_e), axes=1), bets.CAP))


def finite(log_e: Floats) -> Floats:
    """Evidence of which the log is given, capped."""
    return np.asarray(np.exp(np.minimum(log_e, _LOG_CAP)))


def _split(x: Floats, ages: Counts) -> tuple[Floats, Floats]:
    """Sums of ``x`` [T, C] over the rows since each place and over those before it, both [K, C]."""
    since = np.add.reduceat(x[::-1][: ages[-1]], np.append(0, ages[:-1]), axis=0).cumsum(axis=0)
    return since, x.sum(axis=0) - since


def _spread(y: Floats) -> float:
    """From the differences of neighbouring means, of which a change touches but one: the largest is left out."""
    blocks = len(y) // BLOCK
    if blocks < _FEW:
        return 1.0
    means = y[len(y) - blocks * BLOCK :].reshape(blocks, BLOCK, -1).mean(axis=1)
    apart = (np.diff(means, axis=0) ** 2).mean(axis=1) * BLOCK / 2
    return max(1.0, _TRIMMED * float(np.sort(apart)[:-1].mean()))
