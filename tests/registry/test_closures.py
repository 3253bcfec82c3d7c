"""The calendar of closed days: stated by who may, kept with who and why, withdrawn and never changed."""

import json
from collections.abc import Callable
from datetime import date, timedelta

import psycopg
import pytest

from registry import accounts, audit, cli, events
from registry.closures import closures, closures_store
from registry.closures.errors import (
    ClosureTooLong,
    ClosureUnknown,
    ClosureWithdrawn,
    DaysReversed,
    DayUnreadable,
)
from registry.errors import ReasonMissing
from tests.kit.db import FreshDb
from tests.kit.registry_rows import add_clinic

Run = Callable[..., tuple[int, str, str]]
FIRST = date(2026, 12, 24)
WHY = {"by": "quin", "reason": "Christmas"}


@pytest.fixture
def run(fresh_db: FreshDb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in this process as quin (qa), with the clinics north and south."""
    monkeypatch.setenv("RADFLEET_ACTOR", "quin")
    with fresh_db.database.system() as conn:
        add_clinic(conn, "north"), add_clinic(conn, "south")
        for name, role in (
            ("anna", "admin"),
            ("quin", "qa"),
            ("olga", "oncall"),
            ("bert", "ml"),
            ("vera", "viewer"),
        ):
            accounts.add(conn, name, role, by="anna")

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["clinic", "closed", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


CHRISTMAS = ("north", "--from", "2026-12-24", "--to", "2027-01-02", "--reason", "Christmas")


def test_a_closure_is_stated_listed_and_withdrawn_by_its_own_undo(run: Run, fresh_db: FreshDb) -> None:
    assert run("north") == (
        0,
        "no closure is stated: radfleet clinic closed north --from --to --reason\n",
        "",
    )
    code, out, _ = run(*CHRISTMAS)
    assert (code, out.splitlines()) == (0, [
        "none -> closure 1, 2026-12-24 to 2027-01-02",
        "undo: radfleet clinic closed north --withdraw 1 --reason TEXT",
    ])  # fmt: skip
    assert run(*CHRISTMAS)[1].startswith("closure 1, 2026-12-24 to 2027-01-02 stands already -> "), (
        "said once"
    )
    (row,) = json.loads(run("north", "--list", "--json")[1])
    assert (row["number"], row["first_day"], row["last_day"], row["reason"], row["stated_by"], row["stands"]) == (
        1, "2026-12-24", "2027-01-02", "Christmas", "quin", True,
    )  # fmt: skip
    assert json.loads(run("south", "--json")[1]) == []
    code, out, _ = run("north", "--withdraw", "1", "--reason", "they work", "--as", "anna", "--json")
    (row,) = json.loads(out)
    assert (code, row["stands"], row["withdrawn_by"], row["withdrawn_reason"]) == (
        0,
        False,
        "anna",
        "they work",
    )
    assert "withdrawn by anna" in run("north")[1]
    code, out, _ = run(*CHRISTMAS, "--json")
    assert (code, json.loads(out)[0]["number"], json.loads(out)[0]["new"]) == (0, 3, True)
    with fresh_db.database.system() as conn:
        (its,) = (c for c in events.verify(conn) if c.chain.startswith("clinic:") and c.events > 3)
        told = events.list(conn, its.chain, limit=3)
        assert all(state.whole for state in audit.verify(conn))
    assert [(e.type, e.actor) for e in told] == [
        ("closure.stated", "quin"), ("closure.withdrawn", "anna"), ("closure.stated", "quin"),
    ]  # fmt: skip
    assert json.loads(told[2].body) == {
        "number": 1, "from": "2026-12-24", "to": "2027-01-02", "reason": "Christmas",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words, exit_, code",
    [
        (("north", "--from", "2026-12-24", "--to", "2026-12-23", "--reason", "x"), 2, "closure.days_reversed"),
        (("north", "--from", "2026-12-24", "--to", "2027-02-22", "--reason", "x"), 2, "closure.too_long"),
        (("nowhere", "--from", "2026-12-24", "--to", "2026-12-24", "--reason", "x"), 3, "registry.clinic_unknown"),
        (("north", "--from", "24.12.2026", "--to", "2026-12-24", "--reason", "x"), 2, "closure.day_unreadable"),
        (("north", "--from", "2026-12-24", "--to", "2026-02-30", "--reason", "x"), 2, "closure.day_unreadable"),
        (("north", "--from", "20261224", "--to", "2026-12-24", "--reason", "x"), 2, "closure.day_unreadable"),
        (("north", "--from", "2026-12-24", "--to", "2026-12-24", "--reason", " "), 2, "registry.reason_missing"),
        (("north", "--from", "2026-12-24", "--reason", "x"), 2, "closure.options"),
        (("north", "--list", "--withdraw", "1", "--reason", "x"), 2, "closure.options"),
        (("north", "--withdraw", "1", "--reason", "x"), 3, "closure.unknown"),
        (("nowhere", "--list"), 3, "registry.clinic_unknown"),
        ((*CHRISTMAS, "--as", "vera"), 4, "registry.role_unfit"),
        ((*CHRISTMAS, "--as", "bert"), 4, "registry.role_unfit"),
        ((*CHRISTMAS, "--as", "nobody"), 4, "registry.actor_unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_with_its_cure(
    run: Run, words: tuple[str, ...], exit_: int, code: str
) -> None:
    got, out, err = run(*words)
    assert (got, out) == (exit_, "")
    assert f"code: {code}" in err and "cure: " in err
    if code.startswith("closure.") and code != "closure.unknown":
        assert "why: " in err and "24.12" not in err
    assert json.loads(run("north", "--json")[1]) == [], "nothing is written"


def test_the_longest_closure_has_sixty_days(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        made, new = closures.state(conn, its, FIRST, FIRST + timedelta(days=59), **WHY)
        assert new and (made.last_day - made.first_day).days + 1 == 60
        with pytest.raises(ClosureTooLong):
            closures.state(conn, its, FIRST, FIRST + timedelta(days=60), **WHY)
        with pytest.raises(DaysReversed):
            closures.state(conn, its, FIRST, FIRST - timedelta(days=1), **WHY)
        with pytest.raises(DayUnreadable):
            closures.day("tomorrow", "--from")
        with pytest.raises(ReasonMissing):
            closures.withdraw(conn, its, made.number, by="quin", reason="")
        with pytest.raises(ClosureUnknown):
            closures.withdraw(conn, its, 7, **WHY)
        closures.withdraw(conn, its, made.number, **WHY)
        with pytest.raises(ClosureWithdrawn):
            closures.withdraw(conn, its, made.number, **WHY)
        with pytest.raises(ClosureUnknown):
            closures.withdraw(conn, its, 2, **WHY)  # a withdrawal is no closure


@pytest.mark.parametrize(
    "statement",
    [
        "update registry.closure set last_day = first_day",
        "delete from registry.closure",
        "truncate registry.closure",
        "insert into registry.closure(clinic_id, number, first_day, last_day, reason, stated_by) "
        "select clinic_id, 2, first_day, first_day - 1, 'x', 'x' from registry.closure",
        "insert into registry.closure(clinic_id, number, first_day, last_day, reason, stated_by) "
        "select clinic_id, 2, first_day, first_day + 60, 'x', 'x' from registry.closure",
        "insert into registry.closure(clinic_id, number, first_day, last_day, reason, stated_by) "
        "select clinic_id, 2, first_day, first_day, ' ', 'x' from registry.closure",
    ],
)
def test_the_database_refuses_the_same(fresh_db: FreshDb, statement: str) -> None:
    """The same walls for a faulty program or a person with psql, who are the superuser here."""
    with fresh_db.database.system() as conn:
        closures.state(conn, add_clinic(conn), FIRST, FIRST, **WHY)
    with pytest.raises(psycopg.Error), fresh_db.connect() as conn:
        conn.execute(statement.encode())


def test_a_clinic_reads_its_own_calendar_and_writes_none(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
        closures.state(conn, one, FIRST, FIRST, **WHY)
    with fresh_db.database.tenant(one.id) as conn:
        assert len(closures_store.page(conn, one.id, 9)) == 1
    with fresh_db.database.tenant(two.id) as conn:
        assert closures_store.page(conn, one.id, 9) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege), fresh_db.database.tenant(one.id) as conn:
        closures_store.add(conn, one.id, FIRST, FIRST, by="x", reason="x")
    with pytest.raises(psycopg.Error), fresh_db.database.monitor(write=True) as conn:
        closures_store.add(conn, one.id, FIRST, FIRST, by="x", reason="x")
