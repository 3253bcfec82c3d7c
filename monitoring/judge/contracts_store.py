"""Rows of contracts and of how clinics are watched; each change is a row of its own, with who and why."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from monitoring.judge.verdict import Contract
from monitoring.streams.streams_store import Policy
from registry.core.db import Conn

# One version's own contract before the task's, one sequence's before all, then the newest.
IN_FORCE = """
select d_ref, margin, people, 'set by ' || set_by as source, version from monitoring.contract
where clinic_id = %(clinic_id)s and task = %(task)s and sequence in (%(sequence)s, '*')
  and (digest is null or digest = %(digest)s)
order by digest is null, sequence = '*', version desc limit 1"""


def in_force(conn: Conn, clinic_id: UUID, task: str, sequence: str, digest: str | None) -> Contract | None:
    """What a person promised the clinic for this task, sequence and version; ``*`` stands for every sequence."""
    values = {"clinic_id": clinic_id, "task": task, "sequence": sequence, "digest": digest}
    with conn.cursor(row_factory=class_row(Contract)) as cursor:
        return cursor.execute(IN_FORCE, values).fetchone()


PAGE = """
select c.slug as clinic, k.task, k.sequence, v.name || '@' || v.version as model, k.version, k.d_ref, k.margin,
  round((1 - k.d_ref + k.margin)::numeric, 4)::float8 as loss, k.people, k.set_by, k.reason, k.set_at
from monitoring.contract k join registry.clinic c on c.id = k.clinic_id
left join registry.model_version v using (digest)
where %(clinic)s::text is null or c.slug = %(clinic)s order by k.set_at desc limit %(limit)s"""


def page(conn: Conn, clinic: str | None, limit: int) -> list[dict[str, Any]]:
    """Contracts, the newest first: what was promised before stays in the list."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(PAGE, {"clinic": clinic, "limit": limit}).fetchall()


ADD = """
insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason, digest)
select %(clinic_id)s, %(task)s, %(sequence)s, coalesce(max(version), 0) + 1, %(d_ref)s, %(margin)s, %(people)s, %(by)s,
  %(reason)s, %(digest)s
from monitoring.contract where clinic_id = %(clinic_id)s and task = %(task)s and sequence = %(sequence)s
returning version"""


def add(
    conn: Conn, clinic_id: UUID, task: str, sequence: str, digest: str | None, *, d_ref: float, margin: float,
    people: int, by: str, reason: str,
) -> int:  # fmt: skip
    """Write a contract; returns its number among those of clinic, task and sequence."""
    values = {
        "clinic_id": clinic_id, "task": task, "sequence": sequence, "digest": digest, "d_ref": d_ref, "margin": margin,
        "people": people, "by": by, "reason": reason,
    }  # fmt: skip
    row = conn.execute(ADD, values).fetchone()
    assert row is not None
    return int(row[0])


# What drawn reviews of a task say: one label a study, its first reading.
READ = """
select clinic_id, count(*) as labels, avg(dice) as dice, avg(between_readers) as readers,
  count(between_readers) as twice from (
  select distinct on (r.clinic_id, r.study_id) r.clinic_id, r.study_id,
    coalesce(r.dice, case r.decision when 'accept' then 1 when 'reject' then 0 end) as dice,
    max(r.between_readers) over (partition by r.clinic_id, r.study_id) as between_readers
  from serving.review_v r join monitoring.audit a on a.clinic_id = r.clinic_id and a.study_id = r.study_id
    and a.chosen and r.at >= a.drawn_at
  join monitoring.stream s on s.clinic_id = a.clinic_id and s.id = a.stream_id and s.task = r.task
    and s.digest = r.digest
  where r.task = %(task)s and (%(digest)s::text is null or r.digest = %(digest)s)
    and (%(sequence)s = '*' or s.sequence = %(sequence)s)
  order by r.clinic_id, r.study_id, r.seq) labels
group by clinic_id limit 10000"""


def read(conn: Conn, task: str, sequence: str, digest: str | None) -> dict[UUID, dict[str, Any]]:
    """By clinic: labels, their mean Dice, how many were read twice, the mean Dice between those readers."""
    values = {"task": task, "sequence": sequence, "digest": digest}
    with conn.cursor(row_factory=dict_row) as cursor:
        return {row["clinic_id"]: row for row in cursor.execute(READ, values)}


VERSION = """
select digest, task, card from registry.model_version
where name || '@' || version = %(name)s or digest like 'sha256:' || %(name)s || '%%' limit 2"""


def version(conn: Conn, name: str) -> dict[str, Any] | None:
    """A registered version by name@version or the beginning of its digest; None where no single one fits."""
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(VERSION, {"name": name}).fetchall()
    return found[0] if len(found) == 1 else None


ADD_POLICY = """
insert into monitoring.policy(clinic_id, version, per_day, budget, silent_after, reject_max, edit_max, failure_max,
  late_max, late_after, holds, set_by, reason)
select %(clinic_id)s, coalesce(max(version), 0) + 1, %(per_day)s, %(budget)s, %(silent_after)s, %(reject_max)s,
  %(edit_max)s, %(failure_max)s, %(late_max)s, %(late_after)s, %(holds)s, %(by)s, %(reason)s
from monitoring.policy where clinic_id = %(clinic_id)s returning version"""


def add_policy(conn: Conn, clinic_id: UUID, its: Policy, *, by: str, reason: str) -> int:
    """Write how a clinic is watched from now on; returns its number."""
    row = conn.execute(
        ADD_POLICY, {**asdict(its), "clinic_id": clinic_id, "by": by, "reason": reason}
    ).fetchone()
    assert row is not None
    return int(row[0])


POLICIES = """
select c.slug as clinic, p.version, p.per_day, p.budget, p.silent_after, p.reject_max, p.edit_max, p.failure_max,
  p.late_max, p.late_after, p.holds, p.set_by, p.reason, p.set_at
from monitoring.policy p join registry.clinic c on c.id = p.clinic_id
where %(clinic)s::text is null or c.slug = %(clinic)s order by p.set_at desc limit %(limit)s"""


def policies(conn: Conn, clinic: str | None, limit: int) -> list[dict[str, Any]]:
    """Policies, the newest first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(POLICIES, {"clinic": clinic, "limit": limit}).fetchall()
