"""The rows of the vendor view."""

from uuid import UUID

from psycopg.rows import class_row

from monitoring.vendors.changes import Span
from monitoring.vendors.protocols import Arrived, Used
from monitoring.vendors.shared import Member
from registry.core.db import Conn

SPANS = """
select clinic, scanner_id, vendor, model, software, studies, first_at, last_at from monitoring.acquisition_v
where %(clinic)s::text is null or clinic = %(clinic)s order by clinic, vendor, model, first_at limit 100000"""


def spans(conn: Conn, clinic: str | None = None) -> list[Span]:
    """Every scanner and software of a clinic, or of the fleet, with the time of its answered studies."""
    with conn.cursor(row_factory=class_row(Span)) as cursor:
        return cursor.execute(SPANS, {"clinic": clinic}).fetchall()


# A study is new to a scanner that no earlier row of the study had.
COUNT = """
with its as (
  select f.study_id, f.seq, f.at, f.seq > k.acquired as fresh, f.scanner_id,
    coalesce(nullif(f.profile ->> 'vendor', ''), '?') as vendor,
    coalesce(nullif(f.profile ->> 'model', ''), '?') as model,
    coalesce(nullif(f.profile ->> 'software', ''), '?') as software
  from serving.feature f join monitoring.cursor k on k.clinic_id = f.clinic_id
  where f.clinic_id = %(clinic_id)s and f.seq <= %(seq)s and f.study_id in (select n.study_id from serving.feature n
    where n.clinic_id = k.clinic_id and n.seq > k.acquired and n.seq <= %(seq)s)),
one as (
  select scanner_id, vendor, model, software, study_id, not bool_or(not fresh) as new,
    min(at) filter (where fresh) as first_at, max(at) filter (where fresh) as last_at
  from its group by 1, 2, 3, 4, 5 having bool_or(fresh))
insert into monitoring.acquisition as a(clinic_id, scanner_id, vendor, model, software, studies, first_at, last_at)
select %(clinic_id)s, scanner_id, vendor, model, software, count(*) filter (where new), min(first_at), max(last_at)
from one group by 2, 3, 4, 5
on conflict (clinic_id, scanner_id, vendor, model, software) do update set studies = a.studies + excluded.studies,
  first_at = least(a.first_at, excluded.first_at), last_at = greatest(a.last_at, excluded.last_at)"""
COUNTED = (
    "update monitoring.cursor set acquired = %(seq)s where clinic_id = %(clinic_id)s and acquired < %(seq)s"
)


def count(conn: Conn, clinic_id: UUID, seq: int) -> None:
    """Count the scanners of a clinic's rows up to ``seq``; its cursor must be locked."""
    values = {"clinic_id": clinic_id, "seq": seq}
    conn.execute(COUNT, values)
    conn.execute(COUNTED, values)


MEMBERS = """
select distinct s.clinic, coalesce(g ->> 'vendor', '?') as vendor, coalesce(g ->> 'software_major', '?') as software,
  s.stream_id, s.statistic, s.threshold, s.since_at as since
from monitoring.stream_v s cross join lateral jsonb_array_elements(s.scanner_groups) g
where s.stream_id is not null and s.state <> 'superseded' and jsonb_typeof(g) = 'object'
order by 1, 2, 3 limit 100000"""


def members(conn: Conn) -> list[Member]:
    """Every stream that is watched, once for each vendor and software that its studies come from."""
    rows = conn.execute(MEMBERS)
    return [
        Member(clinic, vendor, software, s, h, since) for clinic, vendor, software, _, s, h, since in rows
    ]


USED = """
select s.clinic, s.sequence, g as facts, (g ->> 'first_at')::timestamptz as first_at, (g ->> 'n')::int as studies
from monitoring.stream_v s cross join lateral jsonb_array_elements(s.scanner_groups) g
where s.stream_id is not null and s.state <> 'superseded' and jsonb_typeof(g) = 'object'
  and (%(clinic)s::text is null or s.clinic = %(clinic)s)
order by s.clinic, s.stream_id limit 100000"""
ARRIVED = """
select f.clinic, f.sequence, f.cause as facts, f.cause -> 'changed' as change, f.since_at as since
from monitoring.flag_v f where f.kind = 'acquisition' and (%(clinic)s::text is null or f.clinic = %(clinic)s)
order by f.id desc limit 2000"""


def used(conn: Conn, clinic: str | None = None) -> list[Used]:
    """The scanner groups of every present reference, of a clinic or of the fleet."""
    with conn.cursor(row_factory=class_row(Used)) as cursor:
        return cursor.execute(USED, {"clinic": clinic}).fetchall()


def arrived(conn: Conn, clinic: str | None = None) -> list[Arrived]:
    """The newest 2,000 scanner groups that a reference did not know."""
    with conn.cursor(row_factory=class_row(Arrived)) as cursor:
        return cursor.execute(ARRIVED, {"clinic": clinic}).fetchall()
