"""Image quality as numbers that rank bad scans: noise, tissue contrast, ghosts, blur, cut-off.

White-matter SNR and CJV come first: on 1,101 rated scans they ranked rejected ones best (AUC .80, .71),
entropy focus and QI1 hardly (.54, .50). Formulas follow MRIQC (Esteban et al., PLoS One 2017) with two
changes: tissue is found by a histogram of the smoothed image, so noise widens the spread instead of
moving voxels between classes; and what needs air is None where the scanner zeroed the air, never 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from serving.imaging.geometry import nearest_ras
from serving.imaging.outline import outline, shrink
from serving.imaging.volume import Volume

GRID_MM = 2.0
ZERO_SHARE = 0.5
_FACES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_LEAST = 200

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Features = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Scene:
    """A scan thinned to at most 2 mm (every n-th voxel: averaging would hide noise), with its regions."""

    image: Floats
    edges: tuple[float, float, float]
    head: Mask
    near: Mask
    brain: Mask
    given: bool


def measure(volume: Volume, brain: NDArray[np.uint8] | None = None) -> Features:
    """Quality features of a volume; ``brain`` is a mask [I, J, K] on its grid, or None.

    Values are floats (flags 0.0 or 1.0), or None where a feature cannot be computed. Units: *_mm mm,
    ``background_*`` relative to the brain's median, the rest dimensionless. Under 1 s on one core for
    256 x 256 x 160.
    """
    scene = _scene(volume, brain)
    if scene is None:
        return dict.fromkeys(NAMES)
    found: Features = dict.fromkeys(NAMES)
    found["brain_given"] = float(scene.given)
    middle = float(np.median(scene.image[scene.brain])) if scene.brain.any() else 0.0
    if middle > 0:
        found.update(_tissue(scene))
        found.update(_background(scene, middle))
        found.update(_sharpness(volume, scene, middle))
        found["cnr"] = _ratio(found.pop("tissue_gap", None), found["background_sd"], middle)
    found.pop("tissue_gap", None)
    found.update(_cut_off(volume, scene))
    found["efc"] = _efc(scene.image)
    return {name: _plain(found[name]) for name in NAMES}


NAMES: tuple[str, ...] = (
    "snr_wm", "cjv", "cnr", "wm_to_max", "bias_ratio", "background_zeroed", "background_mean",
    "background_sd", "background_p95", "ghost_ratio", "fwhm_mm", "gradient", "slice_jump", "efc",
    "brain_given", "brain_cut", *(f"touch_{face}" for pair in _FACES for face in pair),
    "coverage_lr_mm", "coverage_ap_mm", "coverage_si_mm",
)  # fmt: skip


def _plain(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _ratio(gap: float | None, spread: float | None, middle: float) -> float | None:
    """CNR = |WM - GM| / sd of air; ``spread`` is relative to ``middle``."""
    return gap / (spread * middle) if gap is not None and spread else None


def _scene(volume: Volume, brain: NDArray[np.uint8] | None) -> Scene | None:
    spacing = volume.spacing
    step = [max(1, int(GRID_MM / edge + 1e-6)) for edge in spacing]
    cut = tuple(slice(None, None, s) for s in step)
    image = np.ascontiguousarray(volume.voxels[cut])
    small, _ = shrink(volume.voxels, volume.affine)
    solid = outline(small)
    if solid is None or min(image.shape) < 3:
        return None
    grid = [n / m for n, m in zip(small.shape, image.shape, strict=True)]
    near = ndimage.binary_dilation(solid, iterations=2)
    if brain is not None and brain.any():
        inside: Mask = brain[cut] > 0
    else:
        inside = _spread(_guess_brain(solid, volume), grid, image.shape)
    edges = tuple(s * e for s, e in zip(step, spacing, strict=True))
    head, wide = _spread(solid, grid, image.shape), _spread(near, grid, image.shape)
    return Scene(image, (edges[0], edges[1], edges[2]), head, wide, inside, brain is not None)


def _spread(mask: Mask, grid: list[float], shape: tuple[int, ...]) -> Mask:
    """A coarse mask on the finer grid, by nearest block."""
    picks = [
        np.minimum((np.arange(n) * g).astype(int), m - 1)
        for n, g, m in zip(shape, grid, mask.shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*picks)])


def _guess_brain(solid: Mask, volume: Volume) -> Mask:
    """Without a mask: the inside of the head's upper 110 mm, 16 mm under its surface."""
    edges = np.array([n * e for n, e in zip(volume.shape, volume.spacing, strict=True)]) / solid.shape
    core = ndimage.distance_transform_edt(np.pad(solid, 1), sampling=edges)[1:-1, 1:-1, 1:-1] > 16.0
    if not core.any():
        return solid
    up = volume.affine[2, :3] / np.array(volume.spacing) * edges
    heights = np.tensordot(np.indices(solid.shape), up, axes=(0, 0))
    return np.asarray(core & (heights > heights[solid].max() - 110.0))


def _tissue(scene: Scene) -> Features:
    """SNR in white matter, CJV, white matter to maximum, bias, and the gap between white and gray."""
    smooth = ndimage.gaussian_filter(scene.image, [1.5 / e for e in scene.edges], truncate=2.5)
    labels, means = _three_classes(smooth, scene.brain)
    if labels is None:
        return {}
    depth = _depth(scene)
    share = [float(np.mean(labels[scene.brain] == n)) for n in range(3)]
    deep = [float(depth[labels == n].mean()) if share[n] > 0.12 else -1.0 for n in range(3)]
    white = int(np.argmax(deep))
    gray = min((n for n in range(3) if n != white), key=lambda n: abs(means[n] - means[white]))
    wm = scene.image[ndimage.binary_erosion(labels == white)]
    gm = scene.image[labels == gray]
    if wm.size < _LEAST or gm.size < _LEAST or wm.std() == 0:
        return {}
    gap = abs(float(wm.mean()) - float(gm.mean()))
    top = float(np.percentile(scene.image, 99.95))
    low, high = np.percentile(_slow(scene, labels == white), [5, 95])
    return {
        "snr_wm": float(wm.mean() / (wm.std() * np.sqrt(wm.size / (wm.size - 1)))),
        "cjv": float(wm.std() + gm.std()) / gap if gap > 0 else None,
        "wm_to_max": float(np.median(wm)) / top if top > 0 else None,
        "bias_ratio": float(high / low) if low > 0 else None,
        "tissue_gap": gap,
    }


def _three_classes(smooth: Floats, brain: Mask) -> tuple[NDArray[np.int8] | None, list[float]]:
    """k-means with three classes on the histogram of the brain; labels -1 outside."""
    values = smooth[brain]
    if values.size < 10 * _LEAST:
        return None, []
    low, high = np.percentile(values, [1, 99])
    if not high > low:
        return None, []
    counts, edges = np.histogram(np.clip(values, low, high), bins=256)
    middles = (edges[1:] + edges[:-1]) / 2
    centres = np.quantile(values, [0.1, 0.5, 0.85])
    for _ in range(40):
        nearest = np.argmin(np.abs(middles[:, None] - centres), axis=1)
        weights = [counts[nearest == n].sum() for n in range(3)]
        if min(weights) == 0:
            return None, []
        moved = np.array([np.average(middles[nearest == n], weights=counts[nearest == n]) for n in range(3)])
        if np.allclose(moved, centres, rtol=1e-4):
            break
        centres = moved
    labels = np.full(smooth.shape, -1, dtype=np.int8)
    labels[brain] = np.argmin(np.abs(values[:, None] - centres), axis=1)
    return labels, [float(c) for c in centres]


def _depth(scene: Scene) -> Floats:
    """Distance to the brain's edge in voxels of a 3-fold thinned grid, spread back."""
    thin = scene.brain[::3, ::3, ::3]
    depth = ndimage.distance_transform_edt(np.pad(thin, 1), sampling=scene.edges)[1:-1, 1:-1, 1:-1]
    picks = [np.arange(n) // 3 for n in scene.image.shape]
    return np.asarray(depth[np.ix_(*picks)], dtype=np.float32)


def _slow(scene: Scene, white: Mask) -> Floats:
    """Slow intensity change across white matter: normalised smoothing at 20 mm on a thinned grid."""
    weight = white[::3, ::3, ::3].astype(np.float32)
    sigma = [20.0 / (3 * e) for e in scene.edges]
    above = ndimage.gaussian_filter(scene.image[::3, ::3, ::3] * weight, sigma, truncate=2.0)
    below = ndimage.gaussian_filter(weight, sigma, truncate=2.0)
    kept = weight > 0
    return np.asarray(above[kept] / np.maximum(below[kept], 1e-6))


def _background(scene: Scene, middle: float) -> Features:
    """Air: is it zeroed, how bright, how noisy, and how much brighter half a field of view away."""
    air = ~scene.near
    values = scene.image[air]
    if values.size < _LEAST:
        return {}
    zeroed = float(np.mean(values == np.median(values))) > ZERO_SHARE
    if zeroed:
        return {"background_zeroed": 1.0}
    return {
        "background_zeroed": 0.0,
        "background_mean": float(values.mean()) / middle,
        "background_sd": float(values.std()) / middle,
        "background_p95": float(np.percentile(values, 95)) / middle,
        "ghost_ratio": _ghost(scene, air, middle),
    }


def _ghost(scene: Scene, air: Mask, middle: float) -> float | None:
    """The brighter of both in-plane directions: air that the head reaches when shifted by half the field.

    Ghost to signal ratio of Giannelli et al., J Appl Clin Med Phys 2010, here with the other air taken
    off, so that plain noise gives 0.
    """
    found = []
    slow = int(np.argmax(scene.edges))
    for axis in range(3):
        if axis == slow and max(scene.edges) > 1.5 * min(scene.edges):
            continue
        shifted = np.roll(scene.head, scene.image.shape[axis] // 2, axis=axis)
        ghost, rest = air & shifted, air & ~shifted
        if ghost.sum() >= _LEAST and rest.sum() >= _LEAST:
            found.append(float(scene.image[ghost].mean() - scene.image[rest].mean()) / middle)
    return max(found) if found else None


def _sharpness(volume: Volume, scene: Scene, middle: float) -> Features:
    """Smoothness in mm (Forman et al., MRM 1995), mean gradient, and jumps between slices."""
    widths, steps = [], []
    box = ndimage.find_objects(scene.brain.astype(np.int8))[0]
    for axis in range(3):
        pair = _neighbours(volume, scene, box, axis)
        if pair is None:
            continue
        first, second = pair
        change = second - first
        variance = float(np.var(np.concatenate((first, second))))
        share = 1 - 0.5 * float(np.var(change)) / variance if variance > 0 else 0.0
        if 0 < share < 1:
            widths.append(volume.spacing[axis] * float(np.sqrt(-2 * np.log(2) / np.log(share))))
        steps.append(float(np.mean(np.abs(change))) / volume.spacing[axis])
    return {
        "fwhm_mm": float(np.prod(widths) ** (1 / len(widths))) if widths else None,
        "gradient": float(np.mean(steps)) / middle if steps else None,
        "slice_jump": _jump(scene, volume.slice_axis, middle),
    }


def _neighbours(
    volume: Volume, scene: Scene, box: tuple[slice, ...], axis: int
) -> tuple[Floats, Floats] | None:
    """Neighbouring voxels along one axis of the full grid, at the thinned brain voxels inside ``box``."""
    step = [max(1, -(-n // m)) for n, m in zip(volume.shape, scene.image.shape, strict=True)]
    inside = scene.brain[box]
    starts = [part.start * s for part, s in zip(box, step, strict=True)]
    counts = list(inside.shape)
    if starts[axis] + (counts[axis] - 1) * step[axis] + 2 > volume.shape[axis]:
        counts[axis] -= 1
    if counts[axis] < 2:
        return None
    inside = inside[tuple(slice(0, n) for n in counts)]
    first = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, counts, step, strict=True)]
    second = list(first)
    second[axis] = slice(first[axis].start + 1, first[axis].stop + 1, step[axis])
    return volume.voxels[tuple(first)][inside], volume.voxels[tuple(second)][inside]


def _jump(scene: Scene, axis: int, middle: float) -> float | None:
    """The largest second difference of slice means inside the brain: motion, spikes, interleave steps."""
    others = tuple(a for a in range(3) if a != axis)
    count = scene.brain.sum(axis=others)
    total = np.where(scene.brain, scene.image, 0).sum(axis=others, dtype=np.float64)
    kept = count > 0.25 * count.max()
    means = (total[kept] / count[kept]) if kept.any() else np.array([])
    if means.size < 5:
        return None
    return float(np.max(np.abs(np.diff(means, 2)))) / middle


def _cut_off(volume: Volume, scene: Scene) -> Features:
    """Which faces of the field of view the head touches, whether the brain does, and coverage in mm."""
    axes = nearest_ras(volume.affine, volume.shape)
    head, brain = axes.apply(scene.head), axes.apply(scene.brain)
    edges = [scene.edges[a] for a in axes.order]
    found: Features = {}
    cut = False
    for axis, (low, high) in enumerate(_FACES):
        area = max(int(head.any(axis=axis).sum()), 1)
        for face, index in ((low, 0), (high, -1)):
            # 5 % of the head's own silhouette: an ear or a nose at the edge is not a cut head.
            found[f"touch_{face}"] = float(head.take(index, axis=axis).sum() / area > 0.05)
            cut |= bool(brain.take(index, axis=axis).sum() > 10)
    for axis, name in enumerate(("coverage_lr_mm", "coverage_ap_mm", "coverage_si_mm")):
        used = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
        found[name] = float((used[-1] - used[0] + 1) * edges[axis])
    found["brain_cut"] = float(cut) if scene.given else None
    return found


def _efc(image: Floats) -> float | None:
    """Entropy focus criterion (Atkinson et al., IEEE TMI 1997), normalised by its maximum."""
    values = np.maximum(image.ravel()[::4].astype(np.float64), 0.0)
    total = float(np.sqrt(np.sum(values**2)))
    if total == 0:
        return None
    share = values / total
    n = share.size
    largest = n * (1 / np.sqrt(n)) * np.log(np.sqrt(n))
    return float(-np.sum(share * np.log(share + 1e-16)) / largest)
