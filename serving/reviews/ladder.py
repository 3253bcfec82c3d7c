"""What an answer would have been at other thresholds: kept with it, and scored when a reader's mask comes in.

An answer's probabilities are kept as levels, the number of cuts that each voxel exceeds; the cuts are steps in logits
around the version's own threshold, which is what tier T1 of a cure moves. A review keeps one Dice a step, so monitoring
can try a recalibration without a picture. Tasks of one label alone: with several, one threshold says nothing.

What is kept gives the delivered mask again, to the voxel, where a task only cuts and finishes as `FINISH` says. Two
roundings stood against that and are undone: a chance that float16 has put on the threshold is on the mask's side, and
a part of exactly the smallest size is a lesion where the delivered mask says so.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serving.engine.grids import one_solid_part, spacing_of, turn_of
from serving.engine.ms_lesion import parts_of
from serving.imaging.volume import Volume
from serving.reviews import masks
from serving.reviews.lattice import Grid, Labels

STEPS: Final = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Logits by which the threshold moves; below 0 more is marked."""
OWN: Final = STEPS.index(0.0)
"""The place of the version's own threshold; levels above it are marked."""
SAME: Final = 0.98
"""Dice that the mask at step 0 must have with the delivered one; below it the task did more than cut, and nothing
is claimed of other thresholds."""
ROUNDED: Final = 1e-6
"""By what share two readings of one grid may differ in a voxel's volume: edges are multiplied in another order, and
headers round. At 1 x 1 x 5 mm it decides whether one voxel is 5 mm3 and stays, or 4.999... and goes."""
Mask = NDArray[np.bool_]
FINISH: Final[Mapping[str, Callable[[Mask, float, Mapping[str, Any]], Mask]]] = {
    "ms-lesion": lambda mask, voxel_mm3, parameters: parts_of(
        mask, voxel_mm3, float(parameters["smallest_mm3"])
    )[0],
    "brain-extraction": lambda mask, _mm3, _parameters: one_solid_part(mask),
}
"""What a task does to a mask after the cut; a task that is not here does nothing."""


def keep(
    probability: NDArray[np.float16], delivered: Labels, volume: Volume, model: Mapping[str, Any]
) -> bytes | None:
    """The levels of an answer [I,J,K] on the grid of ``volume``, packed; None where no single threshold made it.

    ``delivered`` [I,J,K] was cut before the chance was rounded to float16. Rounding keeps the order, so only a chance
    that is now the rounded threshold itself may have changed sides, and the mask knows which.
    """
    cuts = _cuts(model.get("parameters", {}))
    if cuts is None or len(model["labels"]) != 1:
        return None
    levels = np.zeros(probability.shape, np.uint8)
    some = probability > cuts[0]
    levels[some] = np.searchsorted(cuts, probability[some].astype(np.float64), side="left")
    unsure = probability == np.float16(np.float32(model["parameters"]["threshold"]))
    levels[unsure] = np.where(delivered[unsure] > 0, OWN + 1, OWN)
    return masks.encode(levels, Grid(volume.shape, volume.affine), level=1)


def dice_by_step(
    levels: Labels, truth: Labels, delivered: Labels, grid: Grid, task: str, parameters: Mapping[str, Any]
) -> dict[str, float] | None:
    """Dice with ``truth`` at each step; all three arrays [I,J,K] lie on ``grid``.

    None where the levels do not give the delivered mask at step 0.
    """
    found = masks_by_step(levels, delivered, grid, task, parameters)
    if _dice(found[0.0], delivered > 0) < SAME:
        return None
    wanted = truth > 0
    # At step 0 stands what was delivered, not what was packed: it is this review's own Dice.
    return {f"{step:g}": _dice(delivered > 0 if step == 0 else its, wanted) for step, its in found.items()}


def masks_by_step(
    levels: Labels, delivered: Labels, grid: Grid, task: str, parameters: Mapping[str, Any]
) -> dict[float, Mask]:
    """The mask [I,J,K] that the task would have delivered at each step; both arrays lie on ``grid``."""
    finish = FINISH.get(task, _as_cut)
    voxel_mm3 = _voxel_mm3(grid, lambda mm3: finish(levels > OWN, mm3, parameters), delivered > 0)
    return {
        step: np.asarray(finish(levels > place, voxel_mm3, parameters), np.bool_)
        for place, step in enumerate(STEPS)
    }


def _voxel_mm3(grid: Grid, made: Callable[[float], Mask], delivered: Mask) -> float:
    """The volume of a voxel, mm3, as the engine computed it: of all within `ROUNDED` the one that gives its mask."""
    nominal = float(np.prod(spacing_of(grid.affine, turn_of(grid.affine))))
    sizes = (nominal, nominal * (1 + ROUNDED), nominal * (1 - ROUNDED))
    return next((mm3 for mm3 in sizes if np.array_equal(made(mm3), delivered)), nominal)


def _as_cut(mask: Mask, _mm3: float, _parameters: Mapping[str, Any]) -> Mask:
    return mask


def _cuts(parameters: Mapping[str, Any]) -> NDArray[np.float64] | None:
    threshold = parameters.get("threshold")
    if not isinstance(threshold, int | float) or not 0 < threshold < 1:
        return None
    logit = np.log(threshold / (1 - threshold))
    return np.asarray(1 / (1 + np.exp(-(logit + np.array(STEPS)))), np.float64)


def _dice(one: Mask, other: Mask) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
