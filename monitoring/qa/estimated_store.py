"""Rows of estimated performance: studies and drawn reviews that it is made of, and the latest of each stream."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from monitoring.judge.harm import loss_of
from monitoring.qa.estimated import DAYS, Estimated, Label
from registry.core.db import Conn

# Streams of what is bound now that have none, one of yesterday, or one that does not know the latest review.
DUE = """
select s.clinic_id, s.id as stream_id, s.task, s.sequence, s.digest
from monitoring.stream s left join monitoring.estimate e on e.clinic_id = s.clinic_id and e.stream_id = s.id
where exists (select from registry.binding b where b.clinic_id = s.clinic_id and b.task = s.task
    and b.digest = s.digest and b.role = 'active' and upper_inf(b.valid))
  and (e.at is null or e.at < now() - interval '1 day' or e.review_seq < (select coalesce(max(r.seq), 0)
    from serving.review_v r where r.clinic_id = s.clinic_id and r.task = s.task and r.digest = s.digest))
order by e.at nulls first, s.id limit %(limit)s"""


def due(conn: Conn, limit: int) -> list[tuple[UUID, UUID, str, str, str]]:
    """Clinic, stream, task, sequence and version of what is to be estimated, the longest waiting first."""
    return [(row[0], row[1], row[2], row[3], row[4]) for row in conn.execute(DUE, {"limit": limit})]


STUDIES = """
select distinct on (f.study_id) f.study_id, f.values from serving.feature_v f
join serving.study_v s on s.clinic_id = f.clinic_id and s.study_id = f.study_id
where f.clinic_id = %(clinic_id)s and f.task = %(task)s and f.digest = %(digest)s and s.state <> 'past'
  and coalesce(f.profile ->> 'sequence_class', 'UNKNOWN') = %(sequence)s
  and f.at > now() - make_interval(days => %(days)s) order by f.study_id, f.seq desc limit 10000"""


def studies(
    conn: Conn, clinic_id: UUID, task: str, sequence: str, digest: str
) -> dict[str, dict[str, float]]:
    """Features of a stream's studies of the last 90 days, by study."""
    place = {"clinic_id": clinic_id, "task": task, "sequence": sequence, "digest": digest, "days": DAYS}
    return {str(study): _numbers(values) for study, values in conn.execute(STUDIES, place)}


# Only what was drawn before it was read, one label a study, its first reading: as for harm.
LABELS = """
select distinct on (r.clinic_id, r.study_id) r.clinic_id, r.study_id, r.decision, r.dice, a.chance, f.values
from serving.review_v r
join monitoring.stream s on s.clinic_id = r.clinic_id and s.task = r.task and s.digest = r.digest
  and s.sequence = coalesce(r.profile ->> 'sequence_class', 'UNKNOWN')
join monitoring.audit a on a.clinic_id = r.clinic_id and a.stream_id = s.id and a.study_id = r.study_id
join serving.feature_v f on f.clinic_id = r.clinic_id and f.seq = r.feature_seq
where r.task = %(task)s and r.digest = %(digest)s and s.sequence = %(sequence)s and a.chosen and r.at >= a.drawn_at
order by r.clinic_id, r.study_id, r.seq limit 20000"""


def labels(conn: Conn, task: str, sequence: str, digest: str) -> list[Label]:
    """Drawn and read studies of every clinic with this version; needs a monitor transaction."""
    found = []
    place = {"task": task, "sequence": sequence, "digest": digest}
    for clinic, study, decision, dice, chance, values in conn.execute(LABELS, place):
        loss = loss_of(decision, dice)
        if loss is not None:
            found.append(Label(str(clinic), str(study), loss, float(chance), _numbers(values)))
    return found


LAST_REVIEW = """
select coalesce(max(r.seq), 0) from serving.review_v r
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.digest = %(digest)s"""


def last_review(conn: Conn, clinic_id: UUID, task: str, digest: str) -> int:
    """The latest review of this version here."""
    row = conn.execute(LAST_REVIEW, {"clinic_id": clinic_id, "task": task, "digest": digest}).fetchone()
    return int(row[0]) if row else 0


KEEP = """
insert into monitoring.estimate(clinic_id, stream_id, review_seq, estimated)
values (%(clinic_id)s, %(stream_id)s, %(review_seq)s, %(estimated)s)
on conflict (clinic_id, stream_id) do update set review_seq = excluded.review_seq, estimated = excluded.estimated,
  at = clock_timestamp()"""


def keep(conn: Conn, clinic_id: UUID, stream_id: UUID, review_seq: int, its: Estimated) -> None:
    """Keep the latest estimate of a stream."""
    body = asdict(its) | {"sentence": its.sentence}
    values = {
        "clinic_id": clinic_id,
        "stream_id": stream_id,
        "review_seq": review_seq,
        "estimated": Jsonb(body),
    }
    conn.execute(KEEP, values)


LATEST = """
select stream_id, estimated, at from monitoring.estimate_v
where %(clinic)s::text is null or clinic = %(clinic)s limit 20000"""


def latest(conn: Conn, clinic: str | None) -> dict[UUID, dict[str, Any]]:
    """The latest estimate of each stream, with the time it was made."""
    return {row[0]: {**row[1], "at": row[2].isoformat()} for row in conn.execute(LATEST, {"clinic": clinic})}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(v)
        for name, v in (values or {}).items()
        if isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v)
    }
