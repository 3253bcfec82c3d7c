"""Where a mask lies on a study's grid, whatever order of axes it was saved in; and how much two masks agree.

Nothing is resampled: a mask that does not lie on the very voxels of the images is refused, because a Dice
against a moved mask measures the move.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.reviews.errors import MaskElsewhere

Labels = NDArray[np.uint8]
Affine = NDArray[np.float64]
# Voxel edges. Headers round positions and NIfTI keeps 4-byte floats: real files differ by up to a few hundredths.
TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxels of a study: ``shape`` [I,J,K] and ``affine`` 4x4, voxel index to RAS mm."""

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel, ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0


@dataclass(frozen=True, slots=True)
class Place:
    """How an array goes onto a grid: ``order[g]`` is its axis along grid axis g, then flips, then ``first``."""

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    first: tuple[int, int, int]

    def turn(self, array: Labels) -> Labels:
        """The array in the grid's order of axes: a view."""
        return array.transpose(self.order)[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]


def place(shape: Sequence[int], affine: Affine, grid: Grid) -> Place:
    """Where an array of ``shape`` [3] with ``affine`` (RAS mm) lies on ``grid``; it may be a part of it.

    Its voxels must be voxels of the grid, to a tenth of an edge, at every corner. Raises MaskElsewhere.
    """
    inside = np.linalg.solve(grid.affine, affine)
    turn = np.rint(inside[:3, :3]).astype(int)
    if not np.array_equal(abs(turn) @ abs(turn).T, np.eye(3, dtype=int)):
        raise MaskElsewhere("the mask's voxels have another size or direction than the study's")
    ends = np.array(np.meshgrid(*([0, n - 1] for n in shape))).reshape(3, -1)
    corners = inside[:3, :3] @ ends + inside[:3, 3:]
    whole = turn @ ends + np.rint(inside[:3, 3:]).astype(int)
    if np.abs(corners - whole).max() > TOLERANCE:
        raise MaskElsewhere("the mask lies between the study's voxels, or is tilted against them")
    first, last = whole.min(axis=1), whole.max(axis=1)
    if (first < 0).any() or (last >= grid.shape).any():
        raise MaskElsewhere("the mask reaches beyond the study's images")
    order = [int(np.argmax(abs(row))) for row in turn]
    flipped = [bool(turn[g, a] < 0) for g, a in enumerate(order)]
    return Place(
        (order[0], order[1], order[2]),
        (flipped[0], flipped[1], flipped[2]),
        (int(first[0]), int(first[1]), int(first[2])),
    )


def onto(labels: Labels, affine: Affine, grid: Grid) -> Labels:
    """``labels`` [A,B,C] with ``affine`` as an array [I,J,K] of ``grid``, which it must cover. Raises MaskElsewhere."""
    turned = place(labels.shape, affine, grid).turn(labels)
    if turned.shape != grid.shape:
        raise MaskElsewhere("the mask covers a part of the study's images only")
    return np.ascontiguousarray(turned)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two masks of one grid: Dice, and the volume of all labels in each, ml."""

    dice: float
    delivered_ml: float
    corrected_ml: float


def agreement(delivered: Labels, corrected: Labels, values: Sequence[int], grid: Grid) -> Agreement:
    """Dice 2 |A and B| / (|A| + |B|), the mean over the labels ``values`` that stand in at least one mask.

    Both arrays lie on ``grid``. Two empty masks agree: 1.
    """
    if delivered.shape != grid.shape or corrected.shape != grid.shape:
        raise MaskElsewhere("the two masks have different shapes")
    scores = []
    for value in values:
        one, other = delivered == value, corrected == value
        total = int(one.sum()) + int(other.sum())
        if total:
            scores.append(2 * int((one & other).sum()) / total)
    return Agreement(
        dice=float(np.mean(scores)) if scores else 1.0,
        delivered_ml=int(np.count_nonzero(delivered)) * grid.voxel_ml,
        corrected_ml=int(np.count_nonzero(corrected)) * grid.voxel_ml,
    )
