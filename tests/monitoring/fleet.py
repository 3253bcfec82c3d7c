"""Clinics whose feature rows are written as serving writes them, for the tests of the flag line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from monitoring.streams import epochs, streams_store
from monitoring.streams.follower import Follower
from monitoring.streams.state import to_bytes
from tests.kit.world import DIGEST_A, World

TASK = "brain-extraction"
PROFILE = {
    "vendor": "siemens", "model": "Prisma", "software_major": "E11", "field_t": 3.0, "coil": "head",
    "protocol": "0123456789abcdef", "sequence_class": "T1",
}  # fmt: skip
FEATURES = ("snr_wm", "cjv", "efc", "fwhm_mm", "background_mean")
STUDY = """
insert into serving.study(clinic_id, "StudyInstanceUID", state, deadline, hard_deadline)
values (%s, %s, 'done', null, null) returning id"""
FEATURE = """
insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)
values (%s, %s, %s, %s, %s, %s, %s) returning seq"""
RESULT = """
insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, digest,
  findings)
values (%s, %s, %s, %s, %s, 1, %s, %s, %s, '{}')"""


@dataclass
class Clinic:
    """One clinic with a bound version and a source of made-up rows."""

    world: World
    slug: str = "north"
    seed: int = 7
    digest: str = DIGEST_A
    binding_seq: int = 1
    scope: str = "*"
    id: UUID = field(init=False)
    studies: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.world.clinic(self.slug)
        self.rng = np.random.default_rng([self.seed, len(self.slug)])

    def values(self, shift: float = 0.0, **changed: Any) -> dict[str, Any]:
        """One study's values; the first feature lies ``shift`` sd higher."""
        drawn = dict(zip(FEATURES, self.rng.standard_normal(len(FEATURES)).round(6).tolist(), strict=True))
        drawn[FEATURES[0]] += shift
        return {name: value for name, value in (drawn | changed).items() if value is not ...}

    def send(
        self, values: Mapping[str, Any] | None = None, study: UUID | None = None, revision: int = 1,
        profile: Mapping[str, Any] | None = None, conn: Any = None,
    ) -> UUID:  # fmt: skip
        """Store one answered study, in ``conn``'s transaction or in one of its own."""
        if conn is None:
            with self.world.db.connect() as own, own.transaction():
                return self.send(values, study, revision, profile, own)
        if study is None:
            ((study,),) = conn.execute(STUDY, (self.id, f"1.2.{len(self.studies) + 1}")).fetchall()
            self.studies.append(study)
        ((job,),) = conn.execute(
            "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision) values (%s, 'infer', %s, %s, %s)"
            " returning id", (self.id, f"{study}:{revision}", study, revision),
        ).fetchall()  # fmt: skip
        its = (self.id, study, revision, TASK)
        conn.execute(RESULT, (*its, job, self.scope, self.binding_seq, self.digest))
        conn.execute(
            FEATURE,
            (
                *its,
                self.digest,
                Jsonb(dict(profile or PROFILE)),
                Jsonb(dict(self.values() if values is None else values)),
            ),
        )
        return study

    def many(
        self, count: int, shift: float = 0.0, profile: Mapping[str, Any] | None = None
    ) -> Sequence[UUID]:
        """Store some studies, each in a transaction of its own."""
        with self.world.db.connect() as conn:
            found = []
            for _ in range(count):
                with conn.transaction():
                    found.append(self.send(self.values(shift), profile=profile, conn=conn))
            return found

    def state(self) -> bytes:
        """The bytes of its only stream."""
        with self.world.db.database.monitor() as conn:
            (stored,) = streams_store.streams(conn, self.id)
            return to_bytes(epochs.loaded(conn, self.id, stored))


def drain(world: World, follower: Follower | None = None) -> Follower:
    """Let a follower take everything that is there."""
    follower = follower or Follower(world.db.database)
    idle = 0
    while idle < 2:
        idle = 0 if follower.turn() else idle + 1
    return follower
