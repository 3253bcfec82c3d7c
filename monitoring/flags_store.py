"""Rows of flags, verdicts and a flag's record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from monitoring.judge.verdict import Verdict
from registry.core.db import Conn
from registry.events_store import Event


@dataclass(frozen=True, slots=True)
class Raised:
    """A flag to be raised, or said again. One of a kind, epoch and subject of a stream exists once."""

    kind: str
    epoch: int
    subject: str
    seq: int
    since_seq: int
    since_at: str
    statistic: float
    threshold: float
    features: Sequence[Mapping[str, object]]
    cause: Mapping[str, object]
    binding_scope: str | None
    sentence: str
    would_change: str


RAISE = """
insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at, statistic, threshold,
  features, cause, binding_scope, sentence, would_change)
values (%(clinic_id)s, %(stream_id)s, %(kind)s, %(epoch)s, %(subject)s, %(seq)s, %(since_seq)s, %(since_at)s,
  %(statistic)s, %(threshold)s, %(features)s, %(cause)s, %(binding_scope)s, %(sentence)s, %(would_change)s)
on conflict (clinic_id, stream_id, kind, epoch, subject) do nothing returning id"""


def raise_one(conn: Conn, clinic_id: UUID, stream_id: UUID, its: Raised) -> int | None:
    """Raise a flag; None where it was raised already."""
    values = asdict(its) | {"features": Jsonb(list(its.features)), "cause": Jsonb(dict(its.cause))}
    row = conn.execute(RAISE, {"clinic_id": clinic_id, "stream_id": stream_id, **values}).fetchone()
    return int(row[0]) if row else None


AGAIN = """
update monitoring.flag set seen = seen + %(times)s, statistic = %(statistic)s, changed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s and kind = 'drift' and epoch = %(epoch)s
  and state <> 'resolved'"""


def again(conn: Conn, clinic_id: UUID, stream_id: UUID, epoch: int, times: int, statistic: float) -> None:
    """Further studies say what an open drift flag says."""
    conn.execute(
        AGAIN,
        {"clinic_id": clinic_id, "stream_id": stream_id, "epoch": epoch, "times": times, "statistic": statistic},
    )  # fmt: skip


REWORD = """
update monitoring.flag set sentence = %(sentence)s, would_change = %(would_change)s, changed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s and kind = %(kind)s and epoch = %(epoch)s
  and subject = %(subject)s and state <> 'resolved' and sentence <> %(sentence)s returning id"""


def reword(conn: Conn, clinic_id: UUID, stream_id: UUID, its: Raised) -> int | None:
    """Let an open flag say the newer sentence; None where it says it already."""
    values = {
        "clinic_id": clinic_id, "stream_id": stream_id, "kind": its.kind, "epoch": its.epoch, "subject": its.subject,
        "sentence": its.sentence, "would_change": its.would_change,
    }  # fmt: skip
    row = conn.execute(REWORD, values).fetchone()
    return int(row[0]) if row else None


APPEND = (
    "select monitoring.append_flag_event(%(clinic_id)s, %(flag_id)s, %(actor)s, %(type)s, %(body)s) as seq"
)


def append(conn: Conn, clinic_id: UUID, flag_id: int, actor: str, kind: str, body: str) -> int:
    """Add an event to a flag's record; ``body`` is RFC 8785 text. Returns its sequence in that record."""
    values = {"clinic_id": clinic_id, "flag_id": flag_id, "actor": actor, "type": kind, "body": body}
    row = conn.execute(APPEND, values).fetchone()
    assert row is not None
    return int(row[0])


EVENTS = """
select flag_id::text as chain, seq, at, actor, type, body, prev_hash, hash from monitoring.flag_event
where clinic_id = %(clinic_id)s and flag_id = %(flag_id)s order by seq"""


def events(conn: Conn, clinic_id: UUID, flag_id: int) -> list[Event]:
    """A flag's record in its order; its chain is the flag's number."""
    with conn.cursor(row_factory=class_row(Event)) as cursor:
        return cursor.execute(EVENTS, {"clinic_id": clinic_id, "flag_id": flag_id}).fetchall()


# By id, and the clinic from the row itself: a person names a flag by its number.
FLAG = "select * from monitoring.flag_v where id = %(flag_id)s"
FLAGS = """
select * from monitoring.flag_v where (%(clinic)s::text is null or clinic = %(clinic)s)
  and (%(resolved)s::boolean or state <> 'resolved') order by state = 'resolved', id desc limit %(limit)s"""


def flag(conn: Conn, flag_id: int) -> dict[str, Any] | None:
    """One flag as monitoring.flag_v shows it."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(FLAG, {"flag_id": flag_id}).fetchone()


def flags(conn: Conn, clinic: str | None, *, resolved: bool, limit: int) -> list[dict[str, Any]]:
    """Flags, open ones first, the newest first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(FLAGS, {"clinic": clinic, "resolved": resolved, "limit": limit}).fetchall()


OPEN_AT = """
select id, stream_id, state, sentence from monitoring.flag_v where clinic = any(%(clinics)s) and state <> 'resolved'
order by id desc limit 5000"""
COUNT_OPEN = "select count(*) from monitoring.flag_v where state <> 'resolved'"


def open_at(conn: Conn, clinics: Sequence[str]) -> list[dict[str, Any]]:
    """What is not resolved at these clinics, the newest first: number, stream, state and sentence."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(OPEN_AT, {"clinics": list(clinics)}).fetchall()


def count_open(conn: Conn) -> int:
    """How many flags are not resolved."""
    row = conn.execute(COUNT_OPEN).fetchone()
    return int(row[0]) if row else 0


LOCK = "select id, state from monitoring.flag where clinic_id = %(clinic_id)s and id = %(flag_id)s for update"


def lock(conn: Conn, clinic_id: UUID, flag_id: int) -> str | None:
    """Hold a flag until the transaction ends; returns its state."""
    row = conn.execute(LOCK, {"clinic_id": clinic_id, "flag_id": flag_id}).fetchone()
    return str(row[1]) if row else None


ACKNOWLEDGE = """
update monitoring.flag set state = 'acknowledged', acknowledged_by = %(by)s, acknowledged_at = clock_timestamp(),
  acknowledged_reason = %(reason)s, changed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and id = %(flag_id)s"""
MUTE = """
update monitoring.flag set muted_until = clock_timestamp() + make_interval(hours => %(hours)s), muted_by = %(by)s,
  muted_reason = %(reason)s, changed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and id = %(flag_id)s"""
RESOLVE = """
update monitoring.flag set state = 'resolved', resolved_by = %(by)s, resolved_at = clock_timestamp(),
  resolved_reason = %(reason)s, promotion_id = %(promotion_id)s, changed_at = clock_timestamp()
where clinic_id = %(clinic_id)s and id = %(flag_id)s"""


def acknowledge(conn: Conn, clinic_id: UUID, flag_id: int, *, by: str, reason: str) -> None:
    """Somebody looks after it."""
    conn.execute(ACKNOWLEDGE, {"clinic_id": clinic_id, "flag_id": flag_id, "by": by, "reason": reason})


def mute(conn: Conn, clinic_id: UUID, flag_id: int, hours: int, *, by: str, reason: str) -> None:
    """Tell nobody about it for some hours."""
    conn.execute(
        MUTE, {"clinic_id": clinic_id, "flag_id": flag_id, "hours": hours, "by": by, "reason": reason}
    )


def resolve(
    conn: Conn, clinic_id: UUID, flag_id: int, *, by: str, reason: str, promotion_id: int | None
) -> None:
    """It is over."""
    values = {
        "clinic_id": clinic_id,
        "flag_id": flag_id,
        "by": by,
        "reason": reason,
        "promotion_id": promotion_id,
    }
    conn.execute(RESOLVE, values)


# Flags whose version is no longer what is bound where they arose, with the binding that took over. A flag without a
# scope (harm) is of the version wherever it answers here: it ends once no binding names that version any more.
SUPERSEDED = """
select distinct on (f.id) f.clinic_id, f.id as flag_id, b.seq as binding_seq, b.promotion_id, b.promotion_kind, b.model,
  coalesce(b.approved_by, b.bound_by) as by_whom, b.reason
from monitoring.flag f join monitoring.stream s on s.clinic_id = f.clinic_id and s.id = f.stream_id
join registry.binding_v b on b.clinic_id = f.clinic_id and b.task = s.task
  and b.scope = coalesce(f.binding_scope, b.scope) and b.until is null and b.digest <> s.digest
where f.state <> 'resolved' and b.since > f.opened_at and (f.binding_scope is not null or not exists (
  select from registry.binding_v a where a.clinic_id = f.clinic_id and a.task = s.task and a.digest = s.digest
    and a.until is null))
order by f.id, b.since desc limit 1000"""


def superseded(conn: Conn) -> list[dict[str, Any]]:
    """Open flags that a later binding has answered."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SUPERSEDED).fetchall()


LATEST = """
select number, verdict, rule from monitoring.verdict
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s order by number desc limit 1 for update"""
ADD_VERDICT = """
insert into monitoring.verdict(clinic_id, stream_id, number, seq, verdict, rule, sentence, action, would_change,
  evidence)
values (%(clinic_id)s, %(stream_id)s, %(number)s, %(seq)s, %(verdict)s, %(rule)s, %(sentence)s, %(action)s,
  %(would_change)s, %(evidence)s)"""
RENEW_VERDICT = """
update monitoring.verdict set seq = %(seq)s, sentence = %(sentence)s, action = %(action)s,
  would_change = %(would_change)s, evidence = %(evidence)s, at = clock_timestamp()
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s and number = %(number)s"""


def give(
    conn: Conn, clinic_id: UUID, stream_id: UUID, seq: int, its: Verdict, evidence: Mapping[str, object]
) -> bool:
    """Give a verdict: a new one where word or rule changed, else the same with newer evidence. True: it changed."""
    place = {"clinic_id": clinic_id, "stream_id": stream_id}
    row = conn.execute(LATEST, place).fetchone()
    values = place | {
        "seq": seq, "verdict": its.word.value, "rule": its.rule, "sentence": its.sentence, "action": its.action,
        "would_change": its.would_change, "evidence": Jsonb(dict(evidence)),
    }  # fmt: skip
    if row and (row[1], row[2]) == (its.word.value, its.rule):
        conn.execute(RENEW_VERDICT, values | {"number": row[0]})
        return False
    conn.execute(ADD_VERDICT, values | {"number": (row[0] if row else 0) + 1})
    return True


STREAMS = """
select v.*, d.verdict, d.sentence, d.action, d.would_change, d.evidence
from monitoring.stream_v v left join monitoring.verdict_v d on d.clinic_id = v.clinic_id and d.stream_id = v.stream_id
where %(clinic)s::text is null or v.clinic = %(clinic)s
order by v.open_flags desc, v.clinic, v.task, v.sequence limit %(limit)s"""


def stream_rows(conn: Conn, clinic: str | None, limit: int) -> list[dict[str, Any]]:
    """Streams with the verdict that holds, those with flags first."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(STREAMS, {"clinic": clinic, "limit": limit}).fetchall()


CLINIC = "select id from registry.clinic where slug = %(slug)s"


def clinic_id(conn: Conn, slug: str) -> UUID | None:
    """The id of a clinic by its slug."""
    row = conn.execute(CLINIC, {"slug": slug}).fetchone()
    return row[0] if row else None
