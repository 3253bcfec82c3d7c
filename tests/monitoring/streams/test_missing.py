"""What begins to be missing is said at once, with its date, once, and by chance as seldom as the budget allows."""

from collections.abc import Mapping
from math import nan

import numpy as np
import pytest

from monitoring.detect.detector import threshold
from monitoring.judge import judging
from monitoring.streams import epochs, feed, groups, missing, shares, streams_store
from monitoring.streams.missing import HEADER, Gaps
from monitoring.streams.state import Row, Stream, from_bytes, to_bytes
from tests.kit.world import DIGEST_A, World
from tests.monitoring.fleet import PROFILE, TASK, Clinic, drain

H = threshold(10, shares.share("drift", 1))
FACTS = groups.facts(PROFILE | {"te_ms": 90.0})
NAMES = [f"feature {n:02}" for n in range(20)]


def row(
    rng: np.random.Generator, n: int, absent: Mapping[str, float], facts: Mapping[str, str] = FACTS
) -> Row:
    drawn = {name: float(v) for name, v in zip(NAMES, rng.standard_normal(20), strict=True)}
    values = {name: v for name, v in drawn.items() if rng.random() >= absent.get(name, 0.0)}
    return Row(n, str(n), f"2026-01-{1 + n // 10 % 28:02}T00:00:00+00:00", facts, values)


def fed(absent: Mapping[str, float], later: Mapping[str, float], count: int, seed: int = 1) -> Stream:
    """60 studies, of which each field is absent with these chances, then ``count`` with the later ones."""
    rng, its = np.random.default_rng(seed), feed.new(1, H, 0)
    for n in range(1, 61 + count):
        its = feed.feed(its, row(rng, n, absent if n <= 60 else later)).stream
    return its


def test_a_feature_that_is_gone_is_said_after_eight_studies_with_its_first_one() -> None:
    its = fed({}, {NAMES[3]: 1.0}, 8)
    assert its.gaps.proven == (True, False)
    ((name, gap),) = missing.strongest(its.gaps, of_header=False)
    assert (name, gap.seq, gap.lacks, gap.of) == (NAMES[3], 61, 8, 8)
    (count,) = judging.lacks(its)
    assert (count.name, count.beyond, count.happened, count.n, count.since) == ("missing", True, 8, 8, gap.at)
    assert count.sentence == "missing since 7 January 2026: feature 03 (in 8 of 8 studies)"
    assert not fed({}, {NAMES[3]: 1.0}, 5).gaps.proven[0]
    assert from_bytes(to_bytes(its)).gaps == its.gaps


def test_a_study_without_any_number_counts_as_one_in_which_all_is_missing() -> None:
    its = fed({}, {}, 0)
    for n in range(61, 69):
        step = feed.feed(its, Row(n, str(n), "2026-01-07T00:00:00+00:00", FACTS, {}, blank=(*NAMES,)))
        assert step.outcome == "nothing"
        its = step.stream
    assert its.gaps.proven[0]
    assert its.missing == dict.fromkeys(NAMES, 8)


def test_what_was_often_missing_before_is_no_news_and_its_end_is() -> None:
    often = {NAMES[0]: 0.3, NAMES[1]: 0.9}
    for seed in range(10):
        its = fed(often, often, 400, seed)
        assert its.gaps.proven == (False, False)
        assert its.unwatched.keys() == {NAMES[0], NAMES[1]}, "they have too few values, and are named"
        assert NAMES[0] in its.gaps.fields and NAMES[1] not in its.gaps.fields
    assert fed(often, {NAMES[0]: 1.0, NAMES[1]: 0.9}, 90).gaps.proven[0]


def test_it_ends_by_itself_when_the_feature_is_back_and_does_not_blink() -> None:
    its, rng = fed({}, {NAMES[3]: 1.0}, 8), np.random.default_rng(9)
    said = []
    for n in range(69, 110):
        its = feed.feed(its, row(rng, n, {})).stream
        said.append(its.gaps.proven[0])
    assert said[0]
    assert not said[-1]
    assert sorted(said, reverse=True) == said


def test_by_chance_it_is_said_as_seldom_as_its_share_of_the_budget() -> None:
    """At the very bar: every feature missing in one study of ten, each for itself. 40 years of one study a day."""
    gaps0, h = missing.begin([("a", {*NAMES})] * 60), threshold(1, shares.share("drift", 1))
    raised = years = 0.0
    rng = np.random.default_rng(11)
    for _ in range(40):
        its = gaps0
        for n in range(365):
            its = missing.step(
                its, "a", {x for x, u in zip(NAMES, rng.random(20), strict=True) if u > 0.1}, n, "", h
            )
            years += 1 / 365
            if its.proven[0]:
                raised += 1
                break
    assert raised / years <= 0.3, "a twelfth is allowed; 40 years cannot tell less than three times that"


def test_a_header_that_falls_silent_is_an_event_at_once_and_evidence_with_a_date() -> None:
    its, rng = fed({}, {}, 0), np.random.default_rng(2)
    silent = groups.facts(PROFILE | {"coil": "unknown"})
    steps = [feed.feed(its, row(rng, 61, {}, silent))]
    for n in range(62, 71):
        steps.append(feed.feed(steps[-1].stream, row(rng, n, {}, silent)))
    assert steps[0].arrival is not None
    last = steps[-1].stream
    assert last.gaps.proven == (False, True)
    assert {name for name, _ in missing.strongest(last.gaps, of_header=True)} == {
        HEADER + "coil",
        HEADER + "te_ms",
    }
    (count,) = judging.lacks(last)
    assert count.name == "header"
    assert "coil in the header, echo time (ms) in the header (in 10 of 10 studies)" in count.sentence


def test_another_scanner_is_not_asked_for_what_it_never_had() -> None:
    its, rng = fed({}, {}, 0), np.random.default_rng(3)
    other = groups.facts(PROFILE | {"model": "Vida", "te_ms": 90.0})
    for n in range(61, 161):
        its = feed.feed(its, row(rng, n, {NAMES[5]: 1.0}, other)).stream
    assert its.gaps.proven == (False, False)
    assert its.gaps.bars[groups.name(other)] == {NAMES[5]: 1.0}
    for n in range(161, 170):
        its = feed.feed(its, row(rng, n, {NAMES[6]: 1.0}, other)).stream
    assert its.gaps.proven[0]


def test_no_number_is_kept_as_such_and_named() -> None:
    _, read = streams_store._row(
        1, "s", "t", DIGEST_A, None, {"a": nan, "b": None, "c": 1, "d": "x"}, _Moment(), None, None  # type: ignore[arg-type]
    )  # fmt: skip
    assert (dict(read.values), read.blank) == ({"c": 1.0}, ("a", "b", "d"))
    rows = [Row(n, str(n), "2026-01-01", FACTS, {"c": float(n)}, blank=("a",)) for n in range(50)]
    assert feed.choose(rows) == (("c",), {"a": "0 of 50 reference studies have it"})


class _Moment:
    def isoformat(self) -> str:
        return "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("without", [None, ...])
def test_a_flag_a_verdict_and_a_replay_on_real_rows(world: World, without: object) -> None:
    world.version()
    clinic = Clinic(world)
    world.bind(clinic.id)
    world.sql(
        "insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason)"
        " values (%s, %s, '*', 1, .9, .05, 60, 'qa', 'signed')", clinic.id, TASK,
    )  # fmt: skip
    clinic.many(60)
    for _ in range(12):
        clinic.send(clinic.values(efc=without))
    follower = drain(world)
    ((kind, seq, since, sentence, features),) = world.sql(
        "select kind, seq, since_seq, sentence, features from monitoring.flag_v"
    )
    assert (kind, since) == ("missing", 61)
    assert seq == 72, "one batch, one flag"
    assert sentence.startswith("T1: missing since") and sentence.endswith("entropy of the image.")
    assert features[0]["name"] == "efc"
    ((word, rule, said, evidence),) = world.sql(
        "select verdict, rule, sentence, evidence from monitoring.verdict_v"
    )
    assert (word, rule) == ("hold", 2)
    assert "entropy of the image (in 12 of 12 studies)" in said
    (count,) = (c for c in evidence["counts"] if c["name"] == "missing")
    assert count["beyond"] and count["since"]
    again = feed.new(1, H, 0)
    with world.db.database.monitor() as conn:
        for _, its in streams_store.rows(conn, clinic.id, 0, 10**9, 500):
            again = feed.feed(again, its).stream
    assert to_bytes(again) == clinic.state(), "a replay of the published rows gives the same bytes"
    clinic.many(60)
    drain(world, follower)
    assert world.sql("select count(*) from monitoring.flag") == [(1,)], "it is said once"
    assert world.sql("select verdict, rule from monitoring.verdict_v") == [("healthy", 9)]
    assert world.sql("select state from monitoring.flag_v") == [("open",)], "and ended by a person"


def test_nothing_is_followed_before_there_is_a_reference() -> None:
    its = feed.feed(feed.new(1, H, 0), Row(1, "s", "2026-01-01", FACTS, {}, blank=("a",))).stream
    assert its.gaps == Gaps()
    assert judging.lacks(its) == ()


def test_all_shares_together_are_the_budget() -> None:
    """The bars that the product uses, each as flags a year that chance may raise, add up to what was stated."""
    policy = streams_store.Policy(per_day=10.0, budget=1.0)
    h = epochs.threshold(policy, 1)
    a_year = 10 * 365
    assert a_year / h + a_year / (missing.SHARE * h) + shares.share("volume", 1.0) == pytest.approx(1.0)
    assert epochs.threshold(policy, 3) == pytest.approx(3 * h), "drift's share is shared again by the streams"
