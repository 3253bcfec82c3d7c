"""Keeps an estimate of each stream's performance for those who read. What judges does not come this way."""

import time
from uuid import UUID

from monitoring.qa import estimated, estimated_store
from registry.core.db import Conn, Database

LOOK_S = 60.0
AT_ONCE = 20


class Estimates:
    """Estimates what is due once a minute: each stream daily, and after a review of it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._next = 0.0

    def turn(self) -> int:
        """Estimate up to twenty streams, each in a transaction of its own; how many."""
        if time.monotonic() < self._next:
            return 0
        with self._db.monitor() as conn:
            due = estimated_store.due(conn, AT_ONCE)
        for clinic_id, stream_id, task, sequence, digest in due:
            with self._db.monitor(write=True) as conn:
                one(conn, clinic_id, stream_id, task, sequence, digest)
        if len(due) < AT_ONCE:
            self._next = time.monotonic() + LOOK_S
        return len(due)


def one(conn: Conn, clinic_id: UUID, stream_id: UUID, task: str, sequence: str, digest: str) -> None:
    """Estimate one stream and keep it; needs monitoring's writing transaction."""
    last = estimated_store.last_review(conn, clinic_id, task, digest)
    labels = estimated_store.labels(conn, task, sequence, digest)
    here = [label for label in labels if label.clinic == str(clinic_id)]
    elsewhere = [label for label in labels if label.clinic != str(clinic_id)]
    studies = estimated_store.studies(conn, clinic_id, task, sequence, digest)
    estimated_store.keep(conn, clinic_id, stream_id, last, estimated.estimate(studies, here, elsewhere))
