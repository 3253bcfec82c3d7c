"""The rule lesions/1 on digital spheres and shapes whose answer is known."""

import numpy as np
import pytest

from serving.results.lesions import RULE, lesions

ISO = np.diag([1.0, 1.0, 1.0, 1.0])


def sphere(diameter: float, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Voxels whose centre lies within a sphere about a voxel, and the affine."""
    size = [int(np.ceil(diameter / step)) * 2 + 5 for step in spacing]
    grids = np.meshgrid(
        *[(np.arange(n) - n // 2) * s for n, s in zip(size, spacing, strict=True)], indexing="ij"
    )
    return sum(g**2 for g in grids) <= (diameter / 2) ** 2, np.diag([*spacing, 1.0])


@pytest.mark.parametrize("spacing", [(0.9, 0.9, 0.9), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize(("diameter", "counted"), [(2.0, False), (4.0, True), (5.0, True), (6.0, True)])
def test_spheres(diameter: float, counted: bool, spacing: tuple[float, float, float]) -> None:
    mask, affine = sphere(diameter, spacing)
    (found,) = lesions(mask, affine)
    assert found.counted is (counted or found.long_axis_mm >= 3.0)
    assert abs(found.long_axis_mm - diameter) <= 2 * max(spacing)
    if diameter >= 4:
        assert found.counted


def test_thick_slices_count_a_sphere_of_six_mm() -> None:
    (found,) = lesions(*sphere(6.0, (1.0, 1.0, 3.0)))
    assert found.counted
    assert 6.0 <= found.long_axis_mm <= 9.0


def test_a_single_voxel_is_punctate_even_in_a_thick_slice() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = True
    (found,) = lesions(mask, np.diag([1.0, 1.0, 3.0, 1.0]))
    assert not found.counted
    assert (found.voxels, found.volume_mm3) == (1, 3.0)


@pytest.mark.parametrize(("length", "counted"), [(2, False), (3, True)])
def test_a_thread_is_judged_by_its_length(length: int, counted: bool) -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1 : 1 + length, 4, 4] = True
    (found,) = lesions(mask, ISO)
    assert (found.long_axis_mm, found.counted) == (float(length), counted)


def test_corners_join_and_a_gap_parts() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[3, 3, 3] = True
    mask[6, 6, 6] = True
    found = lesions(mask, ISO)
    assert [lesion.voxels for lesion in found] == [3, 1]
    assert found[0].counted  # 2 sqrt(3) + 1 = 4.46 mm
    assert not found[1].counted


def test_the_centroid_is_lps() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 2, 3] = True
    (found,) = lesions(mask, affine)
    assert found.centroid == (-12.0, -26.0, 42.0)


@pytest.mark.parametrize("flat", [False, True])
def test_large_lesions_use_the_hull_and_agree_with_the_pairs(
    monkeypatch: pytest.MonkeyPatch, flat: bool
) -> None:
    rng = np.random.default_rng(3)
    mask = np.zeros((40, 40, 1 if flat else 9), bool)
    mask[5:35, 8:30, :] = True
    mask &= rng.random(mask.shape) < 0.9
    with_pairs = lesions(mask, np.diag([0.9, 1.1, 2.0, 1.0]))
    monkeypatch.setattr("serving.results.lesions._PAIRS_MAX", 10)
    assert lesions(mask, np.diag([0.9, 1.1, 2.0, 1.0])) == with_pairs


def test_an_empty_mask_has_no_lesion() -> None:
    assert lesions(np.zeros((4, 4, 4), bool), ISO) == ()
    assert RULE == "lesions/1"
