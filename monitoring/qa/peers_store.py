"""Rows of QA figures, by which clinics are placed among each other."""

from collections.abc import Iterable
from uuid import UUID

from psycopg.rows import class_row

from monitoring.qa.peers import Figure
from registry.core.db import Conn

DUE = """
select k.clinic_id, c.slug from monitoring.cursor k join registry.clinic c on c.id = k.clinic_id
where k.figures_at is null or k.figures_at < now() - interval '1 day'
order by k.figures_at nulls first, c.slug limit %(limit)s"""


def due(conn: Conn, limit: int) -> list[tuple[UUID, str]]:
    """Clinics whose figures were not kept for a day, the longest waiting first."""
    return [(row[0], row[1]) for row in conn.execute(DUE, {"limit": limit})]


KEEP = """
insert into monitoring.figure(clinic_id, task, model, name, value, n)
values (%(clinic_id)s, %(task)s, %(model)s, %(name)s, %(value)s, %(n)s)
on conflict (clinic_id, task, model, name) do update
  set value = excluded.value, n = excluded.n, at = clock_timestamp()"""
KEPT = "update monitoring.cursor set figures_at = now() where clinic_id = %(clinic_id)s"


def keep(conn: Conn, clinic_id: UUID, figures: Iterable[Figure]) -> None:
    """Keep a clinic's figures of today."""
    rows = [
        {"clinic_id": clinic_id, "task": f.task, "model": f.model, "name": f.name, "value": f.value, "n": f.n}
        for f in figures
    ]
    with conn.cursor() as cursor:
        cursor.executemany(KEEP, rows)
    conn.execute(KEPT, {"clinic_id": clinic_id})


# A figure that was not kept again for two days is of a version that answers no more, or of a clinic that sends nothing.
BESIDE = """
select c.slug as clinic, f.task, f.model, f.name, f.value, f.n
from monitoring.figure f join registry.clinic c on c.id = f.clinic_id
where f.at > now() - interval '2 days' and (%(clinic)s::text is null or exists (select from monitoring.figure m
  join registry.clinic i on i.id = m.clinic_id where i.slug = %(clinic)s and m.task = f.task and m.model = f.model))
limit 200000"""


def beside(conn: Conn, clinic: str | None) -> list[Figure]:
    """Today's figures of every clinic that has a version in common with ``clinic``; of all without one."""
    with conn.cursor(row_factory=class_row(Figure)) as cursor:
        return cursor.execute(BESIDE, {"clinic": clinic}).fetchall()
