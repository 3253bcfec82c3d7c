"""The outbox loop on a real database: once per object and destination, holds, retries, fences, the breaker."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psycopg
import pytest

from registry.core.queue_store import Fenced
from serving.results import deliver_loop, outbox_store, preview, results_store, seg, source
from serving.results.deliver_loop import Breaker, sweep, turn
from serving.results.errors import DestinationUnknown
from tests.kit import outbox as kit
from tests.kit import sources
from tests.kit.archive import Archive
from tests.kit.db import FreshDb, free_port


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    slices = sources.classic()
    volume = sources.volume(slices)
    origin = source.from_headers(volume, slices)
    mask = np.zeros(volume.shape, np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    return {
        "seg": seg.build(sources.answer(), volume, mask, sources.LABELS, origin).data,
        "preview": preview.build(sources.answer(), volume, mask, mask, origin, {"findings": []}).data,
    }


@pytest.fixture
def archive() -> Iterator[Archive]:
    running = Archive()
    yield running
    running.server.shutdown()


def once(fresh: FreshDb, breaker: Breaker | None = None) -> int:
    return turn(fresh.settings, fresh.database, breaker or Breaker(), "test")


def test_each_object_goes_once_to_each_destination(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    near, far = (kit.destination(fresh_db, its, name, archive.port) for name in ("near", "far"))
    for kind, data in files.items():
        kit.enqueue(fresh_db, its, kind, data, near, far)
    while once(fresh_db):
        pass
    assert {state for state, _, _ in kit.rows(fresh_db).values()} == {"delivered"}
    assert sorted(archive.received) == sorted(
        [sources.answer().uid("seg"), sources.answer().uid("preview")] * 2
    )
    assert kit.steps(fresh_db) == [("delivered", {"delivered": 4, "failed": 0})]


def test_a_row_twice_is_impossible(fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]) -> None:
    its = kit.arrange(fresh_db)
    where = kit.destination(fresh_db, its, "near", archive.port)
    with pytest.raises(psycopg.errors.UniqueViolation):
        kit.enqueue(fresh_db, its, "seg", files["seg"], where, where)


def test_a_foreign_destination_is_impossible(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    north, south = kit.arrange(fresh_db, "north"), kit.arrange(fresh_db, "south")
    foreign = kit.destination(fresh_db, south, "near", archive.port)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        kit.enqueue(fresh_db, north, "seg", files["seg"], foreign)


@pytest.mark.parametrize("kind", ["clinic", "scanner", "version"])
def test_a_hold_keeps_everything_back_and_its_release_lets_it_go(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes], kind: str
) -> None:
    its = kit.arrange(fresh_db)
    kit.enqueue(fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port))
    kit.hold(fresh_db, its, kind)
    assert once(fresh_db) == 0
    assert archive.received == []
    kit.release_holds(fresh_db)
    assert once(fresh_db) == 1
    assert len(archive.received) == 1


def test_a_hold_in_the_middle_of_a_batch_stops_the_rest(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    where = kit.destination(fresh_db, its, "near", archive.port)
    for kind, data in files.items():
        kit.enqueue(fresh_db, its, kind, data, where)
    archive.before = lambda: kit.hold(fresh_db, its, "clinic") if not archive.received else None
    assert once(fresh_db) == 2
    assert len(archive.received) == 1
    states = list(kit.rows(fresh_db).values())
    assert states == [("delivered", 1, None), ("ready", 0, "results.held")]  # held: the try did not count


def test_another_clinic_goes_on_under_a_hold(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    north, south = kit.arrange(fresh_db, "north"), kit.arrange(fresh_db, "south")
    for its in (north, south):
        kit.enqueue(fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port))
    kit.hold(fresh_db, north, "clinic")
    assert [once(fresh_db), once(fresh_db)] == [1, 0]


def test_busy_is_tried_again_later_and_later(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    (row,) = kit.enqueue(
        fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port)
    )
    archive.answers = [0xA700, 0xA701]
    waits = []
    for _ in range(2):
        assert once(fresh_db) == 1
        assert once(fresh_db) == 0  # not due yet
        with fresh_db.connect() as conn:
            waits.append(
                conn.execute("select extract(epoch from next_at - now()) from serving.outbox").fetchone()[0]
            )
        kit.due_now(fresh_db)
    assert 4 < waits[0] <= 6
    assert 9 < waits[1] <= 12
    assert kit.rows(fresh_db)[row] == (
        "ready",
        2,
        "results.destination_busy: the archive answered status A701",
    )
    assert once(fresh_db) == 1
    assert kit.rows(fresh_db)[row][0] == "delivered"


def test_refused_is_final_and_the_others_still_go(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    where = kit.destination(fresh_db, its, "near", archive.port)
    for kind, data in files.items():
        kit.enqueue(fresh_db, its, kind, data, where)
    archive.answers = [0xC000]
    assert once(fresh_db) == 2
    first, second = kit.rows(fresh_db).values()
    assert first == ("failed", 1, "results.destination_refused: the archive answered status C000")
    assert second[0] == "delivered"
    assert kit.steps(fresh_db) == [("delivery_failed", {"delivered": 1, "failed": 1})]


def test_after_72_hours_of_failing_it_is_failed(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    (row,) = kit.enqueue(
        fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port)
    )
    with fresh_db.connect() as conn:
        conn.execute("update serving.outbox set created_at = now() - interval '73 h'")
    archive.answers = [0xA700]
    assert once(fresh_db) == 1
    assert kit.rows(fresh_db)[row][0] == "failed"
    assert kit.steps(fresh_db)[0][0] == "delivery_failed"


def test_a_changed_or_missing_file_is_not_sent(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    (row,) = kit.enqueue(
        fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port)
    )
    (path,) = Path(fresh_db.settings.store_dir).rglob("*seg.dcm")
    path.write_bytes(files["seg"] + b"x")
    assert once(fresh_db) == 1
    assert kit.rows(fresh_db)[row][0] == "failed"
    assert "results.object_missing" in str(kit.rows(fresh_db)[row][2])
    assert archive.received == []


def test_a_dead_destination_rests_and_does_not_stop_a_live_one(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    dead = kit.destination(fresh_db, its, "dead", free_port())
    live = kit.destination(fresh_db, its, "live", archive.port)
    kit.enqueue(fresh_db, its, "seg", files["seg"], dead, live)
    breaker = Breaker()
    for _ in range(8):
        once(fresh_db, breaker)
        kit.due_now(fresh_db)
    assert archive.received == [sources.answer().uid("seg")]
    tries = [tries for state, tries, _ in kit.rows(fresh_db).values() if state == "ready"]
    assert tries == [deliver_loop.TRIPS_AFTER]
    assert breaker.closed_to() == [dead]


def test_the_breaker_opens_again_after_its_rest() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    where = UUID(int=5)
    for _ in range(deliver_loop.TRIPS_AFTER):
        breaker.take(where)
        breaker.leave(where, reached=False)
    assert breaker.closed_to() == [where]
    now[0] = deliver_loop.FIRST_REST_S + 1
    assert breaker.closed_to() == []
    breaker.leave(where, reached=False)
    assert breaker.closed_to() == [where]
    breaker.leave(where, reached=True)
    assert breaker.closed_to() == []


def test_a_zombie_sender_cannot_mark(fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]) -> None:
    its = kit.arrange(fresh_db)
    kit.enqueue(fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port))
    with fresh_db.database.system() as conn:
        (old,) = outbox_store.claim(conn, "old", batch=1, resting=[], lease_s=0)
    time.sleep(0.05)
    sweep(fresh_db.database)
    with fresh_db.database.system() as conn:
        (new,) = outbox_store.claim(conn, "new", batch=1, resting=[])
    assert new.fence > old.fence
    with pytest.raises(Fenced), fresh_db.database.system() as conn:
        outbox_store.finish(conn, old, "delivered")
    with fresh_db.database.system() as conn:
        assert not outbox_store.proceed(conn, old)
        assert outbox_store.proceed(conn, new)
        outbox_store.finish(conn, new, "delivered")
    assert [state for state, _, _ in kit.rows(fresh_db).values()] == ["delivered"]


def test_two_senders_never_lease_the_same_row(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    names = [kit.destination(fresh_db, its, f"d{n}", archive.port) for n in range(12)]
    kit.enqueue(fresh_db, its, "seg", files["seg"], *names)
    claimed: list[int] = []

    def work() -> None:
        while True:
            with fresh_db.database.system() as conn:
                parcels = outbox_store.claim(conn, "w", batch=1, resting=[])
            if not parcels:
                return
            claimed.extend(parcel.id for parcel in parcels)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 12


def test_a_disabled_destination_gets_nothing_and_is_failed_in_the_end(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    (row,) = kit.enqueue(
        fresh_db, its, "seg", files["seg"], kit.destination(fresh_db, its, "near", archive.port)
    )
    with fresh_db.connect() as conn:
        conn.execute("update serving.destination set active = false")
    assert once(fresh_db) == 0
    sweep(fresh_db.database)
    assert kit.rows(fresh_db)[row][0] == "ready"
    with fresh_db.connect() as conn:
        conn.execute("update serving.outbox set created_at = now() - interval '73 h'")
    sweep(fresh_db.database)
    assert kit.rows(fresh_db)[row] == ("failed", 0, "results.destination_disabled")


def test_disabling_a_destination_that_is_not_there_is_refused(fresh_db: FreshDb) -> None:
    its = kit.arrange(fresh_db)
    with pytest.raises(DestinationUnknown), fresh_db.database.system() as conn:
        results_store.disable_destination(conn, its.clinic_id, "nowhere")


def test_the_loop_delivers_and_stops(fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]) -> None:
    its = kit.arrange(fresh_db)
    where = kit.destination(fresh_db, its, "near", archive.port)
    for kind, data in files.items():
        kit.enqueue(fresh_db, its, kind, data, where)
    end = time.monotonic() + 20
    deliver_loop.loop(
        fresh_db.settings, fresh_db.database, lambda: len(archive.received) == 2 or time.monotonic() > end
    )
    assert len(archive.received) == 2
    assert {state for state, _, _ in kit.rows(fresh_db).values()} == {"delivered"}
    with socket.socket() as probe:  # the archive itself still answers: nothing of it was left half open
        assert probe.connect_ex(("127.0.0.1", archive.port)) == 0


def test_a_damaged_object_does_not_keep_back_those_beside_it(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    its = kit.arrange(fresh_db)
    pacs = kit.destination(fresh_db, its, "pacs", archive.port)
    (bad,) = kit.enqueue(fresh_db, its, "seg", b"x" * 200, pacs)
    (good,) = kit.enqueue(fresh_db, its, "preview", files["preview"], pacs)
    assert once(fresh_db) == 2
    found = kit.rows(fresh_db)
    assert found[good][0] == "delivered"
    assert found[bad][0] == "failed" and str(found[bad][2]).startswith("results.object_missing")


def test_what_waited_when_an_onboarding_began_waits_for_its_acceptance(
    fresh_db: FreshDb, archive: Archive, files: dict[str, bytes]
) -> None:
    """The address was wrong, and mending it is a step of the onboarding: it must not let unaccepted answers out."""
    its = kit.arrange(fresh_db)
    kit.enqueue(
        fresh_db, its, "preview", files["preview"], kit.destination(fresh_db, its, "pacs", archive.port)
    )
    with fresh_db.connect() as conn:
        conn.execute('update registry.job set payload = \'{"task": "ms-lesion"}\'')
        conn.execute("insert into registry.account(name, role) values ('anna', 'qa'), ('bert', 'qa')")
        conn.execute(
            "insert into registry.onboarding(clinic_id, begun_by, reason) values (%s, 'anna', 'new')",
            (its.clinic_id,),
        )
        assert once(fresh_db) == 0
        conn.execute(
            "insert into registry.acceptance(clinic_id, task, digest, state, reviews, minutes, odds, evidence,"
            " proposed_by, reason, signed_by, signed_at)"
            " values (%s, 'ms-lesion', %s, 'signed', 9, 1, 30, '{}', 'anna', 'good', 'bert', now())",
            (its.clinic_id, kit.DIGEST),
        )
    assert once(fresh_db) == 1
    assert archive.received
