"""Since when: at which row the change most likely began, and the range in which it did with 90 %.

The bets that raise the flag also date it. M is the sum over all rows of the bets from that row on (Shiryaev 1963,
Roberts 1966), so each term is the evidence for a change at that row. A feature's evidence is the mean over its seven
bets; each of F features moved with chance 1/F, and all that moved did so at once. With every row as likely beforehand
this is the posterior of a single change point (Smith: A Bayesian approach to inference about a change-point,
Biometrika 1975); its mode is the estimate. One strong feature alone would date the change by its own luck.

Features that move together say the same thing twice. The range pays for it: the log-evidence is divided by how much
the moved ones' sum varies beyond independent ones (Pauli, Racugno, Ventura: Bayesian composite marginal likelihoods,
Statistica Sinica 2011).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.detect import bets, ranks
from monitoring.detect.ranks import Counts, Floats

SHARE = 0.9
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Since:
    """Rows of the epoch: the likeliest, and the range that holds the change with 90 %."""

    row: int
    low: int
    high: int


def since(scores: Floats, groups: Counts, n: Counts, phi: Floats, first: int) -> Since | None:
    """When the rows of a history began to differ.

    ``scores`` [T+1, F] are normal scores in row order, NaN where nothing was ranked; the first line only precedes the
    others. ``groups`` [T] name each later line's scanner group, ``n`` [G, F] how many values its reference has,
    ``phi`` [F] the lag-1 correlation; the first of the T lines is row ``first``. None where nothing was ranked.
    """
    known = ~np.isnan(scores[1:])
    candidates = known.any(axis=1)
    if not candidates.any():
        return None
    w = np.where(known, ranks.whiten(scores[1:], _before(scores), phi), 0.0)
    own = _evidence(w, known, n[groups].astype(np.float64))
    together = _likely(own).sum(axis=1)
    best = int(np.where(candidates, together, -np.inf).argmax())
    weight = np.where(candidates, np.exp((together - together[best]) / _shared(w, known, own, best)), 0.0)
    below = weight.cumsum() / weight.sum()
    low, high = (int(np.searchsorted(below, tail)) for tail in ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return Since(first + best, first + min(low, best), first + max(high, best))


def _before(scores: Floats) -> Floats:
    """The latest known score before each line but the first, [T, F]."""
    before = scores[:-1].copy()
    for line in range(1, len(before)):
        before[line] = np.where(np.isnan(before[line]), before[line - 1], before[line])
    return before


def _evidence(w: Floats, known: NDArray[np.bool_], n: Floats) -> Floats:
    """Log of each feature's evidence for a change at each row, [T, F]: the mean of its bets from there on."""
    log_e = bets.log_bets(w.ravel(), np.maximum(n, 1).ravel()).reshape(*w.shape, -1)
    from_here = np.where(known[:, :, None], log_e, 0.0)[::-1].cumsum(axis=0)[::-1]
    return np.asarray(np.logaddexp.reduce(from_here, axis=2) - np.log(from_here.shape[2]))


def _likely(own: Floats) -> Floats:
    """Log of the evidence [T, F] when each feature moved with chance 1/F."""
    width = own.shape[1]
    still = np.log1p(-1 / width) if width > 1 else -np.inf
    return np.asarray(np.logaddexp(still, own - np.log(width)))


def _shared(w: Floats, known: NDArray[np.bool_], own: Floats, best: int) -> float:
    """How often over the moved features say the same: variance of their sum over that of independent ones, from 1."""
    after = np.maximum(known[best:].sum(axis=0), 1)
    shift = w[best:].sum(axis=0) / after
    rest = w - np.where(known & (np.arange(len(w)) >= best)[:, None], shift, 0.0)
    size = np.sqrt(np.maximum((rest * rest).sum(axis=0), _TINY))
    side = np.sign(shift) * np.exp(own[best] - np.log(own.shape[1]) - _likely(own)[best])
    alone = float((side * side).sum())
    total = rest @ (side / size)
    return max(1.0, float(total @ total) / alone) if alone > 0 else 1.0
