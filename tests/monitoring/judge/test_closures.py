"""Closed days: what a person says is not counted, and a closure that nobody stated is no flag; a lasting loss is."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from monitoring.judge import days
from monitoring.streams import volume, volume_store
from monitoring.streams.volume import Volume
from registry import clinics
from registry.cli import main
from registry.closures import closures
from registry.core.db import Database
from tests.bench import counts as bench
from tests.kit.world import World
from tests.monitoring.fleet import Clinic, drain
from tests.monitoring.judge.test_days import MONDAY, WEEK, beyond, send

Days = list[tuple[date, int, Volume]]
HOLIDAYS = (59, 101, 104, 121, 142, 152, 276, 305)
"""Days of the year from the first Monday of January on: shut, but for one study in ten."""


def followed(numbers: Sequence[int], closed: Collection[date] = ()) -> Days:
    found = [(MONDAY + timedelta(days=n), int(studies)) for n, studies in enumerate(numbers)]
    return [*volume.follow(None, found, [], [], closed)]


def ever(found: Days) -> set[str]:
    return {name for *_, its in found for name in beyond(its)}


def dates(first: int, n: int) -> frozenset[date]:
    return frozenset(MONDAY + timedelta(days=first + k) for k in range(n))


def plain(its: Volume) -> str:
    return json.dumps(volume.plain(its))


# The states of this series as the rule before closures wrote them; a holiday of three days is in it.
BEFORE = "83958786efc3a135d1e46c95bc276ada9f1f1c1304ef563a9d54e0a2b6dbfd1a"


def rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 6) if abs(value) < 1e6 else float(f"{value:.9e}")
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
    return value


def test_without_a_closure_states_are_as_they_were() -> None:
    numbers = [*WEEK] * 8 + [1, 1, 1, 9, 11, 2, 0] + [*WEEK] * 3 + [4 * n for n in WEEK] * 2 + [*WEEK] * 2

    def digest(closed: Collection[date]) -> str:
        states = [rounded(volume.plain(its)) for *_, its in followed(numbers, closed)]
        return hashlib.sha256(json.dumps(states, sort_keys=True).encode()).hexdigest()

    assert digest(()) == BEFORE
    assert digest(dates(10_000, 3)) == BEFORE, "a closure elsewhere changes nothing"
    assert digest(dates(3, 1)) != BEFORE, "mutant: a state that does not know its closures"


def test_a_closed_day_leaves_what_is_known_as_it_was() -> None:
    """Three weeks shut and said so: no bet, no flag; the same without those days is the same."""
    numbers = [*WEEK] * 6 + [0] * 21 + [*WEEK] * 6
    told, untold = followed(numbers, dates(42, 21)), followed(numbers)
    assert ever(told) == set() and "few" in ever(untold)
    assert {plain(its) for day, _, its in told if day in dates(42, 21)} == {plain(told[41][2])}
    some = followed([*WEEK] * 6 + [3] * 21 + [*WEEK] * 6, dates(42, 21))
    assert plain(some[-1][2]) == plain(told[-1][2]), "what came on closed days is not counted, whatever it is"
    assert [studies for _, studies, _ in some[42:44]] == [3, 3], "and still written down"


@pytest.mark.parametrize("first", [0, 3, 10])
def test_a_reference_with_closed_days_has_the_means_of_the_open_ones(first: int) -> None:
    """A clinic that is shut for two of its first weeks: without the calendar its normal would be half."""
    numbers = np.array([*WEEK] * 20)
    numbers[first : first + 14] = 0
    told = followed(numbers.tolist(), dates(first, 14))
    its = told[-1][2]
    assert its.whole and its.days == 42, "each day of the week was open four times"
    assert [its.seen[at] / its.opened(at) for at in range(7)] == list(WEEK)
    assert its.a_day == pytest.approx(sum(WEEK) / 7)
    assert ever(told) == set()
    again: Volume | None = None
    for n, (day, studies, after) in enumerate(told):
        ((_, _, again),) = volume.follow(again, [(day, studies)], [], [], dates(first, 14))
        assert again == after and volume.from_json(json.loads(plain(again))) == after, n


def season(parts: Sequence[tuple[int, int, float]]) -> bench.Season:
    def shape(day: np.ndarray) -> np.ndarray:
        out = np.ones(len(day))
        for first, n, factor in parts:
            out = np.where((day % bench.DAYS >= first) & (day % bench.DAYS < first + n), factor, out)
        return out

    return shape


UNSTATED = {
    "public holidays": [(day, 1, 0.1) for day in HOLIDAYS],
    "a fortnight at half": [(210, 14, 0.5)],
    "a fortnight shut, with its weekends": [(208, 16, 0.0)],
    "Christmas at a third, summer at half, holidays": [
        *((day, 1, 0.1) for day in HOLIDAYS), (200, 14, 0.5), (351, 14, 0.35),
    ],
}  # fmt: skip


def flags(shape: bench.Season, a_day: float, clinics_: int = 12) -> int:
    """Clinics of ``clinics_`` that a year of ``shape`` flags; seeds below 20, which never judge."""
    found = 0
    for n in range(clinics_):
        at, _ = bench.first_flag(bench.days(np.random.default_rng([7, n]), shape, 0.2, bench.DAYS, a_day))
        found += at is not None
    return found


@pytest.mark.parametrize("name", UNSTATED)
def test_a_closure_that_nobody_stated_is_no_flag(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 clinic-years at 10 and at 40 a day; the share of the budget lets one through, and two come in 1 of 4."""
    assert flags(season(UNSTATED[name]), 10.0) + flags(season(UNSTATED[name]), 40.0) <= 2
    if "shut" in name:
        monkeypatch.setattr(volume, "LULL", 0)
        assert flags(season(UNSTATED[name]), 10.0) == 12, "mutant: the days after it need not speak for it"


@pytest.mark.parametrize("factor, within", [(0.5, 120), (0.4, 60), (0.0, 21)])
def test_a_loss_for_good_is_still_said(factor: float, within: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = bench.on_change(7, 12, factor, 0.2)
    (*_, late) = asked["days: quartiles and 90 %"]
    assert asked["found"] == 12 and late <= within
    monkeypatch.setattr(volume, "LULL", 365)
    assert bench.on_change(7, 12, factor, 0.2)["found"] == 0, "mutant: a drop that may last a year"


def test_after_a_long_drop_that_ended_the_next_one_is_said_too() -> None:
    found = followed([*WEEK] * 6 + [0] * 21 + [*WEEK] * 5 + [0] * 21)
    said = ["few" in beyond(its) for *_, its in found]
    assert said[6 * 7 + 20] and not said[14 * 7 - 1] and said[-1]


# In the database: what is said afterwards is counted again, and what was written stays.


@pytest.fixture
def clinic(world: World) -> Iterator[Clinic]:
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    yield its


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([*words])
    said = capsys.readouterr()
    return code, said.out, said.err


def ago(n: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=n)


def state(db: Database, slug: str, first: int, last: int, reason: str = "the summer") -> int:
    with db.system() as conn:
        its, _ = closures.state(
            conn, clinics.by_slug(conn, slug), ago(first), ago(last), by="quin", reason=reason
        )
    return its.number


def written(world: World, clinic: UUID) -> list[tuple[Any, ...]]:
    return world.sql(
        "select day, turn, studies, closed, closures, state::text from monitoring.day_count where clinic_id = %s "
        "order by day, turn", clinic,
    )  # fmt: skip


def shut(world: World, clinic: Clinic) -> None:
    """70 days of 12 studies, of which the last 22 but one are silent; counted and flagged."""
    for one in range(70, 22, -1):
        send(world, clinic.id, one, 12)
    send(world, clinic.id, 1, 12)
    clinic.many(3)
    drain(world)
    days.Days(world.db.database).turn()


def test_a_closure_stated_afterwards_is_counted_again_and_always_alike(
    world: World, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut(world, clinic)
    ((kind,),) = world.sql("select kind from monitoring.flag_v")
    first = written(world, clinic.id)
    assert kind == "volume" and {(turn, closed, n) for _, turn, _, closed, n, _ in first} == {(1, False, 0)}
    state(world.db.database, "north", 22, 2)
    with world.db.database.monitor() as conn:
        assert volume_store.due(conn, volume_store.today(conn)) == [clinic.id]
        assert days.differ(conn, clinic.id) == 0, "by the calendar of then it was counted well"
    with monkeypatch.context() as mutant:
        mutant.setattr(volume_store.Calendar, "anew", lambda *_: None)
        assert days.Days(world.db.database).turn() == 0, "mutant: what was counted is never counted again"
    turn = days.Days(world.db.database)
    assert turn.turn() == 22
    second = written(world, clinic.id)
    assert [row for row in second if row[1] == 1] == first, "what was written stays as it was"
    again = {row[0]: row for row in second if row[1] == 2}
    assert sorted(again) == [ago(n) for n in range(22, 0, -1)]
    assert {row[0] for row in second if row[3]} == {ago(n) for n in range(22, 1, -1)}
    with world.db.database.monitor(write=True) as conn:
        assert volume_store.due(conn, volume_store.today(conn)) == [], "once"
        assert days.differ(conn, clinic.id) == 0
        assert not volume.counts(volume_store.last(conn, clinic.id).its)[0].beyond
    ((evidence,),) = world.sql("select evidence from monitoring.verdict_v")
    assert not any(one["beyond"] for one in evidence["counts"]), "the verdict says so at once"
    # Another installation that knew it beforehand writes the same states.
    knew = {day: text for day, n, _, _, _, text in second if n == max(r[1] for r in second if r[0] == day)}
    world.sql("alter table monitoring.day_count disable trigger all")
    world.sql("delete from monitoring.day_count")
    world.sql("alter table monitoring.day_count enable trigger all")
    days.Days(world.db.database).turn()
    assert {row[0]: row[5] for row in written(world, clinic.id)} == knew


def test_a_withdrawn_closure_is_counted_again_and_a_coming_one_waits(world: World, clinic: Clinic) -> None:
    for one in range(60, 0, -1):
        send(world, clinic.id, one, 12)
    number = state(world.db.database, "north", 30, 28)
    assert days.Days(world.db.database).turn() == 59
    state(world.db.database, "north", -3, -5, "Christmas")
    assert days.Days(world.db.database).turn() == 0, "nothing that was counted is another day by it"
    with world.db.database.system() as conn:
        closures.withdraw(conn, clinics.by_slug(conn, "north"), number, by="quin", reason="another clinic")
    with world.db.database.monitor() as conn:
        assert days.differ(conn, clinic.id) == 0
    assert days.Days(world.db.database).turn() == 30
    rows = written(world, clinic.id)
    assert [(turn, closed, n) for day, turn, _, closed, n, _ in rows if day == ago(29)] == [
        (1, True, 1),
        (2, False, 3),
    ]
    with world.db.database.monitor() as conn:
        assert days.differ(conn, clinic.id) == 0 and volume_store.closed(conn, clinic.id) == frozenset()


def test_verify_mends_days_of_an_older_scale(
    world: World, clinic: Clinic, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier build wrote them: without the bets on later days, said where no drop had lasted yet."""
    monkeypatch.setattr(volume, "LULL", 10_000)
    shut(world, clinic)
    monkeypatch.undo()
    with world.db.database.monitor() as conn:
        wrong = days.differ(conn, clinic.id)
    assert wrong > 0 and not world.sql("select from monitoring.flag_v where kind = 'volume'")
    code, out, _ = run(capsys, "monitor", "verify", "north", "--json")
    assert (code, [row["days"] for row in json.loads(out) if row["task"] == "days"]) == (6, [wrong])
    before = written(world, clinic.id)
    code, out, _ = run(capsys, "monitor", "verify", "north", "--mend", "--json")
    (row,) = (row for row in json.loads(out) if row["task"] == "days")
    assert (code, row["state"], row["days"]) == (0, "mended", wrong)
    assert [one for one in written(world, clinic.id) if one[1] == 1] == before
    assert run(capsys, "monitor", "verify", "north")[0] == 0
    assert world.sql("select kind from monitoring.flag_v") == [("volume",)], "and what it says now is said"
    code, out, _ = run(capsys, "monitor", "verify", "north", "--mend", "--json")
    assert all(row["task"] != "days" for row in json.loads(out)), "mended once"


def test_days_are_shown_with_the_reason_why_they_are_not_counted(
    world: World, clinic: Clinic, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in range(5, 0, -1):
        send(world, clinic.id, one, 4)
    state(world.db.database, "north", 2, 2, "a new floor")
    days.Days(world.db.database).turn()
    code, out, _ = run(capsys, "monitor", "days", "north", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["closed"] for row in rows] == [False, True, False, False]
    assert (rows[1]["day"], rows[1]["studies"], rows[1]["reason"]) == (str(ago(2)), 4, "a new floor")
    assert "no: closed" in run(capsys, "monitor", "days", "north")[1]
    assert run(capsys, "monitor", "days", "nowhere")[0] == 3
