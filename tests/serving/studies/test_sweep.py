"""Studies close by the database's deadline, end by name, and open again for late instances."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from registry.core import queue_store
from registry.core.queue_store import Job
from serving.imaging.limits import MAX_FILES
from serving.studies import retry, studies_store, sweep
from serving.studies.errors import NoBindingForStudy, NothingToRetry, PatientMixup, StudyUnknown
from tests.kit import outbox
from tests.kit.db import FreshDb
from tests.kit.world import World


@dataclass(frozen=True)
class Facts:
    SOPInstanceUID: str
    StudyInstanceUID: str = "1.2.3"
    SeriesInstanceUID: str = "1.2.3.4"
    SOPClassUID: str = "1.2.840.10008.5.1.4.1.1.4"
    Modality: str = "MR"


@dataclass(frozen=True)
class File:
    path: str
    sha256: bytes
    size: int = 1


def receive(
    world: World, clinic: UUID, sop: str, *, body: str = "", patient: bytes | None = b"p", uid: str = "1.2.3",
    modality: str = "MR", series: str = "1.2.3.4",
) -> studies_store.Receipt:  # fmt: skip
    stored = File(f"{clinic}/{sop}{body}", (sop + body).encode().ljust(32, b"0")[:32])
    with world.db.database.tenant(clinic) as conn:
        arrived = studies_store.Arrived(Facts(sop, uid, series, Modality=modality), stored, "test", patient)
        (receipt,) = studies_store.record_instances(conn, [arrived])
    return receipt


def _due(world: World) -> None:
    world.sql("update serving.study set deadline = now() - interval '1 s' where state = 'receiving'")


def _state(world: World) -> list[tuple[object, ...]]:
    return world.sql("select state, revision, code from serving.study order by first_at")


def test_a_complete_study_gets_one_job_a_bound_task(world: World) -> None:
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    receive(world, clinic, "1")
    assert sweep.close_due(world.db.database) == 0, "its deadline has not passed"
    _due(world)
    assert sweep.close_due(world.db.database) == 1
    assert _state(world) == [("ready", 1, None)]
    assert world.sql("select kind, payload->>'task', state from registry.job") == [
        ("infer", "brain-extraction", "ready")
    ]
    assert sweep.close_due(world.db.database) == 0


def test_the_same_bytes_are_a_duplicate_and_other_bytes_a_second_version(world: World) -> None:
    clinic = world.clinic()
    assert receive(world, clinic, "1").outcome == "new"
    assert receive(world, clinic, "1").outcome == "duplicate"
    other = receive(world, clinic, "1", body="x")
    assert (other.outcome, other.version) == ("conflict", 2)
    assert receive(world, clinic, "1", body="x").outcome == "duplicate"
    with world.db.database.tenant(clinic) as conn:
        paths = studies_store.instance_paths(conn, clinic, other.study_id)
    assert len(paths) == 1, "the first version stays current"
    assert world.sql("select count(*) from serving.step where step = 'conflict'") == [(1,)]


def test_a_late_instance_makes_a_new_revision(world: World) -> None:
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    receive(world, clinic, "1")
    _due(world)
    sweep.close_due(world.db.database)
    assert receive(world, clinic, "2").revision == 2
    assert _state(world) == [("receiving", 2, None)]
    _due(world)
    sweep.close_due(world.db.database)
    assert world.sql("select revision from registry.job order by id") == [(1,), (2,)]


def test_the_same_study_at_two_clinics_is_two_studies(world: World) -> None:
    a, b = world.clinic("a-clinic"), world.clinic("b-clinic")
    first, second = receive(world, a, "1"), receive(world, b, "1")
    assert (first.outcome, second.outcome) == ("new", "new"), "the second clinic must not learn of the first"
    assert first.study_id != second.study_id


def test_two_patients_in_one_study_are_refused_by_name(world: World) -> None:
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    receive(world, clinic, "1", patient=b"p")
    receive(world, clinic, "2", patient=b"q")
    _due(world)
    sweep.close_due(world.db.database)
    assert _state(world) == [("rejected", 1, PatientMixup.code)]
    assert world.sql("select count(*) from registry.job") == [(0,)]


def test_a_closed_study_knows_its_person(world: World) -> None:
    """Cohorts count people by this key: it has to come from what was received, not from a test's own row."""
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    for number, (uid, patient) in enumerate(
        (("1.2.1", b"ada"), ("1.2.2", b"ada"), ("1.2.3", b"bea"), ("1.2.4", None))
    ):
        receive(world, clinic, f"{number}.1", uid=uid, patient=patient)
        receive(world, clinic, f"{number}.2", uid=uid, patient=patient)
    receive(world, clinic, "5.1", uid="1.2.5", patient=b"ada")
    receive(world, clinic, "5.2", uid="1.2.5", patient=b"bea")
    _due(world)
    assert sweep.close_due(world.db.database) == 5
    keys = world.sql('select patient_key from serving.study order by "StudyInstanceUID"')
    assert [key and bytes(key) for (key,) in keys] == [b"ada", b"ada", b"bea", None, None]


def test_an_unbound_clinic_is_not_answered_until_somebody_binds_and_retries(world: World) -> None:
    clinic = world.clinic()
    study = receive(world, clinic, "1").study_id
    _due(world)
    sweep.close_due(world.db.database)
    assert _state(world) == [("rejected", 1, NoBindingForStudy.code)]
    world.version()
    world.bind(clinic)
    retry.retry(world.db.database, clinic, study, 1)
    sweep.close_due(world.db.database)
    assert _state(world) == [("ready", 1, None)]
    with pytest.raises(NothingToRetry):
        retry.retry(world.db.database, clinic, study, 1)


def test_what_no_part_moves_is_listed_as_stuck(world: World) -> None:
    clinic = world.clinic()
    receive(world, clinic, "1")
    with world.db.database.system() as conn:
        assert studies_store.stuck(conn) == []
    world.sql("update serving.study set deadline = now() - interval '2 min'")
    with world.db.database.system() as conn:
        assert [row.what for row in studies_store.stuck(conn)] == ["receiving"]


def _two_jobs(world: World) -> tuple[UUID, UUID, list[Job]]:
    """A study of which two tasks are being answered."""
    clinic = world.clinic()
    study = world.study(clinic, state="running")
    for key in "ab":
        world.job(clinic, study, key)
    with world.db.database.system() as conn:
        jobs = [queue_store.claim(conn, "w", ["infer"]) for _ in "ab"]
    return clinic, study, [job for job in jobs if job]


def test_two_tasks_that_end_at_once_end_the_study(world: World) -> None:
    """Mutant caught: settling without the lock, where each transaction still sees the other's job as leased."""
    clinic, study, (one, two) = _two_jobs(world)
    db, ended = world.db.database, []

    def other() -> None:
        with db.tenant(clinic) as conn:
            queue_store.finish(conn, two)
            ended.append(studies_store.settle(conn, clinic, study, 1))

    thread = threading.Thread(target=other)
    with db.tenant(clinic) as conn:
        queue_store.finish(conn, one)
        ended.append(studies_store.settle(conn, clinic, study, 1))
        thread.start()
        thread.join(0.5)  # it waits for us, or has ended without seeing us
    thread.join(10)
    assert ended == [None, "done"]
    assert _state(world) == [("done", 1, None)]


def test_what_a_killed_sweep_left_unsettled_is_settled(world: World) -> None:
    clinic, _, (one, two) = _two_jobs(world)
    with world.db.database.tenant(clinic) as conn:
        queue_store.finish(conn, one)
    sweep.reap(world.db.database)
    assert _state(world) == [("running", 1, None)], "one job is still worked on"
    world.sql("update registry.job set state = 'dead', lease_until = null, last_error = 'core.lease_expired',"
              " finished_at = now() where id = %s", two.id)  # fmt: skip
    sweep.reap(world.db.database)
    assert _state(world) == [("dead", 1, "core.lease_expired")]


def test_the_time_to_delivery_is_of_the_revision_that_was_delivered() -> None:
    """A late image that changes no answer completes the study once more, long after its answer had arrived."""
    from serving.commands import _to_delivered

    start = datetime(2026, 11, 26, tzinfo=UTC)
    steps = [(1, "complete", 0), (1, "delivered", 7), (2, "complete", 900), (2, "unchanged", 902)]
    assert _to_delivered((revision, step, start + timedelta(seconds=s)) for revision, step, s in steps) == 7
    assert _to_delivered((1, step, start) for step in ("received", "complete")) is None


def test_an_unknown_study_is_said_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import commands

    with pytest.raises(StudyUnknown):
        commands._find("0000")


def test_too_many_images_are_all_named_and_not_cut_off(world: World) -> None:
    clinic = world.clinic()
    study = receive(world, clinic, "1").study_id
    world.sql(
        'insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", path, size,'
        " sha256, source, revision) select clinic_id, study_id, series_id, '1.' || n, '1', 'p' || n, 1,"
        " sha256(n::text::bytea), 'test', 1 from serving.instance, generate_series(1, %s) n", MAX_FILES,
    )  # fmt: skip
    with world.db.database.tenant(clinic) as conn:
        assert len(studies_store.instance_paths(conn, clinic, study)) > MAX_FILES, (
            "imaging refuses what is above"
        )


def test_what_no_archive_took_is_sent_again(world: World, fresh_db: FreshDb) -> None:
    its = outbox.arrange(fresh_db)
    there, gone = (outbox.destination(fresh_db, its, name, 1) for name in ("there", "gone"))
    first, second = outbox.enqueue(fresh_db, its, "sr", b"x", there, gone)
    world.sql("update serving.destination set active = false where id = %s", gone)
    world.sql("update serving.outbox set state = 'failed', tries = 9, created_at = now() - interval '9 days'")
    assert retry.retry(world.db.database, its.clinic_id, its.study_id, 1) == 1
    assert {row: state for row, (state, _, _) in outbox.rows(fresh_db).items()} == {
        first: "ready",
        second: "failed",
    }
    with pytest.raises(NothingToRetry):
        retry.retry(world.db.database, its.clinic_id, its.study_id, 1)


def test_images_that_were_moved_to_another_study_are_its_own(world: World) -> None:
    """An archive that moves images keeps their UIDs: the other study waits for them and is answered with them."""
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    first = receive(world, clinic, "1", uid="1.2.1").study_id
    moved = receive(world, clinic, "1", body="x", uid="1.2.2")
    assert (moved.outcome, moved.version, moved.revision) == ("conflict", 2, 1)
    receive(world, clinic, "2", uid="1.2.1")
    _due(world)
    assert sweep.close_due(world.db.database) == 2
    late = receive(world, clinic, "2", body="x", uid="1.2.2")
    assert (late.outcome, late.study_id, late.revision) == ("conflict", moved.study_id, 2)
    states = "select state, revision from serving.study where id = %s"
    assert world.sql(states, moved.study_id) == [("receiving", 2)]
    assert world.sql(states, first) == [("ready", 1)]
    again = receive(world, clinic, "2", body="y", uid="1.2.2")
    assert (again.outcome, again.version, again.revision) == ("conflict", 3, 2)
    with world.db.database.tenant(clinic) as conn:
        for study, paths in ((first, {"1", "2"}), (moved.study_id, {"1x", "2x"})):
            assert {p.name for p in studies_store.instance_paths(conn, clinic, study)} == paths


@pytest.mark.parametrize("modality", ["SR", "SEG", "OT"])
def test_what_is_no_mr_image_is_kept_and_opens_no_study_again(world: World, modality: str) -> None:
    """An archive that passes on what it gets sends our results back: each would make a new answer, for ever."""
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    receive(world, clinic, "1")
    _due(world)
    assert sweep.close_due(world.db.database) == 1
    late = receive(world, clinic, "2", modality=modality)
    assert (late.outcome, late.revision) == ("new", 1)
    assert _state(world) == [("ready", 1, None)]
    assert receive(world, clinic, "3", modality="").revision == 2, "an image without a modality may be MR"
    assert receive(world, clinic, "4", modality=modality).revision == 2
    assert _state(world) == [("receiving", 2, None)]


def test_what_a_task_read_changes_with_its_series_alone(world: World) -> None:
    clinic = world.clinic()
    study = receive(world, clinic, "1").study_id

    def digest(series: str = "1.2.3.4") -> bytes | None:
        with world.db.database.tenant(clinic) as conn:
            return studies_store.input_digest(studies_store.images(conn, clinic, study), series)

    first = digest()
    assert first is not None
    receive(world, clinic, "1", body="x")
    receive(world, clinic, "2", series="1.2.3.5")
    assert digest() == first, "the first version is the one that is read, and another series is another input"
    assert digest("1.2.3.6") is None
    receive(world, clinic, "3")
    assert digest() != first, "an image that joins the series changes it"


def test_a_study_that_somebody_holds_does_not_keep_others_open(world: World) -> None:
    """A door that stands still inside its transaction holds its study until the server ends the session."""
    clinic = world.clinic()
    world.version()
    world.bind(clinic)
    held, other = (receive(world, clinic, uid, uid=uid).study_id for uid in ("1.2.1", "1.2.2"))
    _due(world)
    with world.db.connect() as holder, holder.transaction():
        holder.execute("select 1 from serving.study where id = %s for update", (held,))
        assert sweep.close_due(world.db.database) == 1
    assert world.sql("select id from serving.study where state = 'ready'") == [(other,)]
    assert sweep.close_due(world.db.database) == 1
