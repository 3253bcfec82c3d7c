"""Estimated performance: named so, with interval or reasons, honest about chance; and nothing decides by it."""

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from monitoring.judge import judging
from monitoring.judge.verdict import Evidence
from monitoring.qa import estimated_store
from monitoring.qa.estimated import ELSEWHERE_LEAST, HERE_LEAST, Estimated, Label, estimate
from monitoring.qa.estimating import Estimates
from registry.cli import build
from tests.house.tree import ROOT
from tests.kit.world import World
from tests.monitoring.fleet import TASK, Clinic, drain

NAMES = ("entropy", "snr_wm", "efc")


def one(rng: np.random.Generator, slope: float = 0.06, offset: float = 0.0) -> tuple[dict[str, float], float]:
    """Features and loss of a made-up study."""
    x = rng.standard_normal(3)
    loss = 0.25 + offset + slope * x[0] + 0.03 * x[1] + 0.05 * rng.standard_normal()
    return dict(zip(NAMES, x.tolist(), strict=True)), float(np.clip(loss, 0, 1))


def fleet(
    seed: int,
    *,
    studies: int = 300,
    here: int = 30,
    elsewhere: int = 120,
    slope: float = 0.06,
    offset: float = 0.0,
) -> tuple[Estimated, float]:
    """The estimate of one made-up clinic, and the true mean Dice of its studies."""
    rng = np.random.default_rng(seed)
    others = [Label(f"c{n % 3}", f"o{n}", (made := one(rng))[1], 0.1, made[0]) for n in range(elsewhere)]
    mine = {str(n): one(rng, slope, offset) for n in range(studies)}
    chance = np.where(np.arange(studies) < studies // 2, 0.05, 0.2)  # drift was flagged halfway
    chance = chance * here / chance.sum()
    drawn = np.flatnonzero(rng.random(studies) < chance)
    labels = [Label("here", str(n), mine[str(n)][1], float(chance[n]), mine[str(n)][0]) for n in drawn]
    found = estimate({study: values for study, (values, _) in mine.items()}, labels, others)
    return found, 1 - float(np.mean([loss for _, loss in mine.values()]))


def test_its_interval_holds_the_truth_and_is_narrower_than_reviews_alone() -> None:
    held, wide = [], []
    for seed in range(300):
        its, truth = fleet(seed)
        if its.dice is not None:
            assert its.low is not None and its.high is not None and its.low <= its.dice <= its.high
            held.append(its.low <= truth <= its.high)
            wide.append(its.high - its.low)
    assert len(held) > 250
    assert np.mean(held) >= 0.92, np.mean(held)
    alone = 2 * 2.05 * 0.0836 / 24**0.5  # sd of the loss over about 24 effective reviews
    assert np.mean(wide) < 0.85 * alone


def test_it_says_what_it_is_and_out_of_what() -> None:
    its, _ = fleet(3)
    assert its.what == "estimated"
    assert its.sentence.startswith("estimated Dice 0.")
    for part in (
        f"{its.labels} drawn reviews here",
        "120 in 3 other clinics",
        "nothing is decided by it",
        "95%",
    ):
        assert part in its.sentence


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"here": 3}, "too few reviews: "),
        ({"elsewhere": ELSEWHERE_LEAST - 1}, "too few reviews elsewhere: 59 of 60"),
        ({"elsewhere": 0}, "too few reviews elsewhere: 0 of 60 with this version, in 0 of 2 other clinics"),
        ({"studies": 29, "here": 25}, "29 of 30 studies"),
        ({"offset": 0.25}, "calibration not held: guesses are off by +0."),
        ({"slope": -0.12, "here": 80}, "calibration not held: guess and review do not go together here"),
    ],
)
def test_where_it_cannot_be_had_the_reason_stands_there(made: dict[str, Any], reason: str) -> None:
    its, _ = fleet(5, **made)
    assert (its.dice, its.low, its.high) == (None, None, None)
    assert any(one.startswith(reason) for one in its.reasons), its.reasons
    assert its.sentence.startswith("not estimated: ")


def test_nothing_and_strange_values_are_reasons_too() -> None:
    assert len(estimate({}, [], []).reasons) == 3
    rng = np.random.default_rng(1)
    labels = [Label(f"c{n % 2}", str(n), 0.2, 0.1, one(rng)[0]) for n in range(80)]
    mine = {str(n): {"other": 1.0} for n in range(80)}
    here = [replace(label, clinic="here") for label in labels[:HERE_LEAST]]
    assert estimate(mine, here, labels).reasons == (
        "no feature stands in nine of ten studies both here and elsewhere",
    )
    flat = estimate({str(n): label.values for n, label in enumerate(labels)}, here, labels)
    assert flat.dice is None and "go together" in flat.reasons[0], "one loss everywhere teaches nothing"


def reviewed(world: World, clinic: Clinic, seed: int, *, drawn: float, count: int) -> None:
    """Studies of one clinic, some drawn, and these read."""
    rng = np.random.default_rng(seed)
    losses = {}
    for _ in range(count):
        values = clinic.values()
        losses[clinic.send(values)] = float(
            np.clip(0.25 + 0.08 * values["snr_wm"] + 0.04 * rng.standard_normal(), 0, 1)
        )
    drain(world)
    world.sql("alter table monitoring.audit disable trigger fixed")
    world.sql(
        "update monitoring.audit set chance = %s, draw = random() where clinic_id = %s", drawn, clinic.id
    )
    world.sql("alter table monitoring.audit enable trigger fixed")
    for study, loss in losses.items():
        world.sql(
            "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded,"
            " reader, dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256)"
            " select r.clinic_id, r.study_id, 1, r.task, r.id, r.digest, 'edit', false, 'ada', %s, 1, 1, 'seg',"
            " 'm/' || r.study_id, 1, sha256('x') from serving.result r join monitoring.audit a"
            " on a.study_id = r.study_id and a.chosen where r.study_id = %s", 1 - loss, study,
        )  # fmt: skip


def test_it_stands_in_explain_and_never_in_a_verdict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.version()
    clinics = [Clinic(world, slug=slug, seed=n) for n, slug in enumerate(("north", "south", "west"))]
    for n, clinic in enumerate(clinics):
        world.bind(clinic.id)
        reviewed(world, clinic, n, drawn=0.5, count=80)
    estimates = Estimates(world.db.database)
    assert estimates.turn() == 3
    assert estimates.turn() == 0
    done = CliRunner().invoke(build(), ["monitor", "explain", "north", "--json"])
    (stream,) = json.loads(done.stdout)[0]["streams"]
    its = stream["estimated"]
    assert its["what"] == "estimated" and its["reasons"] == [] and its["low"] < its["dice"] < its["high"]
    assert "estimated Dice 0." in CliRunner().invoke(build(), ["monitor", "explain", "north"]).stdout
    with world.db.database.tenant(clinics[0].id) as conn:
        assert len(estimated_store.latest(conn, None)) == 1, "a clinic sees its own"
    assert decided_by_it(world, clinics[0]) == []
    original = judging.assembled

    def mutant(conn: Any, clinic_id: Any, stream_id: Any, *rest: Any) -> Evidence:
        found = original(conn, clinic_id, stream_id, *rest)
        known = estimated_store.latest(conn, None).get(stream_id, {})
        return replace(found, gates=() if known.get("dice") else ("nothing is estimated",))

    world.sql(
        "insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason)"
        " values (%s, %s, '*', 1, .9, .05, 60, 'qa', 'signed')", clinics[0].id, TASK,
    )  # fmt: skip
    assert decided_by_it(world, clinics[0]) == []
    monkeypatch.setattr(judging, "assembled", mutant)
    assert decided_by_it(world, clinics[0]) != [], "a verdict that listens to the estimate is caught"


def decided_by_it(world: World, clinic: Clinic) -> list[float | None]:
    """Estimates under which verdict, evidence, flags or holds are others than without any."""
    seen: list[Any] = []
    for dice in (None, 0.0, 0.5, 1.0):
        world.sql(
            "update monitoring.estimate set estimated = estimated || %s where clinic_id = %s",
            Jsonb({"dice": dice, "low": dice, "high": dice, "reasons": []}), clinic.id,
        )  # fmt: skip
        with world.db.database.monitor(write=True) as conn:
            judging.judge_again(conn, clinic.id, notify=())
        verdict = "select verdict, rule, sentence, action, would_change, evidence from monitoring.verdict_v"
        seen.append((
            dice, world.sql(verdict + " where clinic_id = %s", clinic.id),
            world.sql("select kind, state, sentence from monitoring.flag_v order by id"),
            world.sql("select reason from monitoring.hold_request"),
        ))  # fmt: skip
    return [one[0] for one in seen if one[1:] != seen[0][1:]]


# Who may know of it: the parts that make it, and the doors that show it.
SHOWN = re.compile(r"monitoring/(qa/estimat\w+|commands|loop|web/pages/clinic)\.py")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for package in ("monitoring", "registry", "serving") for path in (ROOT / package).rglob("*.py")
}  # fmt: skip


def listeners(sources: Mapping[str, str]) -> list[str]:
    """Files that know of the estimate and are not among those that make or show it."""
    found = []
    for path, text in sources.items():
        if SHOWN.fullmatch(path) or "estimat" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            named = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            query = isinstance(node, ast.Constant) and "monitoring.estimate" in str(node.value)
            if query or any("estimat" in name for name in (*named, module)):
                found.append(path)
    return sorted(set(found))


MUTANTS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "judging reads it": (
        "monitoring/judge/judging.py", lambda s: s + "\nfrom monitoring.qa import estimated_store\n"),
    "a gate asks for it": (
        "registry/promotions/gates.py", lambda s: s + "\nimport monitoring.qa.estimated as guess\n"),
    "a statement joins it": (
        "monitoring/judge/evidence_store.py", lambda s: s + '\nX = "select dice from monitoring.estimate_v"\n'),
    "a flag ends by it": (
        "monitoring/flags_store.py", lambda s: s + '\nY = "select 1 from monitoring.estimate"\n'),
}  # fmt: skip


def test_nothing_that_judges_flags_or_promotes_knows_of_it() -> None:
    assert listeners(SOURCES) == []
    assert not any("estimat" in one.name for one in fields(Evidence))


@pytest.mark.parametrize("name", MUTANTS)
def test_whoever_listens_to_it_is_found(name: str) -> None:
    path, planted = MUTANTS[name]
    assert Path(ROOT / path).exists()
    assert listeners(SOURCES | {path: planted(SOURCES[path])}) == [path]
