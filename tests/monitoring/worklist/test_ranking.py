"""The order of the work list: the more severe never later, the same for every order of rows, each line with its why."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.worklist import ranking
from monitoring.worklist.ranking import WHY, Item, Urgency

NOW = datetime(2026, 11, 26, tzinfo=UTC)
RULES = [None, 1, 9, 8, 7, 2, 6, 5, 4, 3]
CLINICS = st.sampled_from(["north", "south", "west"])
AGES = st.integers(0, 30)

# What is more severe than what stands here and not in the code: each list goes from the least to the most severe.
WORSE = {
    "state": ["acknowledged", "open"],
    "rule": [None, 2, 3],
    "why": ["routine", "new_group", "harm"],
    "proposed": [[], ["another"]],
}


def flag(clinic: str, days: int, *, state: str, rule: int | None, number: int) -> Item | None:
    return ranking.flag({
        "id": number, "clinic": clinic, "state": state, "verdict_rule": rule, "sentence": "It moved.",
        "opened_at": NOW - timedelta(days=days),
    })  # fmt: skip


def drawn(clinic: str, days: int, *, why: str, blinded: bool, number: int) -> Item | None:
    return ranking.drawn({
        "clinic": clinic, "task": "ms-lesion", "why": why, "blinded": blinded, "studies": number, "second": 0,
        "since": NOW - timedelta(days=days), "study_id": number,
    })  # fmt: skip


def step(clinic: str, days: int, *, name: str, proposed: list[str]) -> Item | None:
    missing = [
        {"what": "the signature of another person", "who": "QA team", "cure": "radfleet clinic accept x"}
    ]
    since = NOW - timedelta(days=days)
    return ranking.step(clinic, name, missing, since=since, proposed_by=proposed, me="quin")


def verdict(clinic: str, days: int, *, rule: int) -> Item | None:
    return ranking.verdict({"clinic": clinic, "task": "ms-lesion", "sequence": "FLAIR", "rule": rule,
                            "sentence": "Worse.", "since": NOW - timedelta(days=days)})  # fmt: skip


def silence(clinic: str, days: int) -> Item | None:
    return ranking.silence(
        {"clinic": clinic, "streams": ["ms-lesion FLAIR"], "since": NOW - timedelta(days=days)}
    )


Made = tuple[Callable[..., Item | None], dict[str, Any]]


def one(make: Callable[..., Item | None], **facts: st.SearchStrategy[Any]) -> st.SearchStrategy[Made]:
    return st.fixed_dictionaries({"clinic": CLINICS, "days": AGES, **facts}).map(lambda its: (make, its))


NUMBERS = st.integers(1, 99)
THINGS = st.one_of(
    one(flag, state=st.sampled_from(WORSE["state"]), rule=st.sampled_from(RULES), number=NUMBERS),
    one(drawn, why=st.sampled_from([*WORSE["why"], "drift"]), blinded=st.booleans(), number=NUMBERS),
    one(step, name=st.just("acceptance"), proposed=st.sampled_from(WORSE["proposed"])),
    one(verdict, rule=st.sampled_from([2, 3, 4, 5, 6])),
    one(silence),
)


def built(made: Made) -> Item:
    it = made[0](**made[1])
    assert it is not None
    return it


def sooner(order: Callable[[list[Item]], list[Item]], things: list[Made], which: int) -> bool:
    """Whether each way to make one thing more severe leaves it where it stands or brings it forward."""
    make, facts = things[which]
    rest = [built(made) for n, made in enumerate(things) if n != which]
    others = {id(it) for it in rest}

    def before(it: Item) -> int:
        return next(n for n, found in enumerate(order([*rest, it])) if id(found) not in others)

    now = before(built(things[which]))
    for name, value in facts.items():
        if name == "days":
            worse = [value + 1]
        elif name in WORSE and value in WORSE[name]:
            worse = WORSE[name][WORSE[name].index(value) + 1 :]
        else:
            continue
        if any(before(built((make, facts | {name: more}))) > now for more in worse):
            return False
    return True


@settings(max_examples=150)
@given(st.lists(THINGS, min_size=2, max_size=12), st.data())
def test_what_is_more_severe_never_comes_later(things: list[Made], data: st.DataObject) -> None:
    assert sooner(ranking.ranked, things, data.draw(st.integers(0, len(things) - 1)))


@settings(max_examples=100)
@given(st.lists(THINGS, max_size=12), st.randoms())
def test_the_order_of_rows_does_not_matter_and_nothing_is_lost(things: list[Made], random: Any) -> None:
    items = [built(made) for made in things]
    mixed = random.sample(items, len(items))
    found = ranking.ranked(mixed)
    assert found == ranking.ranked(items)
    assert sorted(map(repr, found)) == sorted(map(repr, items))
    assert [it.urgency for it in found] == sorted(it.urgency for it in items)


MUTANTS: dict[str, Callable[[list[Item]], list[Item]]] = {
    "the least urgent first": lambda its: sorted(its, key=lambda it: -it.urgency),
    "the newest first": lambda its: sorted(its, key=lambda it: (it.urgency, -it.since.timestamp())),
    "by clinic": lambda its: sorted(its, key=lambda it: it.clinic),
    "what is seen first": lambda its: sorted(its, key=lambda it: (it.urgency, not it.seen)),
}  # fmt: skip


THINGS_IN_ORDER: list[Made] = [
    (flag, {"clinic": "north", "days": 3, "state": "open", "rule": 3, "number": 1}),
    (flag, {"clinic": "north", "days": 3, "state": "acknowledged", "rule": 3, "number": 2}),
    (silence, {"clinic": "west", "days": 4}),
    (silence, {"clinic": "east", "days": 3}),
    (drawn, {"clinic": "north", "days": 4, "why": "harm", "blinded": True, "number": 2}),
    (verdict, {"clinic": "north", "days": 4, "rule": 2}),
    (flag, {"clinic": "north", "days": 9, "state": "open", "rule": 7, "number": 3}),
    (drawn, {"clinic": "north", "days": 4, "why": "drift", "blinded": True, "number": 2}),
    (step, {"clinic": "east", "days": 4, "name": "acceptance", "proposed": ["another"]}),
    (step, {"clinic": "east", "days": 9, "name": "conformance", "proposed": []}),
    (drawn, {"clinic": "south", "days": 30, "why": "routine", "blinded": True, "number": 2}),
    (flag, {"clinic": "north", "days": 9, "state": "acknowledged", "rule": 7, "number": 4}),
]


def holds(order: Callable[[list[Item]], list[Item]]) -> bool:
    """The order of the list above, and the property for each of its things."""
    items = [built(made) for made in THINGS_IN_ORDER]
    return order(items[::-1]) == items and all(sooner(order, THINGS_IN_ORDER, n) for n in range(len(items)))


def test_the_order_in_full() -> None:
    assert holds(ranking.ranked)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_order_is_noticed(mutant: str) -> None:
    assert not holds(MUTANTS[mutant])


def test_every_urgency_has_one_sentence_that_says_why() -> None:
    assert set(WHY) == set(Urgency)
    assert len(set(WHY.values())) == len(WHY)
    assert all(text.endswith(".") and text.count(". ") == 0 for text in WHY.values())


def test_what_waits_for_nobody_is_no_work() -> None:
    assert flag("north", 1, state="muted", rule=3, number=1) is None
    assert flag("north", 1, state="resolved", rule=3, number=1) is None
    assert verdict("north", 1, rule=9) is None
    assert step("north", 1, name="probation", proposed=[]) is None


def test_a_step_says_who_has_to_do_it_and_only_another_person_signs() -> None:
    missing = [{"what": "no study came", "who": "clinic", "cure": "send one study"},
               {"what": "no destination", "who": "QA team", "cure": "radfleet destination add north"}]  # fmt: skip
    it = ranking.step("north", "connectivity", missing, since=NOW, proposed_by=[], me="quin")
    assert it is not None
    assert it.detail == "Ask the clinic: no study came; no destination."
    assert it.command == "radfleet destination add north"
    for by, urgency in (("quin", Urgency.ONBOARDING), ("anna", Urgency.SIGNATURE)):
        it = step("north", 1, name="acceptance", proposed=[by])
        assert it is not None
        assert it.urgency is urgency
