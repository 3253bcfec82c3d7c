"""Where a study lies in the reference of its own scanner group: a randomised rank, as a whitened normal score.

A rank among exchangeable rows is uniform whatever the feature's own distribution is (Vovk, Gammerman, Shafer:
Algorithmic Learning in a Random World, 2022), so no feature needs a log, a unit or a fitted curve.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

EDGE = 1e-6
PHI_MAX = 0.8


def uniforms(study: str, features: Sequence[str], epoch: int) -> Floats:
    """One number in (0, 1) per feature, [F], made from names alone: a replay draws the very same ones."""
    keys = (f"{study}\x1f{name}\x1f{epoch}".encode() for name in features)
    drawn = [int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 11 for key in keys]
    return (np.array(drawn, dtype=np.float64) + 0.5) / 2.0**53


def present(reference: Floats) -> Counts:
    """How many values each feature has, [F], in reference rows [N, F] where NaN is missing."""
    return np.asarray(np.add.reduce(~np.isnan(reference), axis=0), dtype=np.int64)


def rank(reference: Floats, n: Counts, row: Floats, u: Floats) -> Floats:
    """Randomised rank in (0, 1) of a row [F] among reference rows [N, F] of which ``n`` [F] are present.

    Uniform when row and reference are exchangeable, because ``u`` [F] decides among equals; a mid-rank is not.
    NaN where the row's value is missing.
    """
    below = np.add.reduce(reference < row, axis=0)
    equal = np.add.reduce(reference == row, axis=0)
    p = (below + u * (1 + equal)) / (n + 1)
    return np.where(np.isnan(row), np.nan, np.clip(p, EDGE, 1 - EDGE))


def normal(p: Floats) -> Floats:
    """The standard normal quantile of each rank."""
    return np.asarray(ndtri(p), dtype=np.float64)


def whiten(z: Floats, before: Floats, phi: Floats) -> Floats:
    """What a score says beyond the score before it, all [F]: AR(1) residual with unit variance."""
    return (z - phi * before) / np.sqrt(1 - phi * phi)


def mid_scores(rows: Floats) -> Floats:
    """Normal scores [N, F] of the rows of one group, each by its mid-rank among all of them; NaN stays."""
    scores = np.full(rows.shape, np.nan)
    for f, column in enumerate(rows.T):
        there = ~np.isnan(column)
        values = np.sort(column[there])
        below, upto = (np.searchsorted(values, column[there], side=side) for side in ("left", "right"))
        scores[there, f] = normal((below + upto) / 2 / len(values))
    return scores


def own_scores(reference: Floats, groups: Sequence[int]) -> Floats:
    """Normal scores [N, F] of reference rows in time order, each ranked by mid-rank within its own group."""
    scores = np.full(reference.shape, np.nan)
    of = np.asarray(groups)
    for group in np.unique(of):
        scores[of == group] = mid_scores(reference[of == group])
    return scores


def autocorrelation(scores: Floats, groups: int) -> Floats:
    """phi [F] of reference scores [N, F]: lag-1 correlation, half own, half the features' median, in [0, 0.8].

    Half the median because 50 rows say little about one feature. The estimate is too small by (1 + 3 phi) / N (Kendall:
    Note on bias in the estimation of autocorrelation, Biometrika 1954), for 1 + phi of which the mean that the scores
    were freed of is to blame: each of ``groups`` has its own.
    """
    filled = np.nan_to_num(scores)
    power = np.maximum((filled**2).sum(0), EDGE)
    own = (filled[1:] * filled[:-1]).sum(0) / power
    own += (groups * (1 + own) + 2 * own) / np.maximum(present(scores), 1)
    return np.asarray(np.clip(0.5 * own + 0.5 * np.median(own), 0.0, PHI_MAX))


def last_known(scores: Floats) -> Floats:
    """The latest score of each feature, [F]; 0 for a feature that never had one."""
    last = np.zeros(scores.shape[1])
    for row in scores:
        last = np.where(np.isnan(row), last, row)
    return last
