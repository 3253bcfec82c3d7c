"""The answer at other thresholds: the step that would have been right is found, and nothing is claimed without it."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from scipy.spatial.transform import Rotation

from serving.engine.grids import one_solid_part, spacing_of, turn_of
from serving.engine.ms_lesion import parts_of
from serving.imaging.volume import Volume
from serving.reviews import ladder, masks, reviews
from serving.reviews.lattice import Grid
from serving.reviews.reviews import Said
from tests.kit.answered import AnsweredStudy, answered_study, nifti
from tests.kit.sources import LABELS
from tests.kit.world import DIGEST_A, World

MODEL = {"labels": {"1": {}}, "parameters": {"threshold": 0.5}}


def chance_of(mask: np.ndarray) -> np.ndarray:
    """High inside the mask; a plane beside it at .3, which a lower threshold would take in."""
    chance = np.where(mask > 0, 0.9, 0.01)
    chance[2:8, 3:7, 4] = 0.3
    return chance.astype(np.float16)


def grid_of(volume: Volume) -> Grid:
    return Grid(volume.shape, volume.affine)


def test_levels_say_what_each_threshold_would_mark(tmp_path: Path) -> None:
    volume = Volume(voxels=np.zeros((9, 8, 6), np.float32), affine=np.diag([1.0, 1.0, 2.0, 1.0]))
    mask = np.zeros((9, 8, 6), np.uint8)
    mask[2:8, 3:7, 1:4] = 1
    data = ladder.keep(chance_of(mask), mask, volume, MODEL)
    assert data is not None
    levels, _ = masks.decode(data, hashlib.sha256(data).digest())
    truth = mask.copy()
    truth[2:8, 3:7, 4] = 1
    found = ladder.dice_by_step(levels, truth, mask, grid_of(volume), "a task", {})
    assert found is not None
    assert found["0"] == pytest.approx(6 / 7)
    assert found["-1"] == 1.0
    assert max(found, key=found.__getitem__) in ("-1", "-1.5", "-2", "-3")
    assert found["2"] == found["0"] > found["3"] == 0.0  # logit(.9) is 2.2
    # Planted: levels of another answer; nothing is claimed of them.
    assert ladder.dice_by_step(levels[::-1], truth, mask, grid_of(volume), "a task", {}) is None


@pytest.mark.parametrize(
    "model",
    [{"labels": {"1": {}, "2": {}}, "parameters": {"threshold": 0.5}}, {"labels": {"1": {}}, "parameters": {}},
     {"labels": {"1": {}}, "parameters": {"threshold": 0.0}}],
)  # fmt: skip
def test_without_one_threshold_nothing_is_kept(model: dict) -> None:
    volume = Volume(voxels=np.zeros((3, 3, 3), np.float32), affine=np.eye(4))
    assert ladder.keep(np.zeros((3, 3, 3), np.float16), np.zeros((3, 3, 3), np.uint8), volume, model) is None


THRESHOLDS = st.one_of(st.sampled_from([0.25, 0.3, 0.5, 0.75]), st.floats(0.05, 0.95))
EDGES = st.sampled_from([(1.0, 1.0, 5.0), (0.5, 0.5, 5.0), (0.9375, 0.9375, 3.0), (1.0, 1.0, 4.9999998)])
TILT = Rotation.from_rotvec([0.2, -0.1, 0.05]).as_matrix()


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, float, np.ndarray]:
    """Chances float32 [8,8,6], some of them so near the threshold that float16 cannot tell the side; the affine."""
    threshold = draw(THRESHOLDS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    near = threshold + rng.choice([-3e-5, -1e-7, 0.0, 1e-7, 3e-5], (8, 8, 6))
    far = rng.choice([0.01, threshold * 0.9, threshold + 0.5 * (1 - threshold), 0.99], (8, 8, 6))
    chance = np.where(rng.random((8, 8, 6)) < 0.3, near, far)
    chance[rng.random((8, 8, 6)) < draw(st.sampled_from([0.3, 0.9]))] = 0.0
    affine = np.eye(4)
    affine[:3, :3] = (TILT if draw(st.booleans()) else np.eye(3)) * draw(EDGES)
    return np.clip(chance, 0, 1).astype(np.float32), threshold, affine


def engine(task: str, cut: np.ndarray, affine: np.ndarray, smallest: float = 5.0) -> np.ndarray:
    """What the task delivers after the cut, by the engine's own functions on the engine's own grid."""
    turn = turn_of(affine)
    its = turn.apply(cut)
    if task == "ms-lesion":
        its = parts_of(its, float(np.prod(spacing_of(affine, turn))), smallest)[0]
    elif task == "brain-extraction":
        its = one_solid_part(its)
    return turn.undo(its.astype(np.uint8))


@pytest.mark.parametrize("task", ["ms-lesion", "brain-extraction", "a task"])
@given(answers(), st.sampled_from([1.0, 1 + 1e-9, 1 - 1e-9, 1 + 9e-7, 1 - 9e-7]))
@settings(max_examples=120, deadline=None)
def test_what_is_kept_gives_the_delivered_mask_again_to_the_voxel(
    task: str, its: tuple[np.ndarray, float, np.ndarray], rounding: float
) -> None:
    """Whatever float16 rounds, and another reading of the grid: at step 0 the delivered mask, and above it less."""
    chance, threshold, affine = its
    parameters = {"threshold": threshold, "smallest_mm3": 5.0}
    delivered = engine(task, chance > threshold, affine)
    data = ladder.keep(
        chance.astype(np.float16), delivered, Volume(voxels=chance, affine=affine),
        {"labels": {"1": {}}, "parameters": parameters},
    )  # fmt: skip
    assert data is not None
    levels, _ = masks.decode(data, hashlib.sha256(data).digest())
    read = affine.copy()
    read[:3, 2] *= rounding
    found = ladder.masks_by_step(levels, delivered, Grid((8, 8, 6), read), task, parameters)
    assert np.array_equal(found[0.0], delivered > 0)
    assert (
        ladder.dice_by_step(levels, delivered, delivered, Grid((8, 8, 6), read), task, parameters) is not None
    )
    if task != "brain-extraction":  # whose largest part may be another one
        assert all((found[low] >= found[high]).all() for low, high in pairwise(ladder.STEPS))


def test_each_rounding_alone_would_lose_a_mask() -> None:
    """Planted: cut from float16 alone, and a voxel's volume by the determinant of the grid alone."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    grid = Grid((8, 8, 6), affine)
    chance = np.zeros(grid.shape, np.float32)
    chance[::3, ::3, ::3] = 0.9
    chance[3, 3, 3] = 0.5 + 1e-7
    delivered = engine("ms-lesion", chance > 0.5, affine)
    assert delivered[3, 3, 3] == 1
    assert not (chance.astype(np.float16) > 0.5)[3, 3, 3]
    assert grid.voxel_ml * 1000 < 5.0
    assert not parts_of(delivered > 0, grid.voxel_ml * 1000, 5.0)[0].any()  # each lesion is one voxel


@pytest.fixture
def answered(world: World) -> AnsweredStudy:
    parameters = {"threshold": 0.5, "smallest_mm3": 0.0}
    world.sql(
        "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by)"
        " values (%s, 'ms-lesion', '1.0.0', 'ms-lesion', 'cpu-small', %s, '{}', 'test')",
        DIGEST_A, Jsonb({"labels": LABELS, "parameters": parameters}),
    )  # fmt: skip
    its = answered_study(world, world.clinic(), DIGEST_A)
    data = ladder.keep(
        chance_of(its.mask), its.mask, its.volume, {"labels": {"1": {}}, "parameters": parameters}
    )
    assert data is not None
    path = f"clinic/{its.clinic}/aa/{its.study.hex}chance"
    (world.db.settings.store_dir / path).write_bytes(data)
    world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " values (%s, %s, 'chance', %s, %s, %s)",
        its.clinic, its.result, path, len(data), hashlib.sha256(data).digest(),
    )  # fmt: skip
    return its


def add(world: World, of: AnsweredStudy, said: Said) -> None:
    reviews.add(world.db.settings, world.db.database, of.clinic, of.study, said)


def test_a_review_keeps_the_dice_of_each_step_and_of_two_readers(
    world: World, answered: AnsweredStudy, tmp_path: Path
) -> None:
    more = answered.mask.copy()
    more[2:8, 3:7, 4] = 1
    add(world, answered, Said("edit", "ada", nifti(tmp_path / "a.nii.gz", more, answered.volume.affine)))
    add(world, answered, Said("accept", "bob"))
    add(
        world,
        answered,
        Said("edit", "eve", nifti(tmp_path / "e.nii.gz", answered.mask, answered.volume.affine)),
    )
    rows = world.sql("select reader, dice, recalibrated, between_readers from serving.review_v order by seq")
    (_, dice, steps, alone), (_, none, accepted, _), (_, same, _, between) = rows
    assert steps["0"] == pytest.approx(dice)
    assert steps["-1"] == 1.0
    assert (none, accepted["0"], alone) == (None, 1.0, None)
    assert (same, between) == (1.0, pytest.approx(dice))


def test_lost_levels_cost_no_review(world: World, answered: AnsweredStudy, tmp_path: Path) -> None:
    (path,) = world.db.settings.store_dir.rglob("*chance")
    path.write_bytes(b"damaged")
    add(
        world,
        answered,
        Said("edit", "ada", nifti(tmp_path / "a.nii.gz", answered.mask, answered.volume.affine)),
    )
    path.unlink()
    add(world, answered, Said("accept", "bob"))
    assert world.sql("select recalibrated from serving.review") == [(None,), (None,)]
