"""A flag says by how much and of how many studies, and when two causes cannot be told apart."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitoring import sentences
from monitoring.streams import feed, follower, groups, responses
from monitoring.streams.feed import Arrival, Drift
from monitoring.streams.state import Began, Row, Stream
from monitoring.streams.streams_store import Key

PRISMA = groups.facts({"vendor": "siemens", "model": "Prisma", "software_major": "E11", "protocol": "p"})
MARCH = "2026-03-03T10:00:00+00:00"
SKYRA = PRISMA | {"model": "Skyra"}


def drifted(
    factor: float,
    also: Mapping[int, dict[str, str]] | None = None,
    shift: float = 0.0,
    some: int = 1,
) -> tuple[Drift, Stream]:
    """What is said of 100 studies of five positive features, the first of which is then this factor higher.

    In each one of ``some``; where those are not all, every feature is.
    """
    rng = np.random.default_rng(3)
    its = feed.new(1, 3650.0, 0)
    for n in range(1, 200):
        values = np.exp(rng.normal(0, 0.1, 5)) - shift
        values[: 1 if some == 1 else 5] *= factor if n > 100 and n % some == 0 else 1.0
        facts = (also or {}).get(n, PRISMA)
        row = Row(n, str(n), MARCH, facts, {f"f{i}": float(v) for i, v in enumerate(values)})
        step = feed.feed(its, row)
        its = step.stream
        if step.drift:
            return step.drift, its
    raise AssertionError("it was never flagged")


@pytest.mark.parametrize(("factor", "way"), [(1.25, "rose"), (0.8, "fell")])
def test_a_sentence_says_by_how_much_and_of_how_many(factor: float, way: str) -> None:
    its, _ = drifted(factor)
    assert its.percent == pytest.approx(100 * (factor - 1), abs=8)
    assert abs(its.studies - (its.seq - its.since.seq + 1)) == 0
    said = sentences.drift("FLAIR", its, PRISMA)
    assert said.startswith(
        f"FLAIR from the Siemens Prisma: f0 {way} by about {abs(its.percent or 0):.0f} % since 3 March 2026"
    )
    assert f"({its.studies} studies)." in said


def test_a_change_of_some_studies_is_said_to_be_one() -> None:
    its, _ = drifted(1.5, some=5)
    assert its.outlying
    some, of = its.outlying
    assert some >= of / 8, "one in five was changed"
    assert f"Perhaps only some studies: {some} of {of} since then" in sentences.drift("FLAIR", its, PRISMA)
    assert drifted(1.25)[0].outlying is None


def test_no_percent_is_said_of_what_may_be_negative_or_of_a_spread() -> None:
    its, _ = drifted(3.0, shift=0.95)
    assert its.percent is None
    assert "about" not in sentences.drift("FLAIR", its, PRISMA)
    assert "about" not in sentences.drift("FLAIR", replace(its, percent=0.4), PRISMA)


def test_a_scanner_that_came_in_the_same_days_is_said_not_to_be_told_apart() -> None:
    its, stream = drifted(1.25, also={103: SKYRA})
    key = Key("ms-lesion", "FLAIR", "sha256:0")
    raised = follower.drift_flag(key, its, 1, None, stream)
    near = its.since.low_seq <= 103 <= its.since.high_seq
    assert near == ("told apart" in raised.sentence) == bool(raised.cause["came"])
    for low, high, apart in ((95, 110, True), (104, 110, False), (95, 102, False)):
        at = replace(its, since=Began(101, MARCH, low, MARCH, high, MARCH))
        raised = follower.drift_flag(key, at, 1, None, stream)
        assert ("Siemens Skyra came in the same days" in raised.sentence) == apart
        assert raised.cause["came"] == ([groups.name(SKYRA)] if apart else [])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ("2026-03-01", "2026-03-05", "1 to 5 March, with 90 %"),
        ("2026-02-27", "2026-03-05", "27 February to 5 March, with 90 %"),
        ("2025-12-30", "2026-03-05", "30 December 2025 to 5 March 2026, with 90 %"),
        ("2026-03-03", "2026-03-03", ""),
    ],
)
def test_a_range_is_said_as_short_as_it_can_be(low: str, high: str, said: str) -> None:
    assert sentences.between(Began(1, MARCH, 1, f"{low}T01:00:00+00:00", 2, f"{high}T02:00:00+00:00")) == said


@pytest.mark.parametrize(
    ("changed", "apart"),
    [
        ({"software_major": ["E11", "XA30"], "te_ms": ["90", "120"]}, True),
        ({"te_ms": ["90", "120"], "ti_ms": ["2500", "2200"]}, False),
        ({"software_major": ["E11", "XA30"]}, False),
        ({"model": ["Prisma", "Skyra"], "software_major": ["E11", "XA30"]}, False),
        ({"coil": ["?", "head"], "te_ms": ["90", "120"]}, False),
    ],
)
def test_two_changes_that_came_with_one_study_are_not_told_apart(
    changed: dict[str, Any], apart: bool
) -> None:
    """A protocol's own settings are one change, another machine brings its own, what no header said before is none."""
    its = Arrival(61, MARCH, "", PRISMA, changed)
    assert ("cannot be told apart" in sentences.arrival("FLAIR", its)) == apart


def test_a_drift_says_what_it_looks_like_and_that_it_is_simulated() -> None:
    """The table's own response is likened to its setting; not beside a group that came, nor where nothing is sure."""
    its, stream = drifted(1.25)
    assert its.shift is not None
    assert set(its.shift) == {f"f{n}" for n in range(5)}
    assert its.shift["f0"] > 1 > max(abs(its.shift[f"f{n}"]) for n in range(1, 5))
    key, words = Key("ms-lesion", "FLAIR", "sha256:0"), "a longer echo time"
    sizes = responses.table()["FLAIR"][words]
    seen = replace(its, shift=list(sizes.values())[-1])
    raised = follower.drift_flag(key, seen, 1, None, stream)
    assert raised.sentence.endswith(
        f" It looks like {words} (in simulated studies; the header says nothing of it)."
    )
    assert raised.cause["likeness"]["words"] == words
    assert raised.cause["likeness"]["simulated"] is True
    json.dumps(raised.cause)
    for silent in (its, replace(seen, shift=None)):
        raised = follower.drift_flag(key, silent, 1, None, stream)
        assert "looks like" not in raised.sentence
        assert "likeness" not in raised.cause
    moved, other = drifted(1.25, also={103: SKYRA})
    came = replace(moved, since=Began(101, MARCH, 95, MARCH, 110, MARCH), shift=seen.shift)
    raised = follower.drift_flag(key, came, 1, None, other)
    assert "looks like" not in raised.sentence
    assert "likeness" not in raised.cause


def test_where_no_feature_moved_for_sure_no_pattern_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a shift whatever the flag says."""
    real = feed.detector.step

    def doubtful(*given: Any) -> Any:
        its, flag = real(*given)
        return its, replace(flag, certain=False) if flag else None

    monkeypatch.setattr(feed.detector, "step", doubtful)
    assert drifted(1.25)[0].shift is None
