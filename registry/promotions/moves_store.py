"""Rows of promotions: what was proposed, by whom approved, and whether it took effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Promotion:
    """One promotion or rollback. ``answers``: the binding that it made is open. ``active_digest``: what it replaces."""

    id: int
    clinic_id: UUID
    clinic: str
    task: str
    scope: str
    kind: str
    state: str
    digest: str
    model: str
    active_digest: str | None
    active_model: str | None
    expected_seq: int
    restored_seq: int | None
    policy_version: int | None
    proposed_by: str
    reason: str
    approved_by: str | None
    approval: str
    gates: list[dict[str, Any]]
    waived: list[str]
    proposed_at: datetime
    changed_at: datetime
    answers: bool


SELECT = """
select p.id, p.clinic_id, c.slug as clinic, p.task, p.scope, p.kind, p.state, p.digest,
  v.name || '@' || v.version as model, p.active_digest, a.name || '@' || a.version as active_model, p.expected_seq,
  p.restored_seq, p.policy_version, p.proposed_by, p.reason, p.approved_by, p.approval, p.gates, p.waived,
  p.proposed_at, p.changed_at, exists (select from registry.binding b
    where b.clinic_id = p.clinic_id and b.promotion_id = p.id and upper_inf(b.valid)) as answers
from registry.promotion p join registry.clinic c on c.id = p.clinic_id
join registry.model_version v on v.digest = p.digest left join registry.model_version a on a.digest = p.active_digest
"""
ONE = SELECT + "where p.id = %(id)s"
LOCKED = SELECT + "where p.id = %(id)s for update of p"


def one(conn: Conn, id: int) -> Promotion | None:
    """The promotion of this number."""
    with conn.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(ONE, {"id": id}).fetchone()


def locked(conn: Conn, id: int) -> Promotion | None:
    """The same; nobody else can move it until the transaction ends."""
    with conn.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(LOCKED, {"id": id}).fetchone()


PAGE = (
    SELECT
    + """
where (%(clinic_id)s::uuid is null or p.clinic_id = %(clinic_id)s)
  and (not %(open_only)s::boolean or p.state in ('proposed', 'approved'))
order by p.id desc limit %(limit)s"""
)


def page(conn: Conn, clinic_id: UUID | None, *, open_only: bool, limit: int) -> Sequence[Promotion]:
    """Promotions, the newest first."""
    values = {"clinic_id": clinic_id, "open_only": open_only, "limit": limit}
    with conn.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(PAGE, values).fetchall()


ADD = """
insert into registry.promotion(clinic_id, task, scope, kind, state, digest, active_digest, expected_seq, restored_seq,
  policy_version, proposed_by, reason)
values (%(clinic_id)s, %(task)s, %(scope)s, %(kind)s, %(state)s, %(digest)s, %(active_digest)s, %(expected_seq)s,
  %(restored_seq)s, %(policy_version)s, %(by)s, %(reason)s)
on conflict (clinic_id, task, scope) where state in ('proposed', 'approved') do nothing returning id"""


def add(conn: Conn, values: Mapping[str, object]) -> Promotion | None:
    """Add a promotion; None where an open one of the same clinic, task and scope stands."""
    row = conn.execute(ADD, values).fetchone()
    return one(conn, int(row[0])) if row else None


APPROVE = """
update registry.promotion set state = 'approved', approved_by = %(by)s, approval = %(approval)s, gates = %(gates)s,
  waived = %(waived)s, changed_at = clock_timestamp()
where id = %(id)s"""


def approve(
    conn: Conn, id: int, *, by: str, approval: str, gates: Sequence[Mapping[str, Any]], waived: Sequence[str]
) -> None:
    """Write an approval with the gates as they were judged."""
    values = {
        "id": id, "by": by, "approval": approval, "gates": Jsonb([dict(gate) for gate in gates]),
        "waived": list(waived),
    }  # fmt: skip
    conn.execute(APPROVE, values)


MOVE = "update registry.promotion set state = %(state)s, changed_at = clock_timestamp() where id = %(id)s"


def move(conn: Conn, id: int, state: str) -> None:
    """Write the next state."""
    conn.execute(MOVE, {"id": id, "state": state})


# A binding that a rollback made stands for the one that it brought back: so two rollbacks in turn go back twice.
EARLIER = """
with history as (
  select b.seq, b.digest, upper_inf(b.valid) as present, p.kind is not distinct from 'rollback' as again,
    coalesce(p.restored_seq, b.seq) as origin
  from registry.binding b left join registry.promotion p on p.clinic_id = b.clinic_id and p.id = b.promotion_id
  where b.clinic_id = %(clinic_id)s and b.task = %(task)s and b.scope = %(scope)s and b.role = 'active')
select now.seq, now.digest, now.again, h.origin, h.digest
from history now left join lateral (
  select origin, digest from history where seq < now.origin and digest <> now.digest
  order by seq desc limit 1) h on true
where now.present"""


@dataclass(frozen=True, slots=True)
class Way:
    """The present binding, whether a rollback made it, and the binding before it (None: there is none)."""

    seq: int
    digest: str
    again: bool
    restored_seq: int | None
    earlier: str | None


def earlier(conn: Conn, clinic_id: UUID, task: str, scope: str) -> Way | None:
    """Where a rollback of this scope would lead; None while nothing is bound in it."""
    row = conn.execute(EARLIER, {"clinic_id": clinic_id, "task": task, "scope": scope}).fetchone()
    return Way(*row) if row else None


# What a decision of the next moment may bind: open promotions, and the version before each open binding.
NEAR = """
select digest, state = 'approved' as approved from registry.promotion where state in ('proposed', 'approved')
union
select p.active_digest, false from registry.promotion p
join registry.binding b on b.clinic_id = p.clinic_id and b.promotion_id = p.id
where upper_inf(b.valid) and p.active_digest is not null
order by 1, 2 limit 10000"""


def near(conn: Conn) -> list[tuple[str, bool]]:
    """(digest, whether its promotion is approved) of every version that may be bound at any moment."""
    return [(str(row[0]), bool(row[1])) for row in conn.execute(NEAR)]


AFTER = SELECT + "where p.id > %(after)s order by p.id limit %(limit)s"


def after(conn: Conn, last: int, limit: int = PAGE_ROWS) -> Sequence[Promotion]:
    """The next promotions by number."""
    with conn.cursor(row_factory=class_row(Promotion)) as cursor:
        return cursor.execute(AFTER, {"after": last, "limit": limit}).fetchall()
