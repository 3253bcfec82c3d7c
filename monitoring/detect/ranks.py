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


def own_scores(reference: Floats, groups: Sequence[int]) -> Floats:
    """Normal scores [N, F] of reference rows in time order, each ranked by mid-rank within its own group."""
    scores = np.full(reference.shape, np.nan)
    of = np.asarray(groups)
    for group in np.unique(of):
        rows = reference[of == group]
        middle = [(rows < row).sum(0) + 0.5 * (rows == row).sum(0) for row in rows]
        share = np.array(middle) / np.maximum(present(rows), 1)
        scores[of == group] = np.where(np.isnan(rows), np.nan, normal(share))
    return scores


def autocorrelation(scores: Floats) -> Floats:
    """phi [F] of reference scores [N, F]: lag-1 correlation, half own, half the features' median, in [0, 0.8].

    Half the median because 50 rows say little about one feature; 1.5/N undoes the estimate's bias.
    """
    filled = np.nan_to_num(scores)
    power = np.maximum((filled**2).sum(0), EDGE)
    own = (filled[1:] * filled[:-1]).sum(0) / power + 1.5 / np.maximum(present(scores), 1)
    return np.asarray(np.clip(0.5 * own + 0.5 * np.median(own), 0.0, PHI_MAX))


def last_known(scores: Floats) -> Floats:
    """The latest score of each feature, [F]; 0 for a feature that never had one."""
    last = np.zeros(scores.shape[1])
    for row in scores:
        last = np.where(np.isnan(row), last, row)
    return last
