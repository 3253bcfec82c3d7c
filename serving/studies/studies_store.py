"""SQL of studies: record what arrived, close what is complete, end what was worked on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn


class Facts(Protocol):
    """What intake knows of one instance from its header; the names are DICOM keywords."""

    @property
    def SOPClassUID(self) -> str: ...  # noqa: D102, N802
    @property
    def SOPInstanceUID(self) -> str: ...  # noqa: D102, N802
    @property
    def StudyInstanceUID(self) -> str: ...  # noqa: D102, N802
    @property
    def SeriesInstanceUID(self) -> str: ...  # noqa: D102, N802
    @property
    def Modality(self) -> str: ...  # noqa: D102, N802


class Stored(Protocol):
    """A file that is durable under the clinic's folder of the store."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def sha256(self) -> bytes: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one received instance: ``new``, ``duplicate`` (same bytes) or ``conflict`` (other bytes)."""

    outcome: str
    study_id: UUID
    revision: int
    version: int


@dataclass(frozen=True, slots=True)
class StudyRow:
    """Where one study stands."""

    id: UUID
    revision: int
    state: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """One durable instance as ``record_instances`` takes it. ``patient_key`` is a digest, never the PatientID."""

    facts: Facts
    stored: Stored
    source: str
    patient_key: bytes | None = None
    scanner_id: UUID | None = None
    lane: str = "routine"


RECEIVE = "select outcome, its_study, its_revision, its_version from serving.receive(%(objects)s::json)"


def record_instances(conn: Conn, arrived: Sequence[Arrived]) -> list[Receipt]:
    """Record durable instances in the clinic's transaction; the caller's commit makes them received (promise P1).

    The same bytes again are a duplicate and change nothing. Other bytes under the same SOPInstanceUID are kept as
    the next version beside the first, which stays current in its study. One call for all: the rules stand in the
    migration.
    """
    objects = [
        {
            "StudyInstanceUID": a.facts.StudyInstanceUID, "SeriesInstanceUID": a.facts.SeriesInstanceUID,
            "SOPInstanceUID": a.facts.SOPInstanceUID, "SOPClassUID": a.facts.SOPClassUID,
            "Modality": a.facts.Modality, "path": a.stored.path, "size": a.stored.size,
            "sha256": f"\\x{a.stored.sha256.hex()}",
            "patient_key": None if a.patient_key is None else f"\\x{a.patient_key.hex()}",
            "scanner_id": None if a.scanner_id is None else str(a.scanner_id), "source": a.source, "lane": a.lane,
        } for a in arrived
    ]  # fmt: skip
    return [Receipt(*row) for row in conn.execute(RECEIVE, {"objects": json.dumps(objects)}).fetchall()]


HINT = """
update serving.study set deadline = least(deadline, now() + make_interval(secs => %(wait_s)s))
where clinic_id = %(clinic_id)s and id = any(%(study_ids)s) and state = 'receiving'"""


def hint_complete(conn: Conn, clinic_id: UUID, study_ids: list[UUID], wait_s: float = 3.0) -> None:
    """The sender released its association: shorten the wait.

    A hint only: DICOM gives a release no meaning (PS3.4 B.4).
    """
    conn.execute(HINT, {"clinic_id": clinic_id, "study_ids": study_ids, "wait_s": wait_s})


DUE = """
select clinic_id, id from serving.study where state = 'receiving' and deadline < clock_timestamp()
order by deadline limit 100"""


def due(conn: Conn) -> list[tuple[UUID, UUID]]:
    """(clinic, study) of every study whose deadline has passed; for the system role."""
    return conn.execute(DUE).fetchall()


# Skipped while somebody holds it: an instance is coming in, or its door stands still, and other studies are due too.
LOCK_DUE = """
select id, revision, lane, (select count(distinct patient_key) from serving.instance i
    where i.clinic_id = s.clinic_id and i.study_id = s.id) as patients
from serving.study s
where clinic_id = %(clinic_id)s and id = %(study_id)s and state = 'receiving'
  and deadline < clock_timestamp() for update skip locked"""


def lock_due(conn: Conn, clinic_id: UUID, study_id: UUID) -> tuple[UUID, int, str, int] | None:
    """Lock a study that is still due: (id, revision, lane, patients); None when an instance came in or comes in."""
    return conn.execute(LOCK_DUE, {"clinic_id": clinic_id, "study_id": study_id}).fetchone()


# Closing is when a study's person is known: one key in all its instances. A late instance closes it again.
SET_STATE = """
update serving.study s set state = %(state)s, deadline = null, code = %(code)s, cure = %(cure)s,
  finished_at = case when %(state)s in ('done', 'rejected', 'dead') then now() end,
  patient_key = case when not %(closing)s then s.patient_key else (
    select (array_agg(i.patient_key) filter (where i.patient_key is not null))[1] from serving.instance i
    where i.clinic_id = s.clinic_id and i.study_id = s.id having count(distinct i.patient_key) = 1) end
where clinic_id = %(clinic_id)s and id = %(study_id)s and revision = %(revision)s
  and (state <> 'receiving' or %(closing)s)
returning 1"""


def set_state(
    conn: Conn, clinic_id: UUID, study_id: UUID, revision: int, state: str, *, code: str | None = None,
    cure: str | None = None, closing: bool = False,
) -> bool:  # fmt: skip
    """Move one study revision to a state; False when a later revision has begun. Only ``closing`` may end receiving."""
    row = conn.execute(
        SET_STATE,
        {
            "clinic_id": clinic_id, "study_id": study_id, "revision": revision, "state": state, "code": code,
            "cure": cure, "closing": closing,
        },
    ).fetchone()  # fmt: skip
    return row is not None


# Before the jobs are read: of two tasks that end at once, each would still see the other as leased.
LOCK = "select revision from serving.study where clinic_id = %(clinic_id)s and id = %(study_id)s for no key update"
JOBS = """
select state, last_error from registry.job
where clinic_id = %(clinic_id)s and study_id = %(study_id)s and revision = %(revision)s"""


def lock_revision(conn: Conn, clinic_id: UUID, study_id: UUID, revision: int) -> bool:
    """Lock a study until the transaction ends; False when a later revision than ``revision`` has begun."""
    row = conn.execute(LOCK, {"clinic_id": clinic_id, "study_id": study_id}).fetchone()
    return row is not None and row[0] == revision


def settle(
    conn: Conn, clinic_id: UUID, study_id: UUID, revision: int, *, cure: str | None = None
) -> str | None:
    """Derive the study's state from its jobs and store it: any unfinished -> None; dead before done before rejected."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "revision": revision}
    conn.execute(LOCK, values)
    jobs = conn.execute(JOBS, values).fetchall()
    states = [state for state, _ in jobs]
    if not states or {"ready", "leased"} & set(states):
        return None
    state = next(s for s in ("dead", "done", "rejected") if s in states)
    code = next((error for s, error in jobs if s == state and error), None)
    set_state(conn, clinic_id, study_id, revision, state, code=code, cure=cure if state != "done" else None)
    return state


UNSETTLED = """
select s.clinic_id, s.id, s.revision from serving.study s where s.state in ('ready', 'running')
  and exists (select from registry.job j where j.clinic_id = s.clinic_id and j.study_id = s.id
    and j.revision = s.revision)
  and not exists (select from registry.job j where j.clinic_id = s.clinic_id and j.study_id = s.id
    and j.revision = s.revision and j.state in ('ready', 'leased')) limit 100"""


def unsettled(conn: Conn) -> list[tuple[UUID, UUID, int]]:
    """(clinic, study, revision) of what has no unfinished job and no end; for the system role."""
    return conn.execute(UNSETTLED).fetchall()


ADD_STEP = """
insert into serving.step(clinic_id, study_id, revision, step, detail)
values (%(clinic_id)s, %(study_id)s, %(revision)s, %(step)s, %(detail)s)"""


def add_step(
    conn: Conn, clinic_id: UUID, study_id: UUID, revision: int, step: str, detail: dict[str, Any]
) -> None:
    """Add one row to the study's trace. ``detail`` holds numbers, codes and digests, never patient data."""
    conn.execute(
        ADD_STEP,
        {
            "clinic_id": clinic_id,
            "study_id": study_id,
            "revision": revision,
            "step": step,
            "detail": Jsonb(detail),
        },
    )


# Current is the first version that came to this study. One more than a study may have (imaging/limits.py): too many are
# refused by name there and never cut off here.
IMAGES = """
select path, "SeriesInstanceUID", sha256 from (
  select distinct on (i."SOPInstanceUID") i.path, s."SeriesInstanceUID", i.sha256 from serving.instance i
  join serving.series s on s.clinic_id = i.clinic_id and s.id = i.series_id
  where i.clinic_id = %(clinic_id)s and i.study_id = %(study_id)s order by i."SOPInstanceUID", i.version) i
order by path limit 20001"""


@dataclass(frozen=True, slots=True)
class Image:
    """A current instance of a study: its path relative to the store, its series, the sha256 of what was received."""

    path: str
    SeriesInstanceUID: str
    sha256: bytes


def images(conn: Conn, clinic_id: UUID, study_id: UUID) -> list[Image]:
    """The current instances of a study."""
    with conn.cursor(row_factory=class_row(Image)) as cursor:
        return cursor.execute(IMAGES, {"clinic_id": clinic_id, "study_id": study_id}).fetchall()


def instance_paths(conn: Conn, clinic_id: UUID, study_id: UUID) -> list[Path]:
    """Paths, relative to the store, of the current instances of a study."""
    return [Path(image.path) for image in images(conn, clinic_id, study_id)]


def input_digest(found: Sequence[Image], series: str) -> bytes | None:
    """sha256 over the sha256 of each image of one series, in their order; None where the study has none of it."""
    its = sorted(bytes(image.sha256) for image in found if image.SeriesInstanceUID == series)
    return hashlib.sha256(b"".join(its)).digest() if its else None


SCANNER = """
select c.id, c.vendor, c.model, c.serial, c.software from serving.series s
join registry.scanner c on c.clinic_id = s.clinic_id and c.id = s.scanner_id
where s.clinic_id = %(clinic_id)s and s.study_id = %(study_id)s
group by c.id, c.vendor, c.model, c.serial, c.software order by count(*) desc, c.id limit 1"""


@dataclass(frozen=True, slots=True)
class StudyScanner:
    """The scanner that made most series of a study."""

    id: UUID
    vendor: str
    model: str
    serial: str
    software: str

    @property
    def profile(self) -> str:
        """What a ``profile:`` binding scope names: vendor, model and the first word of the software version."""
        return "|".join((self.vendor, self.model, (self.software.split() or [""])[0]))[:64]


def scanner_of(conn: Conn, clinic_id: UUID, study_id: UUID) -> StudyScanner | None:
    """The scanner of a study, or None where no header named one."""
    with conn.cursor(row_factory=class_row(StudyScanner)) as cursor:
        return cursor.execute(SCANNER, {"clinic_id": clinic_id, "study_id": study_id}).fetchone()


@dataclass(frozen=True, slots=True)
class StudyLine:
    """One line of ``radfleet study list``."""

    clinic: str
    study_id: UUID
    revision: int
    state: str
    lane: str
    code: str | None
    instances: int
    delivered: int
    to_deliver: int
    superseded: int
    first_at: datetime
    finished_at: datetime | None


LIST = """
select clinic, study_id, revision, state, lane, code, instances, delivered, to_deliver, superseded,
  first_at, finished_at
from serving.study_v where (%(clinic)s::text is null or clinic = %(clinic)s)
  and (%(state)s::text is null or state = %(state)s)
order by first_at desc, study_id limit %(limit)s"""


def list_studies(conn: Conn, clinic: str | None, state: str | None, limit: int) -> list[StudyLine]:
    """Newest studies first; for the system role (no UIDs, no names)."""
    with conn.cursor(row_factory=class_row(StudyLine)) as cursor:
        return cursor.execute(LIST, {"clinic": clinic, "state": state, "limit": limit}).fetchall()


@dataclass(frozen=True, slots=True)
class Stuck:
    """One unfinished thing past the moment by which something must have moved it."""

    clinic_id: UUID
    study_id: UUID
    revision: int
    what: str
    since: datetime


STUCK = "select clinic_id, study_id, revision, what, since from serving.stuck_v order by since limit 200"


def stuck(conn: Conn) -> list[Stuck]:
    """What is stuck; empty when promise P2 holds."""
    with conn.cursor(row_factory=class_row(Stuck)) as cursor:
        return cursor.execute(STUCK).fetchall()


FIND = """
select clinic_id, id, revision, state from serving.study where id::text like %(prefix)s || '%%' order by id limit 2"""


def find(conn: Conn, prefix: str) -> list[tuple[UUID, UUID, int, str]]:
    """(clinic, study, revision, state) of the studies whose id begins so, at most two."""
    return conn.execute(FIND, {"prefix": prefix}).fetchall()


STEPS = """
select at, revision, step, detail from serving.step where clinic_id = %(clinic_id)s and study_id = %(study_id)s
order by seq limit 500"""


def steps(conn: Conn, clinic_id: UUID, study_id: UUID) -> list[tuple[datetime, int, str, dict[str, Any]]]:
    """The trace of one study."""
    return conn.execute(STEPS, {"clinic_id": clinic_id, "study_id": study_id}).fetchall()


REOPEN = """
update serving.study set state = %(state)s, code = null, cure = null, finished_at = null, last_at = now(),
  deadline = case when %(state)s = 'receiving' then now() end, hard_deadline = now() + interval '30 min'
where clinic_id = %(clinic_id)s and id = %(study_id)s and revision = %(revision)s
  and state in ('dead', 'rejected') returning 1"""


def reopen(conn: Conn, clinic_id: UUID, study_id: UUID, revision: int, state: str) -> bool:
    """Take a dead or rejected study back to ``ready`` or ``receiving``; False when it is neither."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "revision": revision, "state": state}
    return conn.execute(REOPEN, values).fetchone() is not None
