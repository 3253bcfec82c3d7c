"""Intervals that hold at few cases: Wilson's for a share, order statistics for a median."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, sqrt

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``n`` with Wilson's 95 % interval; without cases there is no value."""

    count: int
    n: int
    value: float | None
    low: float | None
    high: float | None


def share(count: int, n: int) -> Share:
    """A share of cases with Wilson's score interval (J Am Stat Assoc 1927; 22:209), which stays inside 0 and 1."""
    if n == 0:
        return Share(0, 0, None, None, None)
    p, zz = count / n, Z95**2 / n
    middle, half = (p + zz / 2) / (1 + zz), Z95 * sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    return Share(count, n, p, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True, slots=True)
class Middle:
    """Median and mean of ``n`` cases; ``low`` to ``high`` holds the true median at ``level`` or more.

    ``low`` and ``high`` are None below 6 cases: no two of so few hold it in 95 of 100 repetitions.
    """

    n: int
    median: float | None
    low: float | None
    high: float | None
    mean: float | None
    level: float = 0.95


def middle(values: Sequence[float], level: float = 0.95) -> Middle:
    """The median with its interval by order statistics, for independent cases of any law (Hahn, Meeker 1991, 5.2)."""
    n, ordered = len(values), sorted(values)
    if n == 0:
        return Middle(0, None, None, None, None, level)
    half = n // 2
    median = ordered[half] if n % 2 else (ordered[half - 1] + ordered[half]) / 2
    rank, below = 0, 0  # the largest rank for which both tails together stay within 1 - level
    while 2 * (below + comb(n, rank)) <= (1 - level) * 2**n:
        below += comb(n, rank)
        rank += 1
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (None, None)
    return Middle(n, median, low, high, sum(ordered) / n, level)


def quantile(values: Sequence[float], part: float) -> float | None:
    """The smallest value that at least ``part`` of the values do not exceed (nearest rank); None without values."""
    return sorted(values)[max(0, ceil(part * len(values)) - 1)] if values else None
