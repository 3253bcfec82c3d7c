"""The intervals hold what they promise, counted exactly where that can be done."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.qa.intervals import middle, quantile, share


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60))
def test_median_and_interval(values: list[float]) -> None:
    its = middle(values)
    assert its.median == pytest.approx(np.median(values))
    assert its.mean == pytest.approx(np.mean(values))
    if its.n < 6:
        assert its.low is its.high is None
        return
    assert its.low is not None and its.high is not None
    assert its.low <= its.median <= its.high
    ordered = sorted(values)
    rank = ordered.index(its.low) + 1
    if len(set(values)) == len(values):
        # Coverage counted from the binomial law: both tails at most 5 %, and one rank further in they would be more.
        tails = [2 * sum(comb(its.n, k) for k in range(r)) / 2**its.n for r in (rank, rank + 1)]
        assert tails[0] <= 0.05 < tails[1]


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_share_lies_in_its_interval(count: int, more: int) -> None:
    its = share(count, count + more)
    if its.n == 0:
        assert its.value is None
        return
    assert its.low is not None and its.high is not None and its.value is not None
    assert 0 <= its.low <= its.value + 1e-12 and its.value <= its.high + 1e-12 <= 1 + 1e-9


def test_wilson_as_published() -> None:
    its = share(15, 148)  # Newcombe, Stat Med 1998; 17:857, table I
    assert (its.low, its.high) == (pytest.approx(0.0624, abs=5e-5), pytest.approx(0.1605, abs=5e-5))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.sampled_from([0.5, 0.95]))
def test_quantile_by_definition(values: list[int], part: float) -> None:
    its = quantile(values, part)
    assert its in values
    assert sum(v <= its for v in values) >= part * len(values)
    smaller = [v for v in values if v < its]
    assert not smaller or sum(v <= max(smaller) for v in values) < part * len(values)
    assert quantile([], part) is None
