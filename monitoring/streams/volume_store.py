"""Rows of day counts: which days of which clinics are whole and not counted yet, and what their studies make."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

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


DUE = """
select c.id from registry.clinic c
left join lateral (select max(d.day) as day from monitoring.day_count d where d.clinic_id = c.id) l on true
where coalesce(l.day, (select (s.first_at at time zone 'UTC')::date from serving.study s
    where s.clinic_id = c.id and s.state <> 'past' order by s.first_at limit 1)) < %(today)s::date - 1
order by c.slug limit 10000"""


def due(conn: Conn, today: date) -> list[UUID]:
    """Clinics with a whole day before ``today`` that is not counted."""
    return [row[0] for row in conn.execute(DUE, {"today": today})]


LAST = """
select day, state from monitoring.day_count where clinic_id = %(clinic_id)s order by day desc limit 1"""
FIRST = """
select (first_at at time zone 'UTC')::date as day from serving.study
where clinic_id = %(clinic_id)s and state <> 'past' order by first_at limit 1"""
DAYS = """
select d.day::date, count(s.id)::int as studies
from generate_series(%(after)s::date + 1, %(today)s::date - 1, interval '1 day') as d(day)
left join serving.study s on s.clinic_id = %(clinic_id)s and s.state <> 'past'
  and s.first_at >= d.day at time zone 'UTC' and s.first_at < (d.day + interval '1 day') at time zone 'UTC'
group by 1 order by 1 limit 10000"""


def last(conn: Conn, clinic_id: UUID) -> tuple[date | None, Volume | None]:
    """The last day that was counted and what is known after it."""
    row = conn.execute(LAST, {"clinic_id": clinic_id}).fetchone()
    return (row[0], volume.from_json(row[1])) if row else (None, None)


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
insert into monitoring.day_count(clinic_id, day, studies, state)
values (%(clinic_id)s, %(day)s, %(studies)s, %(state)s)"""


def add(conn: Conn, clinic_id: UUID, found: Sequence[tuple[date, int, Volume]]) -> None:
    """Write days down, each with what is known after it."""
    with conn.cursor() as cursor:
        cursor.executemany(
            ADD,
            [
                {"clinic_id": clinic_id, "day": day, "studies": studies, "state": Jsonb(volume.plain(its))}
                for day, studies, its in found
            ],
        )


COUNTED = """
select day, studies, state from monitoring.day_count where clinic_id = %(clinic_id)s order by day limit 100000"""


def counted(conn: Conn, clinic_id: UUID) -> list[tuple[date, int, Volume]]:
    """All days of a clinic as they were written."""
    found = conn.execute(COUNTED, {"clinic_id": clinic_id})
    return [(day, int(studies), volume.from_json(state)) for day, studies, state in found]
