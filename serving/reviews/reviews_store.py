"""SQL of reviews."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn
from serving.reviews.errors import ReviewExists


@dataclass(frozen=True, slots=True)
class Answered:
    """The newest answer of one task to one study. ``labels`` is model.json's block; paths are relative to the store."""

    study_id: UUID
    revision: int
    task: str
    result_id: UUID
    digest: str
    model: str
    scanner_id: UUID | None
    labels: Mapping[str, Mapping[str, Any]]
    seg_path: str | None
    StudyInstanceUID: str
    parameters: Mapping[str, Any]
    chance_path: str | None
    chance_sha256: bytes | None


ANSWERED = """
select distinct on (r.task) r.study_id, r.revision, r.task, r.id as result_id, r.digest,
  v.name || '@' || v.version as model, r.scanner_id, coalesce(v.model -> 'labels', '{}') as labels, o.path as seg_path,
  s."StudyInstanceUID", coalesce(v.model -> 'parameters', '{}') as parameters, p.path as chance_path,
  p.sha256 as chance_sha256
from serving.result r
join serving.study s on s.clinic_id = r.clinic_id and s.id = r.study_id
join registry.model_version v on v.digest = r.digest
left join serving.result_object o on o.clinic_id = r.clinic_id and o.result_id = r.id and o.kind = 'seg'
left join serving.result_object p on p.clinic_id = r.clinic_id and p.result_id = r.id and p.kind = 'chance'
where r.clinic_id = %(clinic_id)s and r.study_id = %(study_id)s
order by r.task, r.revision desc"""


def answers(conn: Conn, clinic_id: UUID, study_id: UUID) -> Sequence[Answered]:
    """The newest answer of each task of a study; none where the clinic has no such study."""
    with conn.cursor(row_factory=class_row(Answered)) as cursor:
        return cursor.execute(ANSWERED, {"clinic_id": clinic_id, "study_id": study_id}).fetchall()


STUDY = "select 1 from serving.study where clinic_id = %(clinic_id)s and id = %(study_id)s"


def has_study(conn: Conn, clinic_id: UUID, study_id: UUID) -> bool:
    """Whether the clinic has this study."""
    return conn.execute(STUDY, {"clinic_id": clinic_id, "study_id": study_id}).fetchone() is not None


IMAGES = """
select path from (
  select distinct on ("SOPInstanceUID") path from serving.instance
  where clinic_id = %(clinic_id)s and study_id = %(study_id)s
    and (%(uids)s::text[] is null or "SOPInstanceUID" = any(%(uids)s)) order by "SOPInstanceUID", version) i
order by path limit %(limit)s"""


def images(
    conn: Conn, clinic_id: UUID, study_id: UUID, uids: Sequence[str] | None, limit: int = 20000
) -> list[str]:
    """Store paths of a study's current instances, of all or of those with these SOPInstanceUIDs."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "uids": None if uids is None else list(uids)}
    return [row[0] for row in conn.execute(IMAGES, {**values, "limit": limit}).fetchall()]


@dataclass(frozen=True, slots=True)
class Kept:
    """A corrected mask in the store, and how it agrees with the delivered one."""

    kind: str
    path: str
    size: int
    sha256: bytes
    dice: float
    delivered_ml: float
    corrected_ml: float


@dataclass(frozen=True, slots=True)
class Scored:
    """What else a reader's decision says: Dice by step of the threshold, Dice with the first reader's mask."""

    recalibrated: Mapping[str, float] | None = None
    between_readers: float | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """One review as people read it. ``dice`` is None where no mask was given.

    ``hidden``: who asks may still have to read this study blind, so that decision, Dice and volumes are None.
    """

    id: UUID
    clinic: str
    study_id: UUID
    task: str
    digest: str
    decision: str | None
    blinded: bool
    dice: float | None
    delivered_ml: float | None
    corrected_ml: float | None
    reader: str
    minutes: float | None
    at: datetime
    withdrawn_at: datetime | None
    hidden: bool


COLUMNS = """r.id, c.slug as clinic, r.study_id, r.task, r.digest, r.blinded, r.reader, r.minutes, r.at, r.withdrawn_at,
  h.hidden, case when not h.hidden then r.decision end as decision, case when not h.hidden then r.dice end as dice,
  case when not h.hidden then r.delivered_ml end as delivered_ml,
  case when not h.hidden then r.corrected_ml end as corrected_ml"""
# A study that still needs a blind reader tells what others said to those alone who have read its newest answer.
JOINED = """r join registry.clinic c on c.id = r.clinic_id
cross join lateral (select r.reader <> %(asks)s and exists (select from monitoring.due_v d
  where d.clinic_id = r.clinic_id and d.study_id = r.study_id and d.task = r.task and d.blinded
    and not exists (select from serving.review m where m.clinic_id = d.clinic_id and m.study_id = d.study_id
      and m.task = d.task and m.digest = d.digest and m.reader = %(asks)s and m.withdrawn_at is null)) as hidden) h"""
ADD = f"""
with r as (
  insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, scanner_id, decision, blinded,
    reader, minutes, note, dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256, recalibrated,
    between_readers)
  values (%(clinic_id)s, %(study_id)s, %(revision)s, %(task)s, %(result_id)s, %(digest)s, %(scanner_id)s, %(decision)s,
    %(blinded)s, %(reader)s, %(minutes)s, %(note)s, %(dice)s, %(delivered_ml)s, %(corrected_ml)s, %(kind)s, %(path)s,
    %(size)s, %(sha256)s, %(recalibrated)s, %(between_readers)s)
  returning *)
select {COLUMNS} from r {JOINED}"""  # noqa: S608 - our own column list


def add(
    conn: Conn, clinic_id: UUID, of: Answered, kept: Kept | None, *, decision: str, blinded: bool, reader: str,
    minutes: float | None, note: str, scored: Scored | None = None,
) -> Review:  # fmt: skip
    """Record a review in the clinic's transaction. Raises ReviewExists."""
    values = {
        "clinic_id": clinic_id, "study_id": of.study_id, "revision": of.revision, "task": of.task,
        "result_id": of.result_id, "digest": of.digest, "scanner_id": of.scanner_id, "decision": decision,
        "blinded": blinded, "reader": reader, "asks": reader, "minutes": minutes, "note": note,
        **{name: getattr(kept, name, None) for name in Kept.__dataclass_fields__},
    }  # fmt: skip
    scored = scored or Scored()
    values["recalibrated"] = Jsonb(dict(scored.recalibrated)) if scored.recalibrated else None
    values["between_readers"] = scored.between_readers
    with conn.cursor(row_factory=class_row(Review)) as cursor:
        try:
            row = cursor.execute(ADD, values).fetchone()
        except UniqueViolation:
            raise ReviewExists from None
    assert row is not None
    return row


LIST = f"""
select {COLUMNS} from serving.review {JOINED}
where (%(clinic_id)s::uuid is null or r.clinic_id = %(clinic_id)s)
  and (%(study_id)s::uuid is null or r.study_id = %(study_id)s) and (%(withdrawn)s or r.withdrawn_at is null)
order by r.seq desc limit %(limit)s"""  # noqa: S608 - our own column list


def page(
    conn: Conn, clinic_id: UUID | None, study_id: UUID | None, asks: str, *, withdrawn: bool, limit: int
) -> Sequence[Review]:
    """Reviews as ``asks`` may see them, the newest first; for the system role (no note, no path)."""
    values = {
        "clinic_id": clinic_id,
        "study_id": study_id,
        "asks": asks,
        "withdrawn": withdrawn,
        "limit": limit,
    }
    with conn.cursor(row_factory=class_row(Review)) as cursor:
        return cursor.execute(LIST, values).fetchall()


FIND = """
select clinic_id, id from serving.review
where id::text like %(prefix)s || '%%' and withdrawn_at is null order by id limit 2"""


def find(conn: Conn, prefix: str) -> list[tuple[UUID, UUID]]:
    """(clinic, review) of the reviews that count and whose id begins so, at most two; for the system role."""
    return conn.execute(FIND, {"prefix": prefix}).fetchall()


WITHDRAW = f"""
with r as (
  update serving.review set withdrawn_at = clock_timestamp(), withdrawn_by = %(by)s, withdrawn_reason = %(reason)s
  where clinic_id = %(clinic_id)s and id = %(review_id)s and withdrawn_at is null returning *)
select {COLUMNS} from r {JOINED}"""  # noqa: S608 - our own column list


def withdraw(conn: Conn, clinic_id: UUID, review_id: UUID, *, by: str, reason: str) -> Review | None:
    """Let a review count no longer; None where there is none that counts. The row and its mask stay."""
    values = {"clinic_id": clinic_id, "review_id": review_id, "by": by, "reason": reason, "asks": by}
    with conn.cursor(row_factory=class_row(Review)) as cursor:
        return cursor.execute(WITHDRAW, values).fetchone()


KNOWN = "select mask_path from serving.review where clinic_id = %(clinic_id)s and mask_path = any(%(paths)s)"


def known_masks(conn: Conn, clinic_id: UUID, paths: Sequence[str]) -> set[str]:
    """Which of these store paths are masks of reviews, withdrawn ones too."""
    return {row[0] for row in conn.execute(KNOWN, {"clinic_id": clinic_id, "paths": list(paths)}).fetchall()}


FIRST_MASK = """
select mask_path, mask_sha256 from serving.review where clinic_id = %(clinic_id)s and result_id = %(result_id)s
  and reader <> %(reader)s and mask_path is not null and withdrawn_at is null order by seq limit 1"""


def first_mask(conn: Conn, clinic_id: UUID, result_id: UUID, reader: str) -> tuple[str, bytes] | None:
    """(store path, sha256) of the first mask that somebody else than ``reader`` gave for an answer."""
    values = {"clinic_id": clinic_id, "result_id": result_id, "reader": reader}
    return conn.execute(FIRST_MASK, values).fetchone()


MASK = """
select mask_path, mask_sha256 from serving.review
where clinic_id = %(clinic_id)s and id = %(review_id)s and mask_path is not null"""


def mask(conn: Conn, clinic_id: UUID, review_id: UUID) -> tuple[str, bytes] | None:
    """(store path, sha256) of a review's mask."""
    return conn.execute(MASK, {"clinic_id": clinic_id, "review_id": review_id}).fetchone()
