"""Days are counted when they are whole, silent ones too; far fewer or more studies are said with their first day."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from monitoring.judge import days
from monitoring.streams import epochs, streams_store, volume, volume_store
from monitoring.streams.volume import Volume
from tests.kit.world import World
from tests.monitoring.fleet import Clinic, drain

MONDAY = date(2026, 1, 5)
WEEK = (10, 14, 12, 9, 11, 2, 0)


def counted(numbers: list[int], anew: list[date] | None = None) -> list[tuple[date, int, Volume]]:
    found = [(MONDAY + timedelta(days=n), studies) for n, studies in enumerate(numbers)]
    return [*volume.follow(None, found, anew or [], [])]


def beyond(its: Volume) -> set[str]:
    return {one.name for one in volume.counts(its) if one.beyond}


def test_a_week_is_no_change_and_half_of_it_is() -> None:
    quiet = counted([*WEEK] * 20)[-1][2]
    assert quiet.whole and quiet.days == 28 and beyond(quiet) == set()
    found = counted([*WEEK] * 8 + [n // 3 for n in WEEK] * 3)
    day = next(day for day, _, its in found if beyond(its))
    assert MONDAY + timedelta(weeks=9) <= day <= MONDAY + timedelta(weeks=10, days=5)
    (few,) = (one for one in volume.counts(found[-1][2]) if one.beyond)
    assert few.name == "few"
    assert few.since[:10] == "2026-02-28", (
        "the block that holds the first Monday began with the quiet weekend"
    )
    assert few.sentence.startswith("less than half of the usual studies come since 28 February 2026: 5")
    assert volume.sentence(few) == "Less than half of the usual studies come since 28 February 2026."


def test_silence_brings_days_too_and_a_flood_is_the_other_way() -> None:
    assert beyond(counted([*WEEK] * 6 + [0] * 21)[-1][2]) == {"few"}
    assert beyond(counted([*WEEK] * 6 + [3 * n for n in WEEK] * 3)[-1][2]) == {"many"}


def test_it_ends_by_itself_and_a_person_begins_a_new_reference() -> None:
    back = counted([*WEEK] * 6 + [0] * 21 + [*WEEK] * 8)
    said = [beyond(its) for _, _, its in back]
    assert {"few"} in said and said[-1] == set()
    moved = counted([*WEEK] * 6 + [0] * 21 + [1] * 200, [MONDAY + timedelta(days=63)])[-1][2]
    assert (moved.began, moved.whole, beyond(moved)) == (str(MONDAY + timedelta(days=63)), True, set())


@pytest.mark.parametrize("a_day", [0.2, 2.0, 10.0, 40.0])
def test_chance_says_nothing_more_often_than_budgeted(a_day: float) -> None:
    """Poisson days of a week's shape; 40 clinic-years each. A tenth of a flag a year is allowed."""
    rng = np.random.default_rng([5, int(a_day * 10)])
    shape = np.array(WEEK) / np.mean(WEEK) * a_day
    raised = sum(
        any(beyond(its) for _, _, its in counted(rng.poisson(np.tile(shape, 56)).tolist())) for _ in range(40)
    )
    assert raised <= 8, "4 of 40 years are allowed on average; 9 or more come by chance in 2 of 100"


def test_days_in_one_go_or_one_by_one_are_the_same_and_json_keeps_them() -> None:
    rng = np.random.default_rng(6)
    numbers, anew = rng.poisson(np.tile(WEEK, 12)).tolist(), [MONDAY + timedelta(days=40)]
    whole = counted(numbers, anew)
    its: Volume | None = None
    for n, studies in enumerate(numbers):
        ((_, _, after),) = volume.follow(its, [(MONDAY + timedelta(days=n), studies)], anew, [])
        its = volume.from_json(volume.plain(after))
        assert its == whole[n][2]


@pytest.fixture
def clinic(world: World) -> Iterator[Clinic]:
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    yield its


def send(world: World, clinic: UUID, ago: int, studies: int) -> None:
    at = datetime.now(UTC).replace(hour=12) - timedelta(days=ago)
    world.sql(
        'insert into serving.study(clinic_id, "StudyInstanceUID", state, first_at, last_at, deadline, hard_deadline)'
        " select %s, '3.' || %s || '.' || n, 'done', %s, %s, null, null from generate_series(1, %s) as s(n)",
        clinic, ago, at, at, studies,
    )  # fmt: skip


def test_whole_days_become_evidence_a_flag_and_the_same_again(world: World, clinic: Clinic) -> None:
    for ago in range(70, 20, -1):
        send(world, clinic.id, ago, 12)
    send(world, clinic.id, 19, 1)
    send(world, clinic.id, 0, 3)
    clinic.many(3)
    drain(world)
    turn = days.Days(world.db.database)
    before = days.differ
    assert turn.turn() >= 67
    assert turn.turn() == 0, "it looks again in ten minutes"
    with world.db.database.monitor() as conn:
        written = volume_store.counted(conn, clinic.id)
        assert before(conn, clinic.id) == 0
    assert [n for _, n, _ in written[:3]] == [12, 12, 12]
    assert written[-1][0] < datetime.now(UTC).date(), "today is not over"
    ((kind, sentence, since),) = world.sql("select kind, sentence, since_at from monitoring.flag_v")
    assert kind == "volume"
    assert sentence.startswith("Less than half of the usual studies come since")
    assert since.date() == (datetime.now(UTC) - timedelta(days=20)).date()
    ((evidence,),) = world.sql("select evidence from monitoring.verdict_v")
    (few,) = (c for c in evidence["counts"] if c["name"] == "few")
    assert few["beyond"] and few["n"] >= 5
    with world.db.database.monitor(write=True) as conn:
        assert days.count(conn, clinic.id, notify=()) == 0, "a day is counted once"
        (stream,) = streams_store.streams(conn, clinic.id)
        epochs.begin(conn, clinic.id, stream.stream_id, fresh=True, by="ada", reason="one scanner less")
        assert volume_store.anew(conn, clinic.id) == [datetime.now(UTC).date()]


def test_a_past_that_was_taken_over_is_no_day_and_a_changed_day_is_noticed(
    world: World, clinic: Clinic
) -> None:
    for ago in (5, 4, 3):
        send(world, clinic.id, ago, 4)
    world.sql(
        "update serving.study set state = 'past' where first_at < date_trunc('day', now(), 'UTC') - interval '4 days'"
    )
    days.Days(world.db.database).turn()
    with world.db.database.monitor() as conn:
        (first, *_) = volume_store.counted(conn, clinic.id)
        assert first[:2] == ((datetime.now(UTC) - timedelta(days=3)).date(), 4), "the first day is not whole"
        assert days.differ(conn, clinic.id) == 0
    send(world, clinic.id, 2, 1)
    with world.db.database.monitor() as conn:
        assert days.differ(conn, clinic.id) > 0
