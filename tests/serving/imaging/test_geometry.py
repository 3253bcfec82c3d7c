"""Axis orders, flips and affines."""

from itertools import permutations, product

import numpy as np
import pytest

from serving.imaging.geometry import Axes, irregular, nearest_ras, normal, reorder, sideways_mm, stored_affine

ALL = [Axes(o, f) for o in permutations(range(3)) for f in product((False, True), repeat=3)]


@pytest.mark.parametrize("axes", ALL)
def test_undo_and_reorder_agree_with_apply(axes: Axes) -> None:
    stored = np.arange(24).reshape(2, 3, 4)
    voxels = axes.apply(stored)
    assert np.array_equal(axes.undo(voxels), stored)
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = [5, -6, 7]
    turned = reorder(affine, (2, 3, 4), axes)
    for place in product(range(2), range(3), range(4)):
        world = affine @ [*place, 1]
        (found,) = np.argwhere(voxels == stored[place])
        assert np.allclose(turned @ [*found, 1], world)


@pytest.mark.parametrize("axes", ALL)
def test_nearest_ras_puts_every_orientation_right(axes: Axes) -> None:
    tilt = np.eye(4)
    tilt[:3, :3] = np.linalg.qr(np.eye(3) + 0.1 * np.random.default_rng(1).normal(size=(3, 3)))[0]
    tilt[:3, :3] *= np.sign(np.diag(tilt[:3, :3]))
    start = reorder(tilt @ np.diag([2.0, 2.0, 2.0, 1.0]), (40, 50, 60), axes)
    shape = tuple((40, 50, 60)[a] for a in axes.order)
    found = nearest_ras(start, (shape[0], shape[1], shape[2]))
    back = reorder(start, (shape[0], shape[1], shape[2]), found)
    assert np.all(np.diag(back[:3, :3]) > 0)


def test_stored_affine_is_lps_to_ras() -> None:
    affine = stored_affine(
        np.array([1.0, 0, 0, 0, 1, 0]), np.array([2.0, 3.0]), np.array([10.0, 20, 30]), np.array([0, 0, 5.0])
    )
    assert np.allclose(affine, [[-3, 0, 0, -10], [0, -2, 0, -20], [0, 0, 5, 30], [0, 0, 0, 1]])


def test_spacing_rules() -> None:
    assert not irregular(np.array([0, 3.0, 6.01, 9.0]))
    assert irregular(np.array([0, 3.0, 9.0, 12.0]))
    along = normal(np.array([1.0, 0, 0, 0, 1, 0]))
    assert sideways_mm(np.array([[0, 0, 0], [0.2, 0, 3.0]]), along) == pytest.approx(0.2)
