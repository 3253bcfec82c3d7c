"""Rows of conformance: which settled studies are not judged yet, the verdicts, and what is read of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A feature row of a study's first answer for a task."""

    seq: int
    study_id: UUID
    task: str
    scanner_id: UUID | None
    profile: dict[str, Any]
    at: datetime


# Rows are judged in their order, so the highest judged one is where to go on. Only what the follower took is settled.
_AFTER = """coalesce((select max(m.seq) from monitoring.conformance m
  where m.clinic_id = k.clinic_id and m.rules_digest = %(digest)s), 0)"""
_FIRST = """f.task = any(%(tasks)s) and not exists (select from serving.feature e where e.clinic_id = f.clinic_id
  and e.study_id = f.study_id and e.task = f.task and e.seq < f.seq)"""
CLINICS = f"""
select k.clinic_id from monitoring.cursor k
where (%(clinic_id)s::uuid is null or k.clinic_id = %(clinic_id)s) and exists (select from serving.feature f
  where f.clinic_id = k.clinic_id and f.seq <= k.seq and f.seq > {_AFTER} and {_FIRST})
order by k.clinic_id limit 1000"""  # noqa: S608 - joined from constants of this module only
ROWS = f"""
select f.seq, f.study_id, f.task, f.scanner_id, f.profile, f.at
from monitoring.cursor k join serving.feature f on f.clinic_id = k.clinic_id
where k.clinic_id = %(clinic_id)s and f.seq <= k.seq and f.seq > {_AFTER} and {_FIRST}
order by f.seq limit %(limit)s"""  # noqa: S608


def clinics(conn: Conn, digest: str, tasks: Sequence[str], clinic_id: UUID | None = None) -> list[UUID]:
    """Clinics with settled rows that these rules have not judged."""
    values = {"digest": digest, "tasks": list(tasks), "clinic_id": clinic_id}
    return [row[0] for row in conn.execute(CLINICS, values)]


def rows(conn: Conn, clinic_id: UUID, digest: str, tasks: Sequence[str], limit: int) -> list[Unjudged]:
    """The next rows of one clinic."""
    values = {"digest": digest, "tasks": list(tasks), "clinic_id": clinic_id, "limit": limit}
    with conn.cursor(row_factory=class_row(Unjudged)) as cursor:
        return cursor.execute(ROWS, values).fetchall()


ADD = """
insert into monitoring.conformance(clinic_id, seq, study_id, task, sequence, scanner, scanner_id, standard,
  rules_digest, verdict, deviations, at)
values (%(clinic_id)s, %(seq)s, %(study_id)s, %(task)s, %(sequence)s, %(scanner)s, %(scanner_id)s, %(standard)s,
  %(digest)s, %(verdict)s, %(deviations)s, %(at)s) on conflict do nothing"""


def add(conn: Conn, found: Sequence[dict[str, Any]]) -> None:
    """Keep verdicts; what another process kept first stays."""
    with conn.cursor() as cursor:
        cursor.executemany(ADD, [{**row, "deviations": Jsonb(row["deviations"])} for row in found])


MONTHS = """
select task, sequence, scanner, month, studies, accepted, warned, refused, unknown, last_at
from monitoring.conformance_v
where clinic_id = %(clinic_id)s and rules_digest = %(digest)s order by month desc, task, scanner limit 500"""
DEVIATIONS = """
select task, sequence, scanner, month, rule, verdict, studies, last_value, last_at from monitoring.deviation_v
where clinic_id = %(clinic_id)s and rules_digest = %(digest)s order by month desc, studies desc, rule limit 1000"""
# How the newest studies of each scanner fit that were really received: what a clinic mended counts at once.
NEWEST = """
select task, scanner, count(*)::int as studies, count(*) filter (where verdict in ('accept', 'warn'))::int as fit,
  count(*) filter (where verdict = 'unknown')::int as unknown
from (select m.task, m.scanner, m.verdict, row_number() over (partition by m.task, m.scanner order by m.seq desc) as n
  from monitoring.conformance m join serving.study s on s.clinic_id = m.clinic_id and s.id = m.study_id
  where m.clinic_id = %(clinic_id)s and m.rules_digest = %(digest)s and s.state <> 'past') newest
where n <= %(studies)s group by 1, 2 order by 1, 2 limit 200"""


def _dicts(conn: Conn, statement: Any, **values: object) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values).fetchall()


def months(conn: Conn, clinic_id: UUID, digest: str) -> list[dict[str, Any]]:
    """Conformance of each scanner and month, the newest first."""
    return _dicts(conn, MONTHS, clinic_id=clinic_id, digest=digest)


def deviations(conn: Conn, clinic_id: UUID, digest: str) -> list[dict[str, Any]]:
    """Which rules were not met, by scanner and month, with the value of the last study."""
    return _dicts(conn, DEVIATIONS, clinic_id=clinic_id, digest=digest)


def newest(conn: Conn, clinic_id: UUID, digest: str, studies: int) -> list[dict[str, Any]]:
    """Of each scanner's newest ``studies`` received ones: how many fit, and how many headers do not say."""
    return _dicts(conn, NEWEST, clinic_id=clinic_id, digest=digest, studies=studies)


# The studies of a stream just before a change and since it, and how many did not meet each rule.
AROUND = """
with its as (
  (select false as since, deviations from monitoring.conformance where clinic_id = %(clinic_id)s
    and rules_digest = %(digest)s and task = %(task)s and sequence = %(sequence)s and seq < %(seq)s
    order by seq desc limit %(studies)s)
  union all
  (select true, deviations from monitoring.conformance where clinic_id = %(clinic_id)s
    and rules_digest = %(digest)s and task = %(task)s and sequence = %(sequence)s and seq >= %(seq)s
    order by seq limit %(studies)s))
select null as rule, count(*) filter (where not since)::int as failed_before, count(*) filter (where since)::int, 0, 0
from its
union all
select d.value ->> 'rule', count(*) filter (where not since and not unsaid)::int,
  count(*) filter (where since and not unsaid)::int, count(*) filter (where not since and unsaid)::int,
  count(*) filter (where since and unsaid)::int
from its, jsonb_array_elements(deviations) d,
  lateral (select d.value ->> 'verdict' = 'unknown' as unsaid) u
group by 1"""


@dataclass(frozen=True, slots=True)
class Failed:
    """How many did not meet a rule, of those whose header says what the rule asks."""

    before: int
    n_before: int
    since: int
    n_since: int


@dataclass(frozen=True, slots=True)
class Around:
    """Studies on both sides of a change, and each rule that one of them did not meet or did not speak of."""

    n_before: int
    n_since: int
    failed: Mapping[str, Failed]


def around(
    conn: Conn, clinic_id: UUID, digest: str, task: str, sequence: str, seq: int, studies: int
) -> Around:
    """The last ``studies`` before row ``seq`` and the first since, as the rules of this digest judged them."""
    ((_, n_before, n_since, *_), *rules) = conn.execute(AROUND, {
        "clinic_id": clinic_id, "digest": digest, "task": task, "sequence": sequence, "seq": seq, "studies": studies,
    }).fetchall()  # fmt: skip
    return Around(n_before, n_since, {
        rule: Failed(before, n_before - unsaid_before, since, n_since - unsaid_since)
        for rule, before, since, unsaid_before, unsaid_since in rules
    })  # fmt: skip
