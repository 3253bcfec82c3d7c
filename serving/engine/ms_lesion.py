"""Task ms-lesion: white matter lesions on FLAIR, slice by slice with two neighbours on each side.

A raw head is given its brain mask first (stage `brain`); a scan that comes skull-stripped is recognised and keeps
its own outline. The network sees the brain at 1 mm, divided by the histogram peak of normal tissue
(`flair.peak_of`). Scans of about 1 mm are read in three directions and averaged; thick slices only across, as they
carry nothing in the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.brain_extraction import brain_of, doubts
from serving.engine.flair import peak_of
from serving.engine.grids import filled, planes_read, shrink, sigmoid, spacing_of, spread, turn_of
from serving.engine.outcome import Array, Mask, Net, Parameters, Segmentation

if TYPE_CHECKING:
    from serving.imaging.volume import Volume

HALF = 2  # neighbouring slices on each side
BATCH = 16
MULTIPLE = 32  # the network folds 2 x 2 pixels and then halves four times
OUTSIDE = np.float32(-1)
NOTHING = np.float32(-20)  # the logit of surely no lesion
THIN_MM = 2.0  # slices up to this are read in three directions
NEIGHBOURS = np.ones((3, 3, 3))


def lesion_chance(
    image: Array, net: Net, directions: tuple[int, ...], read: NDArray[np.intp] | None = None
) -> Array:
    """Probability [X,Y,Z] of the mean logit over slice directions.

    The mean of logits and not of probabilities: a fundus of the cortex looks like a lesion in one direction and like
    cortex in the others, and one sure no outweighs a maybe.
    image: FLAIR / peak - 1 on 1 mm voxels, -1 outside the brain. net: [16,5,h,w] float32 -> logits [16,1,h,w].
    read: the slices across the one direction whose answer is wanted; the others say no lesion.
    """
    total = np.zeros(image.shape, np.float32)
    for axis in directions:
        total += lesion_logit(image, net, axis, read)
    return np.where(image > OUTSIDE, sigmoid(total / np.float32(len(directions))), 0).astype(np.float32)


def directions_of(thickest_mm: float, axis: int) -> tuple[int, ...]:
    """The slice directions to read: all three of thin scans; only across thick slices, in whose planes little is."""
    return (0, 1, 2) if thickest_mm <= THIN_MM else (axis,)


def lesion_logit(image: Array, net: Net, axis: int, read: NDArray[np.intp] | None = None) -> Array:
    """Logits [X,Y,Z] of the slices along one axis, or of those in ``read``; NOTHING where a slice shows no brain."""
    return np.moveaxis(_one_direction(np.moveaxis(image, axis, 0), net, read), 0, axis)


def _one_direction(image: Array, net: Net, read: NDArray[np.intp] | None) -> Array:
    height, width = image.shape[1:]
    edges = [(HALF, HALF), (0, -height % MULTIPLE), (0, -width % MULTIPLE)]
    padded = np.pad(image, edges, constant_values=OUTSIDE)
    live = np.flatnonzero((image > OUTSIDE).any((1, 2)))
    live = live if read is None else np.intersect1d(live, read)
    logits = np.full(image.shape, NOTHING, np.float32)
    for start in range(0, len(live), BATCH):
        rows = live[start : start + BATCH]
        # always full batches: a runtime may compile anew for every shape
        take = np.pad(rows, (0, BATCH - len(rows)), mode="edge")
        stacks = np.stack([padded[row : row + 2 * HALF + 1] for row in take])
        answer = net(np.ascontiguousarray(stacks, np.float32))
        logits[rows] = answer[: len(rows), 0, :height, :width]
    return logits


def already_stripped(image: Array, brain: Mask) -> Mask | None:
    """The scan's own outline where it comes skull-stripped, else None.

    Stripped means: a good part of the image is exactly zero, and what is not zero is brain for the brain network too.
    """
    shown = filled(image > 0)
    count = int(shown.sum())
    if count == 0 or count > 0.8 * image.size or not brain.any():
        return None
    return shown if int((shown & brain).sum()) > 0.85 * count else None


def scaled(image: Array, brain: Mask) -> Array:
    """FLAIR / histogram peak of the brain - 1, clipped to 2; -1 outside the brain. Any grid."""
    peak = peak_of(image[brain])
    return np.where(brain, (image / np.float32(peak) - 1).clip(-1, 2), OUTSIDE).astype(np.float32)


def seen(image: Array, brain: Mask, spacing: NDArray[np.float64]) -> tuple[Array, Mask, tuple[slice, ...]]:
    """The brain as the network sees it: scaled image and mask [X,Y,Z] at 1 mm, and the brain's box on the own grid."""
    box = ndi.find_objects(brain.astype(np.uint8))[0]
    mask = shrink(brain[box].astype(np.float32), spacing, 1.0) > 0.5
    return scaled(shrink(image[box], spacing, 1.0), mask), mask, box


def chance_of(image: Array, brain: Mask, spacing: NDArray[np.float64], net: Net) -> Array:
    """Lesion probability on the grid of a FLAIR [X,Y,Z] in RAS order with its brain mask."""
    fine, mask, box = seen(image, brain, spacing)
    if not mask.any():
        return np.zeros(image.shape, np.float32)
    axis = int(np.argmax(spacing))
    directions = directions_of(float(spacing.max()), axis)
    shape, read = image[box].shape, None
    if len(directions) == 1:
        read = planes_read(float(spacing[axis]), 1.0, fine.shape[axis], shape[axis])
    chance = np.zeros(image.shape, np.float32)
    chance[box] = spread(lesion_chance(fine, net, directions, read), spacing, 1.0, shape)
    return np.where(brain, chance, 0).astype(np.float32)


def parts_of(mask: Mask, voxel_mm3: float, smallest_mm3: float) -> tuple[Mask, int]:
    """The mask without 26-neighbour parts below `smallest_mm3`, and how many parts are left."""
    parts, count = ndi.label(mask, NEIGHBOURS)
    size = np.bincount(parts.ravel(), minlength=count + 1) * voxel_mm3
    keep = size >= smallest_mm3
    keep[0] = False
    return np.asarray(keep[parts], np.bool_), int(keep.sum())


def segment(volume: Volume, nets: Mapping[str, Net], parameters: Parameters) -> Segmentation:
    """Label 1 = white matter lesion on the volume's grid, which may be oblique and have thick slices.

    nets: stages `brain` and `lesion`. parameters: brain (voxel_mm, threshold), threshold, smallest_mm3.
    Numbers: lesion_ml, lesion_count, brain_ml, icv_ml (icv only for scans with skull).
    """
    turn = turn_of(volume.affine)
    spacing = spacing_of(volume.affine, turn)
    image = np.maximum(np.ascontiguousarray(turn.apply(volume.voxels), np.float32), 0)
    brain, icv, _ = brain_of(image, spacing, nets["brain"], parameters["brain"])
    voxel_mm3 = float(np.prod(spacing))
    own = already_stripped(image, brain)
    numbers, warnings = {}, []
    if own is None:
        numbers["icv_ml"] = float(icv.sum()) * voxel_mm3 / 1000
    else:
        brain = own
        warnings.append("The scan came skull-stripped: its own outline is the brain mask.")
    numbers["brain_ml"] = float(brain.sum()) * voxel_mm3 / 1000
    chance = np.zeros(image.shape, np.float32)
    if brain.any():
        chance = chance_of(image, brain, spacing, nets["lesion"])
    lesion, count = parts_of(
        chance > float(parameters["threshold"]), voxel_mm3, float(parameters["smallest_mm3"])
    )
    numbers |= {"lesion_ml": float(lesion.sum()) * voxel_mm3 / 1000, "lesion_count": float(count)}
    return Segmentation(
        mask=turn.undo(lesion.astype(np.uint8)),
        brain=turn.undo(brain.astype(np.uint8)),
        probability=turn.undo(chance.astype(np.float16)),
        numbers=numbers,
        warnings=(*warnings, *doubts(brain, numbers["brain_ml"])),
    )
