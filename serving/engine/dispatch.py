"""The loop that works: claim a study under a lease, have its bound version answer, store everything in one transaction.

One worker process runs one job at a time. The claim commits before any work begins and the binding is resolved
and stored with the attempt; a beat thread extends the lease; the last transaction holds the result, its objects,
the outbox rows, the feature row and the end of the job, all under the fence.
"""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from registry import bindings
from registry.bindings_store import Binding
from registry.core import queue_store
from registry.core.db import Conn, Database, DatabaseAway
from registry.core.errors import RadfleetError, Unavailable
from registry.core.logs import log
from registry.core.queue_store import Fenced, Job
from registry.core.settings import Settings
from serving.doors.filestore import Filestore
from serving.engine import attempts_store
from serving.engine.answering import Engine, Made, Question, Unchanged, answer
from serving.results import results_store
from serving.studies import studies_store
from serving.studies.errors import Abandoned, Superseded

IDLE_S = 2.0
AWAY_S = 0.5


@dataclass(slots=True)
class Lease:
    """The beat of one job: a thread of its own, so that no computation can delay it."""

    db: Database
    job: Job
    lease_s: float
    lost: threading.Event = field(default_factory=threading.Event)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Lease":
        threading.Thread(target=self._beat, daemon=True, name="beat").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()

    def _beat(self) -> None:
        wait_s, missed = self.lease_s / 4, False
        while not self._end.wait(wait_s):
            try:
                with self.db.system() as conn:
                    queue_store.beat(conn, self.job, self.lease_s)
                wait_s, missed = self.lease_s / 4, False
            except Fenced:
                self.lost.set()
                return
            except Exception as error:  # noqa: BLE001 - away, locked or too slow: until another has it the job is ours
                if not missed:
                    name = type(error).__name__
                    log().warning("beat missed", job_id=self.job.id, fence=self.job.fence, error_type=name)
                wait_s, missed = min(self.lease_s / 4, AWAY_S), True


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one job: what was bound when it began."""

    id: UUID
    started_at: datetime
    binding: Binding
    scanner: studies_store.StudyScanner | None
    images: tuple[studies_store.Image, ...]
    task: str
    earlier: tuple[int, str, bytes | None] | None
    """The latest answer before: its revision, version and ``input_digest``."""

    def stands(self, series: str) -> bool:
        """Whether the answer before was made by the version bound now, of all that the study has of this series."""
        if self.earlier is None or self.earlier[2] is None:
            return False
        _, version, read = self.earlier
        return version == self.binding.digest and read == studies_store.input_digest(self.images, series)


class Worker:
    """Claims and answers jobs of kind ``infer``."""

    def __init__(self, settings: Settings, db: Database, engine: Engine) -> None:
        self._settings = settings
        self._db = db
        self._engine = engine
        self._store = Filestore(settings.store_dir)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def turn(self) -> bool:
        """Work on one job if there is one. False when idle. Raises DatabaseAway."""
        with self._db.system() as conn:
            job = queue_store.claim(conn, self._owner, ["infer"], self._settings.lease_s)
        if job is None:
            return False
        work = self._settings.work_dir / f"{job.id}-{job.fence}"
        with Lease(self._db, job, self._settings.lease_s) as lease:
            try:
                self._answer(job, work, lease)
            except Fenced as error:
                log().warning("fenced", job_id=job.id, fence=job.fence, code=error.code)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return True

    def _answer(self, job: Job, work: Path, lease: Lease) -> None:
        attempt: Attempt | None = None
        try:
            attempt = self._begin(job)
            outcome = self._made(job, attempt, work)
            if lease.lost.is_set():
                raise Fenced("the lease ran out while the study was worked on")
            if outcome is None:
                self._keep(job, attempt)
            else:
                self._finish(job, attempt, outcome)
        except (Fenced, DatabaseAway):
            raise
        except Unavailable as error:
            self._give_back(job, attempt, error.code, burn=False)
        except RadfleetError as error:
            # An engine that fails may be failing on this very study: the attempt counts, so poison ends as dead.
            if error.code.startswith("engine.") or error.family == "bug":
                self._give_back(job, attempt, error.code, burn=True)
            else:
                self._reject(job, attempt, error)
        except Exception as error:  # noqa: BLE001 - a study's failure must not end the worker; its text may hold values
            log().error("attempt.failed", job_id=job.id, error_type=type(error).__name__)
            self._give_back(job, attempt, f"bug.{type(error).__name__}", burn=True)

    def _begin(self, job: Job) -> Attempt:
        task = str(job.payload["task"])
        with self._db.tenant(job.clinic_id) as conn:
            scanner = studies_store.scanner_of(conn, job.clinic_id, job.study_id)
            binding = bindings.resolve(
                conn,
                job.clinic_id,
                task,
                scanner.profile if scanner else "",
                scanner.serial if scanner else "",
            )
            attempt_id, started_at = attempts_store.begin(
                conn, clinic_id=job.clinic_id, job_id=job.id, study_id=job.study_id, revision=job.revision,
                fence=job.fence, task=task, scope=binding.scope, seq=binding.seq, digest=binding.digest,
            )  # fmt: skip
            if not studies_store.set_state(conn, job.clinic_id, job.study_id, job.revision, "running"):
                raise Superseded
            studies_store.add_step(
                conn, job.clinic_id, job.study_id, job.revision, "claimed",
                {"task": task, "fence": job.fence, "attempt": job.attempts,
                 "binding_seq": binding.seq, "digest": binding.digest},
            )  # fmt: skip
            images = tuple(studies_store.images(conn, job.clinic_id, job.study_id))
            earlier = results_store.earlier(conn, job.clinic_id, job.study_id, task, job.revision)
        return Attempt(attempt_id, started_at, binding, scanner, images, task, earlier)

    def _made(self, job: Job, attempt: Attempt, work: Path) -> Made | None:
        """The answer; None where the one before stands."""
        try:
            return answer(self._engine, self._question(job, attempt, work))
        except Unchanged:
            return None

    def _question(self, job: Job, attempt: Attempt, work: Path) -> Question:
        with self._db.tenant(job.clinic_id) as conn:
            name, version = attempts_store.version_name(conn, attempt.binding.digest)
            before = results_store.report_before(
                conn, job.clinic_id, job.study_id, attempt.task, job.revision
            )
        return Question(
            clinic_id=job.clinic_id, study_id=job.study_id, revision=job.revision, task=attempt.task, fence=job.fence,
            digest=attempt.binding.digest, binding_seq=attempt.binding.seq, name=name, version=version,
            created_at=attempt.started_at, work_dir=work,
            paths=[self._settings.store_dir / image.path for image in attempt.images],
            trace=lambda step, detail: self._trace(job, step, detail),
            report_before=self._settings.store_dir / before if before else None, stands=attempt.stands,
        )  # fmt: skip

    def _trace(self, job: Job, step: str, detail: dict[str, object]) -> None:
        with self._db.tenant(job.clinic_id) as conn:
            studies_store.add_step(conn, job.clinic_id, job.study_id, job.revision, step, detail)

    def _finish(self, job: Job, attempt: Attempt, outcome: Made) -> None:
        shard: list[results_store.StoredObject] = []
        parts = []
        for made in outcome.objects:
            part = self._store.create(job.clinic_id)
            part.write(made.data)
            parts.append(part)
        for made, kept in zip(outcome.objects, self._store.publish(parts), strict=True):
            shard.append(
                results_store.StoredObject(
                    made.kind,
                    made.SOPInstanceUID,
                    made.SOPClassUID,
                    kept.path,
                    kept.size,
                    bytes.fromhex(made.sha256),
                )
            )
        record = results_store.Outcome(
            task=attempt.task, binding_scope=attempt.binding.scope, binding_seq=attempt.binding.seq,
            digest=attempt.binding.digest, scanner_id=attempt.scanner.id if attempt.scanner else None,
            findings=outcome.findings, objects=tuple(shard), profile=outcome.profile, features=outcome.features,
            input_sha256=studies_store.input_digest(attempt.images, outcome.volume.SeriesInstanceUID),
        )  # fmt: skip
        with self._db.tenant(job.clinic_id) as conn:
            # First the fence: a zombie must fail before it writes anything (promise P3).
            queue_store.finish(conn, job)
            if not studies_store.lock_revision(conn, job.clinic_id, job.study_id, job.revision):
                raise Superseded
            waiting = results_store.record(conn, job, record)
            attempts_store.end(
                conn,
                job.clinic_id,
                attempt.id,
                code=None,
                echoed=outcome.echoed_digest,
                device=outcome.device,
            )
            studies_store.add_step(
                conn, job.clinic_id, job.study_id, job.revision, "answered",
                {"task": attempt.task, "digest": outcome.echoed_digest, "device": outcome.device,
                 "seconds": outcome.seconds, "outbox": waiting}
                | ({"silent": True} if results_store.is_silent(conn, job.clinic_id, attempt.task) else {}),
            )  # fmt: skip
            studies_store.settle(conn, job.clinic_id, job.study_id, job.revision)
        log().info("answered", job_id=job.id, task=attempt.task, digest=outcome.echoed_digest, count=waiting)

    def _keep(self, job: Job, attempt: Attempt) -> None:
        """End the job without an answer of its own: the one before is still the answer to these images."""
        assert attempt.earlier is not None
        revision = attempt.earlier[0]
        with self._db.tenant(job.clinic_id) as conn:
            queue_store.finish(conn, job)
            if not studies_store.lock_revision(conn, job.clinic_id, job.study_id, job.revision):
                raise Superseded
            attempts_store.end(conn, job.clinic_id, attempt.id, code=None)
            studies_store.add_step(
                conn, job.clinic_id, job.study_id, job.revision, "unchanged",
                {"task": attempt.task, "why": "What came late changes nothing that this task reads: "
                 f"its answer of revision {revision} stands and is not sent again."},
            )  # fmt: skip
            studies_store.settle(conn, job.clinic_id, job.study_id, job.revision)
        log().info("unchanged", job_id=job.id, task=attempt.task, revision=revision)

    def _reject(self, job: Job, attempt: Attempt | None, error: RadfleetError) -> None:
        with self._db.tenant(job.clinic_id) as conn:
            queue_store.finish(conn, job, "rejected", error.code)
            self._end(conn, job, attempt, error.code, "rejected", {"why": error.what})
            studies_store.settle(conn, job.clinic_id, job.study_id, job.revision, cure=error.cure_text)
        log().info("rejected", job_id=job.id, code=error.code)

    def _give_back(self, job: Job, attempt: Attempt | None, code: str, *, burn: bool) -> None:
        with self._db.tenant(job.clinic_id) as conn:
            state = queue_store.release(conn, job, code, burn=burn)
            self._end(conn, job, attempt, code, "given_back" if state == "ready" else state, {})
            if state == "dead":
                studies_store.settle(conn, job.clinic_id, job.study_id, job.revision, cure=Abandoned.cure)
        log().warning("given_back", job_id=job.id, code=code, state=state)

    def _end(
        self,
        conn: Conn,
        job: Job,
        attempt: Attempt | None,
        code: str,
        step: str,
        detail: dict[str, object],
    ) -> None:
        if attempt is not None:
            attempts_store.end(conn, job.clinic_id, attempt.id, code=code)
        studies_store.add_step(
            conn, job.clinic_id, job.study_id, job.revision, step, {"code": code, **detail}
        )


def loop(worker: Worker, stop: Callable[[], bool]) -> None:
    """Turn for ever; idle turns wait, and a database that is away is waited for."""
    while not stop():
        try:
            if not worker.turn():
                time.sleep(IDLE_S / 8)
        except DatabaseAway as error:
            log().warning("waiting", code=error.code)
            time.sleep(IDLE_S)
