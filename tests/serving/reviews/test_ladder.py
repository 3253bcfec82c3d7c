"""The answer at other thresholds: the step that would have been right is found, and nothing is claimed without it."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from psycopg.types.json import Jsonb

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
    data = ladder.keep(chance_of(mask), volume, MODEL)
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
    assert ladder.keep(np.zeros((3, 3, 3), np.float16), volume, model) is None


@pytest.fixture
def answered(world: World) -> AnsweredStudy:
    parameters = {"threshold": 0.5, "smallest_mm3": 0.0}
    world.sql(
        "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by)"
        " values (%s, 'ms-lesion', '1.0.0', 'ms-lesion', 'cpu-small', %s, '{}', 'test')",
        DIGEST_A, Jsonb({"labels": LABELS, "parameters": parameters}),
    )  # fmt: skip
    its = answered_study(world, world.clinic(), DIGEST_A)
    data = ladder.keep(chance_of(its.mask), its.volume, {"labels": {"1": {}}, "parameters": parameters})
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
