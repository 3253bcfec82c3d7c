"""The loop that closes complete studies, returns expired leases to the queue and removes orphan files."""

import time
from collections.abc import Callable
from uuid import UUID

from registry import bindings
from registry.core import queue_store
from registry.core.db import Database, DatabaseAway
from registry.core.errors import RadfleetError
from registry.core.logs import log
from serving.studies import studies_store as store
from serving.studies.errors import Abandoned, NoBindingForStudy, PatientMixup


def close_due(db: Database) -> int:
    """Close every study whose deadline has passed, each in its own transaction; returns how many were closed."""
    with db.system() as conn:
        waiting = store.due(conn)
    return sum(close(db, clinic_id, study_id) for clinic_id, study_id in waiting)


def close(db: Database, clinic_id: UUID, study_id: UUID) -> bool:
    """Close one study: make its jobs, or reject it by name. False when an instance came in meanwhile."""
    with db.tenant(clinic_id) as conn:
        locked = store.lock_due(conn, clinic_id, study_id)
        if locked is None:
            return False
        _, revision, lane, patients = locked
        error: RadfleetError | None = PatientMixup() if patients > 1 else None
        tasks = bindings.tasks(conn, clinic_id)
        if error is None and not tasks:
            error = NoBindingForStudy()
        if error is not None:
            store.set_state(
                conn,
                clinic_id,
                study_id,
                revision,
                "rejected",
                code=error.code,
                cure=error.cure_text,
                closing=True,
            )
            store.add_step(conn, clinic_id, study_id, revision, "rejected", {"code": error.code})
            return True
        store.set_state(conn, clinic_id, study_id, revision, "ready", closing=True)
        for task in tasks:
            key = f"{study_id}|{revision}|{task}|infer"
            queue_store.add(
                conn,
                clinic_id,
                "infer",
                key,
                study_id=study_id,
                revision=revision,
                lane=lane,
                payload={"task": task},
            )
        store.add_step(conn, clinic_id, study_id, revision, "complete", {"tasks": tasks})
    return True


def reap(db: Database, grace_s: float = 0) -> int:
    """Return expired leases to the queue; settle the studies whose last job is dead now.

    What a sweep that was killed in between left unsettled is settled, too: it is looked for and not remembered.
    """
    with db.system() as conn:
        expired = queue_store.reap(conn, grace_s)
    for _, clinic_id, study_id, revision, state in expired:
        with db.tenant(clinic_id) as conn:
            store.add_step(conn, clinic_id, study_id, revision, "lease_expired", {"state": state})
    with db.system() as conn:
        left = store.unsettled(conn)
    for clinic_id, study_id, revision in left:
        with db.tenant(clinic_id) as conn:
            store.settle(conn, clinic_id, study_id, revision, cure=Abandoned.cure)
    return len(expired)


def loop(
    db: Database,
    extra: Callable[[], object],
    stop: Callable[[], bool],
    *,
    lease_s: float,
    every_s: float = 0.5,
) -> None:
    """Turn for ever; a database that is away is waited for. ``extra`` runs about once a minute.

    ``lease_s``: workers that could not beat while the database was down get so long to do it after its start.
    """
    next_extra = 0.0
    while not stop():
        try:
            closed, expired = close_due(db), reap(db, lease_s)
            if closed or expired:
                log().info("swept", count=closed, state=f"expired={expired}")
            if time.monotonic() >= next_extra:
                next_extra = time.monotonic() + 60
                extra()
        except DatabaseAway as error:
            log().warning("waiting", code=error.code)
            time.sleep(1)
        time.sleep(every_s)
