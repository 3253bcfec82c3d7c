"""From DICOM plane geometry to the voxel grid that dcm2niix writes: affine, axis order, flips.

DICOM positions are LPS millimetres (PS3.3 C.7.6.2); affines here map voxel index to RAS millimetres.
The rules are those of dcm2niix v1.0.20220720 (Li et al., J Neurosci Methods 2016, nii_dicom.cpp and
nii_ortho.cpp): slices ascend along row x column, rows are flipped, and a 3D acquisition that is not
echo-planar is turned to the nearest RAS order instead.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_TOLERANCE = 0.1
SHIFT_TOLERANCE_MM = 0.5


@dataclass(frozen=True, slots=True)
class Axes:
    """How voxel axes relate to stored ones: ``order[v]`` is 0 column, 1 row or 2 slice; ``flipped[v]``."""

    order: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A [columns, rows, slices] array in voxel order: a view, nothing is copied."""
        return stored.transpose(self.order)[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]

    def undo(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``apply``."""
        stored = voxels[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]
        return stored.transpose(tuple(int(a) for a in np.argsort(self.order)))


PLAIN = Axes()
ROWS_FLIPPED = Axes(flipped=(False, True, False))


def normal(orientation: Array) -> Array:
    """Unit normal row x column of ImageOrientationPatient [6], in LPS."""
    n = np.cross(orientation[:3], orientation[3:])
    return np.asarray(n / np.linalg.norm(n))


def stored_affine(orientation: Array, spacing: Array, first: Array, step: Array) -> Array:
    """Affine 4x4 of a stack with axes column, row, slice: (column, row, slice) index -> RAS mm.

    ``spacing`` is PixelSpacing (between rows, between columns) in mm; ``first`` the position of slice 0
    and ``step`` the vector from slice to slice, both LPS mm.
    """
    matrix = np.eye(4)
    matrix[:3, 0] = orientation[:3] * spacing[1]
    matrix[:3, 1] = orientation[3:] * spacing[0]
    matrix[:3, 2] = step
    matrix[:3, 3] = first
    return np.asarray(LPS_TO_RAS @ matrix)


def reorder(affine: Array, shape: tuple[int, int, int], axes: Axes) -> Array:
    """The affine of the voxel array ``axes.apply(stored)`` of a stored array with ``affine``, ``shape``."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    for voxel_axis, stored_axis in enumerate(axes.order):
        turn[stored_axis, voxel_axis] = -1.0 if axes.flipped[voxel_axis] else 1.0
        if axes.flipped[voxel_axis]:
            turn[stored_axis, 3] = shape[stored_axis] - 1
    return np.asarray(affine @ turn)


def nearest_ras(affine: Array, shape: tuple[int, int, int]) -> Axes:
    """The axis order and flips nearest to RAS, chosen as dcm2niix's nii_setOrtho chooses them.

    The corner voxel nearest to the left, posterior, inferior edge becomes voxel 0; then of the six axis
    orders the one whose directions agree most with RAS is taken.
    """
    linear = affine[:3, :3]
    if np.all(np.diag(linear) > 0) and not np.any(linear[~np.eye(3, dtype=bool)]):
        return PLAIN
    flips = [(bool(i & 1), bool(i & 2), bool(i & 4)) for i in range(8)]
    corners = np.array(
        [affine @ [*((shape[a] - 1) * f[a] for a in range(3)), 1.0] for f in flips], dtype=np.float64
    )[:, :3]
    flip = flips[int(np.argmin(np.linalg.norm(corners - corners.min(axis=0), axis=1)))]
    signs = np.where(flip, -1.0, 1.0)
    best = 0.0
    order: tuple[int, ...] = (0, 1, 2)
    for candidate in permutations(range(3)):
        score = float(sum(linear[axis, candidate[axis]] * signs[candidate[axis]] for axis in range(3)))
        if score > best:
            best, order = score, candidate
    return Axes((order[0], order[1], order[2]), (flip[order[0]], flip[order[1]], flip[order[2]]))


def irregular(distances: Array) -> bool:
    """Whether the steps between sorted slice positions differ by more than a tenth of the middle one."""
    steps = np.diff(distances)
    middle = float(np.median(steps))
    return bool(np.any(np.abs(steps - middle) > SPACING_TOLERANCE * abs(middle)))


def sideways_mm(positions: Array, along: Array) -> float:
    """The largest shift within the plane between neighbouring slices, in mm ([n, 3] positions)."""
    steps = np.diff(positions, axis=0)
    return float(np.max(np.linalg.norm(steps - np.outer(steps @ along, along), axis=1)))


def spacing_of(affine: Array) -> tuple[float, float, float]:
    """Voxel edge lengths of an affine, mm."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return float(lengths[0]), float(lengths[1]), float(lengths[2])
