"""Betting on bounded numbers: evidence that their mean is above a fixed bound.

e = 1 + (c / m) (x - m) for x in [0, 1], c in {.2, .4, .6, .8}; each e has mean at most 1 while the mean of x is at
most m, so a product is fair wealth and its average over c too (Waudby-Smith & Ramdas, JRSS B 2024). Wealth of 20
is odds of 20 to 1 against "the mean is at most m", whenever one looks (Ville).
"""

from collections.abc import Iterable
from typing import Final

STAKES: Final = (0.2, 0.4, 0.6, 0.8)
FRESH: Final = (1.0, 1.0, 1.0, 1.0)
NOTHING: Final = (0.0, 0.0, 0.0, 0.0)
CAP: Final = 1e12
FLOOR: Final = 1e-12
Wealth = tuple[float, ...]


def bet(before: Wealth, x: float, m: float) -> Wealth:
    """The four fortunes after one number ``x`` in [0, 1] against the bound ``m`` in (0, 1); kept finite."""
    return tuple(min(max(w * (1 + c / m * (x - m)), FLOOR), CAP) for w, c in zip(before, STAKES, strict=True))


def mean(wealth: Wealth) -> float:
    """The e-value: the average fortune."""
    return sum(wealth) / len(wealth)


def product(numbers: Iterable[float], m: float) -> float:
    """The e-value of all numbers, in their order."""
    wealth: Wealth = FRESH
    for x in numbers:
        wealth = bet(wealth, x, m)
    return mean(wealth)


def most(numbers: Iterable[float], m: float) -> float:
    """The largest e-value on the way: what was proven once stays proven, for the odds held whenever one looked."""
    wealth: Wealth = FRESH
    largest = 1.0
    for x in numbers:
        wealth = bet(wealth, x, m)
        largest = max(largest, mean(wealth))
    return largest


def gather(before: Wealth, x: float, m: float) -> Wealth:
    """The Shiryaev-Roberts step (M + 1) e of each stake, kept finite: it finds a change that began late."""
    return tuple(min((s + 1) * (1 + c / m * (x - m)), CAP) for s, c in zip(before, STAKES, strict=True))


def restarting(numbers: Iterable[float], m: float) -> float:
    """The largest sum of all numbers, in their order; by chance it reaches h once in h numbers at most."""
    sums: Wealth = NOTHING
    largest = 0.0
    for x in numbers:
        sums = gather(sums, x, m)
        largest = max(largest, mean(sums))
    return largest
