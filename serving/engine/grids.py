"""Turns arrays to the nearest RAS order and moves them between a scan's grid and a network's, along the same axes.

Both moves keep the scan's own axes (no rotation), so an oblique scan is not smeared; networks learn tilted heads.
Positions are voxel centres: voxel i of a grid with voxels of v mm lies at (i + 1/2) v from the grid's corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.outcome import Array, Mask


@dataclass(frozen=True, slots=True)
class Turn:
    """How to reach the nearest RAS order: transpose by `order`, then flip `flipped` axes."""

    order: tuple[int, ...]
    flipped: tuple[int, ...]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array on the scan's grid, in RAS order (a view)."""
        return np.flip(array.transpose(self.order), self.flipped)

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array in RAS order, back in the scan's index order (a contiguous copy)."""
        return np.ascontiguousarray(np.flip(array, self.flipped).transpose(np.argsort(self.order)))


def turn_of(affine: NDArray[np.float64]) -> Turn:
    """The turn for a voxel -> RAS mm affine; works for any tilt."""
    from nibabel.orientations import io_orientation

    axes = io_orientation(affine)
    order = np.argsort(axes[:, 0])
    flipped = tuple(place for place, axis in enumerate(order) if axes[axis, 1] < 0)
    return Turn(tuple(int(axis) for axis in order), flipped)


def spacing_of(affine: NDArray[np.float64], turn: Turn) -> NDArray[np.float64]:
    """Voxel edges in mm, in RAS order."""
    edges = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return np.asarray(edges[list(turn.order)])


def shrink(image: Array, spacing: NDArray[np.float64], voxel: float) -> Array:
    """An image [X,Y,Z] on voxels of `voxel` mm: low-pass where it gets coarser, linear in between.

    Axes with voxels of half the target or less are averaged in whole blocks first, which is cheap.
    """
    for axis in range(3):
        image, spacing = _block_mean(image, spacing, axis, int(voxel / spacing[axis]))
    factor = voxel / spacing
    if np.allclose(factor, 1, atol=1e-3):
        return image
    width = [0.42 * (k - 1) ** 0.5 * min(k, 3) if k > 1 else 0.0 for k in factor]
    soft = ndi.gaussian_filter(image, width, truncate=3)
    shape = tuple(int(n) for n in np.ceil(np.array(image.shape) / factor - 1e-3).clip(1))
    return _linear(soft, factor, shape)


def _linear(image: Array, factor: NDArray[np.float64], shape: tuple[int, ...]) -> Array:
    """Linear values at ``factor`` voxels' distance on ``shape``, axis by axis, the axis that grows least first.

    A pushed-out edge repeats the last plane: thick slices would else lose half a slice at both ends. The values of
    ``scipy.ndimage.affine_transform`` but for rounding; that one works in one thread and in float64, ten times as long.
    """
    image = np.asarray(image, np.float32)
    for axis in sorted(range(3), key=lambda a: shape[a] / image.shape[a]):
        last = image.shape[axis] - 1
        low, share = _between(shape[axis], float(factor[axis]), last)
        share = share.reshape([-1 if place == axis else 1 for place in range(3)])
        below = image.take(low, axis)
        above = image.take(np.minimum(low + 1, last), axis)
        above -= below
        above *= share
        image = np.add(below, above, out=below)
    return image


def _between(count: int, factor: float, last: int) -> tuple[NDArray[np.intp], Array]:
    """Of ``count`` planes ``factor`` apart: the plane below each in the image, and the share of the one above it."""
    at = (np.arange(count) * factor + (factor - 1) / 2).clip(0, last)
    low = at.astype(np.intp)
    return low, (at - low).astype(np.float32)


def planes_read(spacing_mm: float, voxel: float, size: int, count: int) -> NDArray[np.intp]:
    """Those of an axis' ``size`` planes of ``voxel`` mm that ``spread`` reads for ``count`` planes of ``spacing_mm``.

    All of them for fine scans; of thick ones few, and what is not read need not be computed.
    """
    low, share = _between(count, spacing_mm / voxel, size - 1)
    return np.union1d(low, np.minimum(low[share > 0] + 1, size - 1))


def _block_mean(
    image: Array, spacing: NDArray[np.float64], axis: int, size: int
) -> tuple[Array, NDArray[np.float64]]:
    if size < 2:
        return image, spacing
    missing = -image.shape[axis] % size
    edge = [(0, missing if place == axis else 0) for place in range(3)]
    padded = np.pad(image, edge, mode="edge") if missing else image
    shape = list(padded.shape)
    shape[axis : axis + 1] = [shape[axis] // size, size]
    coarse = spacing.copy()
    coarse[axis] *= size
    return padded.reshape(shape).mean(axis + 1, dtype=np.float32), coarse


def spread(values: Array, spacing: NDArray[np.float64], voxel: float, shape: tuple[int, ...]) -> Array:
    """Values [x,y,z] on voxels of `voxel` mm, linearly back on the scan's grid [X,Y,Z] with its `spacing`."""
    factor = spacing / voxel
    if values.shape == tuple(shape) and np.allclose(factor, 1, atol=1e-3):
        return values
    return _linear(values, factor, tuple(shape))


def one_solid_part(mask: Mask) -> Mask:
    """The largest part of a mask, its holes filled."""
    parts, count = ndi.label(mask)
    if count > 1:
        mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return filled(mask)


def filled(mask: Mask) -> Mask:
    """A mask [X,Y,Z] and its holes: whatever no path of face-neighbours outside it joins to the border.

    As ``scipy.ndimage.binary_fill_holes``, which grows the outside voxel by voxel and takes three times as long.
    """
    parts, count = ndi.label(~mask)
    outside = np.zeros(count + 1, np.bool_)
    for axis in range(mask.ndim):
        outside[parts.take((0, -1), axis)] = True
    outside[0] = False  # the mask itself
    return np.asarray(~outside[parts], np.bool_)


def sigmoid(logit: Array) -> Array:
    """Chance from logit, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logit)), np.float32)
