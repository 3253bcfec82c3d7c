"""Rows of bindings: which version answers a clinic's task, in which scope, from when to when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Binding:
    """What answers: the scope that matched (``*``, ``profile:NAME``, ``serial:NUMBER``), its sequence, the digest."""

    scope: str
    seq: int
    digest: str


@dataclass(frozen=True, slots=True)
class BindingRow:
    """One validity range of a binding; ``until`` is None while it is open."""

    task: str
    scope: str
    seq: int
    digest: str
    model: str
    since: datetime
    until: datetime | None
    bound_by: str
    reason: str


# 's' > 'p' > '*', so the descending order of the scope's first letter is serial, profile, everything.
RESOLVE = """
select scope, seq, digest from registry.binding
where clinic_id = %(clinic_id)s and task = %(task)s and role = 'active' and upper_inf(valid)
  and scope in ('*', 'profile:' || %(profile)s::text, 'serial:' || %(serial)s::text)
order by left(scope, 1) collate "C" desc limit 1"""


def resolve(conn: Conn, clinic_id: UUID, task: str, profile: str, serial: str) -> Binding | None:
    """The most specific open binding."""
    values = {"clinic_id": clinic_id, "task": task, "profile": profile, "serial": serial}
    with conn.cursor(row_factory=class_row(Binding)) as cursor:
        return cursor.execute(RESOLVE, values).fetchone()


TASKS = """
select distinct task from registry.binding
where clinic_id = %(clinic_id)s and role = 'active' and upper_inf(valid) order by task limit 100"""


def tasks(conn: Conn, clinic_id: UUID) -> list[str]:
    """The tasks that are bound in any scope."""
    return [str(row[0]) for row in conn.execute(TASKS, {"clinic_id": clinic_id})]


LOCK = "select pg_advisory_xact_lock(hashtextextended('bind:' || %(clinic_id)s::text || ':' || %(task)s, 0))"


def lock(conn: Conn, clinic_id: UUID, task: str) -> None:
    """Let one change of this clinic's task at a time pass until the transaction ends."""
    conn.execute(LOCK, {"clinic_id": str(clinic_id), "task": task})


LAST = """
select coalesce(max(seq), 0) from registry.binding
where clinic_id = %(clinic_id)s and task = %(task)s and scope = %(scope)s and role = 'active'"""


def last_seq(conn: Conn, clinic_id: UUID, task: str, scope: str) -> int:
    """The highest sequence number ever given in this scope; 0 before the first."""
    row = conn.execute(LAST, {"clinic_id": clinic_id, "task": task, "scope": scope}).fetchone()
    return int(row[0]) if row else 0


OPEN = """
select scope, seq, digest from registry.binding
where clinic_id = %(clinic_id)s and task = %(task)s and scope = %(scope)s and role = 'active' and upper_inf(valid)"""


def open_one(conn: Conn, clinic_id: UUID, task: str, scope: str) -> Binding | None:
    """The open binding of exactly this scope."""
    with conn.cursor(row_factory=class_row(Binding)) as cursor:
        return cursor.execute(OPEN, {"clinic_id": clinic_id, "task": task, "scope": scope}).fetchone()


# clock_timestamp(), because now() is the transaction's time: two changes in one transaction would leave an empty range.
CLOSE = """
update registry.binding set valid = tstzrange(lower(valid), clock_timestamp())
where clinic_id = %(clinic_id)s and task = %(task)s and scope = %(scope)s and role = 'active' and upper_inf(valid)"""


def close(conn: Conn, clinic_id: UUID, task: str, scope: str) -> None:
    """End the open range of this scope."""
    conn.execute(CLOSE, {"clinic_id": clinic_id, "task": task, "scope": scope})


ADD = """
insert into registry.binding(clinic_id, task, scope, seq, digest, valid, bound_by, reason, promotion_id)
values (%(clinic_id)s, %(task)s, %(scope)s, %(seq)s, %(digest)s, tstzrange(clock_timestamp(), null),
  %(by)s, %(reason)s, %(promotion_id)s)"""


def add(
    conn: Conn, clinic_id: UUID, task: str, scope: str, seq: int, digest: str,
    *, by: str, reason: str, promotion_id: int | None,
) -> None:  # fmt: skip
    """Open a range from this moment on; ``promotion_id`` names the promotion that made it, if one did."""
    values = {
        "clinic_id": clinic_id, "task": task, "scope": scope, "seq": seq, "digest": digest, "by": by,
        "reason": reason, "promotion_id": promotion_id,
    }  # fmt: skip
    conn.execute(ADD, values)


NOTIFY = (
    "select pg_notify('radfleet_binding', %(clinic_id)s::text || ':' || %(task)s || ':' || %(seq)s::text)"
)


def notify(conn: Conn, clinic_id: UUID, task: str, seq: int) -> None:
    """Tell listeners at commit that a binding changed."""
    conn.execute(NOTIFY, {"clinic_id": str(clinic_id), "task": task, "seq": seq})


BOUND = "select distinct digest from registry.binding where upper_inf(valid) order by digest limit 10000"


def bound_digests(conn: Conn) -> list[str]:
    """Every digest that an open binding names."""
    return [str(row[0]) for row in conn.execute(BOUND)]


ANSWERING = """
select scope, seq, digest from registry.binding
where clinic_id = %(clinic_id)s and task = %(task)s and role = 'active' and upper_inf(valid)
  and scope in (%(scope)s, '*') order by scope = '*' limit 1"""


def answering(conn: Conn, clinic_id: UUID, task: str, scope: str) -> Binding | None:
    """What answers in a scope now: its own open binding, else that of the whole clinic."""
    with conn.cursor(row_factory=class_row(Binding)) as cursor:
        return cursor.execute(ANSWERING, {"clinic_id": clinic_id, "task": task, "scope": scope}).fetchone()


WIDE = """
select c.slug as clinic, b.task, b.digest
from registry.binding b join registry.clinic c on c.id = b.clinic_id
where b.scope = '*' and b.role = 'active' and upper_inf(b.valid) order by c.slug, b.task limit 10000"""


def wide(conn: Conn) -> Sequence[tuple[str, str, str]]:
    """Clinic, task and digest of every open binding of a whole clinic."""
    return [(str(clinic), str(task), str(digest)) for clinic, task, digest in conn.execute(WIDE)]


HISTORY = """
select b.task, b.scope, b.seq, b.digest, v.name || '@' || v.version as model, lower(b.valid) as since,
  upper(b.valid) as until, b.bound_by, b.reason
from registry.binding b join registry.model_version v using (digest)
where b.clinic_id = %(clinic_id)s and (%(task)s::text is null or b.task = %(task)s)
  and (not %(open_only)s::boolean or upper_inf(b.valid))
order by lower(b.valid) desc, b.task, b.scope limit %(limit)s"""


def history(
    conn: Conn, clinic_id: UUID, task: str | None, *, open_only: bool, limit: int
) -> Sequence[BindingRow]:
    """Validity ranges, the latest first."""
    values = {"clinic_id": clinic_id, "task": task, "open_only": open_only, "limit": limit}
    with conn.cursor(row_factory=class_row(BindingRow)) as cursor:
        return cursor.execute(HISTORY, values).fetchall()
