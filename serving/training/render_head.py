"""Whole heads of random MR contrast with their brain outlines, rendered from label maps on a coarse grid.

The method is that of SynthStrip and SynthSeg (Hoopes et al. 2022, PMC9465771; Billot et al. 2023): a random brightness
for every tissue, then warps, bias field, thick slices, noise, cut fields of view. Nothing is read from a real image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.brain_extraction import edges, head_box, unit
from serving.training import labelmaps as lm
from serving.training.warp import (
    Tensor,
    WarpRange,
    as_float,
    blur,
    pull,
    random_grid,
    smooth_field,
    thick_slices,
    white_noise,
)  # fmt: skip

VOXEL = 2.5  # mm, the brain net's grid
_UPRIGHT = WarpRange(rotation=15, scale=0.15, shear=0.06, shift=15, bending=((4, 7.0), (9, 2.5)))
_TILTED = WarpRange(rotation=40, scale=0.15, shear=0.06, shift=15, bending=((4, 7.0), (9, 2.5)))

# Brightness of white matter, cortex, CSF and ventricle in the usual contrasts; the last is T1 spin echo.
_CONTRASTS = (
    (0.80, 0.55, 0.15, 0.12), (0.35, 0.50, 0.95, 1.00), (0.55, 0.68, 0.15, 0.10), (0.60, 0.75, 0.70, 0.75),
    (0.62, 0.53, 0.24, 0.20),
)  # fmt: skip
_LIKE_WHITE = [lm.CEREBELLAR_WHITE, lm.STEM, lm.PALLIDUM, lm.VENTRAL_DC, lm.WHITE_SPOT, lm.CHIASM]
_LIKE_CORTEX = [
    lm.CEREBELLAR_CORTEX, lm.HIPPOCAMPUS, lm.AMYGDALA, lm.ACCUMBENS, lm.THALAMUS, lm.CAUDATE, lm.PUTAMEN, lm.VESSEL,
]  # fmt: skip
_LIKE_VENTRICLE = [lm.THIRD_VENTRICLE, lm.FOURTH_VENTRICLE]


@dataclass(frozen=True, slots=True)
class Head:
    """A label map as float tensors, kept: turning 9 million voxels to floats for every case doubled the time.

    group [X,Y,Z]; outlines [3,X,Y,Z] (hull, mask, icv); centre of the brain in voxels.
    """

    group: Tensor
    outlines: Tensor
    centre: NDArray[np.float64]


def load_head(root: Path, number: int) -> Head:
    """Label map `number` of the data folder, ready to render."""
    whole = lm.load_map(root, number)
    centre = np.array(ndi.center_of_mass(whole.hull[::4, ::4, ::4])) * 4
    return Head(as_float(whole.group), torch.stack([as_float(each) for each in whole.outlines()]), centre)


def head_anatomy(rng: np.random.Generator, heads: list[Head]) -> tuple[Tensor, Tensor]:
    """A random warp of a random head at 2.5 mm: groups int64 [X,Y,Z] and soft outlines [3,X,Y,Z]."""
    head = heads[int(rng.integers(len(heads)))]
    shape = [int(rng.choice(sizes)) for sizes in ((64, 80), (80, 96), (64, 64, 80, 80, 96))]
    # moved down by up to 60 mm, neck and jaw come into view; a net that saw only brains called tongues brain
    centre = head.centre - [0, 0, rng.uniform(-5, 60)]
    limits = _UPRIGHT if rng.random() < 0.85 else _TILTED
    grid = random_grid(rng, head.group.shape, shape, VOXEL, limits, centre)
    return pull(head.group, grid, nearest=True).long(), pull(head.outlines, grid)


def _means(rng: np.random.Generator) -> NDArray[np.float32]:
    """Brightness of every group: 55 % near a usual contrast, 37 % random with like tissues alike, 8 % all random."""
    mean = rng.uniform(0, 1, len(lm.GROUPS))
    kind = rng.random()
    if kind < 0.55:
        white, cortex, fluid, ventricle = _CONTRASTS[int(rng.integers(len(_CONTRASTS)))]
        mean[[lm.WHITE, *_LIKE_WHITE]] = white
        mean[[lm.CORTEX, *_LIKE_CORTEX]] = cortex
        mean[lm.CSF], mean[[lm.VENTRICLE, *_LIKE_VENTRICLE]] = fluid, ventricle
        mean[1 : lm.FIRST_OUTSIDE] += rng.normal(0, 0.06, lm.FIRST_OUTSIDE - 1)
        mean[lm.WHITE_SPOT] = mean[lm.WHITE] + rng.normal(0, 0.15)
    elif kind < 0.92:
        for first, like in ((lm.WHITE, _LIKE_WHITE), (lm.CORTEX, _LIKE_CORTEX)):
            mean[like] = mean[first] + rng.normal(0, 0.08, len(like))
        mean[[lm.VENTRICLE, *_LIKE_VENTRICLE]] = mean[lm.CSF] + rng.normal(0, 0.1)
    if rng.random() < 0.5:  # from a quiet scalp to fat that is 3.5 times the brain, as on T1
        mean[lm.FIRST_OUTSIDE :] *= np.exp(rng.uniform(np.log(0.2), np.log(3.5)))
    if rng.random() < 0.3:
        mean[lm.FIRST_OUTSIDE + rng.integers(0, 11, 3)] = rng.uniform(0, 0.1)
    mean[0] = 0 if rng.random() < 0.7 else rng.uniform(0, 0.15)
    return mean.clip(0, 3.5).astype(np.float32)


def head_image(rng: np.random.Generator, group: Tensor, outlines: Tensor) -> tuple[Tensor, Tensor]:
    """One image [X,Y,Z] in 0..1.2 of an anatomy, and its targets [3,X,Y,Z] (cut where the field of view is cut).

    Both lie on the grid of the anatomy, cut to the head, with some voxels of nothing around.
    """
    shape, target = tuple(group.shape), outlines.clone()
    spread = torch.from_numpy(rng.uniform(0, 0.07, len(lm.GROUPS)).astype(np.float32))
    image = torch.from_numpy(_means(rng))[group] + spread[group] * white_noise(rng, shape)
    if rng.random() < 0.4:
        image = image * (1 + smooth_field(rng, shape, (14,) * 3)[0] * float(rng.uniform(0, 0.15)))
    image = _scanner(rng, blur(image, rng.uniform(0.2, 0.5, 3)))
    if rng.random() < 0.08:
        image = image * (target[int(rng.integers(3))] > 0.5)  # comes skull-stripped
    if rng.random() < 0.15:
        image = image * (group > 0)  # background set to zero
    for low in (True, False):
        if rng.random() < 0.35:
            cut = int(rng.uniform(0, 0.4) * shape[2])
            gone = slice(0, cut) if low else slice(shape[2] - cut, None)
            image[:, :, gone] = 0
            target[:, :, :, gone] = 0
    if rng.random() < 0.5:
        image, target = image.flip(0), target.flip(1)
    return _framed(rng, unit(image.numpy()), target)


def _framed(rng: np.random.Generator, image: NDArray[np.float32], target: Tensor) -> tuple[Tensor, Tensor]:
    """Cut to the head and given a margin of nothing, as at use; how wide the margin is must not matter."""
    box = head_box(image)
    image, target = image[box], target[(slice(None), *box)]
    around = edges(image.shape, int(rng.integers(2, 8)))
    return torch.from_numpy(np.pad(image, around)), torch.from_numpy(
        np.pad(target.numpy(), [(0, 0), *around])
    )


def _scanner(rng: np.random.Generator, image: Tensor) -> Tensor:
    """Bias field, slices of 1.5-7 mm in 60 %, noise, gamma."""
    shape = tuple(image.shape)
    if rng.random() < 0.75:
        field = smooth_field(rng, shape, [int(n) for n in rng.integers(2, 6, 3)])[0]
        image = image * torch.exp(field * float(rng.uniform(0, 0.45)))
    if rng.random() < 0.6:
        axis, step = int(rng.choice(3, p=[0.2, 0.2, 0.6])), float(rng.uniform(1.5, 7.0)) / VOXEL
        image = thick_slices(
            image, axis, step * float(rng.uniform(0.6, 1)), step, float(rng.uniform(0, step))
        )
    elif rng.random() < 0.4:
        image = blur(image, float(rng.uniform(0.2, 1.0)))
    level = float(rng.uniform(0, 0.05)) * float(rng.random() < 0.8)
    image = (image.clamp(min=0) + level * white_noise(rng, shape)).abs()
    return image ** float(np.exp(rng.normal(0, 0.25)))


def head_stream(
    rng: np.random.Generator, heads: list[Head], ring: int = 12
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training cases: two contrasts for each warp (most of the cost), a little shuffled."""
    waiting: list[tuple[Tensor, Tensor]] = []
    while True:
        anatomy = head_anatomy(rng, heads)
        waiting += [head_image(rng, *anatomy) for _ in range(2)]
        while len(waiting) > ring:
            yield waiting.pop(int(rng.integers(len(waiting))))
