"""One clinic, one study, one job in a fresh database: what most tests of the line begin with."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from registry.core import queue_store
from tests.kit.db import FreshDb

DIGEST_A = "sha256:" + "a" * 64
DIGEST_B = "sha256:" + "b" * 64


@dataclass(frozen=True, slots=True)
class World:
    """A fresh database and short ways to fill it as the superuser."""

    db: FreshDb

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser; its rows, if any."""
        with self.db.connect() as conn:
            cursor = conn.execute(text, values)
            return cursor.fetchall() if cursor.description else []

    def clinic(self, slug: str = "north", quiet_s: float = 1.0) -> UUID:
        """A clinic with a peer whose calling AE title is its slug in capitals."""
        ((clinic_id,),) = self.sql(
            "insert into registry.clinic(slug, name, quiet_s, state) values (%s, %s, %s, 'active') returning id",
            slug,
            slug,
            quiet_s,
        )
        self.sql(
            "insert into registry.clinic_peer(clinic_id, calling_ae) values (%s, %s)", clinic_id, slug.upper()
        )
        return UUID(str(clinic_id))

    def version(self, digest: str = DIGEST_A, version: str = "1.0.0", task: str = "brain-extraction") -> str:
        """A registered version row, without a package behind it."""
        self.sql(
            "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by) "
            "values (%s, %s, %s, %s, 'cpu-small', '{}', '{}', 'test')",
            digest, task, version, task,
        )  # fmt: skip
        return digest

    def bind(self, clinic_id: UUID, digest: str = DIGEST_A, task: str = "brain-extraction") -> None:
        """Bind a registered version."""
        self.sql(
            "insert into registry.binding(clinic_id, task, seq, digest, valid, bound_by, reason) "
            "values (%s, %s, 1, %s, tstzrange(clock_timestamp(), null), 'test', 'test')",
            clinic_id, task, digest,
        )  # fmt: skip

    def study(self, clinic_id: UUID, uid: str = "1.2.3", state: str = "ready") -> UUID:
        """A study row."""
        ((study_id,),) = self.sql(
            'insert into serving.study(clinic_id, "StudyInstanceUID", state, deadline, hard_deadline) '
            "values (%s, %s, %s, case when %s = 'receiving' then now() end, now() + interval '1 h') returning id",
            clinic_id, uid, state, state,
        )  # fmt: skip
        return UUID(str(study_id))

    def job(self, clinic_id: UUID, study_id: UUID, key: str = "k", lane: str = "routine") -> int:
        """A ready job."""
        with self.db.database.tenant(clinic_id) as conn:
            job_id = queue_store.add(
                conn,
                clinic_id,
                "infer",
                key,
                study_id=study_id,
                revision=1,
                lane=lane,
                payload={"task": "brain-extraction"},
            )
        assert job_id is not None
        return job_id


@pytest.fixture
def world(fresh_db: FreshDb) -> World:
    """A ``World`` of this test's own."""
    return World(fresh_db)
