"""SQL of the work list: published views alone. The transaction decides whose rows there are."""

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row

from registry.core.db import Conn

Row = dict[str, Any]
ROWS_MAX = 2000


def _rows(conn: Conn, statement: Any, **values: object) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, {"limit": ROWS_MAX} | values).fetchall()


# Few verdicts ask for anything: they are found first, and of those alone the stream.
VERDICTS = """
with d as materialized (select clinic_id, stream_id, clinic, task, sequence, rule, sentence, since
  from monitoring.verdict_v where (%(clinic)s::text is null or clinic = %(clinic)s) and rule = any(%(rules)s))
select d.clinic, d.task, d.sequence, d.rule, d.sentence, d.since
from d join monitoring.stream_v t on t.clinic_id = d.clinic_id and t.stream_id = d.stream_id
where t.state <> 'superseded' and t.open_flags = 0
order by d.since limit %(limit)s"""


def verdicts(conn: Conn, clinic: str | None, rules: Sequence[int]) -> list[Row]:
    """Verdicts by these rows of the table that hold where no flag stands, the oldest first."""
    return _rows(conn, VERDICTS, clinic=clinic, rules=list(rules))


SILENT = """
select t.clinic, min(t.last_at) as since, array_agg(distinct t.task || ' ' || t.sequence) as streams
from monitoring.stream_v t where (%(clinic)s::text is null or t.clinic = %(clinic)s) and t.state = 'silent'
group by t.clinic order by 2 limit %(limit)s"""


def silent(conn: Conn, clinic: str | None) -> list[Row]:
    """Clinics with a silent stream, and since when."""
    return _rows(conn, SILENT, clinic=clinic)


# As serving/reviews/worklist_store.py has them, counted: nobody reads a study twice.
DRAWN = """
select a.clinic, a.task, a.why, a.blinded, count(*)::int as studies,
  count(*) filter (where a.readers > 0)::int as second, min(a.drawn_at) as since,
  (array_agg(a.study_id order by a.readers > 0, a.seq))[1] as study_id
from monitoring.due_v a
where (%(clinic)s::text is null or a.clinic = %(clinic)s)
  and not exists (select from serving.review_v r where r.clinic_id = a.clinic_id and r.study_id = a.study_id
    and r.task = a.task and r.digest = a.digest and r.reader = %(reader)s)
group by a.clinic, a.task, a.why, a.blinded order by 7 limit %(limit)s"""


def drawn(conn: Conn, clinic: str | None, reader: str) -> list[Row]:
    """Drawn studies that need a reader, without those that ``reader`` has read: counted, with the first of each."""
    return _rows(conn, DRAWN, clinic=clinic, reader=reader)


# Flag by flag, by the key: joined freely, every observation that was ever made is read.
POINTED = """
select f.id, f.clinic, f.sentence, f.opened_at as since, n.studies, n.study_id
from monitoring.flag_v f
cross join lateral (select count(distinct o.study_id)::int as studies,
    (array_agg(o.study_id order by o.seq desc))[1] as study_id
  from monitoring.observation_v o where o.clinic_id = f.clinic_id and o.stream_id = f.stream_id and o.seq >= f.since_seq
    and not exists (select from serving.review_v r where r.clinic_id = o.clinic_id and r.study_id = o.study_id
      and r.task = f.task)
    and not exists (select from monitoring.audit_v a where a.clinic_id = o.clinic_id and a.study_id = o.study_id)) n
where f.state in ('open', 'acknowledged') and (%(clinic)s::text is null or f.clinic = %(clinic)s) and n.studies > 0
order by f.opened_at limit %(limit)s"""


def pointed(conn: Conn, clinic: str | None) -> list[Row]:
    """Studies since each flag that nobody has read: counted, with the newest."""
    return _rows(conn, POINTED, clinic=clinic)


# On its way is whose probation is not over, or who has a bound task that nobody has signed for.
ONBOARDING = """
select o.clinic, o.begun_at from registry.onboarding_v o
where (%(clinic)s::text is null or o.clinic = %(clinic)s) and (
  not exists (select from registry.binding_v b where b.clinic_id = o.clinic_id and b.until is null)
  or exists (select from registry.binding_v b where b.clinic_id = o.clinic_id and b.until is null and not exists (
    select from registry.acceptance_v a where a.clinic_id = b.clinic_id and a.task = b.task and a.state = 'signed'
      and a.signed_at < now() - make_interval(days => o.probation_days))))
order by o.begun_at limit %(limit)s"""


def onboarding(conn: Conn, clinic: str | None, limit: int) -> list[Row]:
    """Clinics whose onboarding is on its way, the longest first. Needs a system or monitor transaction."""
    return _rows(conn, ONBOARDING, clinic=clinic, limit=limit)
