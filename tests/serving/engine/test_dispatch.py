"""The dispatcher's transactions: one answer, under its fence, or a named end. The engine here is a small one of
this process (it thresholds); the served engine is played whole in tests/acceptance."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from psycopg.errors import InterfaceError, LockNotAvailable, QueryCanceled
from pydicom import dcmread

from registry.bindings_store import Binding
from registry.core import queue_store
from registry.core.errors import RadfleetError
from serving.engine import dispatch
from serving.engine.answering import Question, Reply
from serving.engine.errors import EngineAway, ReplicaDied
from serving.engine.package import Package
from serving.imaging.errors import NotAHead
from serving.imaging.volume import load_volume
from serving.studies import sweep
from serving.studies.errors import Abandoned, Superseded
from serving.studies.studies_store import Image, input_digest
from tests.kit.world import DIGEST_A, DIGEST_B, World

MODEL = {
    "accepts": {"Modality": "MR", "contrast": ["any"], "slices_min": 5},
    "labels": {
        "1": {
            "name": "Brain",
            "category": ["123037004", "SCT", "Anatomical Structure"],
            "type": ["12738006", "SCT", "Brain"],
        }
    },
    "parameters": {"threshold": 0.5},
}


class SmallEngine:
    """Answers in this process; ``act`` may fail or interfere first."""

    def __init__(self, act: Callable[[], None] = lambda: None, digest: str = DIGEST_A) -> None:
        self.act = act
        self.digest = digest

    def package(self, digest: str) -> Package:
        return Package(digest, Path(), dict(MODEL), {})

    def infer(self, question: Question, volume_dir: Path) -> Reply:
        self.act()
        voxels = load_volume(volume_dir).voxels
        mask = (voxels > voxels.mean()).astype(np.uint8)
        chance = (0.9 * mask).astype(np.float16)
        return Reply(mask, mask, {"brain_ml": 1.0}, (), self.digest, "numpy", "cpu", {}, chance)


def _raise(error: RadfleetError) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def ready(world: World, tests_data: Path) -> UUID:
    """A complete study of a real head at a bound clinic with one destination; its clinic's id."""
    from serving.demo.head import write_head
    from serving.doors import folder

    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    world.sql(
        "insert into serving.destination(clinic_id, name, kind, url) values (%s, 'pacs', 'stow', 'http://127.0.0.1:1')",
        clinic,
    )
    home = world.db.settings.root
    cast = {"ae": "A", "vendor": "SIEMENS", "model": "Prisma", "software": "E11 x"}
    scan = write_head(tests_data / "heads" / "study1_FLAIR.nii.gz", home / "scan", cast)
    folder.submit(world.db.settings, world.db.database, scan, "north")
    world.sql("update serving.study set deadline = now() - interval '1 s'")
    assert sweep.close_due(world.db.database) == 1
    return clinic


def _worker(world: World, engine: SmallEngine) -> dispatch.Worker:
    return dispatch.Worker(world.db.settings, world.db.database, engine)


def _study(world: World) -> tuple[object, ...]:
    return world.sql("select state, code from serving.study")[0]


def test_an_answer_is_stored_whole_and_names_its_version(world: World, ready: UUID) -> None:
    assert _worker(world, SmallEngine()).turn()
    assert _study(world) == ("done", None)
    assert world.sql("select digest, binding_seq from serving.result") == [(DIGEST_A, 1)]
    assert world.sql("select kind from serving.result_object order by kind") == [
        ("chance",),
        ("preview",),
        ("seg",),
        ("sr",),
    ]
    assert world.sql("select count(*) from serving.outbox where state = 'ready'") == [(3,)]
    ((values, profile),) = world.sql("select values, profile from serving.feature")
    assert values["brain_ml"] == 1.0
    assert profile
    assert world.sql("select echoed_digest, code from serving.attempt") == [(DIGEST_A, None)]
    steps = [row[0] for row in world.sql("select step from serving.step order by seq")]
    assert steps == [
        "received", "complete", "claimed", "package", "volume", "inference", "quality", "results", "answered",
    ]  # fmt: skip
    assert not list(world.db.settings.work_dir.glob("*")), "scratch is removed"


def test_another_versions_answer_is_never_stored(world: World, ready: UUID) -> None:
    world.version(DIGEST_B, "1.1.0")
    _worker(world, SmallEngine(digest=DIGEST_B)).turn()
    assert world.sql("select count(*) from serving.result") == [(0,)]
    assert world.sql("select code from serving.attempt") == [("engine.identity_mismatch",)]


def test_a_zombie_stores_nothing(world: World, ready: UUID) -> None:
    def successor_takes_over() -> None:
        world.sql("update registry.job set fence = nextval('registry.fence_seq')")

    _worker(world, SmallEngine(successor_takes_over)).turn()
    assert world.sql("select count(*) from serving.result") == [(0,)]
    assert world.sql("select count(*) from serving.outbox") == [(0,)]


def test_a_refused_study_ends_with_its_code_and_cure(world: World, ready: UUID) -> None:
    _worker(world, SmallEngine(_raise(NotAHead()))).turn()
    assert world.sql("select state, code, cure from serving.study") == [
        ("rejected", NotAHead.code, NotAHead.cure)
    ]


def test_an_engine_that_is_away_costs_no_attempt(world: World, ready: UUID) -> None:
    _worker(world, SmallEngine(_raise(EngineAway()))).turn()
    assert world.sql("select state, attempts, last_error from registry.job") == [("ready", 0, "engine.away")]


def test_poison_ends_as_dead_after_three_attempts(world: World, ready: UUID) -> None:
    worker = _worker(world, SmallEngine(_raise(ReplicaDied())))
    for _ in range(3):
        world.sql("update registry.job set run_at = now() where state = 'ready'")
        assert worker.turn()
    assert world.sql("select state, code, cure from serving.study") == [
        ("dead", "engine.replica_died", Abandoned.cure)
    ]


def test_results_made_again_are_the_same_objects(world: World, ready: UUID) -> None:
    """The fence is lost after the objects were made; the successor's objects have the same UIDs (promise P3)."""
    from serving.engine import answering

    made: list[list[str]] = []
    original = answering._objects

    def keep(*args: object) -> object:
        objects = original(*args)  # type: ignore[arg-type]
        made.append([o.SOPInstanceUID for o in objects])
        return objects

    answering._objects = keep  # type: ignore[assignment]
    try:
        lost = iter([True, False])

        def maybe_lose() -> None:
            if next(lost):
                world.sql("update registry.job set fence = fence + 1, lease_until = now() - interval '1 s'")

        worker = _worker(world, SmallEngine(maybe_lose))
        worker.turn()
        sweep.reap(world.db.database)
        world.sql("update registry.job set run_at = now() where state = 'ready'")
        worker.turn()
    finally:
        answering._objects = original
    assert len(made) == 2
    assert made[0] == made[1]
    assert _study(world) == ("done", None)


def _late(world: World) -> None:
    """What a late instance does to its study (migration receive), here one of the series that is read."""
    world.sql("update serving.study set revision = 2, state = 'receiving', deadline = now() - interval '1 s'")
    first = "(select min(path) from serving.instance)"
    world.sql(f"update serving.instance set sha256 = sha256('late') where path = {first}")


def test_what_a_late_instance_overtook_is_neither_begun_nor_delivered(world: World, ready: UUID) -> None:
    _late(world)
    assert _worker(world, SmallEngine(act=lambda: pytest.fail("an old revision was worked on"))).turn()
    assert world.sql("select state, last_error from registry.job") == [("rejected", Superseded.code)]
    assert sweep.close_due(world.db.database) == 1
    assert _worker(world, SmallEngine()).turn()
    assert _study(world) == ("done", None)
    assert world.sql("select revision from serving.result") == [(2,)]


def test_a_late_instance_during_the_work_keeps_the_old_answer_back(world: World, ready: UUID) -> None:
    assert _worker(world, SmallEngine(act=lambda: _late(world))).turn()
    assert world.sql("select state, revision from serving.study") == [("receiving", 2)]
    assert world.sql("select state, last_error from registry.job") == [("rejected", Superseded.code)]
    assert world.sql("select count(*) from serving.result") == [(0,)]
    assert world.sql("select count(*) from serving.outbox") == [(0,)]


def test_the_report_of_a_later_revision_names_the_one_that_it_replaces(world: World, ready: UUID) -> None:
    assert _worker(world, SmallEngine()).turn()
    _late(world)
    assert sweep.close_due(world.db.database) == 1
    assert _worker(world, SmallEngine()).turn()
    rows = world.sql(
        'select o.path, o."SOPInstanceUID" from serving.result_object o join serving.result r on r.id = o.result_id'
        " where o.kind = 'sr' order by r.revision"
    )
    (_, first), (path, _) = rows
    report = dcmread(world.db.settings.store_dir / path)
    (item,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == first
    states = (
        "select j.revision, o.state, count(*) from serving.outbox o join registry.job j on j.id = o.job_id"
    )
    assert world.sql(f"{states} group by 1, 2 order by 1") == [(1, "superseded", 3), (2, "ready", 3)]


def _late_series(world: World, head: Path, **header: object) -> None:
    """Another series of the study that is there comes late; its deadline passes."""
    from serving.demo.head import header as cast_header
    from serving.doors import folder
    from serving.imaging.volume import read_nifti
    from serving.imaging.writer import write_dicom

    ((uid,),) = world.sql('select "StudyInstanceUID" from serving.study')
    cast = cast_header({"ae": "A", "vendor": "SIEMENS", "model": "Prisma", "software": "E11 x"})
    scan = world.db.settings.root / "late"
    write_dicom(read_nifti(head), scan, {**cast, "StudyInstanceUID": uid, **header})
    folder.submit(world.db.settings, world.db.database, scan, "north")
    world.sql("update serving.study set deadline = now() - interval '1 s'")
    assert sweep.close_due(world.db.database) == 1


T1 = {"ScanningSequence": ["GR", "IR"], "SequenceVariant": ["SP", "MP"], "EchoTime": 2.3, "RepetitionTime": 2300.0,
      "InversionTime": 900.0, "FlipAngle": 9.0, "MRAcquisitionType": "3D"}  # fmt: skip


def test_a_late_series_that_is_not_read_changes_no_answer(
    world: World, ready: UUID, tests_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a FLAIR is not made again for a T1: no inference, no result, nothing to send, a plain sentence."""
    head = tests_data / "heads" / "study1_FLAIR.nii.gz"
    monkeypatch.setitem(MODEL["accepts"], "contrast", ["FLAIR", "T2"])
    assert _worker(world, SmallEngine()).turn()
    _late_series(world, head, **T1)
    assert world.sql("select state, revision from serving.study") == [("ready", 2)]
    assert _worker(world, SmallEngine(lambda: pytest.fail("what did not change was answered again"))).turn()
    assert _study(world) == ("done", None)
    assert world.sql("select revision from serving.result") == [(1,)]
    assert world.sql("select count(*) from serving.feature") == [(1,)]
    assert world.sql("select distinct state from serving.outbox") == [("ready",)]
    ((detail,),) = world.sql("select detail from serving.step where step = 'unchanged' and revision = 2")
    assert detail["why"].startswith(
        "What came late changes nothing that this task reads: its answer of revision 1"
    )
    with world.db.database.monitor() as conn:
        seen = conn.execute(
            "select revision, state, digest, waiting, answered_at > last_at from serving.outcome_v"
        )
        assert seen.fetchall() == [(2, "done", DIGEST_A, 3, True)]


def test_an_answer_stands_for_the_same_images_and_the_same_version_alone() -> None:
    """Mutants: one that forgets the version, one that takes an answer of which nobody noted what it had read."""
    images = [Image(f"p{n}", series, bytes([n]) * 32) for n, series in enumerate(("flair", "flair", "t1"))]
    read = input_digest(images, "flair")

    def stands(
        earlier: tuple[int, str, bytes | None] | None, its: list[Image], series: str = "flair"
    ) -> bool:
        binding = Binding("*", 1, DIGEST_A)
        now = datetime.now(UTC)
        return dispatch.Attempt(UUID(int=2), now, binding, None, tuple(its), "ms-lesion", earlier).stands(
            series
        )

    late_t1, late_flair = Image("p9", "t1", b"9" * 32), Image("p9", "flair", b"9" * 32)
    assert stands((1, DIGEST_A, read), images)
    assert stands((1, DIGEST_A, read), [late_t1, *images])
    assert not stands((1, DIGEST_A, read), [late_flair, *images]), "it joins the series that was read"
    assert not stands((1, DIGEST_A, read), images, "t1"), "another series is chosen now"
    assert not stands((1, DIGEST_B, read), images), "another version is bound now"
    assert not stands((1, DIGEST_A, None), images, "of which there is none")
    assert not stands(None, images)


def test_a_beat_goes_on_until_another_has_the_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a lock that is waited for in vain nor a connection that broke ends it, and each trouble is said once."""
    clinic = world.clinic()
    world.job(clinic, world.study(clinic))
    with world.db.database.system() as conn:
        job = queue_store.claim(conn, "w", ["infer"], 60)
    assert job is not None
    beat, said = queue_store.beat, []
    troubles = [LockNotAvailable(), QueryCanceled(), InterfaceError("closed"), None, LockNotAvailable()]

    def troubled(*values: Any) -> None:
        if troubles and (trouble := troubles.pop(0)):
            raise trouble
        beat(*values)

    monkeypatch.setattr(queue_store, "beat", troubled)
    logger = SimpleNamespace(warning=lambda event, **facts: said.append((event, facts["error_type"])))
    monkeypatch.setattr(dispatch, "log", lambda: logger)
    with dispatch.Lease(world.db.database, job, 1.0) as lease:
        assert not lease.lost.wait(2)
        assert troubles == []
        # Not now(): that is when the reading began, which may be before the beat that it sees.
        ((left,),) = world.sql("select extract(epoch from lease_until - clock_timestamp()) from registry.job")
        assert 0 < left <= 1, "it is extended again"
        world.sql("update registry.job set fence = fence + 1")
        assert lease.lost.wait(2)
    assert said == [("beat missed", "LockNotAvailable")] * 2
