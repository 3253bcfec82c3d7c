"""What a clinic's rows say before and since a promotion, from published views alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn

ROWS_MAX = 500


@dataclass(frozen=True, slots=True)
class Probation:
    """A promotion whose binding answers now, and since when."""

    id: int
    clinic_id: UUID
    clinic: str
    task: str
    scope: str
    model: str
    digest: str
    before_digest: str | None
    before_model: str | None
    since: datetime


PROBATIONS = """
select p.id, p.clinic_id, c.slug as clinic, p.task, p.scope, v.name || '@' || v.version as model, p.digest,
  p.active_digest as before_digest, a.name || '@' || a.version as before_model, lower(b.valid) as since
from registry.promotion p join registry.binding b on b.clinic_id = p.clinic_id and b.promotion_id = p.id
join registry.clinic c on c.id = p.clinic_id join registry.model_version v on v.digest = p.digest
left join registry.model_version a on a.digest = p.active_digest
where p.kind = 'promote' and upper_inf(b.valid) and (%(clinic_id)s::uuid is null or p.clinic_id = %(clinic_id)s)
order by c.slug, p.task, p.scope limit %(limit)s"""


def probations(conn: Conn, clinic_id: UUID | None, limit: int) -> Sequence[Probation]:
    """Promotions that answer now; of one clinic or of all. Needs a system transaction."""
    with conn.cursor(row_factory=class_row(Probation)) as cursor:
        return cursor.execute(PROBATIONS, {"clinic_id": clinic_id, "limit": limit}).fetchall()


# The newest rows of either side, put back into the order in which they came. Studies count by task and version, so
# that what another task does is not this promotion's.
STUDIES = """
select bad, since from (
  select state in ('rejected', 'dead') as bad, digest = %(digest)s as since, coalesce(answered_at, last_at) as at
  from serving.outcome_v
  where clinic_id = %(clinic_id)s and task = %(task)s and state in ('done', 'rejected', 'dead')
    and ((digest = %(digest)s and coalesce(answered_at, last_at) >= %(since)s)
      or (digest = %(before_digest)s and coalesce(answered_at, last_at) < %(since)s))
  order by 3 desc limit %(limit)s) t
order by at"""


def studies(conn: Conn, it: Probation) -> tuple[list[float], list[float]]:
    """Finished studies before and since: 1 for rejected or dead, 0 for done. Needs the monitor's transaction."""
    return _sides(conn.execute(STUDIES, _values(it)).fetchall())


REVIEWS = """
select decision, blinded, dice, since from (
  select seq, decision, blinded, dice, digest = %(digest)s as since from serving.review_v
  where clinic_id = %(clinic_id)s and task = %(task)s
    and ((digest = %(digest)s and at >= %(since)s) or (digest = %(before_digest)s and at < %(since)s))
  order by seq desc limit %(limit)s) t
order by seq"""


@dataclass(frozen=True, slots=True)
class Review:
    """What a reader decided of one answer, and its Dice where a mask was drawn."""

    decision: str
    blinded: bool
    dice: float | None
    since: bool


def reviews(conn: Conn, it: Probation) -> Sequence[Review]:
    """Reviews of the version before and of the one since, oldest first. Needs the monitor's transaction."""
    with conn.cursor(row_factory=class_row(Review)) as cursor:
        return cursor.execute(REVIEWS, _values(it)).fetchall()


FLAGS = """
select kind, count(*) from monitoring.flag_v
where clinic_id = %(clinic_id)s and task = %(task)s and opened_at >= %(since)s and state <> 'resolved'
group by kind order by kind limit 10"""


def flags(conn: Conn, it: Probation) -> dict[str, int]:
    """Open flags by kind that were raised since. Needs the monitor's transaction."""
    return {str(kind): int(count) for kind, count in conn.execute(FLAGS, _values(it)).fetchall()}


def _values(it: Probation) -> dict[str, object]:
    return {
        "clinic_id": it.clinic_id, "task": it.task, "digest": it.digest, "before_digest": it.before_digest,
        "since": it.since, "limit": 2 * ROWS_MAX,
    }  # fmt: skip


def _sides(rows: Sequence[tuple[bool, bool]]) -> tuple[list[float], list[float]]:
    return [float(bad) for bad, new in rows if not new], [float(bad) for bad, new in rows if new]
