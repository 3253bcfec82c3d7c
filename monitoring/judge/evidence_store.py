"""What a verdict reads besides the stream itself, and what it asks for: reviews, draws, ends of studies, holds."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from monitoring.judge.audits import Draw, Standing
from monitoring.judge.harm import Review, loss_of
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
    return found | {"gates": list(its.gates), "drifted": its.drifted, "suspected": its.suspected}


# Evidence are studies that were drawn before they were read; their labels belong to this version's answers alone.
REVIEWS = """
select r.seq, coalesce(r.feature_seq, 0) as study_seq, r.profile, r.dice, r.study_id, r.decision, r.blinded,
  r.recalibrated, r.between_readers, coalesce(a.chosen and r.at >= a.drawn_at, false) as random
from serving.review_v r
left join monitoring.audit a on a.clinic_id = r.clinic_id and a.stream_id = %(stream_id)s and a.study_id = r.study_id
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s and r.feature_seq > %(after)s
  and coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') = %(sequence)s order by r.seq limit 10000"""


def reviews(conn: Conn, clinic_id: UUID, stream_id: UUID, key: Key, after: int) -> list[Review]:
    """Reviews of the stream's studies whose feature row is later than ``after``, in the order of the reviews."""
    values = {"clinic_id": clinic_id, "stream_id": stream_id, "after": after, **asdict(key)}
    return [
        Review(
            int(seq), int(study_seq), groups.name(groups.facts(profile or {})), loss_of(decision, dice), bool(random),
            str(study), decision, bool(blinded),
            {float(step): float(its) for step, its in ladder.items()} if ladder else None, between,
        )
        for seq, study_seq, profile, dice, study, decision, blinded, ladder, between, random in conn.execute(
            REVIEWS, values
        )
    ]  # fmt: skip


# Of the clinic, because a study that is refused has no version. Studies of a clinic's past were answered by nobody.
# Of a busy clinic the newest: what fails today must not lie behind a limit.
ENDED = """
select failed, late from (
  select state in ('rejected', 'dead') as failed, finished_at - last_at > %(late_after)s as late, finished_at, study_id
  from serving.study_v
  where clinic_id = %(clinic_id)s and finished_at > now() - interval '90 days' and state <> 'past'
  order by finished_at desc, study_id desc limit 10000) newest
order by finished_at, study_id"""


def ended(conn: Conn, clinic_id: UUID, late_after: timedelta) -> list[tuple[bool, bool]]:
    """Of each study that ended in 90 days, in order: whether it failed, and whether it took longer than may be."""
    return [
        (bool(failed), bool(late))
        for failed, late in conn.execute(ENDED, {"clinic_id": clinic_id, "late_after": late_after})
    ]


STANDING = """
select rule, seq, evidence -> 'labels', evidence -> 'suspected' from monitoring.verdict_v
where clinic_id = %(clinic_id)s and stream_id = %(stream_id)s"""


def standing(conn: Conn, clinic_id: UUID, stream_id: UUID, flagged_seq: int | None) -> Standing:
    """What the verdict that holds says about how much should be read."""
    row = conn.execute(STANDING, {"clinic_id": clinic_id, "stream_id": stream_id}).fetchone()
    if row is None:
        return Standing()
    about_drift = flagged_seq is not None and row[1] >= flagged_seq
    return Standing(int(row[0]), int(row[2] or 0), suspected=bool(row[3]), answers_drift=about_drift)


ADD_AUDIT = """
insert into monitoring.audit(clinic_id, stream_id, study_id, seq, chance, draw, why, blinded, twice)
values (%(clinic_id)s, %(stream_id)s, %(study_id)s, %(seq)s, %(chance)s, %(draw)s, %(why)s, %(blinded)s, %(twice)s)"""


def add_draws(conn: Conn, clinic_id: UUID, stream_id: UUID, draws: Sequence[tuple[int, str, Draw]]) -> None:
    """Write down what was drawn of each study: feature row, study, draw."""
    base = {"clinic_id": clinic_id, "stream_id": stream_id}
    with conn.cursor() as cursor:
        cursor.executemany(
            ADD_AUDIT, [base | {"seq": seq, "study_id": study} | asdict(its) for seq, study, its in draws]
        )


ASK_HOLD = """
insert into monitoring.hold_request(clinic_id, stream_id, epoch, reason)
values (%(clinic_id)s, %(stream_id)s, %(epoch)s, %(reason)s) on conflict do nothing"""


def ask_hold(conn: Conn, clinic_id: UUID, stream_id: UUID, epoch: int, reason: str) -> None:
    """Ask registry to stop delivery of the stream's version at this clinic, once an epoch."""
    conn.execute(ASK_HOLD, {"clinic_id": clinic_id, "stream_id": stream_id, "epoch": epoch, "reason": reason})


# Streams of which a review came or was withdrawn since their verdict was given: it must not wait for the next study.
REVIEWED = """
with read as (
  select clinic_id, task, digest, coalesce(profile ->> 'sequence_class', 'UNKNOWN') as sequence,
    max(seq) as last, count(*) as n
  from serving.review_v where feature_seq is not null group by 1, 2, 3, 4)
select s.clinic_id, s.id as stream_id
from monitoring.stream s join monitoring.verdict_v d on d.clinic_id = s.clinic_id and d.stream_id = s.id
left join read r on r.clinic_id = s.clinic_id and r.task = s.task and r.digest = s.digest and r.sequence = s.sequence
where coalesce(r.last, 0) <> coalesce((d.evidence ->> 'review_seq')::bigint, 0)
  or coalesce(r.n, 0) <> coalesce((d.evidence ->> 'reviews')::bigint, r.n, 0) order by s.clinic_id, s.id limit 1000"""


def reviewed(conn: Conn) -> list[tuple[UUID, UUID]]:
    """Clinic and stream where a review, or that it was withdrawn, is waiting to be judged."""
    return [(row[0], row[1]) for row in conn.execute(REVIEWED)]


SEEN = """
select coalesce(max(r.seq), 0), count(*) from serving.review_v r
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s and r.feature_seq is not null
  and coalesce(r.profile ->> 'sequence_class', 'UNKNOWN') = %(sequence)s"""


def reviews_seen(conn: Conn, clinic_id: UUID, key: Key) -> dict[str, int]:
    """The latest review that a verdict given now has seen, and how many there were."""
    last, n = conn.execute(SEEN, {"clinic_id": clinic_id, **asdict(key)}).fetchall()[0]
    return {"review_seq": int(last), "reviews": int(n)}
