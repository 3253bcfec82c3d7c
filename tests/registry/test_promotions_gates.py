"""The gates: people counted, harm never turned into a pass, order irrelevant, and seldom wrong by chance."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.promotions import gates
from registry.promotions.evidence_store import Evidence, Policy
from registry.promotions.gates import Gate, Verdict, judge, lower_bound
from tests.kit.unshrunk import unshrunk

NOW = datetime(2026, 11, 1, tzinfo=UTC)
POLICY = Policy(1, "dice", 8, 0.10, 10, 0.02, "quin", "because", NOW)
CLINIC = UUID(int=1)


def row(
    people: dict[str, float], *, local: bool = True, dataset: str = "d", metric: str = "dice", id: int = 1
) -> Evidence:
    return Evidence(
        id, CLINIC if local else None, "sha256:x", metric, dataset, people, "sha256:y", "bert", NOW
    )


def scores(values: Sequence[float]) -> dict[str, float]:
    return {f"p{n}": value for n, value in enumerate(values)}


def clinic_gate(its: Sequence[float], active: Sequence[float], policy: Policy = POLICY) -> Gate:
    return judge(policy, [row(scores(its))], [row(scores(active))])[0]


def global_gate(its: Sequence[float], active: Sequence[float]) -> Gate:
    return judge(POLICY, [row(scores(its), local=False)], [row(scores(active), local=False)])[1]


def test_a_steady_gain_passes_and_says_its_numbers() -> None:
    gate = clinic_gate([0.65] * 8, [0.6] * 8)
    assert (gate.verdict, gate.people, gate.people_min) == (Verdict.PASS, 8, 8)
    assert gate.mean == gate.lower == gate.worst == pytest.approx(0.05)


def test_a_gain_that_chance_explains_fails() -> None:
    gate = clinic_gate([0.9, 0.5, 0.56, 0.63, 0.55, 0.67, 0.54, 0.66], [0.6] * 8)
    assert gate.mean is not None and gate.lower is not None
    assert gate.mean > 0 > gate.lower
    assert gate.verdict is Verdict.FAIL


def test_a_steady_loss_fails() -> None:
    gate = clinic_gate([0.55] * 8, [0.6] * 8)
    assert gate.verdict is Verdict.FAIL and gate.mean == gate.worst == pytest.approx(-0.05)


def test_one_person_much_worse_fails_whatever_the_mean() -> None:
    gate = clinic_gate([0.9] * 11 + [0.49], [0.6] * 12)
    assert gate.verdict is Verdict.FAIL and gate.worst == pytest.approx(-0.11)
    assert (
        clinic_gate([0.9] * 11 + [0.5], [0.6] * 12).verdict is Verdict.PASS
    )  # exactly the margin is allowed


def test_too_few_people_are_not_enough_never_a_pass() -> None:
    gate = clinic_gate([0.9] * 7, [0.5] * 7)
    assert gate.verdict is Verdict.NOT_ENOUGH and gate.why == "7 people, needed are 8"
    assert clinic_gate([], []).verdict is Verdict.NOT_ENOUGH
    assert lower_bound({f"p{n}": 1000 for n in range(4)}) == -np.inf  # 2**-4 is more than 5 %


def test_the_global_gate_allows_its_margin_and_no_more() -> None:
    assert global_gate([0.6] * 10, [0.6] * 10).verdict is Verdict.PASS
    assert global_gate([0.59] * 10, [0.6] * 10).verdict is Verdict.PASS
    assert global_gate([0.58] * 10, [0.6] * 10).verdict is Verdict.FAIL


def test_nothing_active_means_nothing_to_compare() -> None:
    for gate in judge(POLICY, [row(scores([0.9] * 12))], None):
        assert gate.verdict is Verdict.NOT_ENOUGH and "nothing to compare" in gate.why
    assert judge(POLICY, [row(scores([0.9] * 12))], None)[0].people == 12


def test_a_person_is_counted_once_with_the_worst_score() -> None:
    active = [row(scores([0.6] * 8))]
    twice = [row(scores([0.9] * 8)), row(scores([0.55] * 8), id=2)]
    gate = judge(POLICY, twice, active)[0]
    assert (gate.people, gate.verdict, gate.evidence) == (8, Verdict.FAIL, (1, 1, 2))
    sets = [row(scores([0.9] * 5)), row(scores([0.9] * 5), dataset="e")]
    both = [row(scores([0.6] * 5)), row(scores([0.6] * 5), dataset="e")]
    assert judge(POLICY, sets, both)[0].people == 5  # one clinic's pseudonym is one person
    apart = [replace(r, clinic_id=None) for r in sets], [replace(r, clinic_id=None) for r in both]
    assert judge(POLICY, *apart)[1].people == 10


def test_leaving_out_who_would_do_badly_does_not_pass() -> None:
    gate = clinic_gate([0.9] * 8, [0.5] * 9)
    assert gate.verdict is Verdict.NOT_ENOUGH and "no score for 1 people" in gate.why
    assert clinic_gate([0.9] * 9, [0.5] * 8).verdict is Verdict.PASS


def test_another_metric_or_data_set_is_no_evidence() -> None:
    other = judge(POLICY, [row(scores([0.9] * 9), metric="f1")], [row(scores([0.5] * 9), metric="f1")])[0]
    apart = judge(POLICY, [row(scores([0.9] * 9))], [row(scores([0.5] * 9), dataset="e")])[0]
    assert (other.people, apart.people) == (0, 0)


VALUE = st.integers(0, 100).map(lambda n: n / 100)
PAIRS = st.lists(st.tuples(VALUE, VALUE), max_size=14)
# Close to the bars: there a gate could be tipped over.
NEAR = st.lists(
    st.tuples(st.integers(0, 9).map(lambda n: 0.48 + n / 100), st.just(0.5)), min_size=5, max_size=14
)
SMALL = replace(POLICY, clinic_people_min=6, global_people_min=6)


def both(pairs: Sequence[tuple[float, float]]) -> tuple[Gate, Gate]:
    """The clinic's gate and the global gate over the same people."""
    its, active = scores([p[0] for p in pairs]), scores([p[1] for p in pairs])
    rows = [[row(people), row(people, local=False)] for people in (its, active)]
    return judge(SMALL, *rows)


@settings(max_examples=80, deadline=None, database=None, derandomize=True)
@given(PAIRS | NEAR, st.data())
def test_more_harm_never_turns_a_fail_into_a_pass(
    pairs: list[tuple[float, float]], data: st.DataObject
) -> None:
    before = both(pairs)
    # One person more who is worse, and worse than the global margin; or a worse score of somebody.
    active = data.draw(st.integers(3, 100)) / 100
    more = [*pairs, (active - data.draw(st.integers(3, round(active * 100))) / 100, active)]
    lower = list(pairs)
    if pairs:
        at = data.draw(st.integers(0, len(pairs) - 1))
        lower[at] = (pairs[at][0] * data.draw(st.integers(0, 10)) / 10, pairs[at][1])
    for then in (both(more), both(lower)):
        for one, other in zip(before, then, strict=True):
            assert one.verdict is not Verdict.FAIL or other.verdict is not Verdict.PASS


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(NEAR, st.lists(VALUE, min_size=14, max_size=14))
def test_scoring_again_until_it_fits_never_helps(
    pairs: list[tuple[float, float]], again: list[float]
) -> None:
    its, active = scores([p[0] for p in pairs]), scores([p[1] for p in pairs])
    more = row(scores(again[: len(pairs)]), id=3)
    before = judge(SMALL, [row(its)], [row(active)])[0]
    for after in (
        judge(SMALL, [row(its), more], [row(active)])[0],
        judge(SMALL, [row(its)], [row(active), more])[0],
    ):
        assert before.verdict is Verdict.PASS or after.verdict is not Verdict.PASS


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(PAIRS, st.integers(6, 20))
def test_below_the_minimum_nothing_passes(pairs: list[tuple[float, float]], least: int) -> None:
    gate = (
        clinic_gate(*zip(*pairs, strict=True), policy=replace(POLICY, clinic_people_min=least))
        if pairs
        else clinic_gate([], [])
    )
    assert gate.people == len(pairs)
    assert gate.people >= least or gate.verdict is not Verdict.PASS


@settings(max_examples=30, deadline=None, database=None, derandomize=True)
@given(NEAR, st.integers(0, 2**32))
@example([(0.5 + 0.03 * n, 0.6) for n in range(8)], 1)
def test_the_order_of_people_does_not_matter(pairs: list[tuple[float, float]], seed: int) -> None:
    its, active = scores([p[0] for p in pairs]), scores([p[1] for p in pairs])
    names = list(its)
    random.Random(seed).shuffle(names)
    mixed = judge(SMALL, [row({n: its[n] for n in names})], [row({n: active[n] for n in reversed(names)})])
    assert mixed == judge(SMALL, [row(its)], [row(active)])


def test_a_version_that_is_no_better_seldom_passes() -> None:
    """The promise of the bound: 5 % of 600 worthless candidates, give or take three standard deviations."""
    chance = np.random.default_rng(1)
    draws = chance.normal(0, 50_000, (600, 8)).round().astype(int)
    passed = sum(lower_bound({f"p{n}": int(d) for n, d in enumerate(people)}) > 0 for people in draws)
    assert passed / 600 < 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5


MUTANTS = {
    "mean instead of its lower bound": (
        "lower_bound", lambda d: sum(d.values()) / len(d), test_a_gain_that_chance_explains_fails,
    ),
    "no minimum of people": (
        "_Rule._verdict", lambda *_: (Verdict.PASS, ""), test_too_few_people_are_not_enough_never_a_pass,
    ),
    "nobody looks at the worst person": (
        "_Rule._verdict", lambda rule, n, out, bound, worst: _real(replace(rule, loss_max=None), n, out, bound, worst),
        test_one_person_much_worse_fails_whatever_the_mean,
    ),
    "leaving people out is free": (
        "_Rule._verdict", lambda rule, n, out, bound, worst: _real(rule, n, 0, bound, worst),
        test_leaving_out_who_would_do_badly_does_not_pass,
    ),
    "the best of two scores counts": (
        "_scores", lambda rows, _: _real_scores(rows, max), test_a_person_is_counted_once_with_the_worst_score,
    ),
    "every order draws other subsets": (
        "lower_bound", lambda d: _real_bound({f"{n}": v for n, v in enumerate(d.values())}),
        test_the_order_of_people_does_not_matter,
    ),
    "a loss counts as a change": (
        "lower_bound", lambda d: _real_bound({name: abs(v) for name, v in d.items()}), test_a_steady_loss_fails,
    ),
}  # fmt: skip
_real, _real_scores, _real_bound = gates._Rule._verdict, gates._scores, gates.lower_bound


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants of P7: each must turn a test above red."""
    name, fault, test = MUTANTS[mutant]
    owner = gates._Rule if name.startswith("_Rule.") else gates
    monkeypatch.setattr(owner, name.rpartition(".")[2], fault)
    with pytest.raises((AssertionError, ExceptionGroup)):
        unshrunk(test)
