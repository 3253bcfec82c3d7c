"""Rows of closures."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Closure:
    """Days on which a clinic is closed, first and last included; ``stands`` until it is withdrawn."""

    number: int
    first_day: date
    last_day: date
    reason: str
    stated_by: str
    stated_at: datetime
    stands: bool
    withdrawn_by: str | None
    withdrawn_at: datetime | None
    withdrawn_reason: str | None


ADD = """
insert into registry.closure(clinic_id, number, first_day, last_day, withdraws, reason, stated_by)
select %(clinic_id)s, coalesce(max(k.number), 0) + 1, %(first_day)s, %(last_day)s, %(withdraws)s, %(reason)s, %(by)s
from registry.closure k where k.clinic_id = %(clinic_id)s returning number"""


def add(
    conn: Conn, clinic_id: UUID, first_day: date, last_day: date, *, by: str, reason: str,
    withdraws: int | None = None,
) -> int:  # fmt: skip
    """Add a statement and return its number. The clinic must be locked: numbers have no gaps."""
    values = {
        "clinic_id": clinic_id, "first_day": first_day, "last_day": last_day, "withdraws": withdraws,
        "reason": reason, "by": by,
    }  # fmt: skip
    row = conn.execute(ADD, values).fetchone()
    assert row is not None
    return int(row[0])


FOUND = """
select number, first_day, last_day, reason, stated_by, stated_at, stands, withdrawn_by, withdrawn_at, withdrawn_reason
from registry.closure_v
where clinic_id = %(clinic_id)s and (%(number)s::int is null or number = %(number)s)
  and (%(first_day)s::date is null or (stands and first_day = %(first_day)s and last_day = %(last_day)s))
order by first_day desc, number desc limit %(limit)s"""


def one(conn: Conn, clinic_id: UUID, number: int) -> Closure | None:
    """The closure of this number."""
    return next(iter(_found(conn, clinic_id, number=number)), None)


def same(conn: Conn, clinic_id: UUID, first_day: date, last_day: date) -> Closure | None:
    """The closure that stands with these very days."""
    return next(iter(_found(conn, clinic_id, first_day=first_day, last_day=last_day)), None)


def page(conn: Conn, clinic_id: UUID, limit: int) -> list[Closure]:
    """A clinic's closures, withdrawn ones too, the latest days first."""
    return _found(conn, clinic_id, limit=limit)


def _found(conn: Conn, clinic_id: UUID, limit: int = 1, **asked: object) -> list[Closure]:
    values = {
        "number": None,
        "first_day": None,
        "last_day": None,
        "clinic_id": clinic_id,
        "limit": limit,
        **asked,
    }
    with conn.cursor(row_factory=class_row(Closure)) as cursor:
        return cursor.execute(FOUND, values).fetchall()
