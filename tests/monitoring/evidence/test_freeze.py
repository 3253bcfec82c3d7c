"""A flag's report is drawn once from the rows before and since, kept by digest, and shown only if it is that one."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from monitoring.evidence import freeze, reports_store
from monitoring.evidence.errors import FileUnfit, ReportAbsent, ReportDamaged, ReportFailed, RowsTooFew
from monitoring.evidence.monthly import EVERY_S, FIRST_S, Months
from monitoring.evidence.report import Report
from monitoring.evidence.tables import Tables, opinion
from registry.cli import build
from tests.kit.flagged import FEATURES, flagged
from tests.kit.world import World


class Library:
    """Stands in for the library where the drawing itself is not the question; never the same bytes twice."""

    def __init__(self) -> None:
        self.seen: list[Tables] = []

    def __call__(self, tables: Tables) -> Report:
        self.seen.append(tables)
        values = {m.column: 0.001 for m in tables.methods}
        return Report(f"<p>{len(self.seen)}</p>".encode(), tables, opinion(tables, values), "planted 1")


@pytest.fixture(autouse=True)
def rested() -> None:
    freeze._rest.clear()


@pytest.fixture
def clinic(world: World) -> Any:
    world.version()
    return world.clinic()


def test_a_flag_gets_its_report_once(world: World, clinic: Any) -> None:
    number, library = flagged(world, clinic), Library()
    db = world.db.database
    assert freeze.freeze_one(db, make=library)
    assert not freeze.freeze_one(db, make=library)
    (its,) = library.seen
    assert (len(its.reference), len(its.current)) == (60, 12)
    assert [m.column for m in its.methods] == [*sorted(FEATURES), "scanner_group"]
    assert {row["scanner_group"] for row in its.reference} == {"old scanner"}
    frozen = freeze.of_flag(db, number, make=library)
    assert len(library.seen) == 1, "asked again, the first stays"
    with db.monitor() as conn:
        assert freeze.html(conn, clinic, frozen.digest) == b"<p>1</p>"
    ((methods, rows_digest),) = world.sql("select methods, rows_digest from monitoring.report_v")
    assert methods[0] == {"column": "cjv", "method": "ks", "threshold": 0.05 / 3}
    assert rows_digest == its.digest


def test_a_flag_of_the_follower_is_compared_from_its_since_on(world: World) -> None:
    """The real line: fifty studies make the reference, another scanner comes, its flag gets the rows on both sides."""
    from tests.monitoring.fleet import PROFILE, Clinic, drain

    world.version()
    north, library = Clinic(world), Library()
    north.many(60)
    drain(world)
    assert not freeze.freeze_one(world.db.database, make=library)
    north.many(freeze.CURRENT_MIN, shift=5.0, profile=PROFILE | {"model": "Vida"})
    drain(world)
    assert freeze.freeze_one(world.db.database, make=library)
    (its,) = library.seen
    assert (len(its.reference), len(its.current)) == (60, freeze.CURRENT_MIN)
    assert all("Vida" in str(row["scanner_group"]) for row in its.current)


def test_two_processes_freeze_one_report(world: World, clinic: Any) -> None:
    flagged(world, clinic)
    db, library = world.db.database, Library()
    with db.monitor() as conn:
        (waits,) = reports_store.waiting(conn, 5)
        rows = reports_store.rows(conn, waits)
    assert freeze.freeze(db, waits, *rows, make=library)
    assert not freeze.freeze(db, waits, *rows, make=library)
    assert world.sql("select count(*) from monitoring.report") == [(1,)]


def test_an_epoch_that_kept_its_reference_is_compared_with_the_rows_it_stands_on(
    world: World, clinic: Any
) -> None:
    flagged(world, clinic, kept_reference=True)
    library = Library()
    assert freeze.freeze_one(world.db.database, make=library)
    assert len(library.seen[0].reference) == 60


def test_a_flag_on_one_study_waits_for_some(world: World, clinic: Any) -> None:
    number = flagged(world, clinic, since=4)
    assert not freeze.freeze_one(world.db.database, make=Library())
    with pytest.raises(ReportAbsent):
        freeze.of_flag(world.db.database, number, make=Library())


def test_a_short_reference_stops_nobody(world: World, clinic: Any) -> None:
    number = flagged(world, clinic, before=10)
    assert freeze.freeze_one(world.db.database, make=Library())
    assert not freeze.freeze_one(world.db.database, make=Library()), "it rests before it is tried again"
    with pytest.raises(RowsTooFew):
        freeze.of_flag(world.db.database, number, make=Library())


def test_a_flag_that_rests_keeps_no_other_waiting(world: World, clinic: Any) -> None:
    short = flagged(world, clinic, before=10)
    freeze._rest[short] = freeze.time.monotonic() + 60
    assert not freeze.freeze_one(world.db.database, make=Library())
    other = flagged(world, world.clinic("south"))
    assert freeze.freeze_one(world.db.database, make=Library())
    assert world.sql("select flag_id from monitoring.report") == [(other,)]


def test_a_resolved_flag_still_gets_its_report_when_asked(world: World, clinic: Any) -> None:
    number = flagged(world, clinic)
    world.sql(RESOLVE)
    assert freeze.of_flag(world.db.database, number, make=Library()).flag_id == number


def test_a_library_that_fails_stops_nobody(world: World, clinic: Any) -> None:
    flagged(world, clinic)

    def fails(tables: Tables) -> Report:
        raise ReportFailed("it broke")

    assert freeze.freeze_one(world.db.database, make=fails)
    assert not freeze.freeze_one(world.db.database, make=fails)
    freeze._rest.clear()
    assert freeze.freeze_one(world.db.database, make=Library())
    assert world.sql("select count(*) from monitoring.report") == [(1,)]


RESOLVE = "update monitoring.flag set state = 'resolved', resolved_at = now(), resolved_by = 'a', resolved_reason = 'b'"
CHANGES = (
    "update monitoring.report set html = ''",
    "delete from monitoring.report",
    "truncate monitoring.report",
)


def test_what_is_frozen_is_never_changed_and_damage_is_not_shown(world: World, clinic: Any) -> None:
    number = flagged(world, clinic)
    db = world.db.database
    frozen = freeze.of_flag(db, number, make=Library())
    for change in CHANGES:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.sql(change)
    with db.monitor() as conn, pytest.raises(ReportAbsent):
        freeze.html(conn, clinic, "sha256:" + "0" * 64)
    world.sql("alter table monitoring.report disable trigger report_fixed")
    for data in (b"", freeze.gzip.compress(b"<p>2</p>")):
        world.sql("update monitoring.report set html = %s", data)
        with db.monitor() as conn, pytest.raises(ReportDamaged):
            freeze.html(conn, clinic, frozen.digest)


def test_a_report_belongs_to_one_clinic(world: World, clinic: Any) -> None:
    freeze.of_flag(world.db.database, flagged(world, clinic), make=Library())
    with world.db.database.tenant(world.clinic("south")) as conn, pytest.raises(psycopg.Error):
        conn.execute("select * from monitoring.report_v")


def test_the_last_days_against_what_came_before(world: World, clinic: Any) -> None:
    flagged(world, clinic)
    world.bind(clinic, task="ms-lesion")
    db, library = world.db.database, Library()
    with pytest.raises(ReportAbsent):
        freeze.of_month(db, "north", 30, make=library)  # all rows are of today: nothing came before
    world.sql(
        "update monitoring.observation set at = at - interval '60 days' where scanner_group = 'old scanner'"
    )
    (frozen,) = freeze.of_month(db, "north", 30, make=library)
    assert (frozen.kind, frozen.flag_id, frozen.reference_rows, frozen.current_rows) == (
        "month",
        None,
        60,
        12,
    )


def test_the_month_that_has_ended_is_drawn_once_by_itself(world: World, clinic: Any) -> None:
    flagged(world, clinic)
    world.bind(clinic, task="ms-lesion")
    now, library = [0.0], Library()
    months = Months(world.db.database, library, lambda: now[0])
    assert (months.turn(), library.seen) == (0, []), "a start has other things to do"
    now[0] += FIRST_S
    assert months.turn() == 0, "nothing came before last month"
    world.sql(
        "update monitoring.observation set at = at - interval '90 days' where scanner_group = 'old scanner'"
    )
    now[0] += EVERY_S
    assert [months.turn() for _ in range(3)] == [1, 0, 0]
    (its,) = library.seen
    assert (len(its.reference), len(its.current)) == (60, 12)
    now[0] += EVERY_S
    assert months.turn() == 0, "a month has one report"
    world.sql("alter table monitoring.report disable trigger report_fixed")
    world.sql("update monitoring.report set at = at - interval '32 days'")
    now[0] += EVERY_S
    assert months.turn() == 1, "the next has its own"


def test_a_month_that_cannot_be_drawn_stops_nothing(world: World, clinic: Any) -> None:
    flagged(world, clinic)
    world.bind(clinic, task="ms-lesion")
    world.sql(
        "update monitoring.observation set at = at - interval '90 days' where scanner_group = 'old scanner'"
    )

    def broken(_: Tables) -> Report:
        raise ReportFailed

    now = [0.0]
    months = Months(world.db.database, broken, lambda: now[0])
    now[0] = FIRST_S
    assert [months.turn(), months.turn()] == [1, 0]
    assert world.sql("select count(*) from monitoring.report") == [(0,)]


def test_the_commands(world: World, clinic: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    number = flagged(world, clinic)
    monkeypatch.setattr(freeze.of_flag, "__kwdefaults__", {"make": Library()})
    out = tmp_path / "report.html"
    run: Callable[..., Any] = lambda *words: CliRunner().invoke(build(), ["monitor", *words])  # noqa: E731
    done = run("report", "north", "--flag", str(number), "--out", str(out), "--json")
    assert done.exit_code == 0, done.exception
    assert out.read_bytes() == b"<p>1</p>"
    listed = json.loads(run("reports", "--json").stdout)
    assert [one["digest"] for one in listed] == [freeze.digest_of(out.read_bytes())]
    assert isinstance(run("report", "north", "--out", str(tmp_path / "no" / "x")).exception, FileUnfit)
    assert isinstance(run("report", "south", "--flag", str(number)).exception, ReportAbsent)


@pytest.mark.parametrize("mutant", ["not frozen", "not checked"])
def test_mutants_are_found(mutant: str, world: World, clinic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is drawn anew each time, and one that is shown unchecked: a test above fails for each."""
    if mutant == "not frozen":
        world.sql("drop index monitoring.report_flag")
        add = reports_store.ADD.replace("on conflict (clinic_id, flag_id) do nothing", "")
        monkeypatch.setattr(reports_store, "ADD", add)
        with pytest.raises(AssertionError):
            test_two_processes_freeze_one_report(world, clinic)
    else:
        monkeypatch.setattr(freeze, "digest_of", lambda data: "sha256:" + "1" * 64)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test_what_is_frozen_is_never_changed_and_damage_is_not_shown(world, clinic)


@pytest.mark.slow
def test_the_real_library_in_the_monitors_turn(world: World, clinic: Any) -> None:
    """From a flag to frozen HTML with nothing stood in for: Evidently sees the scanner that was shifted by 3 sd."""
    number = flagged(world, clinic)
    db = world.db.database
    assert freeze.freeze_one(db)
    frozen = freeze.of_flag(db, number)
    moved = {column["column"]: column["moved"] for column in frozen.opinion["columns"]}
    assert moved == {"snr_wm": True, "cjv": False, "efc": False, "scanner_group": True}
    with db.monitor() as conn:
        assert b"snr_wm" in freeze.html(conn, clinic, frozen.digest)
