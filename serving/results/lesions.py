"""The counting rule ``lesions/1``: which connected components of a mask are lesions, and how large each is.

One written rule, because the rule moves the count: on one public set of masks the same voxels give 1,061
to 1,588 lesions by rule alone. Counts made under different rules must never be compared.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

RULE = "lesions/1"
# McDonald 2017 (Thompson et al., Lancet Neurol 2018;17:162): a T2 lesion is at least 3 mm in long axis.
LONG_AXIS_MM = 3.0
# Above this many candidate points their convex hull is taken first: pairwise distances grow as the square.
_PAIRS_MAX = 1500

IntMask = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Lesion:
    """One 26-connected component: ``centroid`` is LPS mm, ``counted`` is False for a punctate one."""

    voxels: int
    volume_mm3: float
    centroid: tuple[float, float, float]
    long_axis_mm: float
    counted: bool


def lesions(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> tuple[Lesion, ...]:
    """The components of ``mask`` [I,J,K] under ``lesions/1``, the largest volume first.

    ``affine`` is 4x4, voxel index to RAS mm. Connectivity is 26. The long axis is the largest distance of
    two voxel centres (Feret) plus one voxel, taken as the cube root of the voxel volume, so that it does
    not depend on a direction which a single voxel lacks. Counted: long axis >= 3 mm; the rest is punctate.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    volume = abs(float(np.linalg.det(affine[:3, :3])))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        index = np.argwhere(labels[box] == number) + np.array([side.start for side in box])
        centre = affine[:3, :3] @ index.mean(axis=0) + affine[:3, 3]
        # To a hundredth of a millimetre, so that the same lesion is not split by the last bit of a float.
        axis = round(_feret(index, affine) + float(np.cbrt(volume)), 2)
        found.append(
            Lesion(
                voxels=len(index),
                volume_mm3=round(len(index) * volume, 2),
                centroid=(round(-centre[0], 2), round(-centre[1], 2), round(float(centre[2]), 2)),
                long_axis_mm=axis,
                counted=axis >= LONG_AXIS_MM,
            )
        )
    assert len(found) == count
    return tuple(sorted(found, key=lambda lesion: (-lesion.voxels, lesion.centroid)))


def _feret(index: npt.NDArray[np.int64], affine: npt.NDArray[np.float64]) -> float:
    """Largest distance in mm between voxel centres, ``index`` [N,3]."""
    points = _outer(index) @ affine[:3, :3].T
    if len(points) < 2:
        return 0.0
    if len(points) > _PAIRS_MAX:
        # In as many dimensions as the component really has: a flat one has no hull of volume.
        centred = points - points.mean(axis=0)
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ axes[: int((spread > 1e-6 * spread[0]).sum())].T
        if flat.shape[1] == 1:
            return float(np.ptp(flat))
        points = points[ConvexHull(flat).vertices]
    return float(pdist(points).max())


def _outer(index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The two ends of each run along the last axis: the farthest pair is always among them."""
    order = np.lexsort((index[:, 2], index[:, 1], index[:, 0]))
    ordered = index[order]
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = np.any(ordered[1:, :2] != ordered[:-1, :2], axis=1)
    last = np.roll(first, -1)
    kept: npt.NDArray[np.int64] = ordered[first | last]
    return kept
