"""Skull-stripped FLAIR-like volumes with known lesions, rendered from label maps.

The idea is that of SynthSeg (Billot et al. 2023): random contrast, geometry and resolution from label maps. Here the
contrasts stay FLAIR-like and the lesions are those of real people (`donors`). Grey matter is drawn from as bright as
white to 1.4 times as bright, because people and sequences differ there more than lesions do; a lesion is brighter than
the grey matter of its own image, because on FLAIR that is what tells it from a fundus of the cortex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.flair import peak_of
from serving.training import labelmaps as lm
from serving.training.donors import Donor, Host, draw_donor, plant
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

BOX = (160, 192, 160)  # 1 mm voxels
_WARP = WarpRange(rotation=10, scale=0.1, shear=0.04, shift=5, bending=((5, 4.0), (10, 1.5)))
_GREY = (lm.CORTEX, lm.CEREBELLAR_CORTEX, lm.HIPPOCAMPUS, lm.AMYGDALA, lm.ACCUMBENS)
_DEEP = (lm.THALAMUS, lm.CAUDATE, lm.PUTAMEN, lm.PALLIDUM, lm.VENTRAL_DC, lm.CHIASM)
_PATCHY = [lm.CORTEX, lm.HIPPOCAMPUS, lm.AMYGDALA, lm.CAUDATE, lm.PUTAMEN]
BoolMask = NDArray[np.bool_]
_FLUID = [lm.VENTRICLE, lm.THIRD_VENTRICLE, lm.FOURTH_VENTRICLE, lm.CSF]


@dataclass(frozen=True, slots=True)
class Scene:
    """Warped anatomy with lesions: group int64, part int64 (0 = none), brain bool; all [X,Y,Z] at 1 mm."""

    group: Tensor
    part: Tensor
    brain: Tensor


def flair_scene(rng: np.random.Generator, host: Host, donors: list[Donor], one_person: bool = False) -> Scene:
    """A random anatomy with the lesions of one or two donors (6 % without any) and one of the usual brain outlines.

    one_person: all lesions of one donor, every donor as likely, so that loads are as light as in a clinic.
    """
    part = np.zeros(host.white.shape, np.uint8)
    if one_person:
        part = plant(rng, host, draw_donor(rng, donors, power=0), whole=True)
    else:
        for _ in range(0 if rng.random() < 0.06 else 1 + int(rng.random() < 0.3)):
            new = plant(rng, host, draw_donor(rng, donors))
            part = np.where(part > 0, part, new)
    head, outline = host.anatomy, rng.random()
    if outline < 0.35:
        brain = head.hull
    elif outline < 0.65:
        brain = head.mask
    elif outline < 0.8:
        brain = head.icv
    else:
        brain = ndi.binary_erosion(head.hull, iterations=1 + int(outline > 0.9))
    centre = np.array(ndi.center_of_mass(head.hull[::3, ::3, ::3])) * 3
    grid = random_grid(rng, part.shape, BOX, 1.0, _WARP, centre)
    stacked = torch.stack([as_float(head.group), as_float(part), as_float(brain)])
    group, parts, inside = pull(stacked, grid, nearest=True)
    return Scene(group.long(), (parts * (inside > 0.5)).long(), inside > 0.5)


class Flair(NamedTuple):
    """A rendered FLAIR: image [X,Y,Z] = intensity / histogram peak - 1 (-1 outside), its lesions, its slices.

    across: the array axis across slices, and their distance in mm; None where the volume is about isotropic.
    """

    image: NDArray[np.float32]
    lesion: BoolMask
    across: tuple[int, float] | None


def _means(rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """FLAIR-like mean of every group (normal white matter = 1), and the cortex's."""
    mean = rng.uniform(0.1, 1.0, len(lm.GROUPS))
    grey = rng.uniform(1.0, 1.42)
    deep = rng.uniform(0.88, grey + 0.06)
    mean[list(_GREY)] = grey + rng.normal(0, 0.05, len(_GREY))
    mean[list(_DEEP)] = deep + rng.normal(0, 0.08, len(_DEEP))
    mean[lm.PALLIDUM] -= rng.uniform(0, 0.15)
    for group, spread in ((lm.WHITE, 0.0), (lm.CEREBELLAR_WHITE, 0.04), (lm.STEM, 0.06)):
        mean[group] = 1 + rng.normal(0, spread)
    mean[lm.WHITE_SPOT] = mean[lm.WHITE] + rng.uniform(-0.02, 0.05)
    mean[lm.VESSEL] = rng.uniform(0.3, 1)
    fluid = rng.uniform(0.05, 0.4)
    mean[_FLUID] = np.maximum(fluid + rng.normal(0, 0.05, len(_FLUID)), 0.02)
    return mean.astype(np.float32), float(grey)


def _chosen(group: Tensor, members: list[int]) -> Tensor:
    table = torch.zeros(len(lm.GROUPS))
    table[members] = 1
    return table[group]


def _distractors(rng: np.random.Generator, image: Tensor, scene: Scene) -> Tensor:
    """What is bright on FLAIR and not a lesion: cortex patches, ventricle rim, dirty white matter, flow, dura."""
    shape = tuple(image.shape)
    for nodes in ((7, 8, 7), (14, 16, 14)):  # insula and cingulate; single gyri
        if rng.random() < 0.6:
            patches = smooth_field(rng, shape, nodes)[0].clamp(-0.5, 1.8) * float(rng.uniform(0, 0.14))
            image = image * (1 + patches * _chosen(scene.group, _PATCHY))
    ventricle, white = _chosen(scene.group, [lm.VENTRICLE]), _chosen(scene.group, [lm.WHITE])
    if rng.random() < 0.5:
        image = image + _claustrum(rng, scene, white, image)
    if rng.random() < 0.35:  # thin: a thick rim taught an earlier net to ignore confluent lesions
        rim = (blur(ventricle, 0.7) > 0.08).float() * white
        image = image + rim * float(rng.uniform(0.02, 0.13))
    if rng.random() < 0.4:
        coarse = functional.avg_pool3d(ventricle[None, None], 4)
        near = torch.from_numpy(ndi.gaussian_filter(coarse[0, 0].numpy(), float(rng.uniform(1, 2.5))))[
            None, None
        ]
        near = functional.interpolate(near, size=shape, mode="trilinear")[0, 0]
        image = image + white * near / near.max().clamp(min=1e-3) * float(rng.uniform(0, 0.12))
    if rng.random() < 0.25:
        flow = smooth_field(rng, shape, (8, 8, 8))[0].clamp(min=0) * float(rng.uniform(0, 0.5))
        image = image + flow * _chosen(scene.group, _FLUID)
    if rng.random() < 0.25:
        shell = (scene.brain.float() - blur(scene.brain.float(), 1.0)).clamp(min=0) * 2
        dura = smooth_field(rng, shape, (9, 9, 9))[0].clamp(min=0) * float(rng.uniform(0.1, 0.5))
        image = image + shell * dura
    return image


def _claustrum(rng: np.random.Generator, scene: Scene, white: Tensor, image: Tensor) -> Tensor:
    """Grey matter that the label maps call white: a patchy sheet 2-5 mm off the putamen, up to as bright as cortex."""
    putamen = blur(_chosen(scene.group, [lm.PUTAMEN]), 2.0)
    low, high = sorted(rng.uniform(0.01, 0.12, 2))
    sheet = ((putamen > low) & (putamen < high)).float() * white
    cortex = image[scene.group == lm.CORTEX].mean() if bool((scene.group == lm.CORTEX).any()) else 1.0
    here = smooth_field(rng, tuple(image.shape), (12, 14, 12))[0].clamp(0, 1)
    return sheet * here * (cortex - image).clamp(min=0) * float(rng.uniform(0.3, 1))


def _lesions(rng: np.random.Generator, image: Tensor, part: Tensor, base: float) -> Tensor:
    """Brighten the lesion parts: own contrast for each part, soft edges, texture, sometimes a faint unlabelled halo."""
    if not bool((part > 0).any()):
        return image
    contrast = np.clip(base * rng.uniform(0.65, 1.35, 256), 0.07, 0.95).astype(np.float32)
    contrast[0] = 0
    brightness = blur(torch.from_numpy(contrast)[part], float(rng.uniform(0.4, 0.9))) * float(
        rng.uniform(1.0, 1.25)
    )
    brightness = torch.minimum(brightness, torch.tensor(float(contrast.max())))
    texture = 1 + 0.2 * smooth_field(rng, tuple(part.shape), (40, 44, 40))[0]
    image = image + brightness * texture
    if rng.random() < 0.35:
        halo = blur((part > 0).float(), float(rng.uniform(1.5, 3))) * (part == 0)
        image = image + halo * float(rng.uniform(0.03, 0.2)) * (image > 0.7)
    return image


def flair_image(
    rng: np.random.Generator, scene: Scene, contrast: tuple[float, float] = (0.12, 0.6), scanner: bool = True
) -> Flair:
    """One FLAIR of a scene; without `scanner` as it was before any slices, shading, blur and noise of one.

    contrast: range of the lesions' mean brightness above white matter (white = 1), as a fraction; more where the
    image's grey matter is as bright.
    """
    mean, grey = _means(rng)
    image = torch.from_numpy(mean)[scene.group]
    image = _distractors(rng, image, scene)
    base = max(rng.uniform(*contrast), grey - 1 + rng.uniform(0, 0.15))
    image = _lesions(rng, image, scene.part, float(base))
    image = blur(image, float(rng.uniform(0.45, 0.75)))
    image = image * (1 + smooth_field(rng, BOX, (24, 28, 24))[0] * float(rng.uniform(0.01, 0.06)))
    image = image + blur(white_noise(rng, BOX), 0.6) * float(rng.uniform(0.02, 0.12))
    image, across = _scanner(rng, image) if scanner else (image, None)
    image = image * scene.brain
    peak = peak_of(image[scene.brain].numpy())
    out = torch.where(scene.brain, (image / peak - 1).clamp(-1, 2), torch.tensor(-1.0))
    return Flair(out.numpy(), (scene.part > 0).numpy(), across)


def _scanner(rng: np.random.Generator, image: Tensor) -> tuple[Tensor, tuple[int, float] | None]:
    """Bias field, slices of 1.5-5.5 mm in half of the volumes (their axis and distance), blur, gamma, noise."""
    across = None
    if rng.random() < 0.8:
        field = smooth_field(rng, BOX, [int(n) for n in rng.integers(2, 5, 3)])[0]
        image = image * torch.exp(field * float(rng.uniform(0, 0.16)))
    kind = rng.random()
    if kind < 0.5:
        axis, step = int(rng.choice(3, p=[0.2, 0.15, 0.65])), float(rng.uniform(1.5, 5.5))
        across = axis, step
        image = thick_slices(
            image, axis, step * float(rng.uniform(0.6, 1)), step, float(rng.uniform(0, step))
        )
        if rng.random() < 0.4:
            image = blur(image, float(rng.uniform(0.3, 0.7)))
    elif kind < 0.8:
        image = blur(image, float(rng.uniform(0.2, 0.8)))
    image = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.18)))
    return (image + float(rng.uniform(0, 0.07)) * white_noise(rng, BOX)).abs(), across
