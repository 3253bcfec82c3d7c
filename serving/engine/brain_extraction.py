"""Task brain-extraction: the brain mask of any MR contrast, from one 3-D network on a 2.5 mm grid.

After SynthStrip (Hoopes et al., NeuroImage 2022, PMC9465771): trained on rendered heads only. The mask is tissue closed
over the sulci, so it holds sulcal CSF, with 1 mm of border. A second outline of the same network, tissue and all CSF,
gives the intracranial volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.grids import one_solid_part, shrink, sigmoid, spacing_of, spread, turn_of
from serving.engine.outcome import Array, Mask, Net, Parameters, Segmentation

if TYPE_CHECKING:
    from serving.imaging.volume import Volume

MASK, ICV = 1, 2  # outputs of the network; 0 is the bare hull, which only training uses
PLAUSIBLE_ML = (700.0, 2100.0)  # adult brain masks; outside, the answer is given with a warning


def unit(image: Array) -> Array:
    """Divide by the 99.5th percentile of the positive voxels and clip to 0..1.2; the same call in training."""
    image = np.maximum(image, np.float32(0))
    positive = image[image > 0]
    if positive.size < 100:
        return image
    top = float(np.quantile(positive[:: max(1, positive.size // 30000)], 0.995))
    return np.asarray((image / max(top, 1e-6)).clip(0, 1.2), np.float32)


def head_box(image: Array) -> tuple[slice, ...]:
    """Where the head lies in an image of `unit` on the network's grid, with up to 3 voxels around it."""
    found = ndi.find_objects(ndi.binary_opening(image > 0.06).astype(np.uint8))
    whole = tuple(slice(0, n) for n in image.shape)
    return tuple(
        slice(max(0, side.start - 3), min(n, side.stop + 3))
        for side, n in zip(found[0] if found else whole, image.shape, strict=True)
    )


def edges(shape: tuple[int, ...], margin: int) -> list[tuple[int, int]]:
    """Voxels of nothing on both sides of each axis: `margin`, and more at the end up to a multiple of 16.

    The network pools by two four times. Without a margin it cannot tell a field of view that ends inside the brain
    from the border of its own grid: it lost 9 mm of the cerebellum there.
    """
    return [(margin, margin + -(n + 2 * margin) % 16) for n in shape]


def outlines(
    image: Array, spacing: NDArray[np.float64], net: Net, voxel: float, margin: int = 0, mirror: bool = True
) -> Array:
    """Probability [3,X,Y,Z] of hull, mask and icv on the grid of `image` (RAS order, mm `spacing`).

    net: [1,1,x,y,z] float32 -> logits [1,3,x,y,z]. margin: see `edges`; 0 for networks that were trained without.
    mirror: average with the left-right mirrored head.
    """
    small = unit(shrink(image, spacing, voxel))
    box = head_box(small)
    head = small[box]
    batch = np.pad(head, edges(head.shape, margin))[None, None]
    logit = net(np.ascontiguousarray(batch))
    if mirror:
        logit = (logit + net(np.ascontiguousarray(batch[:, :, ::-1]))[:, :, ::-1]) / np.float32(2)
    chance = np.zeros((logit.shape[1], *small.shape), np.float32)
    inner = tuple(slice(margin, margin + n) for n in head.shape)
    chance[(slice(None), *box)] = sigmoid(logit[0][(slice(None), *inner)])
    return np.stack([spread(each, spacing, voxel, image.shape) for each in chance])


def brain_of(
    image: Array, spacing: NDArray[np.float64], net: Net, parameters: Parameters
) -> tuple[Mask, Mask, Array]:
    """Brain mask, intracranial mask and the brain's probability for an image in RAS order."""
    margin = int(parameters.get("margin", 0))
    chance = outlines(image, spacing, net, float(parameters["voxel_mm"]), margin)
    brain = one_solid_part(chance[MASK] > float(parameters["threshold"]))
    return brain, one_solid_part(chance[ICV] > 0.5) | brain, chance[MASK]


def doubts(brain: Mask, brain_ml: float) -> tuple[str, ...]:
    """What a reader should know about a brain mask (RAS order)."""
    notes = []
    if not PLAUSIBLE_ML[0] <= brain_ml <= PLAUSIBLE_ML[1]:
        notes.append(
            "The brain mask has a volume that no adult brain has: look at it before using any number."
        )
    inside = brain.any((0, 1))
    area = brain.sum((0, 1))
    edge = max(int(area[0]), int(area[-1])) if area.size else 0
    if inside.any() and edge > 0.25 * area.max():
        notes.append("The scan does not cover the whole brain: volumes are those of the part that it shows.")
    return tuple(notes)


def segment(volume: Volume, nets: Mapping[str, Net], parameters: Parameters) -> Segmentation:
    """Label 1 = brain on the volume's grid, which may be oblique and have thick slices.

    nets: stage `brain`. parameters: voxel_mm, threshold, margin (voxels; 0 where absent). Numbers: brain_ml, icv_ml.
    """
    turn = turn_of(volume.affine)
    spacing = spacing_of(volume.affine, turn)
    image = np.ascontiguousarray(turn.apply(volume.voxels), np.float32)
    brain, icv, chance = brain_of(image, spacing, nets["brain"], parameters)
    voxel_ml = float(np.prod(spacing)) / 1000
    brain_ml = float(brain.sum()) * voxel_ml
    mask = turn.undo(brain.astype(np.uint8))
    return Segmentation(
        mask=mask,
        brain=mask,
        probability=turn.undo(chance.astype(np.float16)),
        numbers={"brain_ml": brain_ml, "icv_ml": float(icv.sum()) * voxel_ml},
        warnings=doubts(brain, brain_ml),
    )
