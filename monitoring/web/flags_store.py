"""What the pages about flags read: published views alone."""

from typing import Any
from uuid import UUID

from monitoring.web.views_store import Row, _rows
from registry.core.db import Conn

FLAGS = """
select f.id, f.clinic, f.stream_id, f.task, f.sequence, f.model, f.kind, f.state, f.sentence, f.features, f.cause,
  f.statistic,
  f.threshold, f.seq, f.since_seq, f.since_at, f.seen, f.opened_at, f.changed_at, f.muted_until, f.verdict,
  f.verdict_sentence
from monitoring.flag_v f
where (%(clinic)s::text is null or f.clinic = %(clinic)s) and (%(past)s::boolean or f.state <> 'resolved')
order by f.state = 'resolved', f.state = 'muted', f.opened_at desc limit %(limit)s"""


def flags(conn: Conn, clinic: str | None = None, *, past: bool = False, limit: int = 200) -> list[Row]:
    """Flags that are not resolved, the newest first; with ``past`` the resolved ones after them."""
    return _rows(conn, FLAGS, clinic=clinic, past=past, limit=limit)


FLAG = """
select f.id, f.clinic, f.stream_id, f.task, f.sequence, f.digest, f.model, f.kind, f.epoch, f.subject, f.state,
  f.seq, f.since_seq,
  f.since_at, f.statistic, f.threshold, f.features, f.cause, f.binding_scope, f.sentence, f.would_change, f.seen,
  f.opened_at,
  f.changed_at, f.acknowledged_by, f.acknowledged_at, f.acknowledged_reason, f.muted_until, f.muted_by,
  f.muted_reason,
  f.resolved_by, f.resolved_at, f.resolved_reason, f.promotion_id, f.verdict, f.verdict_rule, f.verdict_sentence,
  f.verdict_action, d.evidence
from monitoring.flag_v f left join monitoring.verdict_v d on d.clinic_id = f.clinic_id and d.stream_id = f.stream_id
where f.id = %(id)s"""
EVENTS = """
select e.seq, e.at, e.actor, e.type, e.body from monitoring.flag_event_v e
where e.flag_id = %(id)s order by e.seq desc limit 100"""


def flag(conn: Conn, id: int) -> Row | None:
    """One flag with the verdict that holds for its stream."""
    return next(iter(_rows(conn, FLAG, id=id)), None)


def events(conn: Conn, id: int) -> list[Row]:
    """A flag's record, the latest first."""
    return _rows(conn, EVENTS, id=id)


# The reference is what the epoch took as normal; the newest rows are those that a person wants to see.
FEATURE = """
select * from (
  select o.seq, o.study_id, o.at, o.outcome, o.scanner_group, o.statistic,
    case when jsonb_typeof(f.values -> %(feature)s) = 'number' then (f.values ->> %(feature)s)::float8 end as value
  from monitoring.observation_v o join serving.feature_v f on f.clinic_id = o.clinic_id and f.seq = o.seq
  where o.stream_id = %(stream_id)s and o.epoch = %(epoch)s order by o.seq desc limit %(limit)s) rows
order by seq"""


def feature(conn: Conn, stream_id: UUID, epoch: int, name: str, limit: int = 400) -> list[Row]:
    """One feature of each study of an epoch, in order."""
    return _rows(conn, FEATURE, stream_id=stream_id, epoch=epoch, feature=name, limit=limit)


ELSEWHERE = """
select t.clinic, t.task, t.sequence, t.state, t.n, t.statistic, t.threshold, d.verdict
from monitoring.stream_v t left join monitoring.verdict_v d on d.clinic_id = t.clinic_id and d.stream_id = t.stream_id
where t.clinic <> %(clinic)s and t.task = %(task)s and t.state <> 'superseded'
  and t.scanner_groups::text like '%%' || %(word)s || '%%'
order by t.clinic limit 20"""


def elsewhere(conn: Conn, clinic: str, task: str, word: str) -> list[dict[str, Any]]:
    """Streams of other clinics in which the same scanner group appears."""
    return _rows(conn, ELSEWHERE, clinic=clinic, task=task, word=word)
