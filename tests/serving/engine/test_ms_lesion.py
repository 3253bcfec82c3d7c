"""Lesion segmentation with networks that look at brightness only: scaling, directions, stripped scans, parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.engine import ms_lesion
from serving.engine.flair import peak_of
from serving.engine.segmentation import TASKS
from serving.imaging.volume import Volume

PARAMETERS: dict[str, Any] = {
    "brain": {"voxel_mm": 2.5, "threshold": 0.5},
    "threshold": 0.5,
    "smallest_mm3": 5.0,
}


def brain_net(x: np.ndarray) -> np.ndarray:
    """Brain is what is neither dark nor as bright as the phantom's scalp."""
    inside = (x > 0.2) & (x < 0.7)
    return np.repeat(np.where(inside, 10, -10), 3, axis=1).astype(np.float32)


class LesionNet:
    """Lesion = more than 1.4 times the peak in the middle slice; remembers the slice shapes it was asked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        assert x.dtype == np.float32 and x.shape[:2] == (16, 5)
        assert all(side % 32 == 0 for side in x.shape[2:])
        self.shapes.append(x.shape)
        return ((x[:, 2:3] - 0.4) * 40).astype(np.float32)


def phantom(edges: tuple[float, float, float], scalp: bool) -> tuple[Volume, np.ndarray]:
    """Brain ball of 58 mm at 100, one lesion of 7 mm at 170, a scalp shell at 400 where asked."""
    shape = [round(170 / edge) for edge in edges]
    grid = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * e for n, e in zip(shape, edges, strict=True)], indexing="ij"
    )
    radius = np.sqrt(sum(axis**2 for axis in grid))
    away = np.sqrt((grid[0] - 20) ** 2 + (grid[1] + 10) ** 2 + grid[2] ** 2)
    rng = np.random.default_rng(0)
    image = np.where(radius < 58, 100 + 3 * rng.standard_normal(radius.shape), 0)
    lesion = away < 7
    image = np.where(lesion, 170, image)
    if scalp:
        image = np.where((radius > 68) & (radius < 76), 400, image)
        image = image + 2 * rng.random(radius.shape)
    return Volume(image.astype(np.float32), np.diag([*edges, 1.0])), lesion


def test_stripped_scan_keeps_its_outline_and_is_read_in_three_directions() -> None:
    volume, lesion = phantom((1.0, 1.0, 1.2), scalp=False)
    net = LesionNet()
    # in a stripped scan the brain itself is the brightest thing
    stripped_net = lambda x: np.repeat(np.where(x > 0.2, 10, -10), 3, axis=1).astype(np.float32)  # noqa: E731
    answer = ms_lesion.segment(volume, {"brain": stripped_net, "lesion": net}, PARAMETERS)
    assert np.array_equal(answer.brain > 0, volume.voxels > 0)
    assert any("skull-stripped" in note for note in answer.warnings)
    assert "icv_ml" not in answer.numbers
    found = answer.mask > 0
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.9
    assert answer.numbers["lesion_count"] == 1
    assert answer.numbers["lesion_ml"] == pytest.approx(found.sum() * 1.2 / 1000)


def test_raw_head_with_thick_slices_is_read_across_only() -> None:
    volume, lesion = phantom((1.0, 1.0, 4.0), scalp=True)
    net = LesionNet()
    answer = ms_lesion.segment(volume, {"brain": brain_net, "lesion": net}, PARAMETERS)
    assert len(set(net.shapes)) == 1  # one direction, always full batches
    # 42 slices of 4 mm: two planes of 1 mm for each that shows brain, not all four
    assert len(net.shapes) <= np.ceil(2 * (116 / 4 + 2) / 16)
    found = answer.mask > 0
    assert (found & lesion).sum() > 0.7 * lesion.sum()
    assert not (found & ~(answer.brain > 0)).any()
    assert answer.numbers["icv_ml"] >= answer.numbers["brain_ml"] > 500
    assert answer.mask.shape == answer.probability.shape == volume.voxels.shape


def test_no_brain_gives_no_lesion() -> None:
    volume, _ = phantom((2.0, 2.0, 2.0), scalp=True)
    nothing = lambda x: np.full((1, 3, *x.shape[2:]), -10, np.float32)  # noqa: E731
    answer = ms_lesion.segment(volume, {"brain": nothing, "lesion": LesionNet()}, PARAMETERS)
    assert answer.mask.sum() == 0 and answer.numbers["lesion_count"] == 0
    assert answer.warnings


def test_small_parts_are_dropped() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[1, 1, 1:4] = True
    mask[5:8, 5:8, 5:8] = True
    kept, count = ms_lesion.parts_of(mask, 1.0, 5.0)
    assert count == 1 and kept.sum() == 27


def test_peak_ignores_lesions_and_fluid() -> None:
    rng = np.random.default_rng(1)
    tissue, fluid, lesion = rng.normal(100, 5, 50000), rng.normal(20, 5, 8000), rng.normal(180, 10, 8000)
    assert peak_of(np.concatenate([tissue, fluid, lesion])) == pytest.approx(100, abs=3)
    assert peak_of(np.zeros(3)) == 1.0


def test_every_task_is_known_by_its_name() -> None:
    assert set(TASKS) == {"brain-extraction", "ms-lesion"}
