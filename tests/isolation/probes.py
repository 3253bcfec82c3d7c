"""Probes from one clinic into another: each returns what it saw of the other clinic, which must be nothing."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from registry.core.db import Database
from tests.kit.world import World


def canary(clinic: UUID) -> str:
    """A word that stands in every text column of one clinic and nowhere else."""
    return f"CANARY-{str(clinic)[-12:]}"


@dataclass(slots=True)
class Tally:
    """How many probes ran and which ones saw something."""

    probes: int = 0
    foreign: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, name: str, seen: object) -> None:
        """Count one probe; ``seen`` is truthy where it saw the other clinic."""
        with self._lock:
            self.probes += 1
            if seen:
                self.foreign.append(name)


@dataclass(frozen=True, slots=True)
class Planted:
    """What belongs to the victim clinic."""

    clinic: UUID
    study: UUID
    destination: UUID
    result_object: UUID
    result: UUID
    job: int


def plant(world: World, clinic: UUID) -> Planted:
    """Fill every table of the study line for one clinic, with a canary word wherever text fits."""
    word = canary(clinic)
    study = world.study(clinic, uid=f"1.2.{abs(hash(clinic)) % 10**9}")
    job = world.job(clinic, study, word)
    world.sql("insert into registry.scanner(clinic_id, vendor, model, serial, software) values (%s, %s, %s, %s, %s)",
              clinic, word, word, word, word)  # fmt: skip
    ((series,),) = world.sql(
        'insert into serving.series(clinic_id, study_id, "SeriesInstanceUID") values (%s, %s, %s) returning id',
        clinic,
        study,
        word,
    )
    world.sql(
        'insert into serving.instance(clinic_id, study_id, series_id, "SOPInstanceUID", "SOPClassUID", path, size, sha256, source, revision)'
        " values (%s, %s, %s, %s, '1.2', %s, 1, %s, 'test', 1)",
        clinic, study, series, word, f"{clinic}/{word}", b"0" * 32,
    )  # fmt: skip
    world.sql(
        "insert into serving.step(clinic_id, study_id, revision, step) values (%s, %s, 1, %s)",
        clinic,
        study,
        word,
    )
    digest = world.sql("select digest from registry.model_version limit 1")[0][0]
    world.sql(
        "insert into serving.attempt(clinic_id, job_id, study_id, revision, fence, task, binding_scope, binding_seq, digest, code)"
        " values (%s, %s, %s, 1, 1, 't', '*', 1, %s, %s)", clinic, job, study, digest, word,
    )  # fmt: skip
    ((result,),) = world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, digest, findings)"
        " values (%s, %s, 1, 't', %s, 1, '*', 1, %s, %s) returning id", clinic, study, job, digest, Jsonb({"c": word}),
    )  # fmt: skip
    ((made,),) = world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256) values (%s, %s, 'seg', %s, 1, %s)"
        " returning id", clinic, result, word, b"0" * 32,
    )  # fmt: skip
    ((destination,),) = world.sql(
        "insert into serving.destination(clinic_id, name, kind, url) values (%s, %s, 'stow', %s) returning id",
        clinic,
        word,
        word,
    )
    world.sql(
        "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest) values (%s, %s, %s, %s, %s, %s)",
        clinic, job, made, destination, study, digest,
    )  # fmt: skip
    world.sql(
        "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values) values (%s, %s, 1, 't', %s, %s, '{}')",
        clinic, study, digest, Jsonb({"c": word}),
    )  # fmt: skip
    world.sql(
        "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, reader, note) values (%s, %s, 1, 't', %s, %s, 'accept', %s, %s)",
        clinic, study, result, digest, word, word,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.report(clinic_id, kind, digest, html, size, rows_digest, reference_rows, current_rows, methods, opinion, library)"
        " values (%s, 'month', %s, %s, 1, %s, 1, 1, '[]', %s, %s)",
        clinic, digest, word.encode(), digest, Jsonb({"c": word}), word,
    )  # fmt: skip
    world.sql("insert into registry.hold(kind, clinic_id, target, reason, placed_by) values ('clinic', %s, %s, %s, 't')",
              clinic, str(clinic), word)  # fmt: skip
    return Planted(clinic, study, UUID(str(destination)), UUID(str(made)), UUID(str(result)), job)


def relations(world: World) -> list[str]:
    """Every table and view of the product that has a clinic_id, as schema.name."""
    rows = world.sql(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "join pg_attribute a on a.attrelid = c.oid and a.attname = 'clinic_id' and not a.attisdropped "
        "where n.nspname in ('registry', 'serving', 'monitoring') and c.relkind in ('r', 'v') order by 1"
    )
    return [row[0] for row in rows]


def pool_probes(names: list[str], victim: Planted) -> Iterator[tuple[str, LiteralString, tuple[Any, ...]]]:
    """(name, statement, values) for every table: each must return no row."""
    for name in names:
        table = cast(LiteralString, sql.Identifier(*name.split(".")).as_string(None))
        yield f"read {name}", f"select 1 from {table} where clinic_id = %s", (victim.clinic,)
        yield (
            f"canary {name}",
            f"select 1 from {table} t where t::text like %s",
            (f"%{canary(victim.clinic)}%",),
        )
        yield (
            f"move {name}",
            f"update {table} set clinic_id = %s where clinic_id = %s returning 1",
            (victim.clinic, victim.clinic),
        )
        yield f"other {name}", f"select 1 from {table} where clinic_id <> registry.current_clinic()", ()


def try_one(database: Database, clinic: UUID, statement: LiteralString, values: tuple[Any, ...]) -> list[Any]:
    """Run one probe as ``clinic``; a refusal of the database counts as having seen nothing."""
    try:
        with database.tenant(clinic) as conn:
            return conn.execute(statement, values).fetchall()
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.FeatureNotSupported,
    ):
        return []


def crossings(victim: Planted, intruder: Planted) -> list[tuple[str, LiteralString, tuple[Any, ...]]]:
    """Writes by the intruder that point at the victim's rows: every one must be refused, never done."""
    return [
        ("step on a foreign study", "insert into serving.step(clinic_id, study_id, revision, step) values (%s, %s, 1, 'x') returning 1",
         (intruder.clinic, victim.study)),
        ("outbox to a foreign destination",
         "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest) "
         "select %s, %s, %s, %s, %s, digest from registry.model_version limit 1 returning 1",
         (intruder.clinic, intruder.job, intruder.result_object, victim.destination, intruder.study)),
        ("outbox of a foreign object",
         "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest) "
         "select %s, %s, %s, %s, %s, digest from registry.model_version limit 1 returning 1",
         (intruder.clinic, intruder.job, victim.result_object, intruder.destination, intruder.study)),
        ("a review of a foreign answer",
         "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, reader) "
         "select %s, %s, 1, 't', %s, digest, 'accept', 'x' from registry.model_version limit 1 returning 1",
         (intruder.clinic, intruder.study, victim.result)),
        ("a row in a foreign name", "insert into serving.step(clinic_id, study_id, revision, step) values (%s, %s, 1, 'x') returning 1",
         (victim.clinic, victim.study)),
    ]  # fmt: skip


def refused(database: Database, clinic: UUID, statement: LiteralString, values: tuple[Any, ...]) -> bool:
    """True when the database refused the write."""
    try:
        with database.tenant(clinic) as conn:
            conn.execute(statement, values)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ForeignKeyViolation):
        return True
    return False


def pool(
    world: World, database: Database, clinics: tuple[Planted, Planted], rounds: int, tally: Tally
) -> None:
    """All pool probes in both directions, shuffled over four threads, so that pooled connections change hands."""
    names = relations(world)
    work: list[Callable[[], None]] = []
    for _ in range(rounds):
        for victim, intruder in (clinics, clinics[::-1]):
            for name, statement, values in pool_probes(names, victim):
                work.append(
                    lambda n=name, s=statement, v=values, i=intruder: tally.note(
                        n, try_one(database, i.clinic, s, v)
                    )
                )  # type: ignore[misc]
            for name, statement, values in crossings(victim, intruder):
                work.append(
                    lambda n=name, s=statement, v=values, i=intruder: tally.note(
                        n, not refused(database, i.clinic, s, v)
                    )
                )  # type: ignore[misc]
    random.Random(7).shuffle(work)
    with ThreadPoolExecutor(4) as threads:
        # A probe that breaks must end the run: it would count as having seen nothing.
        for done in [threads.submit(probe) for probe in work]:
            done.result()
