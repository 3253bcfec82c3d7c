"""One clinic with result objects waiting for its destinations, arranged as the superuser."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from serving.results import outbox_store
from tests.kit.db import FreshDb

TASK = "ms-lesion"
DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True, slots=True)
class Arranged:
    """Ids of what was arranged."""

    clinic_id: UUID
    study_id: UUID
    job_id: int
    result_id: UUID
    scanner_id: UUID


def arrange(fresh: FreshDb, slug: str = "north") -> Arranged:
    """A clinic with a scanner, a finished job and its result without objects."""
    with fresh.connect() as conn:
        clinic = _id(conn, "insert into registry.clinic(slug, name) values (%s, %s) returning id", slug, slug)
        conn.execute(
            "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by) "
            "values (%s, 'ms-lesion', '1.0.0', 'ms-lesion', 'cpu-small', '{}', '{}', 'test') on conflict do nothing",
            (DIGEST,),
        )
        scanner = _id(
            conn,
            "insert into registry.scanner(clinic_id, vendor, model, serial, software) "
            "values (%s, 'siemens', 'prisma', '1', 'e11') returning id",
            clinic,
        )
        study = _id(
            conn,
            'insert into serving.study(clinic_id, "StudyInstanceUID", state) values (%s, %s, \'done\') returning id',
            clinic, f"1.2.{slug.encode().hex()[:6]}",
        )  # fmt: skip
        job = _id(
            conn,
            "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, state, payload) "
            "values (%s, 'infer', 'one', %s, 1, 'done', %s) returning id",
            clinic, study, Jsonb({"task": TASK}),
        )  # fmt: skip
        result = _result(conn, clinic, study, 1, job, scanner)
    return Arranged(clinic, study, job, result, scanner)


def later(fresh: FreshDb, its: Arranged, revision: int = 2, task: str = TASK) -> Arranged:
    """A later answer to the same study, stored as the worker does: what was not delivered before is superseded."""
    with fresh.connect() as conn:
        job = _id(
            conn,
            "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, state, payload) "
            "values (%s, 'infer', %s, %s, %s, 'done', %s) returning id",
            its.clinic_id, f"{revision}{task}", its.study_id, revision, Jsonb({"task": task}),
        )  # fmt: skip
    with fresh.database.tenant(its.clinic_id) as conn:
        result = _result(conn, its.clinic_id, its.study_id, revision, job, its.scanner_id, task)
        outbox_store.supersede(conn, its.clinic_id, its.study_id)
    return replace(its, job_id=job, result_id=result)


def _result(
    conn: Any, clinic: UUID, study: UUID, revision: int, job: int, scanner: UUID, task: str = TASK
) -> UUID:
    made: UUID = _id(
        conn,
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, "
        "binding_seq, digest, scanner_id, findings) "
        "values (%s, %s, %s, %s, %s, 1, '*', 1, %s, %s, %s) returning id",
        clinic, study, revision, task, job, DIGEST, scanner, Jsonb({}),
    )  # fmt: skip
    return made


def destination(
    fresh: FreshDb, its: Arranged, name: str, port: int, *, kind: str = "cstore", url: str = ""
) -> UUID:
    """A destination on this machine."""
    with fresh.connect() as conn:
        made: UUID = _id(
            conn,
            "insert into serving.destination(clinic_id, name, kind, host, port, ae_title, url) "
            "values (%s, %s, %s, '127.0.0.1', %s, 'PACS', %s) returning id",
            its.clinic_id, name, kind, port, url,
        )  # fmt: skip
    return made


def enqueue(fresh: FreshDb, its: Arranged, kind: str, data: bytes, *destinations: UUID) -> list[int]:
    """Store ``data`` as a result object of ``kind`` and one outbox row a destination; returns the rows' ids."""
    path = Path(str(its.clinic_id)) / f"{its.job_id}-{kind}.dcm"
    full = fresh.settings.store_dir / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(data)
    with fresh.connect() as conn:
        made = _id(
            conn,
            "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256) "
            "values (%s, %s, %s, %s, %s, sha256('x')) returning id",
            its.clinic_id, its.result_id, kind, str(path), len(data),
        )  # fmt: skip
        return [
            _id(
                conn,
                "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, scanner_id, "
                "digest) "
                "values (%s, %s, %s, %s, %s, %s, %s) returning id",
                its.clinic_id, its.job_id, made, where, its.study_id, its.scanner_id, DIGEST,
            )
            for where in destinations
        ]  # fmt: skip


def hold(fresh: FreshDb, its: Arranged, kind: str) -> None:
    """Place a hold on the clinic, its scanner or the version."""
    target = {"clinic": str(its.clinic_id), "scanner": str(its.scanner_id), "version": DIGEST}[kind]
    clinic = None if kind == "version" else its.clinic_id
    with fresh.connect() as conn:
        conn.execute(
            "insert into registry.hold(kind, clinic_id, target, reason, placed_by) values (%s, %s, %s, 'test', 'test')",
            (kind, clinic, target),
        )


def release_holds(fresh: FreshDb) -> None:
    """Release every hold."""
    with fresh.connect() as conn:
        conn.execute("update registry.hold set released_at = now(), released_by = 'test'")


def rows(fresh: FreshDb) -> dict[int, tuple[str, int, str | None]]:
    """id -> state, tries, last_code of every outbox row."""
    with fresh.connect() as conn:
        return {
            row[0]: row[1:] for row in conn.execute("select id, state, tries, last_code from serving.outbox")
        }  # type: ignore[misc]


def steps(fresh: FreshDb) -> list[tuple[str, dict[str, Any]]]:
    """The trace of every study, in order."""
    with fresh.connect() as conn:
        return [
            (row[0], row[1]) for row in conn.execute("select step, detail from serving.step order by seq")
        ]


def due_now(fresh: FreshDb) -> None:
    """Let every waiting row be due."""
    with fresh.connect() as conn:
        conn.execute("update serving.outbox set next_at = now() where state = 'ready'")


def _id(conn: Any, sql: str, *values: object) -> Any:
    return conn.execute(sql, values).fetchone()[0]
