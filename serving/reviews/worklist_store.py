"""SQL of the work list: monitoring's published draws and flags, and which answers were read already."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn study that still needs a reader."""

    clinic: str
    study_id: UUID
    task: str
    model: str
    why: str
    blinded: bool
    readers: int


# First readings before second ones, harm and drift before routine, then the longest waiting.
DRAWN = """
select a.clinic, a.study_id, a.task, a.model, a.why, a.blinded, a.readers from monitoring.due_v a
where (%(clinic)s::text is null or a.clinic = %(clinic)s)
  and not exists (select from serving.review r where r.clinic_id = a.clinic_id and r.study_id = a.study_id
    and r.task = a.task and r.digest = a.digest and r.reader = %(reader)s and r.withdrawn_at is null)
order by a.readers > 0, a.why = 'routine', a.seq limit %(limit)s"""


def drawn(conn: Conn, clinic: str | None, reader: str, limit: int) -> Sequence[Drawn]:
    """Drawn studies that need a reader, without those that ``reader`` has read."""
    values = {"clinic": clinic, "reader": reader, "limit": limit}
    with conn.cursor(row_factory=class_row(Drawn)) as cursor:
        return cursor.execute(DRAWN, values).fetchall()


@dataclass(frozen=True, slots=True)
class Flagged:
    """A study since an open flag, which nobody has read."""

    clinic: str
    study_id: UUID
    task: str
    model: str
    flag_id: int


FLAGGED = """
select distinct on (o.clinic_id, o.study_id) f.clinic, o.study_id, f.task, f.model, f.id as flag_id
from monitoring.flag_v f
join monitoring.observation_v o on o.clinic_id = f.clinic_id and o.stream_id = f.stream_id and o.seq >= f.since_seq
where f.state in ('open', 'acknowledged') and (%(clinic)s::text is null or f.clinic = %(clinic)s)
  and not exists (select from serving.review r where r.clinic_id = o.clinic_id and r.study_id = o.study_id
    and r.task = f.task and r.withdrawn_at is null)
  and not exists (select from monitoring.audit_v a where a.clinic_id = o.clinic_id and a.study_id = o.study_id)
order by o.clinic_id, o.study_id, f.id limit %(limit)s"""


def flagged(conn: Conn, clinic: str | None, limit: int) -> Sequence[Flagged]:
    """Unread studies since open flags, the earliest first."""
    with conn.cursor(row_factory=class_row(Flagged)) as cursor:
        return cursor.execute(FLAGGED, {"clinic": clinic, "limit": limit}).fetchall()


BLIND = """
select exists (select from monitoring.blind_v b
  where b.clinic_id = %(clinic_id)s and b.study_id = %(study_id)s and b.task = %(task)s)"""


def is_blind(conn: Conn, clinic_id: UUID, study_id: UUID, task: str) -> bool:
    """Whether a reader must still draw this task's mask without seeing ours. Needs the clinic's transaction."""
    row = conn.execute(BLIND, {"clinic_id": clinic_id, "study_id": study_id, "task": task}).fetchone()
    return bool(row and row[0])
