"""What a newer answer replaces, on a real database and archive: never the last to arrive, counted, in the history."""

from collections.abc import Iterator

import numpy as np
import pytest

from serving.results import outbox_store, seg, source
from serving.results.deliver_loop import Breaker, sweep, turn
from serving.studies import studies_store
from tests.kit import outbox as kit
from tests.kit import sources
from tests.kit.archive import Archive
from tests.kit.db import FreshDb

OLD, NEW = (sources.answer(revision=n).uid("seg") for n in (1, 2))


@pytest.fixture(scope="module")
def segs() -> tuple[bytes, bytes]:
    """The segmentation of a revision and of the next."""
    slices = sources.classic()
    volume = sources.volume(slices)
    mask = np.zeros(volume.shape, np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    origin = source.from_headers(volume, slices)
    old, new = (
        seg.build(sources.answer(revision=n), volume, mask, sources.LABELS, origin).data for n in (1, 2)
    )
    return old, new


@pytest.fixture
def archive() -> Iterator[Archive]:
    running = Archive()
    yield running
    running.server.shutdown()


def once(fresh: FreshDb) -> int:
    return turn(fresh.settings, fresh.database, Breaker(), "test")


def test_what_is_replaced_is_not_sent_any_more(
    fresh_db: FreshDb, archive: Archive, segs: tuple[bytes, bytes]
) -> None:
    """An archive that was away gets the newer answer alone; what it was spared is counted and in the history."""
    its = kit.arrange(fresh_db)
    near = kit.destination(fresh_db, its, "near", archive.port)
    (waits,) = kit.enqueue(fresh_db, its, "seg", segs[0], near)
    (gave_up,) = kit.enqueue(fresh_db, its, "preview", segs[0], near)
    with fresh_db.connect() as conn:
        conn.execute(
            "update serving.outbox set state = 'failed', finished_at = now() where id = %s", (gave_up,)
        )
    kit.later(fresh_db, its, task="brain-regions")
    assert kit.rows(fresh_db)[waits][0] == "ready", "another task's answer replaces nothing"
    (sent,) = kit.enqueue(fresh_db, kit.later(fresh_db, its), "seg", segs[1], near)
    while once(fresh_db):
        pass
    assert archive.received == [NEW]
    superseded = ("superseded", 0, "studies.superseded")
    assert kit.rows(fresh_db) == {waits: superseded, gave_up: superseded, sent: ("delivered", 1, None)}
    assert kit.steps(fresh_db) == [
        ("delivery_superseded", {"delivered": 0, "failed": 0, "superseded": 2}),
        ("delivered", {"delivered": 1, "failed": 0}),
    ]
    with fresh_db.database.system() as conn:
        (line,) = studies_store.list_studies(conn, None, None, 9)
        assert outbox_store.counts(conn, its.clinic_id, its.study_id) == {"delivered": 1, "superseded": 2}
        assert studies_store.stuck(conn) == []
    assert (line.delivered, line.to_deliver, line.superseded) == (1, 1, 2)
    with fresh_db.database.monitor() as conn:
        seen = conn.execute(
            "select undelivered, delivery_failed, delivered_24h, superseded_24h from monitoring.clinic_load_v"
        ).fetchall()
    assert seen == [(0, 0, 1, 2)]


def test_the_newer_answer_waits_for_what_is_on_its_way(
    fresh_db: FreshDb, archive: Archive, segs: tuple[bytes, bytes]
) -> None:
    """Replaced while it is sent: it arrives first, the rest of its batch not at all, and the newer one comes last."""
    its = kit.arrange(fresh_db)
    near = kit.destination(fresh_db, its, "near", archive.port)
    (first,) = kit.enqueue(fresh_db, its, "seg", segs[0], near)
    (rest,) = kit.enqueue(fresh_db, its, "preview", segs[0], near)
    overtaking: list[int] = []

    def replaced() -> None:
        if not archive.received:
            kit.enqueue(fresh_db, kit.later(fresh_db, its), "seg", segs[1], near)
            overtaking.append(once(fresh_db))

    archive.before = replaced
    assert once(fresh_db) == 2
    assert overtaking == [0]
    assert archive.received == [OLD]
    states = kit.rows(fresh_db)
    assert (states[first][0], states[rest][0]) == ("delivered", "superseded")
    assert once(fresh_db) == 1
    assert archive.received == [OLD, NEW]


def test_what_comes_back_after_it_was_replaced_is_not_sent_again(
    fresh_db: FreshDb, archive: Archive, segs: tuple[bytes, bytes]
) -> None:
    """Busy, refused, or its sender died: each ends as superseded, and only then the newer one goes."""
    its = kit.arrange(fresh_db)
    near = kit.destination(fresh_db, its, "near", archive.port)
    old = [*kit.enqueue(fresh_db, its, "seg", segs[0], near)]
    old += kit.enqueue(fresh_db, its, "preview", segs[0], near)
    old += kit.enqueue(fresh_db, its, "sr", segs[0], near)
    with fresh_db.database.system() as conn:
        busy, refused, died = outbox_store.claim(conn, "old", batch=3, resting=[])
    kit.enqueue(fresh_db, kit.later(fresh_db, its), "seg", segs[1], near)
    with fresh_db.database.system() as conn:
        assert outbox_store.retry(conn, busy, "results.destination_busy", burn=True) == "superseded"
        outbox_store.finish(conn, refused, "failed", "results.destination_refused")
        assert not outbox_store.proceed(conn, died)
    assert once(fresh_db) == 0
    with fresh_db.connect() as conn:
        conn.execute(
            "update serving.outbox set lease_until = now() - interval '1 s' where id = %s", (died.id,)
        )
    assert once(fresh_db) == 0, "its sender may still be at it until the lease is taken back"
    with fresh_db.database.system() as conn:
        assert outbox_store.reap(conn) == 1
    assert once(fresh_db) == 1
    assert archive.received == [NEW], "what came back is not taken, though nobody has swept it yet"
    sweep(fresh_db.database)
    assert [kit.rows(fresh_db)[row][0] for row in old] == ["superseded"] * 3
    assert once(fresh_db) == 0


def test_after_a_zombie_arrived_the_newer_answer_is_sent_once_more(
    fresh_db: FreshDb, archive: Archive, segs: tuple[bytes, bytes]
) -> None:
    """A sender that stood still for a whole lease in the middle of an object cannot be kept from ending it."""
    its = kit.arrange(fresh_db)
    near = kit.destination(fresh_db, its, "near", archive.port)
    kit.enqueue(fresh_db, its, "seg", segs[0], near)

    def stood_still() -> None:
        if not archive.received:
            archive.before = lambda: None
            with fresh_db.connect() as conn:
                conn.execute("update serving.outbox set lease_until = now() - interval '1 s'")
            kit.enqueue(fresh_db, kit.later(fresh_db, its), "seg", segs[1], near)
            sweep(fresh_db.database)
            assert once(fresh_db) == 1

    archive.before = stood_still
    assert once(fresh_db) == 1
    assert archive.received == [NEW, OLD]
    assert once(fresh_db) == 1
    assert archive.received == [NEW, OLD, NEW]
    assert sorted(state for state, _, _ in kit.rows(fresh_db).values()) == ["delivered", "superseded"]
