"""The rows of the vendor view."""

from psycopg.rows import class_row

from monitoring.vendors.changes import Span
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
