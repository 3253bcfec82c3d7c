"""Rows of scanners, found from the headers of what a clinic sends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Scanner:
    """One scanner of a clinic; ``field_t`` in tesla."""

    id: UUID
    clinic_id: UUID
    vendor: str
    model: str
    serial: str
    software: str
    field_t: float | None
    first_seen_at: datetime
    last_seen_at: datetime


# Every study touches its scanner's row. Writing it each time would make all receivers of one scanner wait for
# each other's commit, so an unchanged row that was seen within five minutes is only read.
UPSERT = """
with found as (
  select id from registry.scanner
  where clinic_id = %(clinic_id)s and vendor = %(vendor)s and model = %(model)s and serial = %(serial)s
    and software = %(software)s and field_t is not distinct from %(field_t)s::real
    and last_seen_at > now() - interval '5 min'),
written as (
  insert into registry.scanner(clinic_id, vendor, model, serial, software, field_t)
  select %(clinic_id)s, %(vendor)s, %(model)s, %(serial)s, %(software)s, %(field_t)s::real
  where not exists (select from found)
  on conflict (clinic_id, vendor, model, serial)
  do update set software = excluded.software, field_t = excluded.field_t, last_seen_at = now()
  returning id)
select id from found union all select id from written"""


def upsert(
    conn: Conn, clinic_id: UUID, vendor: str, model: str, serial: str, software: str, field_t: float | None
) -> UUID:
    """The scanner with this vendor, model and serial, made or brought up to date. Needs the clinic's transaction."""
    values = {
        "clinic_id": clinic_id, "vendor": vendor, "model": model, "serial": serial, "software": software,
        "field_t": field_t,
    }  # fmt: skip
    row = conn.execute(UPSERT, values).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


PAGE = """
select id, clinic_id, vendor, model, serial, software, field_t, first_seen_at, last_seen_at from registry.scanner
where clinic_id = %(clinic_id)s order by first_seen_at, id limit %(limit)s"""


def page(conn: Conn, clinic_id: UUID, limit: int) -> Sequence[Scanner]:
    """A clinic's scanners in the order in which they were first seen."""
    with conn.cursor(row_factory=class_row(Scanner)) as cursor:
        return cursor.execute(PAGE, {"clinic_id": clinic_id, "limit": limit}).fetchall()


BY_ID = """
select id, clinic_id, vendor, model, serial, software, field_t, first_seen_at, last_seen_at from registry.scanner
where clinic_id = %(clinic_id)s and id = %(scanner_id)s"""


def by_id(conn: Conn, clinic_id: UUID, scanner_id: UUID) -> Scanner | None:
    """One scanner of a clinic."""
    with conn.cursor(row_factory=class_row(Scanner)) as cursor:
        return cursor.execute(BY_ID, {"clinic_id": clinic_id, "scanner_id": scanner_id}).fetchone()
