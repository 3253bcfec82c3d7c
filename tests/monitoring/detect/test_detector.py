"""Detector R agrees with its slow twin, keeps its budget, finds what is planted, and replays to the byte."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.detect import bets, detector, history, outlying, ranks, shape, since, windows
from monitoring.detect.state import WEIGHTS, from_bytes, to_bytes
from monitoring.errors import StateDamaged
from tests.monitoring.made_up import Stream, begin, false_flags, follow, stream, whole
from tests.monitoring.slow import Slow

CASES = (
    {"shift": 3.0},
    {"shift": 1.5, "missing": 0.1, "groups": 2, "reference": 130, "rows": 220, "at": 150},
    {"decimals": 0, "missing": 0.05, "h": 30.0},
    {"groups": 3, "rows": 420, "reference": 90, "h": 300.0, "shift": -0.7, "at": 240},
    {"rows": 520, "reference": 390, "width": 2, "shift": 2.0, "at": 500},
    {"rows": 150, "width": 1, "h": 1e9, "shift": 0.4},
    {"rows": 860, "reference": 400, "width": 2, "shift": 0.45, "at": 401, "h": 1e7, "missing": 0.05},
)
streams = st.builds(
    stream,
    st.integers(0, 10**6),
    rows=st.integers(60, 190),
    reference=st.integers(50, 58),
    width=st.integers(1, 4),
    groups=st.integers(1, 2),
    missing=st.sampled_from((0.0, 0.1)),
    decimals=st.sampled_from((0, 1, 6)),
    shift=st.sampled_from((0.0, 1.0, -2.5, 6.0)),
    h=st.sampled_from((20.0, 100.0, 1000.0)),
)
quick = settings(max_examples=40, deadline=None)


def twin(its: Stream) -> Slow:
    """The slow twin after all rows of a stream."""
    n = its.reference
    slow = Slow(its.features, its.h, its.values[:n].tolist(), list(its.groups[:n]))
    for row, group in zip(its.values[n:].tolist(), its.groups[n:], strict=True):
        slow.see(row, group)
    return slow


@cache
def case_and_twin(number: int) -> tuple[Stream, Slow]:
    """A case and its twin, who does not know what is planted in the detector."""
    its = stream(1, **CASES[number])  # type: ignore[arg-type]
    return its, twin(its)


def agrees(its: Stream, slow: Slow) -> bool:
    """Whether the detector and its slow twin think the same after every row and raise the same flag."""
    _, statistics, flag = whole(its)
    same = np.allclose(statistics, slow.statistics, rtol=1e-9, atol=0)
    if flag is None or slow.flag is None:
        return same and flag is None and slow.flag is None
    mine = {
        "row": flag.row, "since_row": flag.since_row, "since_range": flag.since_range,
        "features": set(flag.features), "certain": flag.certain, "direction": flag.direction,
    }  # fmt: skip
    return same and mine == slow.flag


@pytest.mark.parametrize("number", range(len(CASES)))
def test_it_agrees_with_the_slow_twin(number: int) -> None:
    assert agrees(*case_and_twin(number))


@quick
@given(streams)
def test_it_agrees_with_the_slow_twin_on_anything(its: Stream) -> None:
    assert agrees(its, twin(its))


def _own_row_first(ranked: Callable[..., ranks.Floats]) -> Callable[..., ranks.Floats]:
    return lambda reference, n, row, u: ranked(np.vstack([reference, row]), n + 1, row, u)


def _no_guard(log_bets: Callable[..., ranks.Floats]) -> Callable[..., ranks.Floats]:
    return lambda w, n, phi: log_bets(w, np.full_like(n, 1e12), phi)


MUTANTS = {
    "updates the reference with the row before ranking it": (ranks, "rank", _own_row_first),
    "forgets to randomise ties": (
        ranks,
        "uniforms",
        lambda _: lambda study, names, epoch: np.zeros(len(names)),
    ),
    "draws other numbers on replay": (ranks, "uniforms", lambda was: lambda s, f, e: was(s + "again", f, e)),
    "forgets the small reference's error": (bets, "log_bets", _no_guard),
    "does not whiten": (ranks, "whiten", lambda _: lambda z, before, phi: z),
    "adds before betting, not after": (bets, "gather", lambda _: lambda m, log_e: m * np.exp(log_e) + 1),
    "lets a row join at once": (detector, "LAG", lambda _: 0),
    "goes on growing while watched": (detector, "WATCH", lambda _: 1e-9),
    "grows for ever": (detector, "MOST", lambda _: 10**9),
    "ranks a new group among ten rows": (detector, "LEAST", lambda _: 10),
    "dates a change as if every feature moved": (since, "_likely", lambda _: lambda own: own),
    "takes features that move together for independent": (since, "_shared", lambda _: lambda *_: 1.0),
    "forgets the score before the history": (since, "_before", lambda was: lambda scores: was(scores) * 0),
    "looks back without end": (detector, "HISTORY", lambda _: 10**9),
    "keeps the rank of the day on which a row came": (
        history,
        "with_reference",
        lambda _: lambda its, lines, row, group, of_it: its,
    ),
    "ranks a row among itself": (detector, "_inside", lambda was: lambda state: was(state) & False),
    "forgives no season": (windows, "WANDER", lambda _: 0.0),
    "takes means of related rows for means of independent ones": (
        windows,
        "_spread",
        lambda _: lambda y: 1.0,
    ),
    "judges the whole by its first shape": (shape, "STEP", lambda _: 50),
    "lets one strange study speak as loudly as it likes": (shape, "WITHIN", lambda _: 1.0),
    "believes any surprise beyond the others": (detector, "BEYOND", lambda _: 1e9),
    "names whatever may have moved": (detector, "SURE", lambda _: 0.01),
    "believes the reference's rate of outlying rows": (outlying, "MOST", lambda _: 1e9),
    "takes a season for outlying studies": (outlying, "TEMPER", lambda _: 1.0),
    "forgets how many rows were outlying before": (
        outlying,
        "_split",
        lambda was: lambda rows, its: (was(rows, its)[0], was(rows, its)[1] * 0),
    ),
    "expects the whole to move far": (windows, "LENGTH", lambda _: 2.0),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: each fault must part the detector from its slow twin on a case that the real one passes."""
    module, name, fault = MUTANTS[mutant]
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    assert not all(agrees(*case_and_twin(number)) for number in range(len(CASES)))


BUDGET = 10.0
PER_DAY = 10.0


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [6, 0], ids=["no ties", "ties"])
def test_false_flags_stay_within_the_budget(decimals: int) -> None:
    """40 exchangeable streams of 600 rows, 6.6 years of 3,650 studies: 66 flags are allowed."""
    rate = false_flags(range(40), rows=650, decimals=decimals, per_day=PER_DAY, budget=BUDGET)
    assert 0 < rate <= BUDGET


@pytest.mark.parametrize("mutant", ["forgets to randomise ties", "threshold for one study a day"])
def test_a_fault_that_breaks_the_budget_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: the measure of false flags itself condemns them."""
    if mutant in MUTANTS:
        module, name, fault = MUTANTS[mutant]
        monkeypatch.setattr(module, name, fault(getattr(module, name)))
    else:
        monkeypatch.setattr(detector, "threshold", lambda _, budget: 365 / budget)
    assert false_flags(range(8), rows=650, decimals=0, per_day=PER_DAY, budget=BUDGET) > BUDGET


@pytest.mark.parametrize(("shift", "within", "way"), [(2.0, 20, "up"), (-2.0, 20, "down"), (1.0, 70, "up")])
def test_a_planted_shift_is_found(shift: float, within: int, way: str) -> None:
    """At the threshold of one flag a year, one feature of five, 20 seeds: when, which, which way, since when."""
    found = []
    for seed in range(20):
        its = stream(seed, rows=260, reference=100, width=5, h=3650.0, shift=shift, at=130)
        _, _, flag = whole(its)
        assert flag is not None
        assert flag.features[0] == "feature 0"
        assert flag.direction["feature 0"] == way
        found.append((flag.row - 130, abs(flag.since_row - 130)))
    late, off = np.median(found, axis=0)
    assert late <= within
    assert off <= 5


def test_the_beginning_is_dated_by_all_that_moved_and_its_range_holds_it() -> None:
    """1 and 2 sd on five of ten related features, 24 streams: within 10 studies in 90 %, the range right in 85 %."""
    off, held = [], []
    for seed in range(24):
        its = stream(seed, rows=260, reference=100, width=10, h=3650.0)
        moved = 0.5 * np.random.default_rng(seed).standard_normal((260, 1)) + 0.87 * its.values
        moved[130:, :5] += 1 + seed % 2
        _, _, flag = whole(replace(its, values=moved))
        assert flag is not None
        off.append(abs(flag.since_row - 130))
        held.append(flag.since_range[0] <= 130 <= flag.since_range[1])
    assert np.quantile(off, 0.9) <= 10
    assert np.mean(held) >= 0.85


def related(seed: int, width: int = 10, **of: float) -> Stream:
    """A stream of features with one common factor (correlation .25)."""
    its = stream(seed, width=width, h=3650.0, **of)  # type: ignore[arg-type]
    factor = np.random.default_rng(seed).standard_normal((len(its.values), 1))
    return replace(its, values=0.5 * factor + 0.87 * its.values)


def _found_in_sixty(seeds: range) -> int:
    """Streams in which .5 sd on five of ten related features is found in sixty studies."""
    found = 0
    for seed in seeds:
        its = related(seed, rows=390, reference=200)
        its.values[300:, :5] += 0.5
        _, _, flag = whole(its)
        found += flag is not None and 300 <= flag.row < 360
    return found


def test_many_weak_changes_are_found_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of ten seeds at least; a detector that is deaf to the whole finds fewer than half."""
    assert _found_in_sixty(range(10)) >= 8
    for part in ("together", "beyond", "outlying"):
        monkeypatch.setitem(WEIGHTS, part, 0.0)
    assert _found_in_sixty(range(10)) < 5


def _found_now_and_then(seeds: range) -> int:
    """Streams in which a fifth of the studies is changed, 2.5 sd on half of twenty features, and found in thirty."""
    found = 0
    for seed in seeds:
        its = related(seed, width=20, rows=230, reference=100)
        changed = np.random.default_rng(seed).random(230) < 0.2
        its.values[200:, :10] += 2.5 * changed[200:, None]
        _, _, flag = whole(its)
        if flag is not None and flag.row >= 200:
            found += 1
            some, rows = flag.outlying or (0, 1)
            assert not flag.outlying or (some / rows > 0.05 and rows == flag.row + 1 - flag.since_row)
    return found


def test_a_change_of_some_studies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of twenty seeds at least; a detector that does not count outlying studies finds fewer."""
    with_it = _found_now_and_then(range(20))
    monkeypatch.setitem(WEIGHTS, "outlying", 0.0)
    assert with_it >= max(10, _found_now_and_then(range(20)) + 3)


def _flagged_by_a_season(seeds: range) -> int:
    """Streams of 1,500 studies in which a yearly wave of .3 sd on half of the features raised a flag."""
    flags = 0
    for seed in seeds:
        its = related(seed, rows=1700, reference=200)
        its.values[:, ::2] += 0.3 * np.sin(2 * np.pi * (np.arange(1700) / 3650 + seed / 8))[:, None]
        flags += whole(its)[2] is not None
    return flags


@pytest.mark.slow
def test_a_season_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight streams with eight phases; a detector that forgives no wander of the level flags most of them."""
    assert _flagged_by_a_season(range(8)) <= 1
    monkeypatch.setattr(windows, "WANDER", 0.0)
    assert _flagged_by_a_season(range(8)) >= 5


def test_a_wider_spread_is_called_wider_and_a_jump_is_not() -> None:
    """A jump far beyond a large reference wins the bet on scale too; the word must still be right nearly always."""
    said = {"up": 0, "wider": 0}
    for seed in range(20):
        wide = stream(seed, rows=600, reference=400, width=2, h=3650.0)
        wide.values[420:, 0] *= 3
        far = stream(seed, rows=450, reference=400, width=2, h=3650.0, shift=9.0, at=420)
        for its, way in ((wide, "wider"), (far, "up")):
            _, _, flag = whole(its)
            assert flag is not None
            said[way] += flag.direction["feature 0"] == way
    assert said["up"] >= 19
    assert said["wider"] >= 17


@quick
@given(streams, st.data())
def test_a_resumed_stream_is_the_same_to_the_byte(its: Stream, data: st.DataObject) -> None:
    end = len(its.values)
    at = data.draw(st.integers(its.reference, end))
    straight, _, flag = whole(its)
    first, _, one = follow(its, begin(its), range(its.reference, at))
    resumed, _, two = follow(its, from_bytes(to_bytes(first)), range(at, end))
    assert to_bytes(resumed) == to_bytes(straight)
    assert (one or two) == flag


def test_a_step_leaves_the_state_before_it_alone() -> None:
    its = stream(5, groups=2, missing=0.1)
    state = begin(its)
    for row in range(its.reference, len(its.values)):
        before = to_bytes(state)
        after, _ = detector.step(state, str(row), its.groups[row], its.values[row])
        assert to_bytes(state) == before
        assert after.seq == state.seq + 1
        state = after


@quick
@given(streams)
def test_a_monotone_transform_changes_nothing(its: Stream) -> None:
    bent = replace(its, values=np.sinh(its.values / 4) * 100 + 7)
    assert to_bytes(whole(bent)[0]).partition(b"\n")[0] == to_bytes(whole(its)[0]).partition(b"\n")[0]
    assert whole(bent)[1:] == whole(its)[1:]


@quick
@given(streams, st.randoms())
def test_the_order_of_features_only_relabels(its: Stream, chance: object) -> None:
    order = list(range(len(its.features)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    moved = replace(its, features=tuple(its.features[f] for f in order), values=its.values[:, order])
    (state, statistics, flag), (other, again, its_flag) = whole(its), whole(moved)
    assert statistics == again
    assert np.array_equal(state.m[order], other.m)
    assert (flag is None) == (its_flag is None)
    if flag is not None and its_flag is not None:
        assert flag.direction == its_flag.direction
        assert flag.row == its_flag.row


def test_a_missing_value_leaves_its_feature_as_it_was() -> None:
    its = stream(7)
    state = begin(its)
    row = its.values[its.reference].copy()
    row[1] = np.nan
    after, _ = detector.step(state, "study", its.groups[0], row)
    assert np.array_equal(after.m[1], state.m[1])
    assert after.z[1] == state.z[1]
    assert (after.m[0] > 0).all()


def test_a_new_group_builds_its_reference_before_it_is_ranked() -> None:
    its = stream(8, rows=160)
    state = begin(its)
    for row in range(detector.LEAST):
        assert not detector.is_ranked(state, "new")
        state, flag = detector.step(state, str(row), "new", its.values[row] + 50)
        assert flag is None
    assert state.statistic == 0
    assert detector.is_ranked(state, "new")


def test_one_flag_until_a_new_epoch() -> None:
    its = stream(9, rows=300, h=100.0, shift=4.0)
    state, _, flag = whole(its)
    assert flag is not None
    assert state.flagged == flag.row
    after, _, again = follow(its, state, range(100, 300))
    assert again is None
    assert [len(r) for r in after.references] == [len(r) for r in state.references]


def test_the_bets_are_fair_on_a_normal_score() -> None:
    """The mean of each e-value under the null, by numerical integration: at most 1, the guard takes the rest."""
    w = np.linspace(-9, 9, 200_001)
    density = np.exp(-(w**2) / 2) / math.sqrt(2 * math.pi) * (w[1] - w[0])
    for n, least in ((50.0, 0.8), (400.0, 0.9), (1e12, 0.999)):
        mean = (np.exp(bets.log_bets(w, np.full_like(w, n), np.zeros_like(w))) * density[:, None]).sum(0)
        assert (mean <= 1 + 1e-3).all()
        assert (mean >= least).all()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-8],
    "longer": lambda data: data + bytes(8),
    "empty": lambda _: b"",
    "no record": lambda _: b"null\n",
    "another form": lambda data: data.replace(b"drift-6", b"drift-0", 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_bytes_are_refused(damage: str) -> None:
    with pytest.raises(StateDamaged):
        from_bytes(DAMAGE[damage](to_bytes(begin(stream(2)))))
