"""What a verdict reads besides the stream itself: earlier versions, and the published reviews."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from monitoring.judge.harm import Review
from monitoring.judge.verdict import Evidence
from monitoring.streams import groups
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


# A reader who drew before seeing our mask is as near to a random sample as is recorded; others picked what they edited.
REVIEWS = """
select r.seq, coalesce(r.feature_seq, 0) as study_seq, r.profile, 1 - r.dice as loss, r.blinded as random
from serving.review_v r
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s and r.feature_seq > %(after)s
  and coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') = %(sequence)s order by r.seq limit 10000"""


def reviews(conn: Conn, clinic_id: UUID, key: Key, after: int) -> list[Review]:
    """Reviews of the stream's studies whose feature row is later than ``after``, in the order of the reviews."""
    return [
        Review(int(seq), int(study_seq), groups.name(groups.facts(profile or {})), loss, bool(random))
        for seq, study_seq, profile, loss, random in conn.execute(
            REVIEWS, {"clinic_id": clinic_id, "after": after, **asdict(key)}
        )
    ]


# Streams of which a review came since their verdict was given: a verdict must not wait for the next study.
REVIEWED = """
select distinct s.clinic_id, s.id as stream_id, s.task, s.sequence, s.digest, t.seq, t.state
from monitoring.stream s join monitoring.stream_state t on t.clinic_id = s.clinic_id and t.stream_id = s.id
join monitoring.verdict_v d on d.clinic_id = s.clinic_id and d.stream_id = s.id
join serving.review_v r on r.clinic_id = s.clinic_id and r.task = s.task and r.digest = s.digest
where r.seq > coalesce((d.evidence ->> 'review_seq')::bigint, 0) and r.feature_seq is not null
  and coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') = s.sequence order by s.clinic_id, s.id limit 1000"""


def reviewed(conn: Conn) -> list[tuple[UUID, UUID]]:
    """Clinic and stream where a review is waiting to be judged."""
    return [(row[0], row[1]) for row in conn.execute(REVIEWED)]


LAST_REVIEW = """
select coalesce(max(r.seq), 0) from serving.review_v r
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s
  and coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') = %(sequence)s"""


def last_review(conn: Conn, clinic_id: UUID, key: Key) -> int:
    """The latest review that a verdict given now has seen."""
    row = conn.execute(LAST_REVIEW, {"clinic_id": clinic_id, **asdict(key)}).fetchone()
    return int(row[0]) if row else 0
