"""SQL of results: the answer, its objects, outbox rows and feature row, in the transaction that ends the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from registry.core.db import Conn
from registry.core.queue_store import Job
from serving.results import outbox_store
from serving.results.errors import DestinationUnknown


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One result object that is durable in the store. ``sha256`` is of the file's bytes."""

    kind: str
    SOPInstanceUID: str
    SOPClassUID: str
    path: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt found, as it is stored."""

    task: str
    binding_scope: str
    binding_seq: int
    digest: str
    scanner_id: UUID | None
    findings: Mapping[str, Any]
    objects: tuple[StoredObject, ...]
    profile: Mapping[str, Any]
    features: Mapping[str, Any]
    input_sha256: bytes | None = None
    """``studies_store.input_digest`` of the series that was read."""


ADD_RESULT = """
insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, digest,
  scanner_id, findings, input_sha256)
values (%(clinic_id)s, %(study_id)s, %(revision)s, %(task)s, %(job_id)s, %(fence)s, %(scope)s, %(seq)s, %(digest)s,
  %(scanner_id)s, %(findings)s, %(input_sha256)s) returning id"""

ADD_OBJECT = """
insert into serving.result_object(clinic_id, result_id, kind, "SOPInstanceUID", "SOPClassUID", path, size, sha256)
values (%(clinic_id)s, %(result_id)s, %(kind)s, %(sop)s, %(sop_class)s, %(path)s, %(size)s, %(sha256)s) returning id"""

ADD_OUTBOX = """
insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, scanner_id, digest)
select d.clinic_id, %(job_id)s, %(object_id)s, d.id, %(study_id)s, %(scanner_id)s, %(digest)s
from serving.destination d where d.clinic_id = %(clinic_id)s and d.active and %(kind)s = any(d.objects)
  and not registry.is_silent(d.clinic_id, %(task)s)
returning id"""

ADD_FEATURE = """
insert into serving.feature(clinic_id, study_id, revision, task, digest, scanner_id, profile, values)
values (%(clinic_id)s, %(study_id)s, %(revision)s, %(task)s, %(digest)s, %(scanner_id)s, %(profile)s, %(values)s)"""


def record(conn: Conn, job: Job, outcome: Outcome) -> int:
    """Store the answer, its objects, one outbox row per object and destination, and the feature row.

    The caller's transaction also finishes the job under its fence, so all of it happens once or not at all.
    What archives have not taken of earlier answers is superseded. Returns the number of outbox rows.
    """
    base = {
        "clinic_id": job.clinic_id, "study_id": job.study_id, "revision": job.revision, "job_id": job.id,
        "fence": job.fence, "task": outcome.task, "scope": outcome.binding_scope, "seq": outcome.binding_seq,
        "digest": outcome.digest, "scanner_id": outcome.scanner_id, "input_sha256": outcome.input_sha256,
    }  # fmt: skip
    row = conn.execute(ADD_RESULT, {**base, "findings": Jsonb(dict(outcome.findings))}).fetchone()
    assert row is not None
    waiting = 0
    for made in outcome.objects:
        values = {
            **base, "result_id": row[0], "kind": made.kind, "sop": made.SOPInstanceUID or None,
            "sop_class": made.SOPClassUID or None,
            "path": made.path, "size": made.size, "sha256": made.sha256,
        }  # fmt: skip
        its_id = conn.execute(ADD_OBJECT, values).fetchone()
        assert its_id is not None
        waiting += len(conn.execute(ADD_OUTBOX, {**values, "object_id": its_id[0]}).fetchall())
    conn.execute(
        ADD_FEATURE,
        {**base, "profile": Jsonb(dict(outcome.profile)), "values": Jsonb(dict(outcome.features))},
    )
    outbox_store.supersede(conn, job.clinic_id, job.study_id)
    if waiting:
        conn.execute("select pg_notify('radfleet_outbox', '')")
    return waiting


REPORT_BEFORE = """
select o.path from serving.result r join serving.result_object o on o.clinic_id = r.clinic_id and o.result_id = r.id
where r.clinic_id = %(clinic_id)s and r.study_id = %(study_id)s and r.task = %(task)s and r.revision < %(revision)s
  and o.kind = 'sr' order by r.revision desc limit 1"""


def report_before(conn: Conn, clinic_id: UUID, study_id: UUID, task: str, revision: int) -> str | None:
    """Where the report of the latest earlier revision lies in the store, which a new one replaces."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "task": task, "revision": revision}
    row = conn.execute(REPORT_BEFORE, values).fetchone()
    return str(row[0]) if row else None


EARLIER = """
select revision, digest, input_sha256 from serving.result
where clinic_id = %(clinic_id)s and study_id = %(study_id)s and task = %(task)s and revision < %(revision)s
order by revision desc limit 1"""


def earlier(
    conn: Conn, clinic_id: UUID, study_id: UUID, task: str, revision: int
) -> tuple[int, str, bytes | None] | None:
    """(revision, digest of the version, digest of what it read) of the latest answer before ``revision``."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "task": task, "revision": revision}
    row = conn.execute(EARLIER, values).fetchone()
    return None if row is None else (row[0], row[1], None if row[2] is None else bytes(row[2]))


SILENT = "select registry.is_silent(%(clinic_id)s, %(task)s)"


def is_silent(conn: Conn, clinic_id: UUID, task: str) -> bool:
    """Whether answers of this task are kept and not delivered, because the clinic's onboarding has not accepted one."""
    row = conn.execute(SILENT, {"clinic_id": clinic_id, "task": task}).fetchone()
    return bool(row and row[0])


FINDINGS = """
select case when b.task is null then r.findings else r.findings || jsonb_build_object('findings', '[]'::jsonb,
  'numbers', '{}'::jsonb, 'warnings', jsonb_build_array(%(blind)s::text)) end
from serving.result r left join monitoring.blind_v b
  on b.clinic_id = r.clinic_id and b.study_id = r.study_id and b.task = r.task
where r.clinic_id = %(clinic_id)s and r.study_id = %(study_id)s order by r.revision desc, r.task limit 20"""
BLIND = "Drawn to be read blind: what was found is shown when the reading is entered."


def findings(conn: Conn, clinic_id: UUID, study_id: UUID) -> list[dict[str, Any]]:
    """The findings documents of a study, newest revision first; one still to be read blind is empty and says so."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "blind": BLIND}
    rows = conn.execute(FINDINGS, values).fetchall()
    return [row[0] for row in rows]


OBJECT_PATHS = (
    "select path from serving.result_object where clinic_id = %(clinic_id)s and path = any(%(paths)s)"
)


def known_objects(conn: Conn, clinic_id: UUID, paths: list[str]) -> set[str]:
    """Which of these store paths belong to a result object."""
    return {row[0] for row in conn.execute(OBJECT_PATHS, {"clinic_id": clinic_id, "paths": paths}).fetchall()}


DESTINATIONS = """
select d.name, d.kind, d.host, d.port, d.ae_title, d.url, d.objects, d.active, c.slug as clinic
from serving.destination d join registry.clinic c on c.id = d.clinic_id
where %(clinic_id)s::uuid is null or d.clinic_id = %(clinic_id)s order by c.slug, d.name limit %(limit)s"""


def destinations(conn: Conn, clinic_id: UUID | None, limit: int) -> list[dict[str, Any]]:
    """The destinations of one clinic, or of all; for the system role."""
    names = ("name", "kind", "host", "port", "ae_title", "url", "objects", "active", "clinic")
    return [
        dict(zip(names, row, strict=True))
        for row in conn.execute(DESTINATIONS, {"clinic_id": clinic_id, "limit": limit}).fetchall()
    ]


ADD_DESTINATION = """
insert into serving.destination(clinic_id, name, kind, host, port, ae_title, url, objects)
values (%(clinic_id)s, %(name)s, %(kind)s, %(host)s, %(port)s, %(ae_title)s, %(url)s, %(objects)s)
on conflict (clinic_id, name) do update set kind = excluded.kind, host = excluded.host, port = excluded.port,
  ae_title = excluded.ae_title, url = excluded.url, objects = excluded.objects, active = true"""


def add_destination(conn: Conn, clinic_id: UUID, name: str, kind: str, *, host: str = "", port: int = 0,
                    ae_title: str = "", url: str = "", objects: list[str]) -> None:  # fmt: skip
    """Add or change one destination of a clinic."""
    conn.execute(
        ADD_DESTINATION,
        {"clinic_id": clinic_id, "name": name, "kind": kind, "host": host, "port": port, "ae_title": ae_title,
         "url": url, "objects": objects},
    )  # fmt: skip


DISABLE = """
update serving.destination set active = false where clinic_id = %(clinic_id)s and name = %(name)s returning id"""


def disable_destination(conn: Conn, clinic_id: UUID, name: str) -> None:
    """Send nothing new to this destination. Raises DestinationUnknown."""
    if conn.execute(DISABLE, {"clinic_id": clinic_id, "name": name}).fetchone() is None:
        raise DestinationUnknown(f"this clinic has no destination {name!r}")


# Not before a study that is to be read blind was read: the preview shows the mask and what was found.
PREVIEW_PATH = """
select o.path from serving.result_object o
join serving.result r on r.clinic_id = o.clinic_id and r.id = o.result_id
where o.clinic_id = %(clinic_id)s and o.id = %(id)s and o.kind = 'preview'
  and not exists (select from monitoring.blind_v b
    where b.clinic_id = r.clinic_id and b.study_id = r.study_id and b.task = r.task)"""


def preview_path(conn: Conn, clinic_id: UUID, object_id: UUID) -> str | None:
    """Where a clinic's preview lies in the store; None while its study is still to be read blind."""
    row = conn.execute(PREVIEW_PATH, {"clinic_id": clinic_id, "id": object_id}).fetchone()
    return str(row[0]) if row else None
