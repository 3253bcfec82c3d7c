"""The cure from reviews to a bound version, on real PostgreSQL: small grids, the shipped lesion net.

The base is that net with its logit moved down, so that it finds too little; its brain stage calls everything brain.
Reading DICOM and MLflow are tested elsewhere: here ``child.prepare`` puts down a ready volume, and a label is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from registry import accounts, bindings, clinics, models
from registry.errors import MlflowAway, NoBinding, VersionElsewhere
from registry.promotions import moves
from serving.engine import registering
from serving.engine.package import Package, default_package, read_package, write_package
from serving.imaging import child
from serving.imaging.volume import Volume, save_volume
from serving.reviews import masks
from serving.reviews.lattice import Grid
from serving.training import cohorts, finetune, finetune_job, scenes
from serving.training.calibrate import Case, folded
from serving.training.errors import CohortSmall, MetricUnknown, NothingPasses, RecipeNone, TrainerDied
from serving.training.finetune_cases import score_heads
from tests.kit.world import World
from tests.serving.engine.toy import ToyShape
from tests.serving.training.test_cohorts import TASK, reviewed

pytestmark = pytest.mark.slow
PEOPLE, LOW, FIT = 11, -6.0, -1.5  # the net is best in these made-up images somewhat below its own logit
THICK = np.diag([1, 1, 2.1, 1])  # slices that are read across only, as the small heads are


def head(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A small stripped image on 1 mm voxels, white matter at 100, with a few bright spots; and the spots."""
    rng = np.random.default_rng(seed)
    image = 1 + 0.03 * ndi.gaussian_filter(rng.normal(size=(64, 64, 20)), 1) * 5
    lesion = np.zeros(image.shape, bool)
    for x, y, z in rng.integers([12, 12, 4], [46, 46, 12], (6, 3)):
        size = int(rng.integers(3, 7))
        spot = np.zeros(image.shape)
        spot[x : x + size, y : y + size, z : z + size // 2 + 2] = 1
        image += ndi.gaussian_filter(spot, 0.7) * rng.uniform(0.25, 0.6)
        lesion |= spot > 0
    outside = np.ones(image.shape, bool)
    outside[5:-5, 5:-5, 2:-2] = False
    return np.where(outside, 0, 100 * image).astype(np.float32), lesion & ~outside


def case(seed: int) -> Case:
    image, lesion = head(seed)
    return Case(np.where(image > 0, image / 100 - 1, -1).astype(np.float32), lesion, "middle", scenes.ACROSS)


def heads(kind: str, turns: Sequence[int] = (0,)) -> Iterator[tuple[str, Case]]:
    first, count = (500, 10) if kind == scenes.GLOBAL else (600, 3)
    yield from ((f"small{n}", case(first + n)) for n in range(count))


@pytest.fixture(scope="module", autouse=True)
def everything() -> Iterator[None]:
    """An architecture for the brain stage that calls everything brain, so that packages are written in a second."""
    import torch

    from serving.engine import architectures

    usual = architectures.build

    def build(name: str) -> Any:
        if name != "everything":
            return usual(name)
        return torch.nn.Conv3d(1, 3, 1).eval()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            architectures, "ARCHITECTURES", {**architectures.ARCHITECTURES, "everything": ToyShape(outputs=3)}
        )
        patch.setattr(architectures, "build", build)
        yield


@pytest.fixture(scope="module")
def bases(everything: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two packages: one that finds too little, and the same net as it was trained."""
    content = read_package(default_package(TASK))
    brain = {"weight": np.zeros((3, 1, 1, 1, 1), np.float32), "bias": np.full(3, 5, np.float32)}
    lesion = content.weights("lesion")
    made = {}
    for number, (name, lean) in enumerate((("low", LOW), ("fit", FIT)), 1):
        model = json.loads(json.dumps(content.package.model)) | {"version": f"{number}.0.0"}
        model["stages"]["brain"]["architecture"] = "everything"
        stages = {"brain": brain, "lesion": folded(dict(lesion), 1.0, lean)}
        made[name] = write_package(tmp_path_factory.mktemp("base") / name, model, {"people": 0}, stages).path
    return made


class Clinic:
    """A clinic whose people were reviewed, with kept masks, and a base that answers it."""

    def __init__(self, world: World, base: Path, people: int) -> None:
        self.world, self.db, self.settings = world, world.db.database, world.db.settings
        with self.db.system() as conn:
            for name, role in (("anna", "admin"), ("bert", "ml")):
                accounts.add(conn, name, role, by="test")
        self.id = world.clinic()
        self.base = registering.register(self.settings, self.db, base, "anna")
        with self.db.system() as conn:
            self.clinic = clinics.by_slug(conn, "north")
            bindings.set(conn, self.clinic, TASK, self.base.digest, by="anna", reason="first")
        reviewed(world, self.id, range(people))
        world.sql("alter table serving.review disable trigger review_fixed")
        for number in range(people):
            image, lesion = head(number)
            data = masks.encode(lesion.astype(np.uint8), Grid(image.shape, THICK))
            path = self.settings.store_dir / f"mask{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            world.sql(
                "update serving.review set mask_sha256 = sha256(%s) where mask_path = %s",
                data,
                f"mask{number}",
            )
        self.numbers = dict(
            world.sql(
                "select study_id, substr(mask_path, 5)::int from serving.review where clinic_id = %s", self.id
            )
        )

    def cure(self, *tiers: str, steps: int | None = None) -> finetune.Made:
        return finetune.finetune(
            self.settings, self.db, "north", TASK, tiers or finetune.TIERS, steps, by="bert", say=print
        )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job in this process, with small heads in place of the shipped ones."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(models, "answers", lambda _: None)
    monkeypatch.setattr(models, "register", lambda *_: models.Label(TASK, "1"))
    monkeypatch.setattr(scenes, "cases", heads)
    monkeypatch.setattr(finetune, "train", lambda _, folder, say: finetune_job.run(folder, say))


@pytest.fixture
def clinic(world: World, bases: dict[str, Path], small: None, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    made = Clinic(World(world.db), bases["low"], PEOPLE)

    def prepare(paths: Sequence[Path], accepts: Any, out_dir: Path) -> child.Prepared:
        """The study's volume. Two threads ask, in any order: the folder's number is the item's place in the cohort."""
        item, _ = items[int(out_dir.name)]
        save_volume(Volume(head(made.numbers[item.study_id])[0], THICK), out_dir)
        return child.Prepared(out_dir, [], {}, [], [])

    items: list[Any] = []
    real = cohorts.freeze

    def freeze(*words: Any, **more: Any) -> cohorts.Cohort:
        frozen = real(*words, **more)
        items[:] = frozen.items
        return frozen

    monkeypatch.setattr(cohorts, "freeze", freeze)
    monkeypatch.setattr(child, "prepare", prepare)
    return made


def counted(world: World) -> list[tuple[Any, ...]]:
    return world.sql(
        "select (select count(*) from registry.model_version), (select count(*) from registry.evidence), "
        "(select count(*) from registry.local_version), (select count(*) from serving.dataset_snapshot)"
    )


def test_reviews_become_a_version_that_two_people_promote(clinic: Clinic, world: World) -> None:
    made = clinic.cure()
    model, card = made.package.model, made.package.card
    assert made.tier == "T1" and model["parent"] == clinic.base.digest
    assert model["version"].startswith("1.0.0-t1.") and card["fine_tune"]["offset"] > 1
    assert (card["cohort"], card["people_trained_on"], card["people_who_judged"]) == (
        made.cohort.digest,
        3,
        8,
    )
    assert counted(world) == [(3, 4, 1, 1)]  # with the version of the reviewed rows
    rows = world.sql(
        "select dataset, clinic_id is null, (select count(*) from jsonb_object_keys(people)) from registry.evidence "
        "where digest = %s order by 1", made.package.digest,
    )  # fmt: skip
    assert rows == [
        (f"cohort-{made.cohort.digest[7:19]}", False, 8),
        (f"generated-{scenes.digest()[7:19]}", True, 10),
    ]
    active, candidate = made.report["active"]["clinic"], made.report["tiers"][0]["scores"]["clinic"]
    assert all(0.1 < active[person] < candidate[person] for person in active), "an image met another's mask"
    folder = clinic.settings.root / "finetune" / made.cohort.digest[7:19]
    assert (folder / "report.json").exists() and not (folder / "studies").exists(), (
        "no image of a patient stays"
    )

    with clinic.db.system() as conn:
        asked = moves.request(
            conn, clinic.clinic, TASK, made.package.digest, by="bert", reason="a new scanner"
        )
        assert {gate.name: (gate.verdict, gate.people) for gate in moves.judge(conn, asked)} == {
            "clinic": ("pass", 8), "global": ("pass", 10),
        }  # fmt: skip
        moves.approve(conn, asked.id, by="anna")
        assert moves.apply(conn, asked.id, by="bert") is not None
        assert bindings.show(conn, clinic.clinic, TASK)[0].digest == made.package.digest
    world.clinic("south")
    with clinic.db.system() as conn, pytest.raises(VersionElsewhere):
        south = clinics.by_slug(conn, "south")
        moves.request(conn, south, TASK, made.package.digest, by="bert", reason="theirs")


def test_a_base_that_fits_gets_no_version(clinic: Clinic, bases: dict[str, Path], world: World) -> None:
    """Nothing to gain: no tier passes, the base goes on answering, and the cohort stays."""
    fit = registering.register(clinic.settings, clinic.db, bases["fit"], "anna")
    with clinic.db.system() as conn:
        bindings.set(conn, clinic.clinic, TASK, fit.digest, by="anna", reason="better")
    before = counted(world)
    with pytest.raises(NothingPasses) as caught:
        clinic.cure("T1")
    assert "T1: clinic" in caught.value.why_text
    assert counted(world) == [(*before[0][:3], 1)]
    with clinic.db.system() as conn:
        assert bindings.show(conn, clinic.clinic, TASK)[0].digest == fit.digest


def test_t2_trains_with_replay_and_says_so(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.training import lesion_pool
    from serving.training.finetune_tiers import Recipe

    monkeypatch.setattr(lesion_pool, "SIZE", 64)
    quick = Recipe(steps=4, stacks=4, check=2)
    monkeypatch.setattr(finetune, "train", lambda _, folder, say: finetune_job.run(folder, say, quick))
    made = clinic.cure("T2")
    facts = made.report["tiers"][0]["facts"]
    assert made.tier == "T2" and facts["replay_of_batch"] == 3 and facts["replay_heads"] == 3
    folder = clinic.settings.root / "finetune" / made.cohort.digest[7:19]
    metrics = {json.loads(line)["metric"] for line in (folder / "curve.jsonl").read_text().splitlines()}
    assert metrics == {"loss", "replay_loss", "dice_clinic", "dice_heads"}


def test_mlflow_away_is_said_before_anything_and_loses_nothing_after(
    clinic: Clinic, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Package:
        raise MlflowAway

    monkeypatch.setattr(models, "answers", away)
    with pytest.raises(MlflowAway):
        clinic.cure()
    assert counted(world)[0][3] == 0, "nobody was reserved for nothing"
    monkeypatch.setattr(models, "answers", lambda _: None)
    monkeypatch.setattr(registering, "register", away)
    with pytest.raises(MlflowAway) as caught:
        clinic.cure()
    assert counted(world) == [(3, 4, 1, 1)] and "radfleet model register" in caught.value.cure_text
    monkeypatch.undo()


def test_a_trainer_that_dies_leaves_the_cohort_and_no_images(
    clinic: Clinic, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: Any, folder: Path, say: Any) -> None:
        assert list((folder / "studies").iterdir())
        request = json.loads((folder / "request.json").read_text())
        assert request["recipe"] == {"seed": 1, "steps": 20} and request["params"]["steps"] == 20
        raise TrainerDied

    monkeypatch.setattr(finetune, "train", die)
    with pytest.raises(TrainerDied):
        clinic.cure(steps=20)
    assert counted(world) == [(2, 0, 0, 1)]
    assert not list((clinic.settings.root / "finetune").rglob("studies"))


def test_what_cannot_begin_says_why(clinic: Clinic, world: World) -> None:
    def cure(task: str = TASK) -> None:
        finetune.finetune(clinic.settings, clinic.db, "north", task, by="bert", say=lambda _: None)

    with pytest.raises(RecipeNone, match="brain-extraction"):
        cure("brain-extraction")
    world.sql("alter table serving.review disable trigger review_fixed")
    world.sql(
        "update serving.review set withdrawn_at = now(), withdrawn_by = 'x', withdrawn_reason = 'x' "
        "where mask_path > 'mask4'"
    )
    with pytest.raises(CohortSmall, match="more are needed"):
        cure()
    with clinic.db.system() as conn:
        from registry.promotions.evidence import set_policy

        set_policy(conn, {"metric": "lesion_f1"}, by="anna", reason="lesions count")
    with pytest.raises(MetricUnknown, match="lesion_f1"):
        cure()
    with clinic.db.system() as conn:
        bindings.end(conn, clinic.clinic, TASK, by="anna", reason="stop")
    with pytest.raises(NoBinding):
        cure()


def test_the_trainers_process_reports_its_death(tmp_path: Path, world: World) -> None:
    with pytest.raises(TrainerDied, match="status"):
        finetune.train(replace(world.db.settings, ray_port=1), tmp_path, lambda _: None)


def test_the_shipped_heads_render_the_same_every_time() -> None:
    (name, one), (_, again) = (next(iter(scenes.cases(scenes.GLOBAL))) for _ in range(2))
    assert np.array_equal(one.image, again.image) and one.lesion.any() and one.image.shape[2] == scenes.SLAB
    with np.load(scenes.FILE) as stored:
        names = [key for key in stored.files if "corner" not in key]
    assert (
        sum(key.startswith("global-") for key in names) == 10
        and len(names) == 16
        and name.startswith("map11")
    )
    empty = score_heads(
        [(name, one)], lambda x: np.full((len(x), 1, *x.shape[2:]), -9, np.float32), PARAMETERS
    )
    assert empty == {name: 0.0}


PARAMETERS = {"threshold": 0.5, "smallest_mm3": 5.0}


def test_an_unknown_tier_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from registry import cli

    assert cli.main(["model", "finetune", "--clinic", "north", "--task", TASK, "--tier", "T9"]) == 2
    assert "training.tier_unknown" in capsys.readouterr().err
