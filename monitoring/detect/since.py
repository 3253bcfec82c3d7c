"""Since when: at which row the change most likely began, and the range in which it did with 90 %.

The bets that raise the flag also date it. M is the sum over all rows of the bets from that row on (Shiryaev 1963,
Roberts 1966), so each term is the evidence for a change at that row. A feature's evidence is the mean over its
bets; each of F features moved with chance 1/F, and all that moved did so at once. With every row as likely beforehand
this is the posterior of a single change point (Smith: A Bayesian approach to inference about a change-point,
Biometrika 1975); its mode is the estimate. One strong feature alone would date the change by its own luck.

Features that move together say the same thing twice. The range pays for it: the log-evidence is divided by how much
the moved ones' sum varies beyond independent ones (Pauli, Racugno, Ventura: Bayesian composite marginal likelihoods,
Statistica Sinica 2011).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.detect import bets, ranks
from monitoring.detect.ranks import Counts, Floats

SHARE = 0.9
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Since:
    """Rows of the epoch: the likeliest, and the range that holds the change with 90 %."""

    row: int
    low: int
    high: int
    moved: Floats
    """The chance, by its own evidence, that each feature moved there, [F], were it 1/F beforehand."""


def since(
    w: Floats, known: NDArray[np.bool_], beyond: Floats, groups: Counts, n: Floats, phi: Floats, first: int
) -> Since | None:
    """When the rows of a history began to differ.

    ``w`` [T, F] are whitened scores in row order, ``known`` [T, F] where something was ranked, ``beyond`` [T, F] what
    each says beyond the others. ``groups`` [T] name each line's scanner group, ``n`` [G, F] how many values its
    reference has, ``phi`` [F] the lag-1 correlation; the first line is row ``first``. None where nothing was ranked.
    """
    candidates = known.any(axis=1)
    if not candidates.any():
        return None
    values = n[groups]
    own = _evidence((w,), known, values, phi)
    together = _likely(_evidence((w, beyond), known, values, phi)).sum(axis=1)
    best = int(np.where(candidates, together, -np.inf).argmax())
    moved = np.exp(own[best] - np.log(own.shape[1]) - _likely(own)[best])
    weight = np.where(candidates, np.exp((together - together[best]) / _shared(w, known, moved, best)), 0.0)
    below = weight.cumsum() / weight.sum()
    low, high = (int(np.searchsorted(below, tail)) for tail in ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return Since(first + best, first + min(low, best), first + max(high, best), moved)


def whitened(scores: Floats, phi: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Residuals [T, F] of the later lines of a history [T+1, F], 0 where nothing was ranked, and where it was."""
    known = ~np.isnan(scores[1:])
    return np.where(known, ranks.whiten(scores[1:], _before(scores), phi), 0.0), known


def _before(scores: Floats) -> Floats:
    """The latest known score before each line but the first, [T, F]."""
    if not np.isnan(scores).any():
        return scores[:-1]
    lines = np.where(np.isnan(scores[:-1]), 0, np.arange(len(scores) - 1)[:, None])
    return np.take_along_axis(scores, np.maximum.accumulate(lines, axis=0), axis=0)


def _evidence(seen: Sequence[Floats], known: NDArray[np.bool_], n: Floats, phi: Floats) -> Floats:
    """Log of each feature's evidence for a change at each row, [T, F]: the mean of all bets from there on."""
    every = np.broadcast_to(phi, known.shape).ravel()
    log_e = [bets.log_bets(w.ravel(), np.maximum(n, 1).ravel(), every).reshape(*w.shape, -1) for w in seen]
    from_here = np.where(known[:, :, None], np.concatenate(log_e, axis=2), 0.0)[::-1].cumsum(axis=0)[::-1]
    return np.asarray(np.logaddexp.reduce(from_here, axis=2) - np.log(from_here.shape[2]))


def _likely(own: Floats) -> Floats:
    """Log of the evidence [T, F] when each feature moved with chance 1/F."""
    width = own.shape[1]
    still = np.log1p(-1 / width) if width > 1 else -np.inf
    return np.asarray(np.logaddexp(still, own - np.log(width)))


def _shared(w: Floats, known: NDArray[np.bool_], moved: Floats, best: int) -> float:
    """How often over the moved features say the same: variance of their sum over that of independent ones, from 1."""
    after = np.maximum(known[best:].sum(axis=0), 1)
    shift = w[best:].sum(axis=0) / after
    rest = w - np.where(known & (np.arange(len(w)) >= best)[:, None], shift, 0.0)
    size = np.sqrt(np.maximum((rest * rest).sum(axis=0), _TINY))
    side = np.sign(shift) * moved
    alone = float((side * side).sum())
    total = rest @ (side / size)
    return max(1.0, float(total @ total) / alone) if alone > 0 else 1.0
