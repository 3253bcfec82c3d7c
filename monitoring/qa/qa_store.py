"""The rows of QA metrics, out of the views that serving publishes."""

from datetime import datetime

from psycopg.rows import class_row

from monitoring.qa.metrics import Outcome, Review
from registry.core.db import Conn

ROWS_MAX = 200_000
OUTCOMES = """
select o.clinic, o.study_id, o.task, v.name || '@' || v.version as model, o.scanner_id, o.profile, o.state, o.code,
  o.last_at, o.answered_at, o.delivered_at, o.waiting, o.delivery_failed
from serving.outcome_v o left join registry.model_version v using (digest)
where (%(clinic)s::text is null or o.clinic = %(clinic)s) and o.last_at > %(since)s
order by o.last_at desc limit %(limit)s"""


def outcomes(conn: Conn, clinic: str | None, since: datetime) -> list[Outcome]:
    """What became of each task of each study whose last image came after ``since``."""
    values = {"clinic": clinic, "since": since, "limit": ROWS_MAX}
    with conn.cursor(row_factory=class_row(Outcome)) as cursor:
        return cursor.execute(OUTCOMES, values).fetchall()


LAST = """
select c.slug, max(s.last_at) from registry.clinic c
left join serving.study s on s.clinic_id = c.id and s.state <> 'past'
where %(clinic)s::text is null or c.slug = %(clinic)s group by c.slug order by c.slug limit 10000"""


def last_studies(conn: Conn, clinic: str | None) -> dict[str, datetime | None]:
    """When each clinic's last image came, however long ago; None where none ever came."""
    return dict(conn.execute(LAST, {"clinic": clinic}).fetchall())


REVIEWS = """
select clinic, study_id, task, model, profile, decision, blinded, dice, minutes from serving.review_v
where (%(clinic)s::text is null or clinic = %(clinic)s) and at > %(since)s order by seq desc limit %(limit)s"""


def reviews(conn: Conn, clinic: str | None, since: datetime) -> list[Review]:
    """Reviews that count and were given after ``since``."""
    values = {"clinic": clinic, "since": since, "limit": ROWS_MAX}
    with conn.cursor(row_factory=class_row(Review)) as cursor:
        return cursor.execute(REVIEWS, values).fetchall()


NOW = "select now() as now"


def now(conn: Conn) -> datetime:
    """The database's clock, by which silence is counted."""
    row = conn.execute(NOW).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found
