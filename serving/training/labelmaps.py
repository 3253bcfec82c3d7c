"""Reads label maps of heads: tissue groups, brain outlines by stated definitions, and their place in MNI space.

Label maps: SynthSeg's training maps (Billot et al., Medical Image Analysis 2023, doi 10.1016/j.media.2023.102789),
one person each. Every image used to train the reference models is rendered from them (`render_head`, `render_flair`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

BoolArray = NDArray[np.bool_]
TRAIN_MAPS = tuple(range(1, 11))
HELD_MAPS = (11, 12)  # anatomies that no training run ever sees

# Left and right are one group: a scanner gives both the same brightness.
GROUPS: tuple[tuple[int, ...], ...] = (
    (0,), (2, 41), (3, 42), (4, 5, 43, 44, 136, 137, 163, 164, 72), (7, 46), (8, 47), (10, 49), (11, 50),
    (12, 51), (13, 52), (14,), (15,), (16,), (17, 53), (18, 54), (24,), (25, 57), (26, 58), (28, 60), (30, 62),
    (85,), (502,), (506,), (507,), (508,), (509,), (511,), (512,), (514,), (515,), (516,), (530,),
)  # fmt: skip
WHITE, CORTEX, VENTRICLE, CEREBELLAR_WHITE, CEREBELLAR_CORTEX, THALAMUS, CAUDATE, PUTAMEN, PALLIDUM = range(
    1, 10
)
THIRD_VENTRICLE, FOURTH_VENTRICLE, STEM, HIPPOCAMPUS, AMYGDALA, CSF, WHITE_SPOT, ACCUMBENS, VENTRAL_DC = (
    range(10, 19)
)
VESSEL, CHIASM, FIRST_OUTSIDE = 19, 20, 21

_LOOKUP = np.zeros(1024, np.uint8)
for _group, _labels in enumerate(GROUPS):
    for _label in _labels:
        _LOOKUP[_label] = _group

# Structures whose centroids place a map in MNI space.
_LANDMARKS = [2, 41, 4, 43, 7, 46, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 16, 17, 53, 18, 54, 28, 60]


@dataclass(frozen=True, slots=True)
class LabelMap:
    """One head at 1 mm in RAS order.

    group: uint8 [X,Y,Z], index into GROUPS. hull: tissue closed over the sulci. mask: hull with 1 mm of the CSF around
    it. icv: tissue and every CSF voxel. affine: voxel -> RAS mm of the map's own space. number: 1-12.
    """

    group: NDArray[np.uint8]
    hull: BoolArray
    mask: BoolArray
    icv: BoolArray
    affine: NDArray[np.float64]
    number: int

    def outlines(self) -> tuple[BoolArray, BoolArray, BoolArray]:
        """The three outlines that the brain net learns, in the order of its outputs."""
        return self.hull, self.mask, self.icv


def data_root(given: Path | None) -> Path:
    """The folder of the open data: what was given, else RADFLEET_DATA. KeyError where there is neither."""
    return given if given is not None else Path(os.environ["RADFLEET_DATA"])


def read_ras(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A NIfTI file as float32 [X,Y,Z] in RAS order and its voxel -> RAS mm affine."""
    image: Any = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64)


def close_ball(mask: BoolArray, radius: int) -> BoolArray:
    """Binary closing with a ball of `radius` voxels; two distance transforms are fast for any radius."""
    padded = np.pad(mask, radius + 2)
    grown = ndi.distance_transform_edt(~padded) <= radius
    inner = (slice(radius + 2, -radius - 2),) * 3
    return np.asarray(ndi.distance_transform_edt(grown)[inner] > radius)


def outlines_of(group: NDArray[np.uint8], hull_mm: int = 6, border_mm: float = 1.0) -> tuple[BoolArray, ...]:
    """Hull, mask and icv of tissue groups [X,Y,Z] at 1 mm.

    mask is the definition of the shipped brain mask: tissue closed over the sulci, hence with sulcal CSF, plus 1 mm of
    border as in SynthStrip (Hoopes et al., NeuroImage 2022, PMC9465771), never outside the intracranial space.
    """
    inside = (group > 0) & (group < FIRST_OUTSIDE)
    tissue = inside & (group != CSF)
    hull = np.asarray(ndi.binary_fill_holes(close_ball(tissue, hull_mm) & inside))
    icv = np.asarray(ndi.binary_fill_holes(inside))
    near = ndi.distance_transform_edt(~hull) <= border_mm
    return hull, hull | (icv & near), icv


def load_map(root: Path, number: int) -> LabelMap:
    """Label map `number` (1-12) of the data folder."""
    labels, affine = read_ras(root / "labelmaps" / f"training_seg_{number:02d}.nii.gz")
    group = _LOOKUP[labels.astype(np.int64)]
    hull, mask, icv = outlines_of(group)
    return LabelMap(group, hull, mask, icv, affine, number)


def cropped(whole: LabelMap, margin: int = 3) -> LabelMap:
    """The same map cut to its intracranial box; the affine moves with it."""
    box = ndi.find_objects(whole.icv.astype(np.uint8))[0]
    box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in box]
    return LabelMap(
        whole.group[box], whole.hull[box], whole.mask[box], whole.icv[box], whole.affine @ shift, whole.number
    )


def _centroids(labels: NDArray[np.int64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    centres = ndi.center_of_mass(np.ones(labels.shape, np.uint8), labels, _LANDMARKS)
    return np.asarray(np.c_[np.array(centres), np.ones(len(_LANDMARKS))] @ affine.T)


def map_to_mni(root: Path, number: int) -> NDArray[np.float64]:
    """Affine [4,4] from the map's own RAS mm to MNI RAS mm.

    12 parameters by least squares on the centroids of 23 structures: no image registration, under a second.
    """
    labels, affine = read_ras(root / "labelmaps" / f"training_seg_{number:02d}.nii.gz")
    target, target_affine = read_ras(root / "t1_template" / "aparc+aseg_in_mni152.nii.gz")
    here = _centroids(labels.astype(np.int64), affine)
    there = _centroids(target.astype(np.int64), target_affine)
    return np.asarray(np.linalg.lstsq(here, there, rcond=None)[0].T, np.float64)
