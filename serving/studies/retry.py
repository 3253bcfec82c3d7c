"""Bring back what ended dead or rejected, with one command."""

from uuid import UUID

from registry.core import queue_store
from registry.core.db import Database
from serving.studies import studies_store
from serving.studies.errors import NothingToRetry


def retry(db: Database, clinic_id: UUID, study_id: UUID, revision: int) -> int:
    """Requeue the dead and rejected jobs of a study; a study that never had a job is closed again.

    Returns the number of jobs requeued. Raises NothingToRetry.
    """
    with db.tenant(clinic_id) as conn:
        count = queue_store.requeue(conn, clinic_id, study_id, revision)
        state = "ready" if count else "receiving"
        moved = studies_store.reopen(conn, clinic_id, study_id, revision, state)
        if not moved:
            raise NothingToRetry("this study is not dead or rejected")
        studies_store.add_step(conn, clinic_id, study_id, revision, "retried", {"count": count})
    return count
