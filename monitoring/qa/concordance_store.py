"""The rows of concordance, out of the view that serving publishes; for the monitor or for a clinic's own session."""

from datetime import datetime

from psycopg.rows import class_row

from monitoring.qa.concordance import Row
from registry.core.db import Conn

ROWS_MAX = 200_000
ROWS = """
select o.clinic, o.task, v.name || '@' || v.version as model, o.says, o.rules, o.ours
from serving.concordance_v o join registry.model_version v using (digest)
where (%(clinic)s::text is null or o.clinic = %(clinic)s) and o.last_at > %(since)s
order by o.last_at desc limit %(limit)s"""


def rows(conn: Conn, clinic: str | None, since: datetime) -> list[Row]:
    """Studies whose last image came after ``since``, with what their latest report and our latest answer say."""
    values = {"clinic": clinic, "since": since, "limit": ROWS_MAX}
    with conn.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(ROWS, values).fetchall()
