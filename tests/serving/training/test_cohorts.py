"""Cohorts: people, not studies; one side for ever; frozen; too few said by number. On real PostgreSQL."""

import json
from collections.abc import Sequence
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.training import cohorts
from serving.training.cohorts import EVALUATION, TRAIN, split
from serving.training.errors import CohortSmall
from tests.kit.world import DIGEST_A, World

TASK = "ms-lesion"


def by_key(key: bytes) -> bytes:
    return key


def keys(n: int, first: int = 0) -> set[bytes]:
    return {bytes([k]) for k in range(first, first + n)}


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)), st.integers(6, 12))
def test_a_split_keeps_sides_and_has_enough_on_both(
    n: int, train: set[int], judges: set[int], least: int
) -> None:
    known = {bytes([k]): TRAIN for k in train} | {bytes([k]): EVALUATION for k in judges}
    people = keys(n)
    try:
        sides = split(people, known, least, lot=by_key)
    except CohortSmall:
        assert (
            n < least + cohorts.TRAIN_MIN
            or sum(known.get(p) == TRAIN for p in people) > n - least
            or sum(known.get(p) == EVALUATION for p in people) > n - cohorts.TRAIN_MIN
        )
        return
    assert sides.keys() == people
    assert all(sides[key] == side for key, side in known.items() if key in people)
    count = {side: sum(value == side for value in sides.values()) for side in (TRAIN, EVALUATION)}
    assert count[EVALUATION] >= least and count[TRAIN] >= cohorts.TRAIN_MIN


def test_more_people_are_trained_on_once_twelve_judge() -> None:
    for n, judges in ((11, 8), (13, 10), (15, 12), (40, 12)):
        assert sum(s == EVALUATION for s in split(keys(n), {}, 8, lot=by_key).values()) == judges


def test_too_few_are_said_by_number() -> None:
    with pytest.raises(
        CohortSmall, match="7 people with a corrected mask, 4 more are needed: 8 who judge and 3"
    ):
        split(keys(7), {}, 8, lot=by_key)
    known = dict.fromkeys(keys(9), TRAIN)
    with pytest.raises(CohortSmall, match="2 more"):
        split(keys(15), known, 8, lot=by_key)


def reviewed(
    world: World, clinic: UUID, people: Sequence[int], *, blinded: bool = True, start: int = 0
) -> None:
    """One reviewed study of each person, with a mask row."""
    world.sql(
        "insert into registry.model_version(digest, name, version, task, runtime_class, model, card, created_by) "
        "values (%s, %s, '1', %s, 'cpu-small', '{}', '{}', 'test') on conflict do nothing", DIGEST_A, TASK, TASK,
    )  # fmt: skip
    for number, person in enumerate(people, start):
        study = world.study(clinic, f"1.2.{number}.{person}")
        world.sql("update serving.study set patient_key = %s where id = %s", bytes([person]) * 4, study)
        ((job,),) = world.sql(
            "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, state, payload) "
            "values (%s, 'infer', %s, %s, 1, 'done', %s) returning id",
            clinic, str(study), study, json.dumps({"task": TASK}),
        )  # fmt: skip
        ((result,),) = world.sql(
            "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, "
            "binding_seq, digest, findings) values (%s, %s, 1, %s, %s, 1, '*', 1, %s, '{}') returning id",
            clinic, study, TASK, job, DIGEST_A,
        )  # fmt: skip
        world.sql(
            "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded, "
            "reader, dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256) values "
            "(%s, %s, 1, %s, %s, %s, 'edit', %s, 'rita', .5, 1, 1, 'nifti', %s, 1, sha256(%s))",
            clinic, study, TASK, result, DIGEST_A, blinded, f"mask{number}", str(study).encode(),
        )  # fmt: skip


def freeze(world: World, clinic: UUID) -> cohorts.Cohort:
    with world.db.database.tenant(clinic) as conn:
        return cohorts.freeze(conn, clinic, TASK, 8, by="bert")


def test_a_cohort_is_frozen_by_person_and_found_again(world: World) -> None:
    clinic = world.clinic()
    reviewed(world, clinic, [*range(12), 3, 4, 5])  # three people came twice
    made = freeze(world, clinic)
    assert (made.people(TRAIN), made.people(EVALUATION), len(made.items)) == (3, 9, 15)
    assert freeze(world, clinic).id == made.id and world.sql(
        "select count(*) from serving.dataset_snapshot"
    ) == [(1,)]
    assert world.sql("select people_train, people_evaluation, studies from serving.dataset_v") == [(3, 9, 15)]
    sides = dict(world.sql("select person_key, split from serving.dataset_person"))

    reviewed(world, clinic, range(20, 30), start=100)
    later = freeze(world, clinic)
    assert later.digest != made.digest and later.people(EVALUATION) == 12
    now = dict(world.sql("select person_key, split from serving.dataset_person"))
    assert {key: now[key] for key in sides} == sides, "nobody changes sides"


def test_blinded_readings_judge_first(world: World) -> None:
    clinic = world.clinic()
    reviewed(world, clinic, range(8))
    reviewed(world, clinic, range(50, 60), blinded=False, start=50)
    made = freeze(world, clinic)
    judges = {item.person_key[0] for item, side in made.items if side == EVALUATION}
    assert set(range(8)) <= judges and made.people(EVALUATION) == 12


def test_too_few_people_freeze_nothing(world: World) -> None:
    clinic = world.clinic()
    reviewed(world, clinic, [*range(9), 1, 2, 3])
    with pytest.raises(CohortSmall, match="9 people with a corrected mask, 2 more"):
        freeze(world, clinic)
    assert world.sql("select count(*) from serving.dataset_person") == [(0,)]


def test_withdrawn_reviews_and_other_clinics_do_not_count(world: World) -> None:
    clinic, other = world.clinic(), world.clinic("south")
    reviewed(world, clinic, range(11))
    reviewed(world, other, range(11), start=50)
    world.sql(
        "update serving.review set withdrawn_at = now(), withdrawn_by = 'rita', withdrawn_reason = 'wrong' "
        "where clinic_id = %s and mask_path = 'mask0'", clinic,
    )  # fmt: skip
    with pytest.raises(CohortSmall, match="10 people"):
        freeze(world, clinic)


def test_a_person_on_both_sides_cannot_be_written(world: World) -> None:
    """Mutant: a split by study instead of by person. The database refuses what the code would have let pass."""
    clinic = world.clinic()
    reviewed(world, clinic, [*range(12), 3])
    made = freeze(world, clinic)
    rows = world.sql("select review_id, person_key, split from serving.dataset_item")
    review, key, side = next(row for row in rows if row[1] == bytes([3]) * 4)
    wrong, study = TRAIN if side == EVALUATION else EVALUATION, world.study(clinic, "1.2.999")
    insert = (
        "insert into serving.dataset_item(clinic_id, snapshot_id, task, study_id, review_id, person_key, split) "
        "values (%s, %s, %s, %s, %s, %s, %s)"
    )
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="split"):
        world.sql(insert, clinic, made.id, TASK, study, review, key, wrong)
    for sql in (
        "update serving.dataset_person set split = 'train'",
        "delete from serving.dataset_item",
        "update serving.dataset_snapshot set people_train = 99",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.sql(sql)
    assert made.people(TRAIN) == 3


def test_evidence_does_not_name_the_key() -> None:
    assert cohorts.pseudonym(b"key") != b"key".hex() and len(cohorts.pseudonym(b"key")) == 16
    assert cohorts.pseudonym(b"key") == cohorts.pseudonym(b"key") != cohorts.pseudonym(b"kex")
