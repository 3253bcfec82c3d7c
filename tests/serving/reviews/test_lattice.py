"""A mask goes onto the study's voxels in any order of axes, and onto nothing else; Dice is what it is defined to be."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reviews import lattice
from serving.reviews.errors import MaskElsewhere
from serving.reviews.lattice import Grid, agreement, onto, place
from tests.kit.unshrunk import unshrunk

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
TURNS = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
ANGLES = st.tuples(*[st.floats(-3, 3)] * 3)


def rotation(angles: tuple[float, ...]) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    affine = np.eye(4)
    sizes = draw(st.tuples(*[st.floats(0.3, 6)] * 3))
    affine[:3, :3] = rotation(draw(ANGLES)) * sizes
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Grid(draw(SHAPES), affine)


def saved_otherwise(array: np.ndarray, affine: np.ndarray, order, flips) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels as a program that turns axes writes them; index by index, not by the code under test."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    shape = tuple(array.shape[a] for a in order)
    for new, old in enumerate(order):
        turn[old, new] = -1 if flips[new] else 1
        turn[old, 3] = array.shape[old] - 1 if flips[new] else 0
    out = np.zeros(shape, np.uint8)
    for index in itertools.product(*map(range, shape)):
        old_index = (turn @ [*index, 1])[:3].astype(int)
        out[index] = array[tuple(old_index)]
    return out, affine @ turn


@given(grids(), TURNS, st.integers(0, 2**32 - 1))
def test_any_order_of_axes_comes_back(grid: Grid, turn, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 3, grid.shape).astype(np.uint8)
    saved, affine = saved_otherwise(array, grid.affine, *turn)
    assert np.array_equal(onto(saved, affine.astype(np.float32).astype(float), grid), array)


@given(grids(), TURNS, st.integers(0, 2), st.floats(0.2, 3), st.sampled_from([-1, 1]))
def test_a_moved_mask_is_refused(grid: Grid, turn, axis: int, edges: float, sign: int) -> None:
    saved, affine = saved_otherwise(np.ones(grid.shape, np.uint8), grid.affine, *turn)
    moved = affine.copy()
    moved[:3, 3] += sign * edges * grid.affine[:3, axis]
    with pytest.raises(MaskElsewhere):
        onto(saved, moved, grid)


@given(grids(), st.integers(0, 2), st.floats(0.3, 0.9))
def test_another_voxel_size_is_refused(grid: Grid, axis: int, factor: float) -> None:
    shape = tuple(n + 3 for n in grid.shape)
    affine = grid.affine.copy()
    affine[:3, axis] *= factor
    with pytest.raises(MaskElsewhere):
        onto(np.ones(shape, np.uint8), affine, Grid(shape, grid.affine))


def test_a_tilted_mask_is_refused_though_it_begins_at_the_same_place() -> None:
    grid = Grid((40, 40, 20), np.diag([1.0, 1.0, 3.0, 1.0]))
    tilted = grid.affine.copy()
    tilted[:3, :3] = rotation((0.01, 0, 0)) @ tilted[:3, :3]
    with pytest.raises(MaskElsewhere, match="between"):
        onto(np.ones(grid.shape, np.uint8), tilted, grid)


def test_a_part_of_the_grid_is_no_whole_mask() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    assert place((4, 4, 2), np.eye(4), grid).first == (0, 0, 0)
    with pytest.raises(MaskElsewhere, match="part"):
        onto(np.ones((4, 4, 2), np.uint8), np.eye(4), grid)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_dice_by_counting_sets(seed: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(0, labels + 1, (3, 3, 2)).astype(np.uint8) for _ in range(2))
    grid = Grid((3, 3, 2), np.diag([2.0, 1.0, 5.0, 1.0]))
    scores = []
    for value in range(1, labels + 1):
        a, b = (set(map(tuple, np.argwhere(m == value))) for m in (one, other))
        if a or b:
            scores.append(2 * len(a & b) / (len(a) + len(b)))
    its = agreement(one, other, range(1, labels + 1), grid)
    assert its.dice == pytest.approx(np.mean(scores) if scores else 1.0)
    assert its.delivered_ml == pytest.approx(0.01 * (one > 0).sum())
    assert agreement(other, one, range(1, labels + 1), grid).dice == its.dice


def test_two_empty_masks_agree_and_one_empty_does_not() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    empty, full = np.zeros((2, 2, 2), np.uint8), np.ones((2, 2, 2), np.uint8)
    assert agreement(empty, empty, [1], grid).dice == 1.0
    assert agreement(empty, full, [1], grid).dice == 0.0
    with pytest.raises(MaskElsewhere):
        agreement(full[:1], full, [1], grid)


@pytest.mark.parametrize("mutant", ["no tolerance", "no flip"])
def test_mutants_are_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid that takes what lies beside it, and a turn that forgets the flip: each is noticed by the tests above."""
    if mutant == "no tolerance":
        monkeypatch.setattr(lattice, "TOLERANCE", 10.0)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test_a_tilted_mask_is_refused_though_it_begins_at_the_same_place()
    else:
        monkeypatch.setattr(lattice.Place, "turn", lambda self, array: array.transpose(self.order))
        with pytest.raises(AssertionError):
            unshrunk(test_any_order_of_axes_comes_back)
