"""Made-up streams of feature rows for the detector's tests, and the detector run over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.detect import detector
from monitoring.detect.detector import Flag
from monitoring.detect.ranks import Floats
from monitoring.detect.state import State


@dataclass(frozen=True)
class Stream:
    """Rows [T, F], the first ``reference`` of which are normal."""

    features: tuple[str, ...]
    values: Floats
    groups: tuple[str, ...]
    reference: int
    h: float


def stream(
    seed: int, *, rows: int = 110, reference: int = 55, width: int = 3, h: float = 300.0,
    groups: int = 1, missing: float = 0.0, decimals: int = 6, shift: float = 0.0, at: int = 75,
) -> Stream:  # fmt: skip
    """Exchangeable normal rows; few decimals make ties; a shift of the first feature from row ``at`` on."""
    rng = np.random.default_rng([seed, rows, width, groups])
    values = rng.standard_normal((rows, width))
    values[at:, 0] += shift
    values = values.round(decimals)
    values[rng.random(values.shape) < missing] = np.nan
    of = tuple(f"scanner {g}" for g in rng.integers(0, groups, rows))
    return Stream(tuple(f"feature {f}" for f in range(width)), values, of, reference, h)


def begin(its: Stream) -> State:
    n = its.reference
    return detector.begin(its.features, its.values[:n], its.groups[:n], epoch=1, h=its.h)


def follow(its: Stream, state: State, rows: Sequence[int]) -> tuple[State, list[float], Flag | None]:
    """Feed these rows: the state after them, S after each, the flag if one was raised."""
    statistics, flag = [], None
    for row in rows:
        state, raised = detector.step(state, str(row), its.groups[row], its.values[row])
        statistics.append(state.statistic)
        flag = flag or raised
    return state, statistics, flag


def whole(its: Stream) -> tuple[State, list[float], Flag | None]:
    return follow(its, begin(its), range(its.reference, len(its.values)))


def false_flags(
    seeds: Sequence[int], *, rows: int, decimals: int = 6, per_day: float, budget: float
) -> float:
    """First flags a year over exchangeable streams, at the threshold of this budget."""
    raised, seen = 0, 0
    for seed in seeds:
        h = detector.threshold(per_day, budget)
        its = stream(seed, rows=rows, reference=50, width=4, h=h, decimals=decimals)
        state, flag = begin(its), None
        for row in range(its.reference, rows):
            state, flag = detector.step(state, str(row), its.groups[row], its.values[row])
            seen += 1
            if flag:
                raised += 1
                break
    return raised / seen * per_day * 365
