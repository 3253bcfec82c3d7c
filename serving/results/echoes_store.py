"""SQL of echoes: a clinic's destinations as they are called, and what each call found."""

from typing import Any
from uuid import UUID

from registry.core.db import Conn

ACTIVE = """
select id, name, kind, host, port, ae_title, url from serving.destination
where clinic_id = %(clinic_id)s and active order by name limit 100"""


def active(conn: Conn, clinic_id: UUID) -> list[dict[str, Any]]:
    """The destinations that results go to; for the system role."""
    names = ("id", "name", "kind", "host", "port", "ae_title", "url")
    rows = conn.execute(ACTIVE, {"clinic_id": clinic_id}).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


# The address as serving.echo_v compares it: a call to an earlier address says nothing of the present one.
ADD = """
insert into serving.echo(clinic_id, destination_id, address, ok, code, milliseconds)
values (%(clinic_id)s, %(id)s,
  case %(kind)s when 'cstore' then %(host)s || ':' || %(port)s::int || ' ' || %(ae_title)s else %(url)s end,
  %(code)s::text is null, %(code)s, %(milliseconds)s)"""


def add(
    conn: Conn, clinic_id: UUID, destination: dict[str, Any], code: str | None, milliseconds: float
) -> None:
    """Keep what a call found; ``code`` is None where the destination answered."""
    conn.execute(ADD, {"clinic_id": clinic_id, **destination, "code": code, "milliseconds": milliseconds})
