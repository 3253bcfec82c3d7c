"""Fixed bets against "nothing moved" on each feature, and the Shiryaev-Roberts sum that gathers them.

Each bet is an e-value: its mean is at most 1 while the score is standard normal. M <- (M + 1) e is then an
e-detector (Shin, Ramdas, Rinaldo: E-detectors, 2024): on average it takes at least h studies until M reaches h
by chance, and an average of e-detectors is one again. That is why the threshold needs no simulation.
"""

from typing import Final

import numpy as np

from monitoring.detect.ranks import Floats

DIRECTIONS: Final = ("up", "down", "up", "down", "wider")
"""What each bet says when it wins: location +-0.5 and +-1 sd, scale 1.6."""

CAP = 1e12
WIDER = 10
LOCATION: Final = np.array([0.5, -0.5, 1.0, -1.0])
_SCALE = 1.6


def log_bets(w: Floats, n: Floats, phi: Floats) -> Floats:
    """Natural log of the five e-values, [F, 5], of whitened scores ``w`` [F] ranked among ``n`` [F] rows.

    d = 1/sqrt(n) pays for the error of a small reference, which shifts all its later ranks the same way
    (a cheap form of Shaer et al. 2026; measured, not proven). Of the spread, rows with lag-1 correlation ``phi`` [F]
    tell as little as n (1 - phi^2) / (1 + phi^2) independent ones.
    """
    score, d = w[:, None], 1 / np.sqrt(n)[:, None]
    location = LOCATION * score - np.abs(LOCATION) * d - LOCATION**2 / 2
    known = ((1 + phi**2) / (1 - phi**2))[:, None] ** 0.5
    scale = score**2 / 2 * (1 - 1 / _SCALE**2) - np.log(_SCALE * (1 + d * known))
    return np.concatenate([location, scale], axis=1)


def gather(m: Floats, log_e: Floats) -> Floats:
    """The Shiryaev-Roberts step (M + 1) e, kept finite."""
    return np.minimum((m + 1) * np.exp(log_e), CAP)


def direction(m: Floats, z: Floats) -> str:
    """Which way a feature moved, from its sums and its scores [T] since then (NaN unknown): up, down or wider.

    A jump far beyond the reference wins the bet on scale too, so wider needs ten times the evidence of a side, and
    scores that lie apart from each other by more than from where they were.
    """
    best = {way: max(m[i] for i, name in enumerate(DIRECTIONS) if name == way) for way in DIRECTIONS}
    side = max(("up", "down"), key=best.__getitem__)
    z = z[~np.isnan(z)]
    apart = len(z) > 0 and bool(z.var() > z.mean() ** 2)
    return "wider" if apart and best["wider"] > WIDER * best[side] else side
