"""Random geometry and simple image physics shared by both renderers: warps, smooth fields, blur, thick slices.

Everything random is drawn from the numpy Generator that is handed in. Tensors are float32 [X,Y,Z], in voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy import ndimage as ndi

Tensor = Any  # torch is not followed by the type checker: see pyproject.toml


@dataclass(frozen=True, slots=True)
class WarpRange:
    """How far a warp may go: degrees, fractions, mm, and (nodes a side, mm) of each bending field."""

    rotation: float
    scale: float
    shear: float
    shift: float
    bending: tuple[tuple[int, float], ...]


def smooth_field(
    rng: np.random.Generator, shape: Sequence[int], nodes: Sequence[int], channels: int = 1
) -> Tensor:
    """Normal noise on a coarse grid of `nodes`, interpolated to [channels,X,Y,Z]."""
    coarse = torch.from_numpy(rng.standard_normal((1, channels, *nodes)).astype(np.float32))
    return functional.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0]


def white_noise(rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
    """Independent normal noise [X,Y,Z]."""
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def blur(image: Tensor, sigma: float | Sequence[float] | NDArray[np.float64]) -> Tensor:
    """Gaussian blur, sigma in voxels (one or one an axis); below 0.2 nothing happens on that axis."""
    # scipy's line filter is 20 times faster on a CPU here than torch's conv3d with a line kernel
    for axis, width in enumerate(np.broadcast_to(np.asarray(sigma, float), 3)):
        if width >= 0.2:
            line = ndi.gaussian_filter1d(image.numpy(), float(width), axis=axis, mode="nearest", truncate=2.5)
            image = torch.from_numpy(line)
    return image


def thick_slices(image: Tensor, axis: int, thickness: float, step: float, offset: float) -> Tensor:
    """Average over `thickness` voxels, keep a plane every `step`, interpolate back: a resampled clinical stack."""
    widths = [0.0, 0.0, 0.0]
    widths[axis] = thickness / 2.6
    image = blur(image, widths)
    count = image.shape[axis]
    planes = torch.arange(offset, count - 1e-3, step)
    if len(planes) < 4:
        return image
    return _resample_line(_resample_line(image, axis, planes), axis, (torch.arange(count) - offset) / step)


def _resample_line(image: Tensor, axis: int, position: Tensor) -> Tensor:
    last = image.shape[axis] - 1
    position = position.clamp(0, last)
    low = position.floor().long()
    high = (low + 1).clamp(max=last)
    view = [1, 1, 1]
    view[axis] = -1
    weight = (position - low).view(view)
    return image.index_select(axis, low) * (1 - weight) + image.index_select(axis, high) * weight


def random_grid(
    rng: np.random.Generator,
    source_shape: Sequence[int],
    out_shape: Sequence[int],
    voxel: float,
    limits: WarpRange,
    centre: NDArray[np.float64],
) -> Tensor:
    """Sampling grid [1,X,Y,Z,3] for `pull`: random affine with mirror and bending, around `centre` (source voxels).

    The source has 1 mm voxels, the output `voxel` mm.
    """
    angle = np.deg2rad(rng.uniform(-limits.rotation, limits.rotation, 3))
    (cx, cy, cz), (sx, sy, sz) = np.cos(angle), np.sin(angle)
    matrix = (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ (np.eye(3) + rng.uniform(-limits.shear, limits.shear, (3, 3)))
        @ np.diag(rng.uniform(1 - limits.scale, 1 + limits.scale, 3))
    )
    if rng.random() < 0.5:
        matrix = np.diag([-1.0, 1.0, 1.0]) @ matrix
    middle = np.asarray(centre, float) + rng.uniform(-limits.shift, limits.shift, 3)
    lines = [(torch.arange(n) - (n - 1) / 2) * voxel for n in out_shape]
    x, y, z = lines[0].view(-1, 1, 1), lines[1].view(1, -1, 1), lines[2].view(1, 1, -1)
    points = torch.stack(
        [row[0] * x + row[1] * y + row[2] * z + mid for row, mid in zip(matrix, middle, strict=True)]
    ).float()
    for nodes, reach in limits.bending:
        points += smooth_field(rng, out_shape, (nodes,) * 3, 3) * float(rng.uniform(0, reach) / 1.5)
    span = torch.tensor(tuple(source_shape)).float().view(3, 1, 1, 1) - 1
    return (2 * points / span - 1).flip(0).permute(1, 2, 3, 0)[None]


def pull(volume: Tensor, grid: Tensor, nearest: bool = False) -> Tensor:
    """Volume [X,Y,Z] or [C,X,Y,Z] sampled on a grid of `random_grid`; zero outside."""
    batch = volume[None] if volume.ndim == 4 else volume[None, None]
    mode = "nearest" if nearest else "bilinear"
    out = functional.grid_sample(batch, grid, mode=mode, padding_mode="zeros", align_corners=True)[0]
    return out if volume.ndim == 4 else out[0]


def as_float(volume: Any) -> Tensor:
    """A numpy volume as a float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(volume)).float()
