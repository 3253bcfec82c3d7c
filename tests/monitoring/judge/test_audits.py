"""Who is read is drawn before anybody reads, with the chance that the clinic's standing gives; else no evidence."""

import json

import pytest
from psycopg.errors import InsufficientPrivilege
from typer.testing import CliRunner

from monitoring.judge import audits
from monitoring.judge.audits import Standing
from registry.cli import build
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, TASK, Clinic, drain


@pytest.mark.parametrize(
    ("last", "drifting", "group", "chance", "why"),
    [
        (Standing(), False, None, 0.03, "routine"),
        (Standing(), False, 400, 0.03, "routine"),
        (Standing(), True, 400, 0.20, "drift"),
        (Standing(7, 40, answers_drift=True), True, 400, 0.20, "drift"),
        (Standing(9), True, 400, 0.20, "drift"),  # confirmed before the drift is no answer to it
        (Standing(9, 60, answers_drift=True), True, 400, 0.03, "routine"),  # benign
        (Standing(3, 40, suspected=True, answers_drift=True), True, 400, 0.03, "routine"),  # a verdict
        (Standing(8, 10, suspected=True), False, 400, 0.20, "harm"),
        (Standing(6, 149, suspected=True), False, 400, 0.20, "harm"),
        (Standing(6, 150, suspected=True), True, 400, 0.03, "routine"),
        (Standing(), False, 0, 0.50, "new_group"),
        (Standing(), True, 29, 0.50, "new_group"),
        (Standing(), False, 30, 0.03, "routine"),
    ],
)
def test_the_chance_follows_the_standing(
    last: Standing, drifting: bool, group: int | None, chance: float, why: str
) -> None:
    assert audits.chance(last, drifting=drifting, group_studies=group) == (chance, why)


def test_a_draw_keeps_its_chance() -> None:
    drawn = [audits.draw(0.2, "drift") for _ in range(4000)]
    for share, wanted in (
        (sum(its.chosen for its in drawn), 0.2),
        (sum(its.blinded for its in drawn), audits.BLINDED),
        (sum(its.twice for its in drawn), audits.TWICE),
    ):
        assert abs(share / 4000 - wanted) < 5 * (wanted * (1 - wanted) / 4000) ** 0.5
    assert all(its.chosen == (its.draw < 0.2) for its in drawn)


@pytest.fixture
def clinic(world: World) -> Clinic:
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    return its


def test_each_study_is_drawn_once_when_it_is_taken_and_never_again(world: World, clinic: Clinic) -> None:
    studies = clinic.many(60)
    follower = drain(world)
    first = world.sql(
        "select study_id, chance, draw, chosen, why, drawn_at from monitoring.audit order by seq"
    )
    assert [row[0] for row in first] == list(studies)
    assert {row[1] for row in first} == {0.03}
    clinic.send(clinic.values(), study=studies[3], revision=2)
    clinic.send({})
    drain(world, follower)
    assert world.sql("select count(*) from monitoring.audit") == [(60,)]
    clinic.many(12, profile=PROFILE | {"model": "Skyra"})
    drain(world, follower)
    new = world.sql("select chance, why from monitoring.audit where seq > 62 order by seq")
    assert new == [(0.5, "new_group")] * 12
    with pytest.raises(InsufficientPrivilege):  # nobody makes a study chosen afterwards
        world.sql("update monitoring.audit set draw = 0")
    assert (
        world.sql(
            "select study_id, chance, draw, chosen, why, drawn_at from monitoring.audit order by seq limit 60"
        )
        == first
    )


def test_drift_raises_the_chance_of_what_follows(world: World, clinic: Clinic) -> None:
    clinic.many(90)
    follower = drain(world)
    clinic.many(40, shift=3.0)
    drain(world, follower)
    ((flagged,),) = world.sql("select seq from monitoring.flag")
    after = world.sql("select min(chance), max(chance) from monitoring.audit where seq > %s", flagged)
    before = world.sql("select min(chance), max(chance) from monitoring.audit where seq <= %s", flagged)
    assert (before, after) == ([(0.03, 0.03)], [(0.2, 0.2)]), "what flags a study does not choose it"


def run(*words: str, fails: str = "") -> str:
    done = CliRunner().invoke(build(), list(words))
    if fails:
        assert fails in getattr(done.exception, "code", ""), done.output
        return ""
    assert done.exit_code in (0, 6), (done.output, done.exception)
    return done.stdout


def test_a_contract_is_set_with_a_reason_and_its_history_stays(world: World, clinic: Clinic) -> None:
    clinic.many(60)
    drain(world)
    for wrong in (
        ("--dice", "1.2"),
        ("--dice", "0.04"),
        ("--dice", "nan"),
        ("--dice", "0.8", "--margin", "0"),
    ):
        run(
            "monitor",
            "contract",
            "set",
            "north",
            TASK,
            "--reason",
            "x",
            *wrong,
            fails="monitoring.contract_impossible",
        )
    run(
        "monitor",
        "contract",
        "set",
        "north",
        TASK,
        "--reason",
        "x",
        "--from",
        "acceptance",
        fails="monitoring.contract_thin",
    )
    run(
        "monitor",
        "contract",
        "set",
        "north",
        TASK,
        "--reason",
        "x",
        "--from",
        "fleet",
        fails="monitoring.contract_thin",
    )
    run("monitor", "contract", "set", "north", TASK, "--reason", "x", fails="monitoring.source_unknown")
    run("monitor", "contract", "show", "north", TASK, fails="monitoring.contract_unknown")
    run("monitor", "contract", "set", "north", TASK, "--dice", "0.9", "--people", "12", "--reason", "signed")
    assert world.sql("select verdict, rule from monitoring.verdict_v") == [("healthy", 9)], (
        "judged by it at once"
    )
    run("monitor", "contract", "set", "north", TASK, "--dice", "0.8", "--sequence", "T1", "--version",
        "brain-extraction@1.0.0", "--reason", "this version alone")  # fmt: skip
    (its,) = json.loads(run("monitor", "contract", "show", "north", TASK, "--sequence", "T1", "--json"))
    assert (its["d_ref"], its["version"]) == (0.8, 1)
    rows = json.loads(run("monitor", "contract", "list", "--json"))
    assert [(row["d_ref"], row["reason"]) for row in rows] == [(0.8, "this version alone"), (0.9, "signed")]
    ((evidence,),) = world.sql("select evidence from monitoring.verdict_v")
    assert (evidence["contract"]["d_ref"], evidence["contract"]["version"], evidence["policy"]) == (0.8, 1, 0)
    run(
        "monitor",
        "policy",
        "set",
        "north",
        "--reject-max",
        "2",
        "--reason",
        "x",
        fails="monitoring.policy_unfit",
    )
    run("monitor", "policy", "set", "north", "--per-day", "4", "--reason", "a small clinic")
    run("monitor", "policy", "set", "north", "--no-holds", "--reason", "by hand")
    newest = json.loads(run("monitor", "policy", "list", "--json"))[0]
    assert (newest["version"], newest["per_day"], newest["holds"]) == (2, 4, False)
    assert world.sql("select evidence -> 'policy' from monitoring.verdict_v") == [(2,)]


def test_no_contract_stands_above_what_two_readers_reach(world: World, clinic: Clinic) -> None:
    read = {clinic.id: {"labels": 70, "dice": 0.75, "readers": 0.78, "twice": 6}}
    from monitoring.errors import ContractImpossible
    from monitoring.judge import contract
    from monitoring.judge.verdict import Contract

    contract.check(Contract(0.77, 0.05, 60, "ada"), read, clinic.id)
    with pytest.raises(ContractImpossible):
        contract.check(Contract(0.80, 0.05, 60, "ada"), read, clinic.id)
    assert contract.of_reviews(read, clinic.id, "acceptance").d_ref == 0.75
