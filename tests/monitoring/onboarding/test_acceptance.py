"""The test on a clinic's own cases: it decides the right way, rarely the wrong one, and only once."""

import random
from dataclasses import replace
from uuid import UUID

from monitoring.judge.verdict import Contract
from monitoring.onboarding.acceptance import Case, Trial, Word, decide

PROMISED = Contract(0.80, 0.05, 10, "test")


def case(seq: int, dice: float, minutes: float | None = 6.0) -> Case:
    return Case(seq, UUID(int=seq), dice, minutes, PROMISED)


def cases(mean: float, count: int, seed: int = 1, spread: float = 0.12) -> list[Case]:
    """Dice of beta law around ``mean``, as in the research note."""
    rng = random.Random(seed)
    size = mean * (1 - mean) / spread**2 - 1
    return [case(n + 1, rng.betavariate(mean * size, (1 - mean) * size)) for n in range(count)]


def test_good_cases_accept_and_bad_ones_refuse() -> None:
    good, bad = decide(cases(0.86, 400)), decide(cases(0.60, 400))
    assert (good.word, bad.word) == (Word.ACCEPTED, Word.REFUSED)
    assert good.odds_good >= 20 > good.odds_bad
    assert bad.odds_bad >= 20 > bad.odds_good
    assert good.reviews < 150
    assert good.minutes == 6.0 * good.reviews, "the expert's minutes until the decision are counted"
    assert "Accepted" in good.sentence
    assert "Refused" in bad.sentence


def test_later_cases_do_not_change_a_decision() -> None:
    some = cases(0.86, 400)
    early = decide(some)
    assert decide(some[: early.reviews]) == early
    worse = [*some[: early.reviews], *(replace(c, dice=0.0) for c in some[early.reviews :])]
    assert decide(worse) == early
    assert decide([*reversed(some), *some]) == early, "neither their order of arrival nor repeats matter"


def test_a_withdrawn_review_changes_the_digest() -> None:
    some = cases(0.86, 400)
    assert decide(some[1:]).reviews_digest != decide(some).reviews_digest


def test_at_the_contracts_edge_it_is_wrong_in_at_most_one_of_twenty() -> None:
    edge = [decide(cases(0.75, 150, seed=seed)).word for seed in range(100)]
    worse = [decide(cases(0.70, 150, seed=seed)).word for seed in range(100)]
    # 100 draws of 5 % have a standard error of 2.2 %.
    for found, wrong in ((edge, Word.ACCEPTED), (edge, Word.REFUSED), (worse, Word.ACCEPTED)):
        assert found.count(wrong) / len(found) <= 0.05 + 2 * 0.022
    assert worse.count(Word.REFUSED) > 80, "and where it is worse, it says so"


def test_a_test_that_looks_daily_without_bets_would_be_wrong_far_more_often() -> None:
    """Mutant: the same cases judged by "is the mean above the bar now?" accept a version at the edge nearly always."""

    def naive(some: list[Case]) -> bool:
        total = 0.0
        for n, one in enumerate(some, 1):
            total += one.dice
            if n >= 10 and total / n > 0.75 + 1.645 * 0.12 / n**0.5:
                return True
        return False

    assert sum(naive(cases(0.75, 200, seed=seed)) for seed in range(100)) / 100 > 0.10


def test_few_cases_say_how_many_more() -> None:
    few = decide(cases(0.88, 5))
    assert few.word is Word.UNDECIDED
    assert few.more is not None
    assert 10 < few.more < 400
    assert f"about {few.more} more" in few.sentence
    nothing = decide([])
    assert (nothing.word, nothing.reviews, nothing.mean_dice, nothing.more) == (Word.UNDECIDED, 0, None, None)
    assert "No blinded review" in nothing.sentence


def test_how_many_more_is_about_right() -> None:
    """At a steady Dice the forecast is met."""
    steady = [case(n + 1, 0.88) for n in range(400)]
    forecast = decide(steady[:10]).more
    assert forecast is not None
    assert decide(steady).reviews - 10 == forecast


def test_minutes_that_nobody_told_are_counted_apart() -> None:
    some = [case(1, 0.9), case(2, 0.9, None), case(3, 0.9, 4.0)]
    found: Trial = decide(some)
    assert (found.minutes, found.untold) == (10.0, 1)


def test_each_case_is_held_against_its_own_contract() -> None:
    """A loose contract for one sequence does not excuse the cases of another."""
    loose = Contract(0.5, 0.05, 10, "test")
    some = [replace(case(n + 1, 0.6), contract=loose if n % 2 else PROMISED) for n in range(400)]
    assert decide([c for c in some if c.contract is loose]).word is Word.ACCEPTED
    assert decide([c for c in some if c.contract is PROMISED]).word is Word.REFUSED
    assert decide(some).word is not Word.ACCEPTED
