"""Rows of an onboarding's decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Onboarding:
    """How a clinic's onboarding was begun: its measures, and who waived which step (step -> by, reason, at)."""

    clinic_id: UUID
    clinic: str
    conform_studies: int
    conform_share: float
    silent_studies: int
    probation_days: int
    begun_by: str
    reason: str
    begun_at: datetime
    waived: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One acceptance of a version for a clinic; ``odds`` against "worse than the contract", ``minutes`` of experts."""

    acceptance_id: UUID
    clinic_id: UUID
    clinic: str
    task: str
    digest: str
    model: str
    state: str
    reviews: int
    minutes: float
    odds: float
    evidence: dict[str, Any]
    proposed_by: str
    reason: str
    proposed_at: datetime
    signed_by: str | None
    signed_reason: str
    signed_at: datetime | None


ONE = """
select clinic_id, clinic, conform_studies, conform_share, silent_studies, probation_days, begun_by, reason, begun_at,
  waived
from registry.onboarding_v where clinic_id = %(clinic_id)s"""


def one(conn: Conn, clinic_id: UUID) -> Onboarding | None:
    """The clinic's onboarding; None where none was begun."""
    with conn.cursor(row_factory=class_row(Onboarding)) as cursor:
        return cursor.execute(ONE, {"clinic_id": clinic_id}).fetchone()


DELIVERED = """
select exists (select from serving.outbox where clinic_id = %(clinic_id)s and state = 'delivered')"""


def delivered(conn: Conn, clinic_id: UUID) -> bool:
    """Whether any result reached this clinic."""
    row = conn.execute(DELIVERED, {"clinic_id": clinic_id}).fetchone()
    return bool(row and row[0])


BEGIN = """
insert into registry.onboarding(clinic_id, silent_studies, probation_days, begun_by, reason)
values (%(clinic_id)s, %(silent_studies)s, %(probation_days)s, %(by)s, %(reason)s)
on conflict (clinic_id) do nothing returning clinic_id"""


def begin(
    conn: Conn, clinic_id: UUID, *, silent_studies: int, probation_days: int, by: str, reason: str
) -> bool:
    """Begin; False where it was begun before."""
    values = {"clinic_id": clinic_id, "silent_studies": silent_studies, "probation_days": probation_days,
              "by": by, "reason": reason}  # fmt: skip
    return conn.execute(BEGIN, values).fetchone() is not None


WAIVE = """
insert into registry.onboarding_waiver(clinic_id, step, waived_by, reason)
values (%(clinic_id)s, %(step)s, %(by)s, %(reason)s) on conflict (clinic_id, step) do nothing returning step"""


def waive(conn: Conn, clinic_id: UUID, step: str, *, by: str, reason: str) -> bool:
    """Let a step pass; False where it was waived before."""
    values = {"clinic_id": clinic_id, "step": step, "by": by, "reason": reason}
    return conn.execute(WAIVE, values).fetchone() is not None


ACCEPTANCES = """
select acceptance_id, clinic_id, clinic, task, digest, model, state, reviews, minutes, odds, evidence, proposed_by,
  reason, proposed_at, signed_by, signed_reason, signed_at
from registry.acceptance_v
where clinic_id = %(clinic_id)s and (%(task)s::text is null or task = %(task)s)
  and (%(digest)s::text is null or digest = %(digest)s) and state <> 'withdrawn' order by proposed_at limit 200"""


def acceptances(
    conn: Conn, clinic_id: UUID, task: str | None = None, digest: str | None = None
) -> list[Acceptance]:
    """Acceptances that stand, proposed or signed, the oldest first."""
    values = {"clinic_id": clinic_id, "task": task, "digest": digest}
    with conn.cursor(row_factory=class_row(Acceptance)) as cursor:
        return cursor.execute(ACCEPTANCES, values).fetchall()


PROPOSE = """
insert into registry.acceptance(clinic_id, task, digest, reviews, minutes, odds, evidence, proposed_by, reason)
values (%(clinic_id)s, %(task)s, %(digest)s, %(reviews)s, %(minutes)s, %(odds)s, %(evidence)s, %(by)s, %(reason)s)
returning id"""


def propose(conn: Conn, clinic_id: UUID, task: str, digest: str, proof: Mapping[str, Any], *, by: str,
            reason: str) -> UUID:  # fmt: skip
    """Add a proposed acceptance. ``proof`` has reviews, minutes, odds and what else is worth keeping."""
    values = {
        "clinic_id": clinic_id, "task": task, "digest": digest, "reviews": proof["reviews"],
        "minutes": proof["minutes"], "odds": proof["odds"], "evidence": Jsonb(dict(proof)), "by": by,
        "reason": reason,
    }  # fmt: skip
    row = conn.execute(PROPOSE, values).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


SIGN = """
update registry.acceptance set state = 'signed', signed_by = %(by)s, signed_reason = %(reason)s,
  signed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and id = %(id)s and state = 'proposed'"""
WITHDRAW = """
update registry.acceptance set state = 'withdrawn'
where clinic_id = %(clinic_id)s and id = %(id)s and state = 'proposed'"""


def sign(conn: Conn, its: Acceptance, *, by: str, reason: str) -> None:
    """Write the second person's signature."""
    conn.execute(SIGN, {"clinic_id": its.clinic_id, "id": its.acceptance_id, "by": by, "reason": reason})


def withdraw(conn: Conn, its: Acceptance) -> None:
    """End a proposal whose reviews are no longer those that decided."""
    conn.execute(WITHDRAW, {"clinic_id": its.clinic_id, "id": its.acceptance_id})
