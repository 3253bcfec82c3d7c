"""Rows of policies and evidence: margins that were fixed before, and how versions scored people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """Margins of the gates. Losses and scores are in units of the metric."""

    version: int
    metric: str
    clinic_people_min: int
    person_loss_max: float
    global_people_min: int
    global_loss_max: float
    set_by: str
    reason: str
    set_at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores of one version on one data set, by person; ``clinic_id`` is None for the global set."""

    id: int
    clinic_id: UUID | None
    digest: str
    metric: str
    dataset: str
    people: dict[str, float]
    source_digest: str
    added_by: str
    added_at: datetime


POLICY = """
select version, metric, clinic_people_min, person_loss_max, global_people_min, global_loss_max, set_by, reason, set_at
from registry.policy
"""
POLICIES = POLICY + "order by version desc limit %(limit)s"


def policies(conn: Conn, limit: int) -> Sequence[Policy]:
    """Policies, the newest first."""
    with conn.cursor(row_factory=class_row(Policy)) as cursor:
        return cursor.execute(POLICIES, {"limit": limit}).fetchall()


# The first policy holds for whatever is older than all of them.
POLICY_FOR = """
select version from registry.policy where version = 1 or set_at <= (
  select created_at from registry.model_version where digest = %(digest)s)
order by version desc limit 1"""


def policy_for(conn: Conn, digest: str) -> int:
    """The newest policy that stood before this version was registered."""
    row = conn.execute(POLICY_FOR, {"digest": digest}).fetchone()
    assert row is not None
    return int(row[0])


POLICY_OF = POLICY + "where version = %(version)s"


def policy(conn: Conn, version: int) -> Policy:
    """The policy of this version."""
    with conn.cursor(row_factory=class_row(Policy)) as cursor:
        row = cursor.execute(POLICY_OF, {"version": version}).fetchone()
    assert row is not None
    return row


LOCK_POLICY = "select pg_advisory_xact_lock(hashtextextended('policy', 0))"


def lock_policy(conn: Conn) -> None:
    """Let one change of the policy at a time pass until the transaction ends."""
    conn.execute(LOCK_POLICY)


SET_POLICY = """
insert into registry.policy
select 1 + max(version), %(metric)s, %(clinic_people_min)s, %(person_loss_max)s, %(global_people_min)s,
  %(global_loss_max)s, %(by)s, %(reason)s from registry.policy
returning version"""


def set_policy(conn: Conn, values: Mapping[str, object], *, by: str, reason: str) -> Policy:
    """Add the next policy; needs the lock."""
    row = conn.execute(SET_POLICY, {**values, "by": by, "reason": reason}).fetchone()
    assert row is not None
    return policy(conn, int(row[0]))


EVIDENCE = """
select id, clinic_id, digest, metric, dataset, people, source_digest, added_by, added_at from registry.evidence
"""
ADD = """
insert into registry.evidence(clinic_id, digest, metric, dataset, people, source_digest, added_by)
values (%(clinic_id)s, %(digest)s, %(metric)s, %(dataset)s, %(people)s, %(source_digest)s, %(by)s)
on conflict do nothing returning 1"""
KNOWN = (
    EVIDENCE
    + """
where clinic_id is not distinct from %(clinic_id)s::uuid and digest = %(digest)s and metric = %(metric)s
  and dataset = %(dataset)s and source_digest = %(source_digest)s"""
)


def add(
    conn: Conn, clinic_id: UUID | None, digest: str, metric: str, dataset: str, people: Mapping[str, float],
    *, source_digest: str, by: str,
) -> tuple[Evidence, bool]:  # fmt: skip
    """The row of this evidence, and whether it is new."""
    values = {
        "clinic_id": clinic_id, "digest": digest, "metric": metric, "dataset": dataset,
        "people": Jsonb(dict(people)), "source_digest": source_digest, "by": by,
    }  # fmt: skip
    new = conn.execute(ADD, values).fetchone() is not None
    with conn.cursor(row_factory=class_row(Evidence)) as cursor:
        row = cursor.execute(KNOWN, values).fetchone()
    assert row is not None
    return row, new


OF = (
    EVIDENCE
    + "where digest = %(digest)s and (clinic_id is null or clinic_id = %(clinic_id)s) order by id limit 10000"
)


def of_version(conn: Conn, digest: str, clinic_id: UUID) -> Sequence[Evidence]:
    """What is known of a version at a clinic and on the global set."""
    with conn.cursor(row_factory=class_row(Evidence)) as cursor:
        return cursor.execute(OF, {"digest": digest, "clinic_id": clinic_id}).fetchall()


AFTER = EVIDENCE + "where id > %(after)s order by id limit %(limit)s"


def after(conn: Conn, last: int, limit: int = PAGE_ROWS) -> Sequence[Evidence]:
    """The next rows by number."""
    with conn.cursor(row_factory=class_row(Evidence)) as cursor:
        return cursor.execute(AFTER, {"after": last, "limit": limit}).fetchall()
