"""A flag says what began to deviate from the protocol standard with its change, and claims nothing of the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from monitoring.onboarding import conformance
from monitoring.onboarding.conformance_store import Around, Failed
from monitoring.onboarding.deviating import ALPHA, began, more_by_chance
from registry.cli import main
from registry.conformance.standard import load
from tests.monitoring.fleet import drain
from tests.monitoring.onboarding.way import FLAIR_3D, THICK, Way


def shown(way: Way, capsys: pytest.CaptureFixture[str]) -> dict:
    drain(way.world)
    conformance.turn(way.db, way.id)
    ((number,),) = way.world.sql("select id from monitoring.flag where clinic_id = %s", way.id)
    assert main(["flag", "show", str(number), "--json"]) == 0
    return json.loads(capsys.readouterr().out)[0]


def test_a_flag_names_the_rule_that_its_studies_no_longer_meet(way: Way, capsys) -> None:
    way.answered(60)
    way.answered(4, THICK | {"protocol": "q"})
    its = shown(way, capsys)["conformance"]
    thick = next(one for one in its["began"] if one["code"] == "PROT-THICK")
    assert thick["failed"] == {"since": 4, "n_since": 4, "before": 0, "n_before": 60}
    assert any(
        s.startswith("PROT-THICK: 4 of 4 studies since then do not meet it, 0 of 60 before. Set the slice")
        for s in its["sentences"]
    )


def test_a_change_that_the_standard_allows_began_nothing(way: Way, capsys) -> None:
    way.answered(60, THICK)  # it was too thick before: that is no cause of what changed
    way.answered(4, THICK | {"software_major": "XA31", "software": "XA31", "spacing_mm": None})
    its = shown(way, capsys)["conformance"]
    assert (its["began"], its["n_before"], its["n_since"]) == ([], 60, 4)
    assert its["silent"] > 0
    assert its["sentences"] == [
        f"No rule of {its['standard']} is met less often since (4 studies since, 60 before);"
        f" of {its['silent']} of its {its['rules']} rules the headers of one side say nothing."
    ]


def test_a_past_whose_header_says_nothing_is_no_past_that_fitted(way: Way, capsys) -> None:
    way.answered(60, {name: THICK[name] for name in ("vendor", "model", "software", "software_major", "field_t", "coil",
                                                     "protocol", "sequence_class")}, state="past")  # fmt: skip
    way.answered(20, THICK | {"software_major": "XA31"})
    its = shown(way, capsys)["conformance"]
    assert (its["n_before"], its["n_since"]) == (60, 20)
    assert "PROT-THICK" not in {one["code"] for one in its["began"]}, "nobody knows how thick it was before"


def test_what_was_never_judged_is_not_spoken_of(way: Way, capsys) -> None:
    way.answered(60)
    way.answered(2, FLAIR_3D | {"model": "Skyra"})
    drain(way.world)
    ((number,),) = way.world.sql("select id from monitoring.flag where clinic_id = %s", way.id)
    assert main(["flag", "show", str(number), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["conformance"] is None


@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
def test_it_is_fishers_exact_test(before: int, n_before: int, since: int, n_since: int) -> None:
    before, since = min(before, n_before), min(since, n_since)
    table = [[since, n_since - since], [before, n_before - before]]
    assert more_by_chance(Failed(before, n_before, since, n_since)) == pytest.approx(
        fisher_exact(table, alternative="greater").pvalue, abs=1e-12
    )


def test_one_study_proves_nothing_and_a_mended_rule_is_none() -> None:
    rules = load().rules
    first = rules[0].id
    assert began(rules, Around(50, 1, {first: Failed(0, 50, 1, 1)})) == []
    assert began(rules, Around(50, 50, {first: Failed(50, 50, 0, 50)})) == []
    assert more_by_chance(Failed(0, 500, 1, 1)) <= ALPHA, "one of 500 would, were there a single rule"
    assert [one.rule for one in began(rules, Around(50, 5, {first: Failed(0, 50, 5, 5)}))] == [first]
    assert began(rules, Around(50, 5, {first: Failed(0, 0, 5, 5)})) == [], "no header said it before"
