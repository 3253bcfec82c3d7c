"""Rows of day counts: which days of which clinics are whole and not counted yet, and what their studies make."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from monitoring.streams import volume
from monitoring.streams.volume import Volume
from registry.core.db import Conn

# A day is whole an hour after its end: a transaction lives for a minute at most, so no study of it can appear later.
# A clinic's first day is left out, for it begins in its midst.
TODAY = "select (now() - interval '1 hour')::date as today"


def today(conn: Conn) -> date:
    """The first day (of UTC) that is not whole yet."""
    row = conn.execute(TODAY).fetchone()
    assert row is not None
    found: date = row[0]
    return found


# Also where a closure was stated or withdrawn of days that were counted before anybody knew.
DUE = """
select c.id from registry.clinic c
left join lateral (select d.day, d.closures from monitoring.day_count d where d.clinic_id = c.id
  order by d.day desc, d.turn desc limit 1) l on true
where coalesce(l.day, (select (s.first_at at time zone 'UTC')::date from serving.study s
    where s.clinic_id = c.id and s.state <> 'past' order by s.first_at limit 1)) < %(today)s::date - 1
  or exists (select from registry.closure_v k
    where k.clinic_id = c.id and k.known > l.closures and k.first_day <= l.day)
order by c.slug limit 10000"""


def due(conn: Conn, today: date) -> list[UUID]:
    """Clinics with a whole day before ``today`` that is not counted, or with days that must be counted again."""
    return [row[0] for row in conn.execute(DUE, {"today": today})]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A clinic's closed days, as they were known when ``known`` statements of them had been made."""

    days: frozenset[date]
    known: int
    told: tuple[tuple[date, int], ...] = ()
    """First day, and number of the last statement, of every closure that was ever stated."""

    def anew(self, counted: date, known: int) -> date | None:
        """From which day on to count again what was counted up to ``counted`` when ``known`` statements were known."""
        return min((day for day, number in self.told if number > known and day <= counted), default=None)


CLOSURES = """
select first_day, last_day, number, known, stands from registry.closure_v where clinic_id = %(clinic_id)s
order by number limit 10000"""


def calendar(conn: Conn, clinic_id: UUID, known: int | None = None) -> Calendar:
    """The clinic's closed days as they are known now, or as they were after ``known`` statements."""
    days: set[date] = set()
    told, last = [], 0
    for first, until, number, latest, stands in conn.execute(CLOSURES, {"clinic_id": clinic_id}):
        told.append((first, int(latest)))
        last = max(last, int(latest))
        if stands if known is None else number <= known and (stands or latest > known):
            days |= {first + timedelta(days=n) for n in range((until - first).days + 1)}
    return Calendar(frozenset(days), last if known is None else known, tuple(told))


LAST = """
select day, state, closures from monitoring.day_count
where clinic_id = %(clinic_id)s and (%(before)s::date is null or day < %(before)s::date)
order by day desc, turn desc limit 1"""
FIRST = """
select (first_at at time zone 'UTC')::date as day from serving.study
where clinic_id = %(clinic_id)s and state <> 'past' order by first_at limit 1"""
DAYS = """
select d.day::date, count(s.id)::int as studies
from generate_series(%(after)s::date + 1, %(today)s::date - 1, interval '1 day') as d(day)
left join serving.study s on s.clinic_id = %(clinic_id)s and s.state <> 'past'
  and s.first_at >= d.day at time zone 'UTC' and s.first_at < (d.day + interval '1 day') at time zone 'UTC'
group by 1 order by 1 limit 10000"""


@dataclass(frozen=True, slots=True)
class Last:
    """The last day that was counted, what is known after it, and how many statements of closures were known then."""

    day: date | None = None
    its: Volume | None = None
    known: int = 0


def last(conn: Conn, clinic_id: UUID, before: date | None = None) -> Last:
    """The last day that was counted, of those before a day; of none where there is none."""
    row = conn.execute(LAST, {"clinic_id": clinic_id, "before": before}).fetchone()
    return Last(row[0], volume.from_json(row[1]), int(row[2])) if row else Last()


def days(conn: Conn, clinic_id: UUID, after: date | None, today: date) -> list[tuple[date, int]]:
    """Studies of each whole day after ``after`` (None: the clinic's first), those without any too."""
    if after is None:
        row = conn.execute(FIRST, {"clinic_id": clinic_id}).fetchone()
        after = row[0] if row else today
    found = conn.execute(DAYS, {"clinic_id": clinic_id, "after": after, "today": today})
    return [(day, int(studies)) for day, studies in found]


ANEW = """
select distinct (at at time zone 'UTC')::date as day from monitoring.reference_epoch
where clinic_id = %(clinic_id)s and cause = 'person' and fresh order by day limit 1000"""


def anew(conn: Conn, clinic_id: UUID) -> list[date]:
    """Days on which a person began a new reference of this clinic."""
    return [row[0] for row in conn.execute(ANEW, {"clinic_id": clinic_id})]


BUDGETS = """
select (set_at at time zone 'UTC')::date as day, budget::float8 from monitoring.policy
where clinic_id = %(clinic_id)s order by version limit 10000"""


def budgets(conn: Conn, clinic_id: UUID) -> list[tuple[date, float]]:
    """From which day on how many flags of drift a year are allowed."""
    return [(row[0], float(row[1])) for row in conn.execute(BUDGETS, {"clinic_id": clinic_id})]


PLACE = """
select stream_id from monitoring.stream_v
where clinic_id = %(clinic_id)s and stream_id is not null and state <> 'superseded'
order by n desc, stream_id limit 1"""


def place(conn: Conn, clinic_id: UUID) -> UUID | None:
    """The stream at which a flag about the whole clinic stands: the one that has most studies."""
    row = conn.execute(PLACE, {"clinic_id": clinic_id}).fetchone()
    return UUID(str(row[0])) if row else None


ADD = """
insert into monitoring.day_count(clinic_id, day, studies, state, closed, closures, turn)
select %(clinic_id)s, %(day)s, %(studies)s, %(state)s, %(closed)s, %(closures)s, coalesce(max(d.turn), 0) + 1
from monitoring.day_count d where d.clinic_id = %(clinic_id)s and d.day = %(day)s"""


def add(conn: Conn, clinic_id: UUID, found: Sequence[tuple[date, int, Volume]], closed: Calendar) -> None:
    """Write days down, each with what is known after it. A day that was counted before gets a further row."""
    with conn.cursor() as cursor:
        cursor.executemany(
            ADD,
            [
                {"clinic_id": clinic_id, "day": day, "studies": studies, "state": Jsonb(volume.plain(its)),
                 "closed": day in closed.days, "closures": closed.known}
                for day, studies, its in found
            ],
        )  # fmt: skip


COUNTED = """
select distinct on (day) day, studies, state, closed from monitoring.day_count where clinic_id = %(clinic_id)s
order by day, turn desc limit 100000"""


def counted(conn: Conn, clinic_id: UUID) -> list[tuple[date, int, Volume]]:
    """All days of a clinic as they were written last."""
    found = conn.execute(COUNTED, {"clinic_id": clinic_id})
    return [(day, int(studies), volume.from_json(state)) for day, studies, state, _ in found]


def closed(conn: Conn, clinic_id: UUID) -> frozenset[date]:
    """Days that were not counted, as they were written last."""
    return frozenset(row[0] for row in conn.execute(COUNTED, {"clinic_id": clinic_id}) if row[3])


PAGE = """
select d.clinic, d.day, d.studies, d.closed, d.turn, d.at, (select k.reason from registry.closure_v k
    where k.clinic_id = d.clinic_id and k.stands and d.day between k.first_day and k.last_day
    order by k.number desc limit 1) as reason
from monitoring.day_count_v d where d.clinic_id = %(clinic_id)s order by d.day desc limit %(limit)s"""


def page(conn: Conn, clinic_id: UUID, limit: int) -> list[dict[str, Any]]:
    """The latest days with their studies, whether each was counted, and why not."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(PAGE, {"clinic_id": clinic_id, "limit": limit}).fetchall()
