"""A clinic's cohort: reviewed people with corrected masks, split by person before anything is trained, then frozen.

Who judges is drawn by a hash of the person's key, not by anybody's choice, people with a blinded reading first: a mask
that was corrected from ours flatters ours. Everybody stays on their side in every later cohort of the clinic's task: a
version is never judged on somebody whom it, or a version before it, was trained on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from registry.canonical import canonical_json, sha256_digest
from registry.core.db import Conn
from serving.training import cohorts_store
from serving.training.cohorts_store import Reviewed
from serving.training.errors import CohortSmall

TRAIN, EVALUATION = "train", "evaluation"
TRAIN_MIN = 3
JUDGES_MAX = 12  # beyond these, more people help more where they are trained on


@dataclass(frozen=True, slots=True)
class Cohort:
    """A frozen cohort: the digest of its items, and for each reviewed study the side of its person."""

    id: UUID
    digest: str
    items: tuple[tuple[Reviewed, str], ...]

    def people(self, side: str) -> int:
        """How many people are on one side."""
        return len({item.person_key for item, split in self.items if split == side})


def freeze(conn: Conn, clinic_id: UUID, task: str, judges_min: int, *, by: str) -> Cohort:
    """Write who is trained on and who judges, or find the same cohort again. Needs the clinic's transaction.

    Raises CohortSmall with the number of people who are missing.
    """
    cohorts_store.lock(conn, clinic_id, task)
    reviewed = cohorts_store.reviewed(conn, clinic_id, task)
    known = cohorts_store.sides(conn, clinic_id, task)
    people = {row.person_key for row in reviewed}
    blinded = {row.person_key for row in reviewed if row.blinded}
    sides = split(people, known, judges_min, lot=lambda key: (key not in blinded, _lot(clinic_id, task, key)))
    items = tuple((row, sides[row.person_key]) for row in reviewed)
    digest = digest_of(items)
    cohorts_store.add_people(conn, clinic_id, task, {key: sides[key] for key in people - known.keys()})
    counts = {side: sum(value == side for value in sides.values()) for side in (TRAIN, EVALUATION)}
    its_id = cohorts_store.add(
        conn, clinic_id, task, digest, items, people_train=counts[TRAIN], people_evaluation=counts[EVALUATION], by=by
    )  # fmt: skip
    return Cohort(its_id, digest, items)


def split(
    people: set[bytes], known: Mapping[bytes, str], judges_min: int, *, lot: Callable[[bytes], Any]
) -> dict[bytes, str]:
    """The side of each person: as before where there was one, else by lot, the lowest judge. Raises CohortSmall."""
    sides = {key: known[key] for key in people if key in known}
    judges = sum(side == EVALUATION for side in sides.values())
    learners = len(sides) - judges
    fresh = sorted(people - known.keys(), key=lot)
    missing = max(0, judges_min - judges) + max(0, TRAIN_MIN - learners) - len(fresh)
    if missing > 0:
        raise CohortSmall(
            f"{len(people)} people with a corrected mask, {missing} more are needed: {judges_min} who judge and "
            f"{TRAIN_MIN} to train on"
        )
    wanted = max(judges_min, min(JUDGES_MAX, len(people) - max(TRAIN_MIN, learners)))
    more = min(max(0, wanted - judges), len(fresh) - max(0, TRAIN_MIN - learners))
    return sides | {key: EVALUATION if place < more else TRAIN for place, key in enumerate(fresh)}


def _lot(clinic_id: UUID, task: str, key: bytes) -> bytes:
    return hashlib.sha256(clinic_id.bytes + task.encode() + key).digest()


def digest_of(items: Sequence[tuple[Reviewed, str]]) -> str:
    """One digest over studies, reviews, masks and sides, whatever their order."""
    rows = sorted([str(row.study_id), str(row.review_id), row.mask_sha256, side] for row, side in items)
    return sha256_digest(canonical_json(rows))


def pseudonym(person_key: bytes) -> str:
    """How a person is called in evidence: the same in every cohort of the clinic, and not the key itself."""
    return hashlib.sha256(b"person" + person_key).hexdigest()[:16]
