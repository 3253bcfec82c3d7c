"""SQL of what clinics' reports say: rows are added, never changed; no statement takes the text itself."""

from dataclasses import dataclass
from uuid import UUID

from registry.core.db import Conn

# Locked, so that two tables that are read at once number their statements one after the other.
STUDY = """
select id, revision from serving.study where clinic_id = %(clinic_id)s
  and (id = %(study_id)s or "StudyInstanceUID" = %(uid)s) for no key update"""


def study(conn: Conn, clinic_id: UUID, study_id: UUID | None, uid: str | None) -> tuple[UUID, int] | None:
    """(study, revision) by our id or by StudyInstanceUID, locked; None where this clinic has no such study."""
    return conn.execute(STUDY, {"clinic_id": clinic_id, "study_id": study_id, "uid": uid}).fetchone()


@dataclass(frozen=True, slots=True)
class Statement:
    """What one report says. ``text_sha256`` is None where the clinic coded it itself."""

    says: str
    rules: str
    text_sha256: bytes | None


LATEST = """
select number, says, rules, text_sha256 from serving.narrative
where clinic_id = %(clinic_id)s and study_id = %(study_id)s and task = %(task)s order by number desc limit 1"""
ADD = """
insert into serving.narrative(clinic_id, study_id, task, number, says, rules, text_sha256, stated_by)
values (%(clinic_id)s, %(study_id)s, %(task)s, %(number)s, %(says)s, %(rules)s, %(text_sha256)s, %(by)s)"""


def add(conn: Conn, clinic_id: UUID, study_id: UUID, task: str, it: Statement, by: str) -> bool:
    """Add a statement about a study that this transaction holds; False where it is the latest one already."""
    values = {"clinic_id": clinic_id, "study_id": study_id, "task": task, "by": by}
    latest = conn.execute(LATEST, values).fetchone()
    if latest and Statement(*latest[1:]) == it:
        return False
    more = {"number": latest[0] + 1 if latest else 1, "says": it.says, "rules": it.rules}
    conn.execute(ADD, {**values, **more, "text_sha256": it.text_sha256})
    return True
