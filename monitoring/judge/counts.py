"""Counts with the bets of harm: how often answers are rejected, edited, late, or do not come at all, how often what a
study should have is missing, and on how many days far fewer or more studies come than usual.

x is 0 or 1 and the bar is the rate that was accepted, tolerance included. The sum restarts by itself, so that a
change after a long good time is found; its scale lets one false alarm in ten years through.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from monitoring.judge import wealth

PROVEN: Final = 20.0
OVER: Final = 5.0
"""What was proven is over below these odds and not at 20 already, so that a count at the edge does not blink."""
FALSE_A_YEAR: Final = 0.1
WORDS: Final[Mapping[str, str]] = {
    "reject": "answers are rejected", "edit": "answers are edited", "failure": "studies end without an answer",
    "late": "answers come late", "missing": "features are missing", "header": "the header is silent",
    "few": "less than half of the usual studies come", "many": "more than twice the usual studies come",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened among ``n``, the rate ``bar`` that is accepted, and the odds that it is more now.

    ``beyond``: it happens more often than was accepted, by odds of 20 to 1 that have not fallen below 5 since.
    """

    name: str
    n: int
    happened: int
    bar: float
    odds: float
    beyond: bool
    since: str = ""
    """When it began, ISO 8601; empty where that is not known."""
    text: str = ""
    """What to say in place of name and rate."""

    @property
    def sentence(self) -> str:
        """In words."""
        return self.text or f"{WORDS[self.name]} more often than {self.bar:.0%} ({self.happened} of {self.n})"


def count(name: str, happened: Iterable[bool], bar: float, a_year: float) -> Count:
    """The count of ``happened`` in its order; ``a_year``: how many such numbers a year brings."""
    sums: wealth.Wealth = wealth.NOTHING
    numbers, odds, beyond = [float(x) for x in happened], 0.0, False
    for x in numbers:
        sums = wealth.gather(sums, x, bar)
        odds = as_odds(wealth.mean(sums), a_year)
        beyond = odds >= (OVER if beyond else PROVEN)
    return Count(name, len(numbers), int(sum(numbers)), bar, odds, beyond)


def as_odds(restarting_sum: float, a_year: float) -> float:
    """A restarting sum as odds: by chance it reaches 20 once in ten years at most."""
    return restarting_sum * FALSE_A_YEAR / a_year * PROVEN
