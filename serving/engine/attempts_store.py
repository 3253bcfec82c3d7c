"""SQL of attempts: which version was bound when work began, and which one the loader says answered."""

from datetime import datetime
from uuid import UUID

from registry.core.db import Conn

BEGIN = """
insert into serving.attempt(clinic_id, job_id, study_id, revision, fence, task, binding_scope, binding_seq, digest)
values (%(clinic_id)s, %(job_id)s, %(study_id)s, %(revision)s, %(fence)s, %(task)s, %(scope)s, %(seq)s, %(digest)s)
returning id, started_at"""


def begin(
    conn: Conn, *, clinic_id: UUID, job_id: int, study_id: UUID, revision: int, fence: int, task: str, scope: str,
    seq: int, digest: str,
) -> tuple[UUID, datetime]:  # fmt: skip
    """Store the binding that this attempt runs under: (attempt id, its start on the database's clock)."""
    row = conn.execute(
        BEGIN,
        {
            "clinic_id": clinic_id, "job_id": job_id, "study_id": study_id, "revision": revision, "fence": fence,
            "task": task, "scope": scope, "seq": seq, "digest": digest,
        },
    ).fetchone()  # fmt: skip
    assert row is not None
    return row[0], row[1]


END = """
update serving.attempt set finished_at = clock_timestamp(), code = %(code)s, echoed_digest = %(echoed)s,
  device = %(device)s
where clinic_id = %(clinic_id)s and id = %(id)s"""


def end(
    conn: Conn,
    clinic_id: UUID,
    attempt_id: UUID,
    *,
    code: str | None,
    echoed: str | None = None,
    device: str | None = None,
) -> None:
    """Store how the attempt ended and what the loader echoed."""
    conn.execute(
        END, {"clinic_id": clinic_id, "id": attempt_id, "code": code, "echoed": echoed, "device": device}
    )


NAMED = "select name, version from registry.model_version where digest = %(digest)s"


def version_name(conn: Conn, digest: str) -> tuple[str, str]:
    """(name, version) of a registered digest."""
    row = conn.execute(NAMED, {"digest": digest}).fetchone()
    assert row is not None
    return row[0], row[1]
