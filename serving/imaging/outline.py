"""The outline of the imaged object on a coarse grid: what is object, what is air."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GRID_MM = 4.0


def shrink(
    voxels: NDArray[Any], affine: NDArray[np.float64], edge_mm: float = GRID_MM
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Block means of [I, J, K] on about ``edge_mm``, with the affine's linear part scaled alike.

    The translation is kept: it is off by half a block, which no caller uses.
    """
    if voxels.flags.f_contiguous and not voxels.flags.c_contiguous:
        # Block sums of Fortran order need a copy of everything; of the transposed view they need none.
        turned, bigger = shrink(voxels.T, affine[:, [2, 1, 0, 3]], edge_mm)
        return turned.T, bigger[:, [2, 1, 0, 3]]
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    step = [max(1, round(edge_mm / float(edge))) for edge in edges]
    step = [min(s, n) for s, n in zip(step, voxels.shape, strict=True)]
    sizes = [n // s for n, s in zip(voxels.shape, step, strict=True)]
    cut = voxels[: sizes[0] * step[0], : sizes[1] * step[1], : sizes[2] * step[2]]
    blocks = cut.reshape(sizes[0], step[0], sizes[1], step[1], sizes[2], step[2])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine @ np.diag([*step, 1.0])


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold that parts a histogram best in two (Otsu, IEEE Trans SMC 1979)."""
    top = float(np.percentile(values, 99.5))
    low = float(values.min())
    if not top > low:
        return top
    counts, edges = np.histogram(np.clip(values, low, top), bins=128)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    mass = np.cumsum(counts * middles)
    above = counts.sum() - below
    with np.errstate(all="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    return float(middles[int(np.nanargmax(between))])


def outline(small: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The filled outline of the largest bright object, or None where nothing is bright."""
    bright = small > 0.5 * otsu(small)
    parts, count = ndimage.label(bright)
    if count == 0:
        return None
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    solid = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(largest, 2), iterations=2))
    trimmed: NDArray[np.bool_] = solid[2:-2, 2:-2, 2:-2]
    return trimmed if trimmed.any() else None
