"""What moves between grids, against scipy's slower calls: the same values and the same masks."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from serving.engine import grids


@pytest.mark.parametrize("spacing", [(0.7, 0.9, 1.3), (1.0, 1.0, 3.0), (0.5, 2.4, 4.0)])
def test_values_come_back_as_scipy_gives_them(spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(23, 31, 17)).astype(np.float32)
    factor = np.array(spacing)
    shape = tuple(int(n) for n in np.ceil(np.array(values.shape) / factor))
    got = grids.spread(values, factor, 1.0, shape)
    wanted = ndi.affine_transform(
        values, factor, (factor - 1) / 2, output_shape=shape, order=1, mode="nearest"
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize("thick", [2.1, 2.5, 3.0, 4.4, 5.0, 7.3])
def test_planes_that_are_not_read_change_nothing(thick: float) -> None:
    values = np.random.default_rng(3).normal(size=(4, 5, 61)).astype(np.float32)
    count = int(np.ceil(61 / thick))
    read = grids.planes_read(thick, 1.0, 61, count)
    other = np.full_like(values, 1e6)
    other[..., read] = values[..., read]
    spacing, shape = np.array([1.0, 1.0, thick]), (4, 5, count)
    np.testing.assert_array_equal(
        grids.spread(other, spacing, 1.0, shape), grids.spread(values, spacing, 1.0, shape)
    )
    assert len(read) <= 2 * count and (thick != 5.0 or len(read) == count)


def test_a_shrunk_ramp_keeps_its_slope_and_its_ends() -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 8, 8))
    small = grids.shrink(ramp, np.array([0.8, 1.0, 1.0]), 1.0)
    assert small.shape == (32, 8, 8)
    np.testing.assert_allclose(small[2:-2, 4, 4], np.arange(2, 30) * 1.25 + 0.125, atol=1e-2)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_holes_are_filled_as_scipy_fills_them(share: float) -> None:
    mask = np.random.default_rng(3).random((19, 23, 21)) < share
    np.testing.assert_array_equal(grids.filled(mask), ndi.binary_fill_holes(mask))


def test_a_cave_that_opens_at_the_border_is_no_hole() -> None:
    mask = np.ones((5, 5, 5), bool)
    mask[2, 2, 2:] = False
    np.testing.assert_array_equal(grids.filled(mask), mask)
    mask[2, 2, 4] = True
    assert grids.filled(mask).all()
