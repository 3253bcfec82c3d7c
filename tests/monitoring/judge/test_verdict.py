"""The verdict's table row by row, and what may never happen: evidence that softens, silence that clears."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.judge import contract, counts, recalibration, wealth
from monitoring.judge.harm import Review, with_reviews
from monitoring.judge.verdict import LEVEL, Contract, Evidence, Word, judge

KEPT = Contract(0.80, 0.05, 60, "signed")
WELL = Evidence(reference={"a": 60}, contract=KEPT, threshold=3650.0)
HARMED = replace(WELL, e_harm=64.0, labels=30, harm_group="all", group_labels=30)


@pytest.mark.parametrize(
    ("its", "word", "rule"),
    [
        (replace(WELL, reference={"a": 3}), Word.NOT_ENOUGH_DATA, 1),
        (replace(WELL, contract=None), Word.NOT_ENOUGH_DATA, 1),
        (replace(HARMED, gates=("tags are missing",), e_bad=99.0), Word.HOLD, 2),
        (replace(HARMED, since_model_change=49, e_bad=99.0), Word.HOLD, 2),
        (replace(HARMED, double_read=0.7, e_bad=99.0), Word.HOLD, 2),
        (replace(HARMED, e_bad=20.0), Word.FINE_TUNE, 3),
        (replace(HARMED, e_bad=20.0, harm_group="b", group_labels=15), Word.FINE_TUNE, 3),
        (replace(HARMED, e_bad=20.0, harm_group="b", group_labels=14), Word.WATCH, 6),
        (replace(HARMED, e_bad=20.0, labels=24), Word.WATCH, 6),
        (replace(HARMED, e_fix=20.0), Word.RECALIBRATE, 4),
        (replace(HARMED, e_fix=20.0, e_bad=20.0), Word.HOLD, 5),
        (replace(HARMED, labels=150), Word.HOLD, 5),
        (HARMED, Word.WATCH, 6),
        (replace(WELL, statistic=3650.0), Word.WATCH, 7),
        (replace(WELL, statistic=9.0, flagged=True), Word.WATCH, 7),
        (replace(WELL, statistic=365.0), Word.WATCH, 8),
        (replace(WELL, statistic=200.0, watching=True), Word.WATCH, 8),
        (replace(WELL, e_harm=5.0), Word.WATCH, 8),
        (replace(WELL, statistic=4000.0, confirmed=True), Word.HEALTHY, 9),
        (replace(WELL, confirmed=True), Word.HEALTHY, 9),
        (WELL, Word.HEALTHY, 9),
        (Evidence(), Word.NOT_ENOUGH_DATA, 1),
    ],
)
def test_every_row_of_the_table(its: Evidence, word: Word, rule: int) -> None:
    found = judge(its)
    assert (found.word, found.rule) == (word, rule)
    assert found.sentence
    assert found.action
    assert found.would_change


def test_quiet_without_reviews_is_said_to_be_unconfirmed() -> None:
    assert "not confirmed: not enough reviews (0 of about 60)" in judge(WELL).sentence


ODDS = st.sampled_from([1.0, 4.9, 5.0, 19.9, 20.0, 1e6])
EVIDENCE = st.builds(
    Evidence,
    reference=st.dictionaries(st.sampled_from("ab"), st.integers(0, 120)),
    contract=st.sampled_from([None, KEPT]), gates=st.sampled_from([(), ("tags",)]),
    since_model_change=st.sampled_from([None, 3, 80]), double_read=st.sampled_from([None, 0.7, 0.9]),
    statistic=st.sampled_from([0.0, 100.0, 365.0, 3649.0, 3650.0, 1e9]), threshold=st.just(3650.0),
    watching=st.booleans(), flagged=st.booleans(), e_harm=ODDS, confirmed=st.booleans(), e_bad=ODDS, e_fix=ODDS,
    labels=st.integers(0, 200), harm_group=st.sampled_from([None, "all", "a"]), group_labels=st.integers(0, 200),
)  # fmt: skip


@given(EVIDENCE, st.sampled_from([365.0, 3650.0, 1e9]), ODDS, st.booleans())
@example(Evidence(reference={"a": 50}, contract=KEPT, watching=True, confirmed=True), 365.0, 1.0, True)
@settings(max_examples=400, deadline=None)
def test_more_evidence_of_harm_or_drift_never_softens(
    its: Evidence, statistic: float, e_harm: float, flagged: bool
) -> None:
    more = replace(
        its,
        statistic=max(its.statistic, statistic),
        e_harm=max(its.e_harm, e_harm),
        flagged=its.flagged or flagged,
    )
    assert LEVEL[judge(more).word] >= LEVEL[judge(its).word]


@given(EVIDENCE, st.integers(0, 49), st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_absence_of_data_never_clears(its: Evidence, rows: int, no_contract: bool, no_reviews: bool) -> None:
    less = replace(
        its, reference={name: min(n, rows) for name, n in its.reference.items()},
        contract=None if no_contract else its.contract,
    )  # fmt: skip
    if no_reviews:  # reviews that never came prove nothing, neither harm nor its absence
        less = replace(less, labels=0, confirmed=False, e_fix=1.0)
    if judge(its).word is not Word.HEALTHY:
        assert judge(less).word is not Word.HEALTHY


LOSSES = st.lists(st.sampled_from([0.05, 0.2, 0.3, 0.6, 0.9]), max_size=60)


def reviews(losses: list[float]) -> list[Review]:
    return [
        Review(
            n,
            100 + n,
            "ab"[n % 2],
            loss,
            random=n % 5 != 4,
            decision="reject" if loss > 0.8 else "edit",
            blinded=n % 3 == 0,
            ladder={0.0: 1 - loss, -1.0: 0.9} if n % 4 else None,
            between_readers=0.9 if n % 7 == 0 else None,
        )
        for n, loss in enumerate(losses)
    ]


@given(LOSSES, st.randoms(), st.sampled_from([None, 0, 110]))
@settings(max_examples=150, deadline=None)
def test_the_order_of_delivery_and_repeats_do_not_matter(
    losses: list[float], rng: object, since: int | None
) -> None:
    read = reviews(losses)
    mixed = [*read, *read[::2]]
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert with_reviews(WELL, mixed, since) == with_reviews(WELL, read, since)


def test_harm_is_proven_by_random_reviews_alone() -> None:
    bad = [Review(n, n, "a", 0.6, random=True) for n in range(40)]
    assert with_reviews(WELL, bad, 0).e_harm >= 20
    picked = [replace(review, random=False) for review in bad]
    assert with_reviews(WELL, picked, 0, bars={}) == WELL
    assert judge(with_reviews(WELL, bad, 0)).word is Word.WATCH  # proven, and no remedy was tried
    tried = [replace(review, ladder={0.0: 0.4, -1.0: 0.4}) for review in bad]
    assert judge(with_reviews(WELL, tried, 0)).word is Word.FINE_TUNE
    mended = [replace(review, ladder={0.0: 0.4, -1.0: 0.9}) for review in bad]
    assert judge(with_reviews(WELL, mended, 0)).word is Word.RECALIBRATE


def test_good_reviews_confirm_and_the_group_with_harm_is_named() -> None:
    good = [Review(n, n, "a", 0.1, random=True, decision="accept", blinded=n % 5 == 0) for n in range(80)]
    assert "Confirmed healthy" in judge(with_reviews(WELL, good, None)).sentence
    anchored = [replace(review, blinded=False) for review in good]
    assert "not confirmed" in judge(with_reviews(WELL, anchored, None)).sentence
    split = [Review(n, n, "ab"[n % 2], 0.7 if n % 2 else 0.1, random=True) for n in range(40)]
    assert with_reviews(WELL, split, 0).harm_group == "b"


def test_wealth_agrees_with_its_definition_and_proves_nothing_at_the_bound() -> None:
    one = [0.0, 1.0, 1.0, 0.5]
    slow = 0.0
    for stake in wealth.STAKES:
        fortune = 1.0
        for x in one:
            fortune *= 1 + stake / 0.3 * (x - 0.3)
        slow += fortune / 4
    assert wealth.product(one, 0.3) == pytest.approx(slow)
    assert wealth.product([0.3] * 50, 0.3) == pytest.approx(1.0)
    assert wealth.restarting([0.3] * 50, 0.3) == pytest.approx(50)  # h is reached in h numbers on average


def test_a_card_gives_a_contract_only_where_it_was_scored() -> None:
    card = {
        "scored_on": {
            "rows": [{"person": 7, "dice": 0.1}, {"person": 19, "dice": 0.7}, {"person": 7, "dice": 0.3}]
        }
    }
    found = contract.of_card(card)
    assert found is not None
    assert (round(found.d_ref, 3), found.people) == (0.45, 2)
    for nothing in (
        {},
        {"scored_on": "later"},
        {"scored_on": {"rows": []}},
        {"scored_on": {"rows": [{"dice": "?"}]}},
    ):
        assert contract.of_card(nothing) is None


STEPS = (0.0, -1.0, 2.0)
READING = st.builds(
    lambda loss, decision, blinded, group, ladder: (loss, decision, blinded, group, ladder),
    st.sampled_from([0.0, 0.05, 0.2, 0.3, 0.6, 0.9, 1.0]), st.sampled_from(["accept", "edit", "reject"]),
    st.booleans(), st.sampled_from("ab"), st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=3, max_size=3),
)  # fmt: skip


def made(readings: list[tuple[float, str, bool, str, list[float]]]) -> list[Review]:
    return [
        Review(n, n, group, loss, random=True, decision=decision, blinded=blinded,
               ladder=dict(zip(STEPS, ladder, strict=True)))
        for n, (loss, decision, blinded, group, ladder) in enumerate(readings)
    ]  # fmt: skip


@given(
    st.lists(READING, max_size=50), st.lists(READING, max_size=50), st.integers(1, 40),
    st.sampled_from([None, 0, 20]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_proven_harm_and_its_remedy_are_not_unsaid_by_what_comes_later(
    before: list[Any], after: list[Any], times: int, since: int | None
) -> None:
    """Until a person or a promotion begins the next epoch: neither good days nor bad ones soften a verdict of harm."""
    first = made((before * times)[:200])
    early = with_reviews(WELL, first, since)
    late = with_reviews(WELL, [*first, *made((before * times)[:200] + after)[len(first) :]], since)
    if judge(early).rule in (3, 4, 5, 6):
        assert LEVEL[judge(late).word] >= LEVEL[judge(early).word]
        assert (late.e_harm, late.e_bad, late.e_fix) >= (early.e_harm, 0, 0)
        assert (late.e_bad >= early.e_bad) and (late.e_fix >= early.e_fix) and late.labels >= early.labels


@given(st.lists(READING, min_size=1, max_size=60), st.data())
@settings(max_examples=150, deadline=None)
def test_a_worse_reading_never_softens(readings: list[Any], data: st.DataObject) -> None:
    """The same studies, one of them read as worse, by whatever decision: E_harm does not fall, E_ok does not rise."""
    at = data.draw(st.integers(0, len(readings) - 1))
    loss, decision, blinded, group, ladder = readings[at]
    worse = [*readings]
    worse[at] = (min(1.0, loss + 0.3), decision, blinded, group, ladder)
    one, other = (with_reviews(WELL, made(its), 0) for its in (readings, worse))
    assert other.e_harm >= one.e_harm
    assert other.e_ok <= one.e_ok
    assert one.confirmed >= other.confirmed or one.blinded != other.blinded


def test_the_remedy_is_tried_on_reviews_that_did_not_choose_it() -> None:
    """Planted: a fit on the very review that it is tried on finds a cure in noise."""
    rng = random.Random(3)
    noise = [{step: rng.uniform(0.3, 0.7) for step in (-2.0, -1.0, 0.0, 1.0, 2.0)} for _ in range(150)]
    honest = [y for y in recalibration.losses(noise) if y is not None]
    cheating = [1 - max(ladder.values()) for ladder in noise]
    assert sum(honest) / len(honest) == pytest.approx(0.5, abs=0.04)
    assert sum(cheating) / len(cheating) < 0.42
    assert wealth.most([1 - y for y in honest], 0.55) < 20 <= wealth.most([1 - y for y in cheating], 0.55)


def test_a_second_reading_measures_the_readers_and_is_no_second_label() -> None:
    once = [Review(n, n, "a", 0.5, random=True, study=str(n)) for n in range(10)]
    again = [replace(r, seq=100 + r.seq, loss=0.0, between_readers=0.6) for r in once]
    found = with_reviews(WELL, [*once, *again], 0)
    assert (found.labels, found.double_read) == (10, pytest.approx(0.6))
    assert found.e_harm == with_reviews(WELL, once, 0).e_harm
    assert judge(found).rule == 2  # readers who agree less than the model must


def test_harm_without_drift_is_found_after_a_long_good_time() -> None:
    good = [Review(n, n, "a", 0.1, random=True) for n in range(100)]
    bad = [Review(100 + n, 100 + n, "a", 0.6, random=True, ladder={0.0: 0.4, -1.0: 0.9}) for n in range(60)]
    found = with_reviews(WELL, good + bad, None)
    assert found.e_harm >= 20
    assert found.labels < 60 < found.all_labels  # the remedy is judged on what came after the suspicion
    assert judge(found).word is Word.RECALIBRATE


def test_rejections_and_edits_are_counted_and_a_count_that_is_over_is_over() -> None:
    bad = counts.count("failure", [False] * 50 + [True] * 12, 0.1, 3650)
    assert bad.beyond
    assert "12 of 62" in bad.sentence
    assert not counts.count("failure", [False] * 50 + [True] * 12 + [False] * 60, 0.1, 3650).beyond
    assert judge(replace(WELL, counts=(counts.count("reject", [True] * 20, 0.1, 110),))).rule == 8
    assert judge(replace(WELL, gates=(bad.sentence,))).word is Word.HOLD
