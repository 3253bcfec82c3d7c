"""Rows of holds: results of a clinic, a scanner, a version, or a version at one clinic that must not be delivered.

``target`` is the clinic's id, the scanner's id, the version's digest, or clinic and digest, as text. A hold on a
version has no clinic: every clinic obeys it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from registry import events
from registry.core.db import Conn
from registry.errors import HoldOpen, HoldUnknown, ReasonMissing


class Kind(StrEnum):
    """What a hold stands on."""

    CLINIC = "clinic"
    SCANNER = "scanner"
    VERSION = "version"
    ANSWERS = "answers"
    """The answers of one version at one clinic: what harms there may help elsewhere."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold; open while ``released_at`` is None."""

    id: UUID
    kind: str
    clinic_id: UUID | None
    target: str
    reason: str
    placed_by: str
    placed_at: datetime
    released_at: datetime | None
    released_by: str | None


PLACE = """
insert into registry.hold(kind, clinic_id, target, reason, placed_by, request)
values (%(kind)s, %(clinic_id)s, %(target)s, %(reason)s, %(by)s, %(request)s)
on conflict (kind, target) where released_at is null do nothing
returning id, kind, clinic_id, target, reason, placed_by, placed_at, released_at, released_by"""


def answers(clinic_id: UUID, digest: str) -> str:
    """The target of a hold on the answers of a version at a clinic."""
    return f"{clinic_id} {digest}"


def place(
    conn: Conn,
    kind: Kind,
    clinic_id: UUID | None,
    target: str,
    *,
    by: str,
    reason: str,
    request: str | None = None,
) -> Hold:
    """Stop delivery for a target, with its event. Needs a system transaction. Raises HoldOpen, ReasonMissing."""
    if not reason.strip():
        raise ReasonMissing
    values = {
        "kind": kind,
        "clinic_id": clinic_id,
        "target": target,
        "reason": reason,
        "by": by,
        "request": request,
    }
    with conn.cursor(row_factory=class_row(Hold)) as cursor:
        hold = cursor.execute(PLACE, values).fetchone()
    if hold is None:
        raise HoldOpen
    _note(conn, hold, by, "hold.placed", reason)
    return hold


# Asked by a verdict, and not answered: not obeyed before, and no hold on the same was open or lifted since it asked.
ASKED = """
select q.clinic_id, q.digest, q.reason, q.stream_id || '/' || q.epoch from monitoring.hold_request_v q
where not exists (select from registry.hold h where h.clinic_id = q.clinic_id and h.kind = 'answers'
  and (h.request = q.stream_id || '/' || q.epoch or (h.target = q.clinic_id || ' ' || q.digest
    and (h.released_at is null or h.released_at > q.at))))
order by q.at limit 100"""
WATCHER = "radfleet"


def obey(conn: Conn) -> int:
    """Place the holds that verdicts ask for, each once: who lifts one is not overruled. Needs a system transaction."""
    placed = 0
    for clinic_id, digest, reason, request in conn.execute(ASKED).fetchall():
        target = answers(clinic_id, digest)
        # Several streams of a version ask at once for the one hold that stops it, and a person may be quicker.
        with suppress(HoldOpen):
            place(conn, Kind.ANSWERS, clinic_id, target, by=WATCHER, reason=reason, request=request)
            placed += 1
    return placed


RELEASE = """
update registry.hold set released_at = now(), released_by = %(by)s
where kind = %(kind)s and target = %(target)s and released_at is null
returning id, kind, clinic_id, target, reason, placed_by, placed_at, released_at, released_by"""


def release(conn: Conn, kind: Kind, target: str, *, by: str, reason: str) -> Hold:
    """Let delivery go on, with its event. Needs a system transaction. Raises HoldUnknown, ReasonMissing."""
    if not reason.strip():
        raise ReasonMissing
    with conn.cursor(row_factory=class_row(Hold)) as cursor:
        hold = cursor.execute(RELEASE, {"kind": kind, "target": target, "by": by}).fetchone()
    if hold is None:
        raise HoldUnknown
    _note(conn, hold, by, "hold.released", reason)
    return hold


PAGE = """
select id, kind, clinic_id, target, reason, placed_by, placed_at, released_at, released_by from registry.hold
where (%(released)s::boolean or released_at is null)
  and (%(clinic_id)s::uuid is null or clinic_id = %(clinic_id)s or clinic_id is null)
order by placed_at desc, id limit %(limit)s"""


def list(
    conn: Conn, *, clinic_id: UUID | None = None, released: bool = False, limit: int = 50
) -> Sequence[Hold]:
    """Open holds (with ``released``: all), the latest first; of a clinic: those that it obeys or obeyed."""
    values = {"clinic_id": clinic_id, "released": released, "limit": limit}
    with conn.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute(PAGE, values).fetchall()


IS_HELD = """
select kind from registry.hold
where released_at is null and (
  (kind = 'clinic' and clinic_id = %(clinic_id)s)
  or (kind = 'scanner' and clinic_id = %(clinic_id)s and target = %(scanner_id)s::text)
  or (kind = 'version' and target = %(digest)s)
  or (kind = 'answers' and clinic_id = %(clinic_id)s and target = %(clinic_id)s::text || ' ' || %(digest)s::text))
order by kind limit 1"""


def is_held(conn: Conn, clinic_id: UUID, scanner_id: UUID | None, digest: str | None) -> Kind | None:
    """The kind of hold that stops a result of this clinic, scanner and version, or None.

    Works in the clinic's transaction and in a system transaction.
    """
    values = {"clinic_id": clinic_id, "scanner_id": str(scanner_id) if scanner_id else None, "digest": digest}
    row = conn.execute(IS_HELD, values).fetchone()
    return Kind(row[0]) if row else None


def _note(conn: Conn, hold: Hold, by: str, kind: str, reason: str) -> None:
    chain = events.of_clinic(hold.clinic_id) if hold.clinic_id else events.MODELS
    events.append(conn, chain, by, kind, {"kind": hold.kind, "target": hold.target, "reason": reason})
