"""The rows of the vendor view."""

from psycopg.rows import class_row

from monitoring.vendors.changes import Span
from monitoring.vendors.shared import Member
from registry.core.db import Conn

SPANS = """
select clinic, scanner_id, coalesce(nullif(vendor, ''), '?') as vendor, coalesce(nullif(model, ''), '?') as model,
  coalesce(nullif(software, ''), '?') as software, sum(studies)::int as studies, min(first_at) as first_at,
  max(last_at) as last_at
from serving.acquisition_v where %(clinic)s::text is null or clinic = %(clinic)s
group by 1, 2, 3, 4, 5 order by 1, 3, 4, 7 limit 100000"""


def spans(conn: Conn, clinic: str | None = None) -> list[Span]:
    """Every scanner and software of a clinic, or of the fleet, with the time of its answered studies."""
    with conn.cursor(row_factory=class_row(Span)) as cursor:
        return cursor.execute(SPANS, {"clinic": clinic}).fetchall()


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
