"""Makes a lesion net's probabilities mean something, on generated cases only: slope by likelihood, offset by best Dice.

After this the best threshold on generated cases is about .5, so a clinic that moves it knows which way it leans.
The two numbers are folded into the last layer: nothing is added to the network (Platt 1999; Guo et al. 2017,
arXiv 1706.04599, for the temperature).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy import optimize

from serving.engine.grids import sigmoid
from serving.engine.ms_lesion import NOTHING, OUTSIDE, directions_of, lesion_logit
from serving.engine.outcome import Array, Mask, Net
from serving.training.donors import TEST_DONORS, TEST_PEOPLE, load_donors, load_host
from serving.training.evaluate import dice
from serving.training.labelmaps import HELD_MAPS

if TYPE_CHECKING:
    from serving.training.render_flair import Flair

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
BANDS: dict[str, tuple[float, float]] = {"faint": (0.12, 0.22), "middle": (0.22, 0.38), "strong": (0.38, 0.6)}
LAST = ("1.final_conv.weight", "1.final_conv.bias")


@dataclass(frozen=True, slots=True)
class Case:
    """A generated FLAIR (peak - 1, -1 outside) [X,Y,Z] at 1 mm, its lesions, how bright they were drawn.

    directions: the slice directions in which such a scan is read at use.
    """

    image: Array
    lesion: Mask
    band: str
    directions: tuple[int, ...] = (0, 1, 2)


def generated_cases(root: Path, count: int, seed: int, unseen_donors: bool) -> list[Case]:
    """Cases on anatomies 11 and 12, which no training run saw; the same for a seed.

    Every anatomy with its lesions is drawn once in each contrast band, so the bands differ in contrast only.
    unseen_donors: lesions of people kept out of training too (for scoring), else of training donors (for calibration).
    People 07, 19 and 26 are in neither. Each case has all lesions of one person, every person as likely: thresholds
    chosen on heavier cases than a clinic has overestimate a light load many times.
    """
    from serving.training.render_flair import flair_image, flair_scene

    hosts = [load_host(root, number) for number in HELD_MAPS]
    people = TEST_DONORS if unseen_donors else None
    donors = load_donors(root, people, TEST_PEOPLE + (() if unseen_donors else TEST_DONORS))
    out: list[Case] = []
    while len(out) < count:
        rng = np.random.default_rng((seed, len(out)))
        scene = flair_scene(rng, hosts[len(out) // len(BANDS) % 2], donors, one_person=True)
        out += [_as_at_use(flair_image(rng, scene, limits), band) for band, limits in BANDS.items()]
    return out[:count]


def _as_at_use(flair: Flair, band: str) -> Case:
    image, lesion, across = flair
    box = ndi.find_objects((image > -1).astype(np.uint8))[0]
    read = directions_of(across[1], across[0]) if across is not None else (0, 1, 2)
    return Case(np.ascontiguousarray(image[box]), np.ascontiguousarray(lesion[box]), band, read)


def direction_logits(net: Net, cases: list[Case]) -> list[Array]:
    """Logits [D,X,Y,Z] of each case, one volume a direction read: all that calibration needs of a net."""
    return [case_logits(net, case) for case in cases]


def case_logits(net: Net, case: Case) -> Array:
    """Logits [D,X,Y,Z] of one case."""
    logits = np.stack([lesion_logit(case.image, net, axis) for axis in case.directions])
    return np.where(case.image > OUTSIDE, logits, NOTHING)


def mean_chances(logits: list[Array], slope: float = 1.0, offset: float = 0.0) -> list[Array]:
    """Probability as at use: of slope x logit + offset, the mean over directions."""
    factor, shift = np.float32(slope), np.float32(offset)
    return [
        np.asarray(sigmoid(factor * each.mean(0) + shift) * (each[0] > NOTHING), np.float32)
        for each in logits
    ]


def mean_dice(found: list[Array], cases: list[Case], threshold: float) -> float:
    """Mean Dice over the cases that have lesions."""
    pairs = zip(found, cases, strict=True)
    return float(
        np.mean([dice(chance > threshold, case.lesion) for chance, case in pairs if case.lesion.any()])
    )


def best_threshold(found: list[Array], cases: list[Case]) -> tuple[float, float]:
    """Threshold with the best mean Dice over cases that have lesions, and that Dice."""
    return max(((cut, mean_dice(found, cases, cut)) for cut in THRESHOLDS), key=lambda pair: pair[1])


def fit_slope(logits: list[Array], cases: list[Case]) -> float:
    """Slope that makes the probabilities of single directions most likely (its offset is fitted along)."""
    inside = [case.image > -1 for case in cases]
    logit = np.concatenate([each[-1][there][::7] for each, there in zip(logits, inside, strict=True)])
    truth = np.concatenate([case.lesion[there][::7] for case, there in zip(cases, inside, strict=True)])

    def loss(pair: NDArray[np.float64]) -> float:
        score = pair[0] * logit.astype(np.float64) + pair[1]
        return float(np.mean(np.logaddexp(0, score) - truth * score))

    found = optimize.minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead")
    return float(np.clip(found.x[0], 0.3, 3.0))


def calibrate(logits: list[Array], cases: list[Case]) -> tuple[float, float]:
    """Slope and offset to fold in: the offset with the best mean Dice at the threshold .5, to a quarter."""
    slope = fit_slope(logits, cases)

    def score(offset: float) -> float:
        return mean_dice(mean_chances(logits, slope, offset), cases, 0.5)

    offset = 0.0
    for step in (4.0, 1.0, 0.25):
        offset = max((offset + step * turn for turn in range(-4, 5)), key=score)
    return slope, offset


def folded(weights: dict[str, NDArray[Any]], slope: float, offset: float) -> dict[str, NDArray[np.float32]]:
    """The weights of a net whose logit is slope x logit + offset, rounded to what float16 holds."""
    out = {name: value.astype(np.float32) for name, value in weights.items()}
    out[LAST[0]] = out[LAST[0]] * np.float32(slope)
    out[LAST[1]] = out[LAST[1]] * np.float32(slope) + np.float32(offset)
    return {name: value.astype(np.float16).astype(np.float32) for name, value in out.items()}
