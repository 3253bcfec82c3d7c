"""What a verdict reads besides the stream itself: earlier versions, and reviews where they are published."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from monitoring.judge.harm import Review
from monitoring.judge.verdict import Evidence
from monitoring.streams.streams_store import Key
from registry.core.db import Conn

EARLIER = """
select exists (select from monitoring.stream a join monitoring.stream b on b.clinic_id = a.clinic_id
  and b.task = a.task and b.sequence = a.sequence and b.began_seq < a.began_seq
  where a.clinic_id = %(clinic_id)s and a.task = %(task)s and a.sequence = %(sequence)s and a.digest = %(digest)s)"""


def follows_another(conn: Conn, clinic_id: UUID, key: Key) -> bool:
    """Whether another version answered here before this one."""
    row = conn.execute(EARLIER, {"clinic_id": clinic_id, **asdict(key)}).fetchone()
    return bool(row and row[0])


BEGAN = """
select coalesce(max(e.from_seq), 0) from monitoring.reference_epoch e
join monitoring.stream s on s.clinic_id = e.clinic_id and s.id = e.stream_id
where s.clinic_id = %(clinic_id)s and s.task = %(task)s and s.sequence = %(sequence)s and s.digest = %(digest)s"""


def epoch_began(conn: Conn, clinic_id: UUID, key: Key) -> int:
    """The feature row after which the stream's present epoch began."""
    row = conn.execute(BEGAN, {"clinic_id": clinic_id, **asdict(key)}).fetchone()
    return int(row[0]) if row else 0


def plain(its: Evidence) -> dict[str, Any]:
    """The evidence as JSON for those who read the verdict."""
    found = asdict(its)
    return found | {"gates": list(its.gates), "drifted": its.drifted}


def reviews(conn: Conn, clinic_id: UUID, key: Key, after: int) -> list[Review]:
    """Reviews of studies whose feature row is later than ``after``. None are published yet."""
    return []
