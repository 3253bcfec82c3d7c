"""Rows of cohorts: reviewed studies with corrected masks, whose side each person is on, what was frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One study with the corrected mask that counts. ``person_key`` is a digest, never the PatientID."""

    study_id: UUID
    review_id: UUID
    person_key: bytes
    blinded: bool
    mask_path: str
    mask_sha256: str


LOCK = (
    "select pg_advisory_xact_lock(hashtextextended('cohort:' || %(clinic_id)s::text || ':' || %(task)s, 0))"
)


def lock(conn: Conn, clinic_id: UUID, task: str) -> None:
    """Let one cohort of a clinic's task be drawn at a time until the transaction ends."""
    conn.execute(LOCK, {"clinic_id": clinic_id, "task": task})


# One mask a study: of its newest answer, a blinded reader's before others, then the latest.
REVIEWED = """
select distinct on (r.study_id) r.study_id, r.id as review_id, s.patient_key as person_key, r.blinded, r.mask_path,
  encode(r.mask_sha256, 'hex') as mask_sha256
from serving.review r join serving.study s on s.clinic_id = r.clinic_id and s.id = r.study_id
where r.clinic_id = %(clinic_id)s and r.task = %(task)s and r.withdrawn_at is null and r.mask_path is not null
  and s.patient_key is not null and r.revision = s.revision
order by r.study_id, r.blinded desc, r.seq desc limit 10000"""


def reviewed(conn: Conn, clinic_id: UUID, task: str) -> Sequence[Reviewed]:
    """Studies with a corrected mask that counts. Needs the clinic's transaction."""
    with conn.cursor(row_factory=class_row(Reviewed)) as cursor:
        return cursor.execute(REVIEWED, {"clinic_id": clinic_id, "task": task}).fetchall()


SIDES = """
select person_key, split from serving.dataset_person where clinic_id = %(clinic_id)s and task = %(task)s limit 100000"""


def sides(conn: Conn, clinic_id: UUID, task: str) -> dict[bytes, str]:
    """The side of everybody who was in a cohort of this task before."""
    rows = conn.execute(SIDES, {"clinic_id": clinic_id, "task": task}).fetchall()
    return {bytes(key): str(split) for key, split in rows}


ADD_PERSON = """
insert into serving.dataset_person(clinic_id, task, person_key, split)
values (%(clinic_id)s, %(task)s, %(person_key)s, %(split)s)"""


def add_people(conn: Conn, clinic_id: UUID, task: str, people: Mapping[bytes, str]) -> None:
    """Put people on a side, once and for ever."""
    for key, split in people.items():
        conn.execute(ADD_PERSON, {"clinic_id": clinic_id, "task": task, "person_key": key, "split": split})


ADD = """
insert into serving.dataset_snapshot(clinic_id, task, digest, people_train, people_evaluation, studies, made_by)
values (%(clinic_id)s, %(task)s, %(digest)s, %(people_train)s, %(people_evaluation)s, %(studies)s, %(by)s)
on conflict (clinic_id, task, digest) do nothing returning id"""
KNOWN = """
select id from serving.dataset_snapshot where clinic_id = %(clinic_id)s and task = %(task)s and digest = %(digest)s"""
ADD_ITEM = """
insert into serving.dataset_item(clinic_id, snapshot_id, task, study_id, review_id, person_key, split)
values (%(clinic_id)s, %(snapshot_id)s, %(task)s, %(study_id)s, %(review_id)s, %(person_key)s, %(split)s)"""


def add(
    conn: Conn, clinic_id: UUID, task: str, digest: str, items: Sequence[tuple[Reviewed, str]],
    *, people_train: int, people_evaluation: int, by: str,
) -> UUID:  # fmt: skip
    """Write a cohort with its items; the same again is found, not written."""
    base = {"clinic_id": clinic_id, "task": task, "digest": digest}
    counts = {
        "people_train": people_train,
        "people_evaluation": people_evaluation,
        "studies": len(items),
        "by": by,
    }
    made = conn.execute(ADD, base | counts).fetchone()
    if made is None:
        known = conn.execute(KNOWN, base).fetchone()
        assert known is not None
        return UUID(str(known[0]))
    for item, split in items:
        values = {
            "snapshot_id": made[0], "study_id": item.study_id, "review_id": item.review_id,
            "person_key": item.person_key, "split": split,
        }  # fmt: skip
        conn.execute(ADD_ITEM, base | values)
    return UUID(str(made[0]))
