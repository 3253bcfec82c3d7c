"""Rows of reports: what is to be frozen, the rows it is made of, and the frozen bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from monitoring.evidence.tables import GROUP, Row
from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Waiting:
    """A flag without a report, or a stream of which one is wanted. Rows from ``since_seq`` on are current."""

    clinic_id: UUID
    clinic: str
    stream_id: UUID
    flag_id: int | None
    epoch: int
    since_seq: int
    watched: Sequence[str]


# A flag about an acquisition stands on one study; it waits here until there are some to compare. What is missing and
# how many come leaves nothing to compare.
WAITING = """
select f.clinic_id, f.clinic, f.stream_id, f.id as flag_id, f.epoch, f.since_seq, s.watched
from monitoring.flag_v f join monitoring.stream_v s on s.clinic_id = f.clinic_id and s.stream_id = f.stream_id
where (f.id = %(flag_id)s or (%(flag_id)s::bigint is null and f.state <> 'resolved' and not f.id = any(%(resting)s)))
  and f.kind not in ('missing', 'volume')
  and not exists (select from monitoring.report_v r where r.clinic_id = f.clinic_id and r.flag_id = f.id)
  and (select count(*) from monitoring.observation_v o where o.clinic_id = f.clinic_id and o.stream_id = f.stream_id
    and o.seq >= f.since_seq and o.outcome not in ('again', 'nothing')) >= %(current_min)s
order by f.id limit 20"""


def waiting(
    conn: Conn, current_min: int, flag_id: int | None = None, resting: Sequence[int] = ()
) -> list[Waiting]:
    """Open flags that have no report yet and enough rows for one, the oldest first; or this one, resolved too."""
    values = {"current_min": current_min, "flag_id": flag_id, "resting": list(resting)}
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(WAITING, values).fetchall()


STREAMS = """
select s.clinic_id, s.clinic, s.stream_id, null::bigint as flag_id, s.epoch,
  (select min(o.seq) from monitoring.observation_v o where o.clinic_id = s.clinic_id and o.stream_id = s.stream_id
    and o.at > now() - make_interval(days => %(days)s)) as since_seq, s.watched
from monitoring.stream_v s where s.clinic = %(clinic)s and s.stream_id is not null and s.state <> 'superseded'
  and exists (select from monitoring.observation_v o where o.clinic_id = s.clinic_id and o.stream_id = s.stream_id
    and o.at > now() - make_interval(days => %(days)s)) order by s.n desc limit 20"""


def streams(conn: Conn, clinic: str, days: int) -> list[Waiting]:
    """The streams of a clinic that had studies in the last ``days``, the longest first."""
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(STREAMS, {"clinic": clinic, "days": days}).fetchall()


# From the first study of last month on; reports of a month are drawn once, in the next.
MONTHS = """
select s.clinic_id, s.clinic, s.stream_id, null::bigint as flag_id, s.epoch, m.since_seq, s.watched
from monitoring.stream_v s
cross join lateral (select min(o.seq) as since_seq, count(*) as studies from monitoring.observation_v o
  where o.clinic_id = s.clinic_id and o.stream_id = s.stream_id and o.outcome not in ('again', 'nothing')
    and o.at >= date_trunc('month', now()) - interval '1 month') m
where s.stream_id is not null and s.state <> 'superseded' and m.studies >= %(current_min)s
  and s.n - m.studies >= %(reference_min)s
  and not exists (select from monitoring.report_v r where r.clinic_id = s.clinic_id and r.stream_id = s.stream_id
    and r.kind = 'month' and r.at >= date_trunc('month', now()))
order by s.clinic, s.n desc limit 2000"""


def months(conn: Conn, reference_min: int, current_min: int) -> list[Waiting]:
    """Streams whose report of last month was not drawn yet, where there is enough to compare."""
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        values = {"reference_min": reference_min, "current_min": current_min}
        return cursor.execute(MONTHS, values).fetchall()


# The first half of what each stream of a clinic has so far is the reference, the second half is compared with it.
HALVES = """
select s.clinic_id, s.clinic, s.stream_id, null::bigint as flag_id, s.epoch,
  (select (percentile_disc(0.5) within group (order by o.seq)) + 1 from monitoring.observation_v o
    where o.clinic_id = s.clinic_id and o.stream_id = s.stream_id and o.outcome not in ('again', 'nothing'))
    as since_seq, s.watched
from monitoring.stream_v s
where s.clinic = %(clinic)s and s.stream_id is not null and s.state <> 'superseded' and s.n > 1
order by s.n desc limit 20"""


def halves(conn: Conn, clinic: str) -> list[Waiting]:
    """The streams of a clinic, each cut in the middle, the longest first."""
    with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(HALVES, {"clinic": clinic}).fetchall()


SAME = """
select r.digest from monitoring.report_v r where r.clinic_id = %(clinic_id)s and r.kind = %(kind)s
  and r.stream_id = %(stream_id)s and r.rows_digest = %(rows_digest)s order by r.at desc limit 1"""


def same(conn: Conn, its: Waiting, kind: str, rows_digest: str) -> str | None:
    """The report that was frozen from the very same rows."""
    values = {
        "clinic_id": its.clinic_id, "kind": kind, "stream_id": its.stream_id, "rows_digest": rows_digest
    }  # fmt: skip
    row = conn.execute(SAME, values).fetchone()
    return str(row[0]) if row else None


# The reference is what the epoch stands on: an epoch that kept its reference stands on the rows of the one before it.
ROWS = """
with chosen as (select o.seq, o.seq >= %(since_seq)s as current, o.scanner_group,
    row_number() over (partition by o.seq >= %(since_seq)s order by o.seq desc) as nth
  from monitoring.observation_v o
  where o.clinic_id = %(clinic_id)s and o.stream_id = %(stream_id)s and o.outcome not in ('again', 'nothing')
    and o.seq > coalesce((select max(e.from_seq) from monitoring.reference_epoch e where e.clinic_id = o.clinic_id
      and e.stream_id = o.stream_id and e.fresh and e.epoch <= %(epoch)s), 0))
select c.current, c.scanner_group, f.values from chosen c
join serving.feature_v f on f.clinic_id = %(clinic_id)s and f.seq = c.seq
where c.nth <= 1000 order by c.seq"""


def rows(conn: Conn, its: Waiting) -> tuple[list[Row], list[Row]]:
    """(reference, current) rows in sequence order: the watched features that have a number, and the scanner group.

    The newest 1,000 of each side.
    """
    values = {
        "clinic_id": its.clinic_id, "stream_id": its.stream_id, "since_seq": its.since_seq, "epoch": its.epoch
    }  # fmt: skip
    found: tuple[list[Row], list[Row]] = ([], [])
    for current, group, features in conn.execute(ROWS, values):
        found[current].append({**_numbers(features, its.watched), GROUP: str(group)})
    return found


def _numbers(features: Any, watched: Sequence[str]) -> dict[str, float | str]:
    plain = features if isinstance(features, dict) else {}
    return {
        name: float(plain[name])
        for name in watched
        if isinstance(plain.get(name), int | float) and isfinite(plain[name])
    }


@dataclass(frozen=True, slots=True)
class Frozen:
    """A report's row without its bytes."""

    report_id: UUID
    clinic_id: UUID
    clinic: str
    kind: str
    flag_id: int | None
    digest: str
    size: int
    reference_rows: int
    current_rows: int
    opinion: dict[str, Any]
    library: str
    at: datetime


ADD = """
insert into monitoring.report(clinic_id, kind, flag_id, stream_id, digest, html, size, rows_digest, reference_rows,
  current_rows, methods, opinion, library)
values (%(clinic_id)s, %(kind)s, %(flag_id)s, %(stream_id)s, %(digest)s, %(html)s, %(size)s, %(rows_digest)s,
  %(reference_rows)s, %(current_rows)s, %(methods)s, %(opinion)s, %(library)s)
on conflict (clinic_id, flag_id) do nothing returning id"""


def add(conn: Conn, its: Waiting, kind: str, values: dict[str, Any]) -> bool:
    """Freeze a report; False where the flag has one already, which stays."""
    row = {
        "clinic_id": its.clinic_id,
        "kind": kind,
        "flag_id": its.flag_id,
        "stream_id": its.stream_id,
        **values,
    }
    row |= {"methods": Jsonb(values["methods"]), "opinion": Jsonb(values["opinion"])}
    return conn.execute(ADD, row).fetchone() is not None


COLUMNS = """report_id, clinic_id, clinic, kind, flag_id, digest, size, reference_rows, current_rows, opinion,
  library, at"""
LIST = f"""
select {COLUMNS} from monitoring.report_v
where (%(clinic)s::text is null or clinic = %(clinic)s) and (%(flag_id)s::bigint is null or flag_id = %(flag_id)s)
order by at desc limit %(limit)s"""  # noqa: S608 - our own column list


def reports(conn: Conn, clinic: str | None, flag_id: int | None, limit: int) -> list[Frozen]:
    """Reports, the newest first."""
    with conn.cursor(row_factory=class_row(Frozen)) as cursor:
        return cursor.execute(LIST, {"clinic": clinic, "flag_id": flag_id, "limit": limit}).fetchall()


HTML = "select html from monitoring.report where clinic_id = %(clinic_id)s and digest = %(digest)s"


def html(conn: Conn, clinic_id: UUID, digest: str) -> bytes | None:
    """The packed bytes of a report."""
    row = conn.execute(HTML, {"clinic_id": clinic_id, "digest": digest}).fetchone()
    return bytes(row[0]) if row else None
