"""Brain extraction with a network that calls everything bright brain: grids, order, warnings."""

from __future__ import annotations

import numpy as np
import pytest

from serving.engine import brain_extraction
from serving.engine.grids import one_solid_part, shrink, spacing_of, spread, turn_of
from serving.imaging.volume import Volume

PARAMETERS = {"voxel_mm": 2.5, "threshold": 0.5}


def bright_is_brain(x: np.ndarray) -> np.ndarray:
    assert x.dtype == np.float32 and x.ndim == 5
    assert all(side % 16 == 0 for side in x.shape[2:])
    return np.repeat((x - 0.5) * 40, 3, axis=1).astype(np.float32)


def ball(affine: np.ndarray, shape: tuple[int, int, int], radius: float = 60.0) -> Volume:
    """A bright ball about the middle of the grid, in mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    middle = (np.array(shape) - 1) / 2
    place = (index - middle) @ affine[:3, :3].T
    return Volume(np.where((place**2).sum(-1) < radius**2, 100, 0).astype(np.float32), affine)


def oblique(spacing: tuple[float, float, float]) -> np.ndarray:
    """Axes in the order S, -R, A, tilted by 12 degrees."""
    angle = np.deg2rad(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    axes = tilt @ np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]], float)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    return affine


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.9, 5.0), (4.0, 2.0, 3.0)])
def test_mask_lies_on_the_input_grid(spacing: tuple[float, float, float]) -> None:
    affine = oblique(spacing)
    shape = tuple(int(150 / edge) for edge in spacing)
    volume = ball(affine, shape)
    answer = brain_extraction.segment(volume, {"brain": bright_is_brain}, PARAMETERS)
    truth = volume.voxels > 0
    assert answer.mask.shape == volume.voxels.shape and answer.mask.dtype == np.uint8
    found = answer.mask > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert answer.numbers["brain_ml"] == pytest.approx(found.sum() * np.prod(spacing) / 1000)
    assert answer.numbers["icv_ml"] >= answer.numbers["brain_ml"]
    assert answer.probability.dtype == np.float16


@pytest.mark.parametrize("margin", [0, 1, 4, 7])
def test_a_margin_moves_nothing_and_shows_the_end_of_the_view(margin: int) -> None:
    whole = ball(np.diag([2.5, 2.5, 2.5, 1]), (64, 60, 58))
    cut = Volume(whole.voxels[:, :, 20:].copy(), whole.affine)
    seen: list[np.ndarray] = []

    def net(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return bright_is_brain(x)

    parameters = PARAMETERS | ({"margin": margin} if margin else {})
    answer = brain_extraction.segment(cut, {"brain": net}, parameters)
    assert np.array_equal(answer.mask > 0, cut.voxels > 0)
    lit = np.argwhere(seen[0][0, 0] > 0.5)
    assert lit[:, 2].min() == margin  # the view ends inside the ball: that many planes of nothing below it


def test_an_off_centre_brain_stays_on_its_side() -> None:
    affine = oblique((2.0, 2.0, 2.0))
    volume = ball(affine, (75, 75, 75), 40)
    voxels = np.roll(volume.voxels, (10, -8, 5), (0, 1, 2))
    answer = brain_extraction.segment(Volume(voxels, affine), {"brain": bright_is_brain}, PARAMETERS)
    where = [axis.mean() for axis in np.nonzero(answer.mask)]
    assert where == pytest.approx([axis.mean() for axis in np.nonzero(voxels)], abs=0.3)


def test_doubtful_volumes_are_named() -> None:
    small = brain_extraction.segment(
        ball(np.diag([2.0, 2, 2, 1]), (70, 70, 70), 30), {"brain": bright_is_brain}, PARAMETERS
    )
    assert any("no adult brain" in note for note in small.warnings)
    whole = ball(np.diag([2.0, 2, 2, 1]), (80, 80, 80), 62)
    cut = Volume(whole.voxels[:, :, :40].copy(), whole.affine)
    answer = brain_extraction.segment(cut, {"brain": bright_is_brain}, PARAMETERS)
    assert any("does not cover" in note for note in answer.warnings)
    assert brain_extraction.segment(whole, {"brain": bright_is_brain}, PARAMETERS).warnings == ()


def test_turn_and_moves_undo_each_other() -> None:
    affine = oblique((1.0, 2.0, 3.0))
    turn = turn_of(affine)
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert np.array_equal(turn.undo(turn.apply(array)), array)
    assert spacing_of(affine, turn).tolist() == pytest.approx([2.0, 3.0, 1.0])
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 12, 10)).copy()
    spacing = np.array([1.0, 1.0, 4.0])
    back = spread(shrink(ramp, spacing, 2.5), spacing, 2.5, ramp.shape)
    assert np.abs(back - ramp)[6:-6].max() < 0.1  # positions are kept, not shifted by half a voxel


def test_only_the_largest_part_is_kept_and_filled() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[2:12, 2:12, 2:12] = True
    mask[5:8, 5:8, 5:8] = False
    mask[16:18, 16:18, 16:18] = True
    assert one_solid_part(mask).sum() == 1000
