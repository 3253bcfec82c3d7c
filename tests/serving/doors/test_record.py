"""The doors over the real database: rows, duplicates, two clinics, patients as keys only, restarts, orphans."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from registry import clinics
from registry.core.db import DatabaseAway
from serving.doors import folder, scu
from serving.doors.elements import EXPLICIT_LE
from serving.doors.filestore import Filestore
from serving.doors.headers import announce, facts_of
from serving.doors.intake import Intake, Kept
from serving.doors.record import DatabaseRecorder, hint_release, known_paths
from serving.doors.scp import DicomDoor
from tests.kit.dicom import CANARY_ID, CANARY_NAME, encoded, mr_instance, mr_series, write_series
from tests.kit.world import World


class Doors:
    """A DICOM door and the intake behind it, over one test's database."""

    def __init__(self, world):
        self.world, self.db, self.settings = world, world.db.database, world.db.settings
        self.store = Filestore(self.settings.store_dir, free_bytes_min=0)
        self.recorder = DatabaseRecorder(self.db, self.settings)
        self.intake = Intake(self.store, self.recorder)
        self.door = DicomDoor(self.intake, self.find, hint_release(self.db))
        self.port = self.door.start("127.0.0.1", 0)

    def find(self, called, calling, address):
        with self.db.system() as conn:
            return clinics.by_ae(conn, called, calling, address)

    def send(self, path, calling):
        return scu.send(path, to=f"127.0.0.1:{self.port}", calling=calling)


@pytest.fixture
def doors(fresh_db):
    made = Doors(World(fresh_db))
    yield made
    made.door.stop(0.2)


def test_a_series_becomes_rows_once(doors, tmp_path):
    clinic = doors.world.clinic("north", quiet_s=60)
    series = mr_series(6)
    write_series(tmp_path / "in", series)
    assert doors.send(tmp_path / "in", "NORTH").received == 6
    assert doors.send(tmp_path / "in", "NORTH").received == 6
    rows = doors.world.sql('select clinic_id, "SOPInstanceUID", version, path, source from serving.instance')
    assert {(r[0], r[1], r[2], r[4]) for r in rows} == {
        (clinic, str(d.SOPInstanceUID), 1, "c-store") for d in series
    }
    on_disk = {str(p.relative_to(doors.store.root)) for p in doors.store.root.rglob("*") if p.is_file()}
    assert on_disk == {r[3] for r in rows}
    assert doors.world.sql("select vendor, model, serial, field_t from registry.scanner") == [
        ("other", "Phantom 3000", "SN-1", 3.0)
    ]


def test_release_shortens_the_wait(doors, tmp_path):
    doors.world.clinic("north", quiet_s=600)
    write_series(tmp_path / "in", mr_series(2))
    doors.send(tmp_path / "in", "NORTH")
    limit = time.monotonic() + 5
    while time.monotonic() < limit:
        ((left,),) = doors.world.sql("select extract(epoch from deadline - now())::float from serving.study")
        if left < 10:
            return
        time.sleep(0.05)
    pytest.fail("the deadline was not shortened")


def test_the_same_study_from_two_clinics_is_two_studies(doors, tmp_path):
    one, other = doors.world.clinic("north"), doors.world.clinic("south")
    write_series(tmp_path / "in", mr_series(3))
    assert doors.send(tmp_path / "in", "NORTH").received == 3
    assert doors.send(tmp_path / "in", "SOUTH").received == 3
    studies = doors.world.sql('select clinic_id, id, "StudyInstanceUID", patient_key from serving.study')
    assert {s[0] for s in studies} == {one, other}
    assert len({s[1] for s in studies}) == 2 and len({s[2] for s in studies}) == 1
    keys = doors.world.sql("select distinct clinic_id, patient_key from serving.instance")
    assert len({bytes(k[1]) for k in keys}) == 2  # one person, two clinics: nobody can join them
    for clinic in (one, other):
        with doors.db.tenant(clinic) as conn:
            assert conn.execute("select distinct clinic_id from serving.instance").fetchall() == [(clinic,)]


def test_no_patient_stands_in_a_row_or_a_path(doors, tmp_path):
    doors.world.clinic("north")
    write_series(tmp_path / "in", mr_series(2))
    doors.send(tmp_path / "in", "NORTH")
    tables = doors.world.sql(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_schema in ('registry', 'serving') and table_type = 'BASE TABLE'"
    )
    for (table,) in tables:
        text = str(doors.world.sql(f"select t::text from {table} t"))
        assert CANARY_ID not in text and CANARY_NAME not in text, table


def test_patients_that_differ_inside_a_study_are_seen(doors, tmp_path):
    doors.world.clinic("north")
    series = mr_series(3)
    series[1].PatientID = "SOMEBODY-ELSE"
    write_series(tmp_path / "in", series)
    doors.send(tmp_path / "in", "NORTH")
    assert doors.world.sql("select count(distinct patient_key) from serving.instance") == [(2,)]


def test_a_conflict_keeps_both_and_the_first_stays_current(doors, tmp_path):
    doors.world.clinic("north")
    first, second = mr_instance(seed=1), mr_instance(seed=2)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(second, keyword, getattr(first, keyword))
    write_series(tmp_path / "a", [first])
    write_series(tmp_path / "b", [second])
    assert doors.send(tmp_path / "a", "NORTH").received == 1
    assert doors.send(tmp_path / "b", "NORTH").received == 1
    assert doors.world.sql("select version from serving.instance order by version") == [(1,), (2,)]
    assert doors.world.sql("select count(*) from serving.step where step = 'conflict'") == [(1,)]


def test_submit_takes_a_folder_in_for_a_clinic_by_name(doors, tmp_path):
    doors.world.clinic("north")
    write_series(tmp_path / "in", mr_series(20))
    report = folder.submit(doors.settings, doors.db, tmp_path / "in", "north")
    assert report.received == 20
    assert len(report.studies) == 1
    assert report.row()["received"] == 20


def test_a_database_that_is_away_keeps_nothing_and_promises_nothing(doors, tmp_path, monkeypatch):
    doors.world.clinic("north")
    write_series(tmp_path / "in", mr_series(1))
    real = type(doors.db).tenant

    def away(self, clinic_id):
        raise DatabaseAway

    with monkeypatch.context() as patch:
        patch.setattr(type(doors.db), "tenant", away)
        report = doors.send(tmp_path / "in", "NORTH")
    assert (report.received, dict(report.reasons)) == (0, {"core.database_away": 1})
    assert type(doors.db).tenant is real
    assert doors.send(tmp_path / "in", "NORTH").received == 1


def test_a_study_that_somebody_holds_is_busy_and_not_a_bug(doors, tmp_path):
    doors.world.clinic("north")
    series = mr_series(2)
    write_series(tmp_path / "a", series[:1])
    write_series(tmp_path / "b", series[1:])
    assert doors.send(tmp_path / "a", "NORTH").received == 1
    with doors.world.db.connect() as holder, holder.transaction():
        holder.execute("select 1 from serving.study for update")
        report = doors.send(tmp_path / "b", "NORTH")
    assert (report.received, dict(report.reasons)) == (0, {"doors.study_busy": 1})
    assert doors.send(tmp_path / "b", "NORTH").received == 1


def test_the_sweep_removes_what_a_crash_left(doors, tmp_path):
    clinic = doors.world.clinic("north")
    write_series(tmp_path / "in", mr_series(3))
    doors.send(tmp_path / "in", "NORTH")
    part = doors.store.create(clinic)
    part.write(b"renamed, and then the power went")
    (orphan,) = doors.store.publish([part])
    old = time.time() - 7200
    for path in doors.store.root.rglob("*.dcm"):
        os.utime(path, (old, old))
    assert doors.store.sweep(known_paths(doors.db)) == 1
    assert not (doors.store.root / orphan.path).exists()
    assert len(list(doors.store.root.rglob("*.dcm"))) == 3


def test_a_scanner_of_a_rolled_back_message_is_not_remembered(doors, monkeypatch, tmp_path):
    from serving.studies import studies_store

    doors.world.clinic("north")
    write_series(tmp_path / "in", mr_series(1))

    def fail(*a, **k):
        raise DatabaseAway

    with monkeypatch.context() as patch:
        patch.setattr(studies_store, "record_instances", fail)
        doors.send(tmp_path / "in", "NORTH")
    assert doors.send(tmp_path / "in", "NORTH").received == 1


def kept(clinic, doors, ds):
    part = doors.store.create(clinic)
    part.write(encoded(ds))
    (stored,) = doors.store.publish([part])
    announced = announce(str(ds.SOPClassUID), str(ds.SOPInstanceUID), EXPLICIT_LE)
    data = encoded(ds)
    return Kept(facts_of(memoryview(data), 0, announced), stored)


def test_messages_that_wait_share_a_commit_and_a_bad_one_fails_alone(doors):
    clinic = doors.world.clinic("north")
    good = [kept(clinic, doors, ds) for ds in mr_series(4)]
    bad = replace(good[0], stored=replace(good[0].stored, sha256=b"short"))
    messages = [*good[1:], bad]
    doors.recorder(clinic, [good[0]], "test")
    turn = doors.recorder._turns[clinic]
    with ThreadPoolExecutor() as pool:
        with turn.lock:
            asked = [pool.submit(doors.recorder, clinic, [message], "test") for message in messages]
            limit = time.monotonic() + 10
            while len(turn.waiting) < len(messages) and time.monotonic() < limit:
                time.sleep(0.01)
        receipts = [task.result()[0] for task in asked[:-1]]
        with pytest.raises(psycopg.errors.CheckViolation):
            asked[-1].result()
    assert {r.outcome for r in receipts} == {"new"}
    assert doors.world.sql("select count(*) from serving.instance") == [(4,)]
    with ThreadPoolExecutor() as pool:
        with turn.lock:
            asked = [pool.submit(doors.recorder, clinic, [message, good[0]], "test") for message in good]
            while len(turn.waiting) < len(good) and time.monotonic() < limit:
                time.sleep(0.01)
        assert {r.outcome for task in asked for r in task.result()} == {"duplicate"}


def test_messages_that_wait_together_share_one_transaction(doors):
    clinic = doors.world.clinic("north")
    items = [kept(clinic, doors, ds) for ds in mr_series(5)]
    doors.recorder(clinic, items[:1], "test")
    turn = doors.recorder._turns[clinic]
    with ThreadPoolExecutor() as pool, turn.lock:
        asked = [pool.submit(doors.recorder, clinic, [item], "test") for item in items[1:]]
        limit = time.monotonic() + 10
        while len(turn.waiting) < len(asked) and time.monotonic() < limit:
            time.sleep(0.01)
    assert [task.result()[0].outcome for task in asked] == ["new"] * 4
    assert doors.world.sql("select count(distinct xmin::text) from serving.instance") == [(2,)]


def test_a_shared_commit_whose_answer_is_lost_costs_nobody_a_file(doors, monkeypatch):
    """PostgreSQL committed and the connection broke: asked again, each object would look like a duplicate of itself."""
    clinic = doors.world.clinic("north")
    series = mr_series(3)
    doors.recorder(clinic, [kept(clinic, doors, series[0])], "test")
    arrivals = []
    for ds in series[1:]:
        arrival = doors.intake.open(
            clinic, announce(str(ds.SOPClassUID), str(ds.SOPInstanceUID), EXPLICIT_LE)
        )
        arrival.write(encoded(ds))
        arrivals.append(arrival)
    turn, real, lost = doors.recorder._turns[clinic], doors.recorder._commit, []

    def commit(*its):
        receipts = real(*its)
        if not lost:
            lost.append(receipts)
            raise DatabaseAway
        return receipts

    monkeypatch.setattr(doors.recorder, "_commit", commit)
    with ThreadPoolExecutor() as pool, turn.lock:
        asked = [pool.submit(doors.intake.receive, clinic, [arrival], "test") for arrival in arrivals]
        limit = time.monotonic() + 10
        while len(turn.waiting) < len(asked) and time.monotonic() < limit:
            time.sleep(0.01)
    said = [task.exception() for task in asked]
    rows = doors.world.sql("select path from serving.instance")
    assert len(rows) == 3
    assert [path for (path,) in rows if not (doors.store.root / path).exists()] == []
    assert {type(error) for error in said} == {DatabaseAway}, "the sender's retry finds out"
