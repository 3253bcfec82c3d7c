"""What the pages read: published views alone. Rows are dictionaries,
  because a page's JSON twin shows them as they are.

Whose rows there are is decided by the transaction: the monitor's sees the fleet, a clinic's own sees that clinic.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from registry.core.db import Conn

Row = dict[str, Any]
CLINICS_MAX, ROWS = 5000, 50


def _rows(conn: Conn, statement: Any, **values: object) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values).fetchall()


NEEDS = """
select c.clinic, c.name, t.stream_id, t.state, t.verdict, t.open_flags from registry.clinic_v c
left join (select t.clinic_id, t.stream_id, t.state, d.verdict, t.open_flags from monitoring.stream_v t
  left join monitoring.verdict_v d on d.clinic_id = t.clinic_id and d.stream_id = t.stream_id
  where t.state <> 'superseded') t on t.clinic_id = c.clinic_id
limit %(limit)s"""


def needs(conn: Conn) -> list[Row]:
    """Every clinic with each of its streams, and no more of them than says what they need."""
    return _rows(conn, NEEDS, limit=4 * CLINICS_MAX)


# When a clinic was last heard is what /metrics says: of the study that came last (monitoring.clinic_load_v).
CLINICS = """
select c.clinic_id, c.clinic, c.name, c.state, c.scanners, d.studies as studies_24h, l.last_at
from unnest(%(clinics)s::text[]) as asked(clinic) join registry.clinic_v c using (clinic)
cross join lateral (select count(*) as studies from serving.study_v s where s.clinic_id = c.clinic_id
  and s.first_at > now() - interval '24 hours' and s.state <> 'past') d
left join lateral (select s.last_at from serving.study_v s where s.clinic_id = c.clinic_id and s.state <> 'past'
  order by s.study_id desc limit 1) l on true
order by c.clinic limit %(limit)s"""


def clinics(conn: Conn, names: Sequence[str]) -> list[Row]:
    """These clinics with their scanners, the studies of a day, and when they were last heard."""
    return _rows(conn, CLINICS, clinics=list(names), limit=CLINICS_MAX)


STREAMS = """
select t.clinic, t.stream_id, t.task, t.sequence, t.model, t.digest, t.state, t.n, t.ranked, t.statistic,
  t.threshold, t.epoch,
  t.epoch_cause, t.epoch_at, t.since_at, t.last_at, t.open_flags, d.verdict, d.rule, d.sentence, d.action,
  d.would_change,
  d.since as verdict_since, d.at as verdict_at
from monitoring.stream_v t left join monitoring.verdict_v d on d.clinic_id = t.clinic_id and d.stream_id = t.stream_id
where t.clinic = any(%(clinics)s) and t.state <> 'superseded'
order by t.clinic, t.task, t.sequence limit %(limit)s"""


def streams(conn: Conn, names: Sequence[str]) -> list[Row]:
    """Every watched stream of what is bound now at these clinics, with its verdict."""
    return _rows(conn, STREAMS, clinics=list(names), limit=4 * CLINICS_MAX)


EVIDENCE = "select evidence from monitoring.verdict_v where stream_id = %(stream_id)s"


def evidence(conn: Conn, stream_id: UUID) -> Row | None:
    """What the verdict that holds for a stream was made of."""
    row = next(iter(_rows(conn, EVIDENCE, stream_id=stream_id)), None)
    return row["evidence"] if row else None


WORST = """
select t.stream_id, t.threshold, d.sentence, (select array_agg(o.statistic order by o.seq)
  from (select o.seq, o.statistic from monitoring.observation_v o
    where o.clinic_id = t.clinic_id and o.stream_id = t.stream_id order by o.seq desc limit 40) o) as statistic
from monitoring.stream_v t left join monitoring.verdict_v d on d.clinic_id = t.clinic_id and d.stream_id = t.stream_id
where t.stream_id = any(%(ids)s)"""


def worst(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Threshold, sentence and the drift statistic after each of the last 40 studies, of these streams."""
    return {row["stream_id"]: row for row in _rows(conn, WORST, ids=list(ids))}


def sparks(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, list[float]]:
    """The drift statistic after each of the last 40 studies of these streams."""
    return {id: row["statistic"] or [] for id, row in worst(conn, ids).items()}


STUDIES = """
select s.clinic, s.study_id, s.revision, s.state, s.lane, s.code, s.first_at, s.last_at, s.finished_at,
  s.instances, s.delivered,
  s.to_deliver, (select array_agg(a.model order by a.task) from (select distinct on (b.task) b.task, b.model
    from serving.answer_v b where b.clinic_id = s.clinic_id and b.study_id = s.study_id
    order by b.task, b.revision desc) a) as models
from serving.study_v s
where (%(clinic)s::text is null or s.clinic = %(clinic)s) and (%(state)s::text is null or s.state = %(state)s)
  and (%(before)s::timestamptz is null or s.first_at < %(before)s)
order by s.first_at desc limit %(limit)s"""


def studies(
    conn: Conn, clinic: str | None, state: str | None = None, before: str | None = None, limit: int = ROWS
) -> list[Row]:
    """Studies, the newest first; ``before`` is the time of the last one seen."""
    return _rows(conn, STUDIES, clinic=clinic, state=state, before=before, limit=limit)


STUDY = """
select clinic_id, clinic, study_id, revision, state, lane, code, first_at, last_at, finished_at, instances,
  delivered, to_deliver, superseded
from serving.study_v where study_id = %(study_id)s"""
# What was found is left out here, and not by a page, while the study is still to be read blind.
ANSWERS = """
select a.task, a.revision, a.digest, a.model, a.binding_scope, a.binding_seq, a.created_at, a.scanner, a.quality,
  a.not_assessed, a.qualification, b.task is not null as blind,
  a.revision < max(a.revision) over (partition by a.task) as replaced,
  case when b.task is null then a.findings end as findings, case when b.task is null then a.numbers end as numbers,
  case when b.task is null then a.warnings end as warnings, case when b.task is null then a.picture end as picture
from serving.answer_v a left join monitoring.blind_v b
  on b.clinic_id = a.clinic_id and b.study_id = a.study_id and b.task = a.task
where a.study_id = %(study_id)s order by a.revision desc, a.task limit 20"""
STEPS = """
select revision, at, step, detail from serving.step_v where study_id = %(study_id)s order by seq limit 500"""
DELIVERIES = """
select destination, way, object, revision, state, tries, last_code, next_at, finished_at from serving.delivery_v
where study_id = %(study_id)s order by id limit 200"""


def study(conn: Conn, study_id: UUID) -> Row | None:
    """Where one study stands."""
    return next(iter(_rows(conn, STUDY, study_id=study_id)), None)


def answers(conn: Conn, study_id: UUID) -> list[Row]:
    """What each version answered, the newest revision first."""
    return _rows(conn, ANSWERS, study_id=study_id)


def steps(conn: Conn, study_id: UUID) -> list[Row]:
    """The trace of a study."""
    return _rows(conn, STEPS, study_id=study_id)


def deliveries(conn: Conn, study_id: UUID) -> list[Row]:
    """What was sent where."""
    return _rows(conn, DELIVERIES, study_id=study_id)


# What others said stays hidden while the study is still to be read blind; that somebody has read it does not.
READINGS = """
select r.task, r.revision, r.reader, r.blinded, r.at, b.task is not null as hidden,
  case when b.task is null then r.decision end as decision, case when b.task is null then r.dice end as dice,
  case when b.task is null then r.minutes end as minutes
from serving.review_v r left join monitoring.blind_v b
  on b.clinic_id = r.clinic_id and b.study_id = r.study_id and b.task = r.task
where r.study_id = %(study_id)s order by r.at limit 100"""
BLIND = "select 1 from monitoring.blind_v where study_id = %(study_id)s and task = %(task)s"


def readings(conn: Conn, study_id: UUID) -> list[Row]:
    """What readers said of a study, the oldest first."""
    return _rows(conn, READINGS, study_id=study_id)


def is_blind(conn: Conn, study_id: UUID, task: str) -> bool:
    """Whether this answer is still to be read blind."""
    return bool(_rows(conn, BLIND, study_id=study_id, task=task))


PICTURE = """
select a.clinic_id, a.picture from serving.answer_v a
where a.study_id = %(study_id)s and a.task = %(task)s and a.picture is not null
  and not exists (select from monitoring.blind_v b
    where b.clinic_id = a.clinic_id and b.study_id = a.study_id and b.task = a.task)
order by a.revision desc limit 1"""


def picture(conn: Conn, study_id: UUID, task: str) -> tuple[UUID, UUID] | None:
    """Clinic and object of the newest picture of a study; None while the study is still to be read blind."""
    row = next(iter(_rows(conn, PICTURE, study_id=study_id, task=task)), None)
    return (row["clinic_id"], row["picture"]) if row else None


BOUND = """
select c.clinic, b.task, b.scope, b.seq, b.digest, v.name || '@' || v.version as model, lower(b.valid) as since,
  b.bound_by, b.reason
from registry.binding b join registry.clinic_v c on c.clinic_id = b.clinic_id
  join registry.model_version v using (digest)
where upper_inf(b.valid) and b.role = 'active' and (%(clinics)s::text[] is null or c.clinic = any(%(clinics)s))
  and (%(digest)s::text is null or b.digest = %(digest)s)
order by c.clinic, b.task, b.scope limit %(limit)s"""


def bound(conn: Conn, names: Sequence[str] | None = None, digest: str | None = None) -> list[Row]:
    """What is bound now, of these clinics or of a version."""
    its = None if names is None else list(names)
    return _rows(conn, BOUND, clinics=its, digest=digest, limit=4 * CLINICS_MAX)


TIMELINE = """
select lower(b.valid) as at, 'binding' as kind, v.name || '@' || v.version as what, b.task || ',
  scope ' || b.scope as detail,
  b.bound_by as who, b.reason
from registry.binding b join registry.clinic_v c on c.clinic_id = b.clinic_id
  join registry.model_version v using (digest)
where c.clinic = %(clinic)s
union all
select f.opened_at, 'flag', f.kind, f.sentence, 'radfleet', '' from monitoring.flag_v f where f.clinic = %(clinic)s
union all
select f.resolved_at, 'flag resolved', f.kind, f.sentence, f.resolved_by, f.resolved_reason from monitoring.flag_v f
where f.clinic = %(clinic)s and f.resolved_at is not null
order by at desc limit %(limit)s"""


def timeline(conn: Conn, clinic: str, limit: int) -> list[Row]:
    """What was bound and flagged at a clinic, the latest first."""
    return _rows(conn, TIMELINE, clinic=clinic, limit=limit)


CLOSURES = """
select number, first_day, last_day, reason, stated_by, stated_at,
  (now() at time zone 'UTC')::date between first_day and last_day as today
from registry.closure_v where clinic = %(clinic)s and stands order by first_day desc, number desc limit %(limit)s"""


def closures(conn: Conn, clinic: str, limit: int = 6) -> list[Row]:
    """The days on which a clinic is or was closed, the latest first, without what was withdrawn."""
    return _rows(conn, CLOSURES, clinic=clinic, limit=limit)


STUCK = """
select c.clinic, s.study_id, s.what, s.since from serving.stuck_v s
  join registry.clinic_v c on c.clinic_id = s.clinic_id
order by s.since limit %(limit)s"""
QUEUE = """
select kind, state, sum(jobs)::int as jobs, min(oldest) as oldest, count(*)::int as clinics from registry.queue_v
group by kind, state order by kind, state"""


def stuck(conn: Conn) -> list[Row]:
    """What no part moved in time (promise P2): empty when all is well."""
    return _rows(conn, STUCK, limit=ROWS)


def queue(conn: Conn) -> list[Row]:
    """Jobs that wait, run or are given up, over all clinics."""
    return _rows(conn, QUEUE)


# The reference is what the epoch took as normal; the newest rows are those that a person wants to see. A number of the
# answer, as a volume is, has no value here while its study is still to be read blind.
FEATURE = """
select * from (
  select o.seq, o.study_id, o.at, o.outcome, o.scanner_group, o.statistic,
    case when jsonb_typeof(f.values -> %(feature)s) = 'number' and not exists (select from monitoring.blind_v b
      join serving.answer_v a on a.clinic_id = b.clinic_id and a.study_id = b.study_id and a.task = b.task
      where b.clinic_id = o.clinic_id and b.study_id = o.study_id and a.numbers ? %(feature)s)
    then (f.values ->> %(feature)s)::float8 end as value
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


REPORT = """
select clinic_id, report_id, digest, size, reference_rows, current_rows, opinion, library, at
from monitoring.report_v where flag_id = %(id)s"""


def report(conn: Conn, flag_id: int) -> Row | None:
    """The report that was frozen for a flag, without its bytes."""
    return next(iter(_rows(conn, REPORT, id=flag_id)), None)
