"""What the collector reads, all in one transaction of the monitor: shared views alone."""

from typing import Any

from psycopg.rows import dict_row

from monitoring.evidence.tables import CURRENT_MIN
from registry.core.db import Conn

Row = dict[str, Any]
ROWS_MAX = 50_000


def _rows(conn: Conn, statement: Any, limit: int = ROWS_MAX) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, {"limit": limit, "current_min": CURRENT_MIN}).fetchall()


CLINICS = """
select c.*, extract(epoch from now() - c.oldest_undelivered) as undelivered_s, n.unread,
  extract(epoch from now() - n.oldest_unread) as unread_s
from monitoring.clinic_load_v c join monitoring.follower_v n using (clinic_id) order by c.clinic limit %(limit)s"""
LANES = """
select lane, ready, leased, extract(epoch from now() - oldest_ready) as age_s
from monitoring.lane_load_v order by lane limit %(limit)s"""
TURNAROUND = "select studies, p50_s, p95_s, last_done_at from monitoring.turnaround_24h_v limit %(limit)s"
ANSWERS = "select clinic, task, digest, answers from monitoring.answers_24h_v limit %(limit)s"
BINDINGS = """
select distinct clinic, task, split_part(scope, ':', 1) as scope, model, digest from registry.binding_v
where until is null limit %(limit)s"""
PROMOTIONS = """
select clinic, kind, state, promotions, extract(epoch from now() - oldest) as age_s
from monitoring.promotion_load_v limit %(limit)s"""
# A superseded stream is history: with it the series would grow with every promotion.
STREAMS = """
select t.clinic, t.task, t.sequence, t.digest, t.state, t.n, t.statistic, t.threshold, t.open_flags, d.verdict
from monitoring.stream_v t left join monitoring.verdict_v d using (clinic_id, stream_id)
where t.state <> 'superseded' limit %(limit)s"""
FLAGS = """
select clinic, task, state, kind, coalesce(verdict, 'none') as verdict, count(*) as flags
from monitoring.flag_v where state <> 'resolved' group by 1, 2, 3, 4, 5 limit %(limit)s"""
REVIEWS = "select clinic, task, decision, blinded, reviews from monitoring.review_load_v limit %(limit)s"
DICE = "select clinic, task, blinded, cases, dice from monitoring.dice_load_v limit %(limit)s"
# Flags whose report could have been drawn since they had enough studies, and was not: evidence fails.
REPORTS = """
select f.clinic, count(*) as reports, extract(epoch from now() - min(greatest(f.opened_at, n.at))) as age_s
from monitoring.flag_v f cross join lateral (select max(o.at) as at, count(*) as studies from (
  select at from monitoring.observation_v o where o.clinic_id = f.clinic_id and o.stream_id = f.stream_id
    and o.seq >= f.since_seq and o.outcome not in ('again', 'nothing') order by o.seq limit %(current_min)s) o) n
where f.state <> 'resolved' and f.kind not in ('missing', 'volume') and n.studies >= %(current_min)s
  and not exists (select from monitoring.report_v r where r.clinic_id = f.clinic_id and r.flag_id = f.id)
group by 1 limit %(limit)s"""
NOTICES = "select channel, state, notices from monitoring.notice_load_v limit %(limit)s"


def read(conn: Conn) -> dict[str, list[Row]]:
    """Everything that is counted, of one moment."""
    # One snapshot: else a flag could be counted in one place and be missing in another.
    conn.execute("set transaction isolation level repeatable read")
    return {
        "clinics": _rows(conn, CLINICS), "lanes": _rows(conn, LANES), "turnaround": _rows(conn, TURNAROUND),
        "answers": _rows(conn, ANSWERS), "bindings": _rows(conn, BINDINGS), "promotions": _rows(conn, PROMOTIONS),
        "streams": _rows(conn, STREAMS), "flags": _rows(conn, FLAGS), "reviews": _rows(conn, REVIEWS),
        "dice": _rows(conn, DICE), "notices": _rows(conn, NOTICES), "reports": _rows(conn, REPORTS),
    }  # fmt: skip


CHANGES = """
select id, clinic, task, scope, kind, model, digest, changed_at from monitoring.promotion_v
where state = 'active' order by id desc limit %(limit)s"""


def changes(conn: Conn, limit: int) -> list[Row]:
    """Promotions and rollbacks that were bound, the newest first."""
    return _rows(conn, CHANGES, limit)
