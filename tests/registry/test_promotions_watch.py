"""Probation: bets that may be looked at every day, and what a clinic's rows say since a promotion."""

import json
import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import cli, models
from registry.promotions import watch
from registry.promotions.watch import Health, measure, odds
from registry.promotions.watch_store import Review
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.registry.promoting import Line, begin


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.05, 0.95))
@settings(max_examples=100)
def test_odds_are_at_least_even_and_never_fall_when_a_row_is_worse(losses: list[float], bar: float) -> None:
    assert odds(losses, bar) >= 1
    for place in range(len(losses)):
        worse = [*losses[:place], 1.0, *losses[place + 1 :]]
        assert odds(worse, bar) >= odds(losses, bar) - 1e-9


def test_chance_alone_seldom_reaches_the_odds() -> None:
    """At the very edge of the bar, looked at after every row: at most 1 in 20, and not never."""
    rng = random.Random(11)
    reached = sum(
        odds([float(rng.random() < 0.3) for _ in range(200)], 0.3) >= watch.ODDS for _ in range(600)
    )
    assert 0 < reached / 600 <= 0.05


def test_a_bet_without_the_bar_would_cry_wolf() -> None:
    """Mutant: the bar at half of what was before. The same healthy rows then reach the odds almost always."""
    rng = random.Random(11)
    rows = [float(rng.random() < 0.3) for _ in range(200)]
    assert odds(rows, 0.3) < watch.ODDS < odds(rows, 0.15)


BEFORE = [0.4, 0.5] * 6


@pytest.mark.parametrize(
    ("since", "health"),
    [
        ([], Health.NOT_ENOUGH),
        ([0.2, 0.3], Health.NOT_ENOUGH),
        ([0.15] * 12, Health.HEALTHY),
        ([0.95] * 12, Health.WORSE),
        ([0.95] * 12 + [0.0] * 40, Health.WORSE),  # once proven, good days do not unprove it
    ],
)
def test_a_measure_says_what_it_can(since: list[float], health: Health) -> None:
    found = measure("dice", BEFORE, since)
    assert (found.health, found.n, found.n_before) == (health, len(since), 12)


def test_without_a_past_nothing_can_be_said() -> None:
    found = measure("dice", [0.4] * 7, [1.0] * 50)
    assert found.health is Health.NOT_ENOUGH and "7 rows before the promotion" in found.why


def test_only_blinded_readings_say_healthy() -> None:
    def rows(blinded: bool, n: int, dice: float, since: bool) -> list[Review]:
        return [Review("edit", blinded, dice, since) for _ in range(n)]

    seen = watch.judge_reviews([*rows(False, 20, 0.5, False), *rows(False, 20, 0.99, True)])
    assert [m.n for m in seen] == [0, 20]
    assert watch.overall(seen, {})[0] is Health.NOT_ENOUGH
    read = watch.judge_reviews([*rows(True, 20, 0.5, False), *rows(True, 20, 0.9, True)])
    assert watch.overall(read, {})[0] is Health.HEALTHY
    assert watch.overall(read, {"drift": 1})[0] is Health.NOT_ENOUGH
    assert watch.overall(read, {"harm": 1})[0] is Health.WORSE


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    return begin(fresh_db)


@pytest.fixture
def run(line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RADFLEET_ACTOR", "bert")
    monkeypatch.setattr(models, "set_alias", lambda *_: False)

    def go(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([*words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return go


def answered(
    line: Line, version: int, n: int, dice: float, *, state: str = "done", blinded: bool = True
) -> None:
    """Studies of the clinic that a version answered (or failed), each read by an expert where it was answered."""
    clinic, digest = line.clinic().id, line.version(version).digest
    with line.db.connect() as conn:
        for _ in range(n):
            (study,) = conn.execute(
                'insert into serving.study(clinic_id, "StudyInstanceUID", state, last_at) '
                "values (%s, gen_random_uuid()::text, %s, clock_timestamp()) returning id",
                (clinic, state),
            ).fetchone() or (UUID(int=0),)
            (job,) = conn.execute(
                "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision, state, payload) "
                "values (%s, 'infer', %s, %s, 1, %s, %s) returning id",
                (clinic, str(study), study, state, json.dumps({"task": TASK})),
            ).fetchone() or (0,)
            conn.execute(
                "insert into serving.attempt(clinic_id, job_id, study_id, revision, fence, task, binding_scope, "
                "binding_seq, digest) values (%s, %s, %s, 1, 1, %s, '*', 1, %s)",
                (clinic, job, study, TASK, digest),
            )
            if state == "done":
                review(conn, clinic, study, job, digest, dice, blinded)


def review(conn: Any, clinic: UUID, study: UUID, job: int, digest: str, dice: float, blinded: bool) -> None:
    (result,) = conn.execute(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq, "
        "digest, findings) values (%s, %s, 1, %s, %s, 1, '*', 1, %s, '{}') returning id",
        (clinic, study, TASK, job, digest),
    ).fetchone()
    conn.execute(
        "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded, reader, "
        "dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256) values "
        "(%s, %s, 1, %s, %s, %s, 'edit', %s, 'rita', %s, 1, 1, 'nifti', 'x', 1, sha256('x'))",
        (clinic, study, TASK, result, digest, blinded, dice),
    )


def test_watch_says_healthy_worse_or_not_enough_with_n_and_the_way_back(run: Run, line: Line) -> None:
    code, out, _ = run("promotion", "watch")
    assert code == 0 and "nothing to watch" in out
    answered(line, 1, 12, 0.5)
    line.promote(2)
    code, out, err = run("promotion", "watch", "--clinic", "lakeside")
    assert (
        code == 3
        and "not_enough" in out
        and f"radfleet promotion rollback lakeside {TASK} --reason TEXT" in err
    )
    assert "dice: 0 rows since the promotion do not tell yet" in err

    answered(line, 2, 14, 0.9)
    code, out, _ = run("promotion", "watch", "--json")
    (row,) = json.loads(out)
    assert (code, row["health"]) == (0, "healthy")
    assert {m["name"]: (m["n_before"], m["n"]) for m in row["measures"]} == {
        "dice": (12, 14), "decisions": (0, 0), "studies": (12, 14),
    }  # fmt: skip

    answered(line, 2, 12, 0.0, state="dead")
    code, out, err = run("promotion", "watch")
    assert code == 6 and "worse" in out and "studies: odds" in err
    line.another("seaside")
    assert run("promotion", "watch", "--clinic", "seaside")[0] == 0


def test_what_came_before_or_belongs_to_others_is_not_counted(run: Run, line: Line) -> None:
    answered(line, 1, 12, 0.5)
    answered(line, 3, 30, 0.0)  # another version's
    line.promote(2)
    answered(line, 1, 30, 0.0)  # the old version, after it was replaced
    row = json.loads(run("promotion", "watch", "--json")[1])[0]
    assert {m["name"]: (m["n_before"], m["n"]) for m in row["measures"]}["dice"] == (12, 0)


def test_after_a_rollback_nothing_is_on_probation(run: Run, line: Line) -> None:
    line.promote(2)
    assert run("promotion", "rollback", "lakeside", TASK, "--reason", "worse")[0] == 0
    code, out, _ = run("promotion", "watch")
    assert code == 0 and "nothing to watch" in out
