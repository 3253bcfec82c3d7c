"""What the steps of an onboarding are computed from, out of published views."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Bound:
    """What answers a task at the clinic, and how many studies it answered; ``past`` of them were taken over."""

    task: str
    digest: str
    model: str
    studies: int
    past: int
    simulated: int
    open_flags: int
    verdict: str | None


# The widest scope of each task speaks for it: what answers one scanner alone is no version of the clinic.
BOUND = """
select distinct on (b.task) b.task, b.digest, b.model, n.studies, n.past, n.simulated,
  (select count(*)::int from monitoring.flag_v f where f.clinic_id = b.clinic_id and f.task = b.task
    and f.digest = b.digest and f.state <> 'resolved') as open_flags,
  (select d.verdict from monitoring.verdict_v d where d.clinic_id = b.clinic_id and d.task = b.task
    and d.digest = b.digest order by d.verdict in ('fine_tune', 'recalibrate', 'hold') desc, d.at desc limit 1)
    as verdict
from registry.binding_v b cross join lateral (
  select count(distinct f.study_id)::int as studies,
    count(distinct f.study_id) filter (where s.state = 'past')::int as past,
    count(distinct f.study_id) filter (where f.profile ->> 'model' like '%%(simulated)')::int as simulated
  from serving.feature f join serving.study s on s.clinic_id = f.clinic_id and s.id = f.study_id
  where f.clinic_id = b.clinic_id and f.task = b.task and f.digest = b.digest) n
where b.clinic_id = %(clinic_id)s and b.until is null order by b.task, b.scope <> '*', b.since desc limit 100"""


def bound(conn: Conn, clinic_id: UUID) -> list[Bound]:
    """The bound version of each task with what it answered so far."""
    with conn.cursor(row_factory=class_row(Bound)) as cursor:
        return cursor.execute(BOUND, {"clinic_id": clinic_id}).fetchall()


# One case is one study, its first review: a second reading of the same case is no further case.
CASES = """
select distinct on (r.study_id) r.seq, r.review_id, r.dice, r.minutes::float8 as minutes,
  coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') as sequence
from serving.review_v r
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s and r.blinded and r.dice is not null
order by r.study_id, r.seq limit 10000"""


def cases(conn: Conn, clinic_id: UUID, task: str, digest: str) -> list[dict[str, Any]]:
    """The blinded reviews of a version at a clinic that gave a Dice, one a study."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(CASES, {"clinic_id": clinic_id, "task": task, "digest": digest}).fetchall()


ECHOES = """
select destination, kind, ok, code, milliseconds::float8 as milliseconds, at, present from serving.echo_v
where clinic_id = %(clinic_id)s order by destination limit 100"""
ARRIVALS = """
select door, instances::int, studies::int, first_at, last_at from serving.arrival_v
where clinic_id = %(clinic_id)s order by door limit 20"""


def echoes(conn: Conn, clinic_id: UUID) -> list[dict[str, Any]]:
    """The last call to each active destination; needs a system transaction."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(ECHOES, {"clinic_id": clinic_id}).fetchall()


def arrivals(conn: Conn, clinic_id: UUID) -> list[dict[str, Any]]:
    """What came in by which door; needs a system transaction."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(ARRIVALS, {"clinic_id": clinic_id}).fetchall()


DELIVERED = """
select min(delivered_at) from serving.outcome_v
where clinic_id = %(clinic_id)s and task = any(%(tasks)s) and answered_at > %(since)s"""


def first_delivered(conn: Conn, clinic_id: UUID, tasks: Sequence[str], since: datetime) -> datetime | None:
    """When the first result that was made after ``since`` had reached every destination."""
    values = {"clinic_id": clinic_id, "tasks": list(tasks), "since": since}
    row = conn.execute(DELIVERED, values).fetchone()
    return row[0] if row else None


NOW = "select now()"


def now(conn: Conn) -> datetime:
    """The database's clock."""
    row = conn.execute(NOW).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found
