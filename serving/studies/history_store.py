"""SQL of a clinic's past: studies that ended before their clinic sent its first image."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from registry.core.db import Conn

ADD_STUDY = """
insert into serving.study(clinic_id, "StudyInstanceUID", state, lane, first_at, last_at, finished_at)
values (%(clinic_id)s, %(uid)s, 'past', 'backfill', %(at)s, %(at)s, %(at)s)
on conflict do nothing returning id"""
ADD_FEATURE = """
insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values, at)
values (%(clinic_id)s, %(study_id)s, 1, %(task)s, %(digest)s, %(profile)s, %(values)s, %(at)s)"""
ADD_STEP = """
insert into serving.step(clinic_id, study_id, revision, step, detail)
values (%(clinic_id)s, %(study_id)s, 1, 'backfilled', %(detail)s)"""


def add(
    conn: Conn, clinic_id: UUID, task: str, digest: str, history: str, uid: str, at: datetime,
    profile: Mapping[str, Any], values: Mapping[str, float | None],
) -> bool:  # fmt: skip
    """Add one past study with its feature row in the clinic's transaction; False where it is there already."""
    its = {"clinic_id": clinic_id, "uid": uid, "history": history, "at": at, "task": task, "digest": digest}
    made = conn.execute(ADD_STUDY, its).fetchone()
    if made is None:
        return False
    its |= {"study_id": made[0], "profile": Jsonb(dict(profile)), "values": Jsonb(dict(values))}
    conn.execute(ADD_FEATURE, its)
    conn.execute(ADD_STEP, its | {"detail": Jsonb({"history": history})})
    return True
