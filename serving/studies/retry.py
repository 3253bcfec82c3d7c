"""Bring back what ended dead, rejected or undelivered, with one command."""

from uuid import UUID

from registry.core import queue_store
from registry.core.db import Database
from serving.results import outbox_store
from serving.studies import studies_store
from serving.studies.errors import NothingToRetry


def retry(db: Database, clinic_id: UUID, study_id: UUID, revision: int) -> int:
    """Requeue the dead and rejected jobs of a study; a study that never had a job is closed again.

    Of a study that was answered, what no archive took is sent again. Returns the number of jobs or objects. Raises
    NothingToRetry.
    """
    with db.tenant(clinic_id) as conn:
        if sent := outbox_store.again(conn, clinic_id, study_id):
            studies_store.add_step(conn, clinic_id, study_id, revision, "sent_again", {"count": sent})
        count = queue_store.requeue(conn, clinic_id, study_id, revision)
        state = "ready" if count else "receiving"
        moved = studies_store.reopen(conn, clinic_id, study_id, revision, state)
        if not moved:
            if sent:
                return sent
            raise NothingToRetry("this study is not dead or rejected")
        studies_store.add_step(conn, clinic_id, study_id, revision, "retried", {"count": count})
    return count + sent
