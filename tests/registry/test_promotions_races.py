"""Races on the promotion line, with real connections: exactly one wins, and the others are told by name (P7)."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from registry import bindings, events
from registry.core.errors import RadfleetError
from registry.errors import BindingStale
from registry.promotions import moves, moves_store
from registry.promotions.errors import PromotionState
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.registry.promoting import WHY, Line, begin

Task = Callable[[Any], object]


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    return begin(fresh_db)


def race(line: Line, tasks: list[Task]) -> list[str]:
    """Run each in a transaction of its own at the same moment: what each returned, or the error's name."""
    start, outcomes = threading.Barrier(len(tasks)), []

    def go(task: Task) -> None:
        start.wait()
        try:
            with line.system() as conn:
                done = task(conn)
            outcomes.append("stale" if done is None else "won")
        except RadfleetError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=go, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_of_racing_requests_approvals_and_applies_one_wins(line: Line) -> None:
    line.measured(2)
    line.measured(3)
    its, digests = line.clinic(), [line.version(n).digest for n in (2, 3)]
    asks = [lambda conn, d=d: moves.request(conn, its, TASK, d, **WHY) for d in digests * 2]
    assert race(line, asks) == ["PromotionOpen"] * 3 + ["won"]
    with line.system() as conn:
        id = moves.list(conn)[0].id
    approvals = [lambda conn, by=by: moves.approve(conn, id, by=by) for by in ("anna", "carl") * 3]
    assert race(line, approvals) == ["PromotionState"] * 5 + ["won"]
    assert race(line, [lambda conn: moves.apply(conn, id, by="bert")] * 6) == ["PromotionState"] * 5 + ["won"]
    assert line.bound()[1] == 2
    with line.system() as conn:
        assert all(state.whole for state in events.verify(conn))


def test_of_an_apply_and_a_binding_by_hand_one_wins(line: Line) -> None:
    line.measured()
    id = line.request().id
    line.approve(id)
    four = line.version(4).digest
    by_hand = lambda conn: bindings.set(conn, line.clinic(), TASK, four, "*", 1, by="anna", reason="x")  # noqa: E731
    outcome = race(line, [lambda conn: moves.apply(conn, id, by="bert"), by_hand])
    state = line.show(id).state
    assert (outcome, state) in ((["BindingStale", "won"], "active"), (["stale", "won"], "stale"))
    assert line.bound() == (("2" if state == "active" else "4"), 2)


def second(line: Line, first: Task, late: Task) -> BaseException | None:
    """Run ``late`` so that it meets the locks of ``first``, which commits only then: what ``late`` raised."""
    caught: list[BaseException | None] = []

    def go() -> None:
        try:
            with line.system() as conn:
                late(conn)
            caught.append(None)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=go)
    with line.db.connect() as admin:
        with line.system() as conn:
            first(conn)
            thread.start()
            while thread.is_alive():
                if admin.execute("select count(*) from pg_locks where not granted").fetchone() != (0,):
                    break
                thread.join(0.01)
        thread.join()
    return caught[0]


def test_of_two_rollbacks_at_once_only_one_goes_back(line: Line) -> None:
    line.bind(2)
    line.bind(3)
    its = line.clinic()
    back: Task = lambda conn: moves.rollback(conn, its, TASK, **WHY)  # noqa: E731
    assert type(second(line, back, back)) is BindingStale
    assert line.bound() == ("2", 4)
    with line.system() as conn:
        assert len(moves.list(conn)) == 1  # what was refused left no row


def test_a_second_approval_waits_and_is_told(line: Line) -> None:
    line.measured()
    id = line.request().id
    approve: Task = lambda conn: moves.approve(conn, id, by="anna")  # noqa: E731
    late: Task = lambda conn: moves.approve(conn, id, by="carl")  # noqa: E731
    assert type(second(line, approve, late)) is PromotionState
    assert line.show(id).approved_by == "anna"


def test_the_mutant_without_a_row_lock_is_caught(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two approvals then pass the same look; the database still lets only one of them through."""
    monkeypatch.setattr(moves_store, "LOCKED", moves_store.LOCKED.replace("for update of p", ""))
    with pytest.raises(AssertionError):
        test_a_second_approval_waits_and_is_told(line)
