"""The hash-chained record: what was written is found whole, and any edit of it is found."""

import threading

import psycopg
import pytest

from registry import events
from tests.kit.db import FreshDb

CHAIN = events.FLEET


def _fill(fresh_db: FreshDb, count: int = 5) -> None:
    with fresh_db.database.system() as conn:
        for number in range(count):
            events.append(
                conn, CHAIN, "anna", "account.added", {"name": f"n{number}", "ä": ["\x1f", 1.5, None]}
            )


def test_a_chain_is_whole_across_pages(fresh_db: FreshDb, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(fresh_db)
    with fresh_db.database.system() as conn:
        events.append(conn, events.MODELS, "bert", "version.added", {})
        one, two = events.verify(conn)
        assert (one.chain, one.events, one.whole, one.fault) == (CHAIN, 5, True, "")
        assert (two.chain, two.events) == (events.MODELS, 1)
        assert [e.seq for e in events.list(conn, CHAIN, limit=2, before=4)] == [3, 2]
        short = events.events_store.page(conn, CHAIN, 0, limit=2)
        assert [e.seq for e in short] == [1, 2]


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ("update registry.event set actor = 'eve' where seq = 3", "event 3 was changed"),
        ("update registry.event set body = '{}' where seq = 3", "event 3 was changed"),
        ("update registry.event set at = at + interval '1 us' where seq = 3", "event 3 was changed"),
        ("delete from registry.event where seq = 3", "event 3 is missing"),
        ("delete from registry.event where seq = 5", "the head names event 5"),
        ("update registry.event set prev_hash = sha256('x') where seq = 3", "event 3 does not follow"),
        ("update registry.chain_head set hash = sha256('x')", "the head names event 5"),
    ],
)
def test_an_edit_with_all_rights_is_found(fresh_db: FreshDb, edit: str, fault: str) -> None:
    _fill(fresh_db)
    with fresh_db.connect() as admin:
        admin.execute("set session_replication_role = replica")  # what somebody with the disk can do
        assert admin.execute(edit).rowcount == 1
    with fresh_db.database.system() as conn:
        state = events.verify(conn, CHAIN)[0]
    assert not state.whole and state.fault.startswith(fault)


@pytest.mark.parametrize("role", ["radfleet_owner", "radfleet_system"])
@pytest.mark.parametrize(
    "edit",
    ["update registry.event set actor = 'eve'", "delete from registry.event", "truncate registry.event"],
)
def test_nobody_edits_events(fresh_db: FreshDb, role: str, edit: str) -> None:
    _fill(fresh_db, 1)
    with fresh_db.connect(role) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(edit)


def test_many_writers_make_one_chain(fresh_db: FreshDb) -> None:
    threads = [threading.Thread(target=_fill, args=(fresh_db, 10)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with fresh_db.database.system() as conn:
        state = events.verify(conn, CHAIN)[0]
    assert (state.events, state.whole) == (60, True)
