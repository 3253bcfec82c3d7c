"""How many studies a clinic sends a day: far fewer, or far more, than its own days of the week had before. Pure.

The first four whole weeks, or as many as bring 40 studies, are the reference: a mean for each day of the week. Days are
then taken together until ten studies are expected, so that chance alone rarely halves them. Of such a block it is
asked whether less than half, or more than twice, has come; one block in five may. The bets and the restarting sum are
those of the other counts. A season of a fifth stays within that.

A closure is a true drop that helps nobody. Days of which a person said so are not counted. Nobody says so everywhere:
a drop is therefore said only where the days after its first sixteen speak for it by themselves too.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Final

from monitoring.judge import wealth
from monitoring.judge.counts import OVER, PROVEN, WORDS, Count
from monitoring.streams import shares

WEEKS: Final = 4
STUDIES_LEAST: Final = 40
BLOCK: Final = 10.0
RATE: Final = 0.20
"""Chosen on made-up years (days scatter by a quarter beyond chance, a season of a fifth): .1 said it in one of four."""
LULL: Final = 16
"""Days that a drop may last before what follows must show it too: a fortnight's closure with the weekends around it."""
DATING: Final = 0.4
DAYS_A_YEAR: Final = 365
BUDGET: Final = 1.0
"""Flags a year that chance may raise where a clinic has no policy of its own; both directions share volume's part."""
WAYS: Final = ("few", "many")


@dataclass(frozen=True, slots=True)
class Side:
    """The bets on one direction, and what came since ``since``; ``c`` is 0 while nothing is beyond the rate."""

    sums: tuple[float, ...] = wealth.NOTHING
    c: float = 0.0
    since: str = ""
    days: int = 0
    studies: int = 0
    expected: float = 0.0
    blocks: int = 0
    out: int = 0
    odds: float = 0.0
    proven: bool = False
    late: tuple[float, ...] = wealth.NOTHING
    """The same bets on the blocks that began ``LULL`` days after ``since`` or later."""


@dataclass(frozen=True, slots=True)
class Volume:
    """All that is known after a day."""

    began: str
    """First day of the reference."""
    seen: tuple[int, ...] = (0,) * 7
    """Studies of the reference by day of the week, Monday first."""
    days: int = 0
    """Of the reference, closed ones too."""
    whole: bool = False
    block: tuple[str, int, int, float] = ("", 0, 0, 0.0)
    """First day, days, studies and expected studies of the block that is gathered."""
    sides: Mapping[str, Side] = field(default_factory=lambda: {way: Side() for way in WAYS})
    closed: tuple[int, ...] = (0,) * 7
    """Closed days of the reference by day of the week: the mean of a day is taken over the others."""

    @property
    def a_day(self) -> float:
        """Studies a day in the reference."""
        opened = self.days - sum(self.closed)
        return sum(self.seen) / opened if opened else 0.0

    def opened(self, at: int) -> int:
        """Days of the reference that fell on this day of the week and were not closed; of whole weeks."""
        return self.days // 7 - self.closed[at]


def step(its: Volume | None, day: date, studies: int, budget: float, *, closed: bool = False) -> Volume:
    """After one whole day; the days come in order and without gaps. ``budget``: the clinic's flags a year.

    Of a ``closed`` day the studies are not counted: nothing is learnt from it, and nothing is bet on it.
    """
    its = its or Volume(day.isoformat())
    at = day.weekday()
    if not its.whole:
        return _refer(its, at, studies, closed)
    if closed:
        return its
    first, days, came, expected = its.block
    first = first or day.isoformat()
    expected += its.seen[at] / its.opened(at)
    block = (first, days + 1, came + studies, expected)
    if expected < BLOCK:
        return replace(its, block=block)
    h = DAYS_A_YEAR * min(1.0, its.a_day / BLOCK) * len(WAYS) / shares.share("volume", budget)
    out = {"few": block[2] < expected / 2, "many": block[2] > 2 * expected}
    sides = {way: _after(way, side, block, out[way], h) for way, side in its.sides.items()}
    return replace(its, block=("", 0, 0, 0.0), sides=sides)


def _refer(its: Volume, at: int, studies: int, closed: bool) -> Volume:
    """One more day of the reference, which is whole with the week in which each day of the week was open four times."""
    seen = tuple(n + studies * (w == at and not closed) for w, n in enumerate(its.seen))
    shut = tuple(n + (w == at and closed) for w, n in enumerate(its.closed))
    its = replace(its, seen=seen, days=its.days + 1, closed=shut)
    enough = min(map(its.opened, range(7))) >= WEEKS and sum(seen) >= STUDIES_LEAST
    return replace(its, whole=its.days % 7 == 0 and enough)


def _after(way: str, side: Side, block: tuple[str, int, int, float], out: bool, h: float) -> Side:
    first, days, studies, expected = block
    if side.c <= 0:
        side = Side(side.sums, since=first, proven=side.proven)
    c = max(0.0, side.c + math.log(1 + DATING / RATE * (out - RATE)))
    sums = wealth.gather(side.sums, float(out), RATE)
    odds = wealth.mean(sums) / h * PROVEN
    # A flood has no such rule: no holiday brings one.
    late = wealth.gather(side.late, float(out), RATE) if way == "few" and side.days >= LULL else side.late
    said = odds >= PROVEN and (way == "many" or wealth.mean(late) >= PROVEN)
    return Side(
        sums, c, side.since, side.days + days, side.studies + studies, side.expected + expected, side.blocks + 1,
        side.out + out, odds, said or (side.proven and odds >= OVER), late,
    )  # fmt: skip


def follow(
    its: Volume | None,
    days: Iterable[tuple[date, int]],
    anew: Sequence[date],
    budgets: Sequence[tuple[date, float]],
    closed: Collection[date] = (),
) -> Iterator[tuple[date, int, Volume]]:
    """Each day with what is known after it. The same days give the same, in one go or day by day.

    ``anew``: days on which a person said that what comes is normal. ``budgets``: from which day on how many flags a
    year are allowed, in their order. ``closed``: days of which a person said that the clinic is closed.
    """
    for day, studies in days:
        if its and any(its.began < one.isoformat() <= day.isoformat() for one in anew):
            its = None
        held = [budget for since, budget in budgets if since <= day]
        its = step(its, day, studies, held[-1] if held else BUDGET, closed=day in closed)
        yield day, studies, its


def counts(its: Volume | None) -> tuple[Count, ...]:
    """Both directions as evidence; none before there is a reference."""
    return tuple(_count(way, side) for way, side in sorted(its.sides.items()) if side.blocks) if its else ()


def sentence(its: Count) -> str:
    """What a flag says: without the figures, which change with every day."""
    return f"{WORDS[its.name].capitalize()} since {_day(its.since[:10])}."


def _count(way: str, side: Side) -> Count:
    came = f"{side.studies} in {side.days} days, where {side.expected:.0f} are usual"
    text = f"{WORDS[way]} since {_day(side.since)}: {came}"
    since = f"{side.since}T00:00:00+00:00"
    return Count(way, side.blocks, side.out, RATE, side.odds, side.proven, since, text)


def _day(at: str) -> str:
    when = date.fromisoformat(at)
    return f"{when.day} {when:%B %Y}"


def plain(its: Volume) -> dict[str, Any]:
    """As JSON. What is empty without a closure or a long drop is left out: such states are as they always were."""
    head = asdict(its)
    if not any(its.closed):
        del head["closed"]
    for side in head["sides"].values():
        if side["late"] == wealth.NOTHING:
            del side["late"]
    return head


def from_json(head: Mapping[str, Any]) -> Volume:
    """What ``plain`` wrote."""
    sides = {
        way: Side(**{**side, "sums": tuple(side["sums"]), "late": tuple(side.get("late", wealth.NOTHING))})
        for way, side in head["sides"].items()
    }
    first, days, studies, expected = head["block"]
    return Volume(
        head["began"],
        tuple(head["seen"]),
        head["days"],
        head["whole"],
        (first, days, studies, float(expected)),
        sides,
        tuple(head.get("closed", (0,) * 7)),
    )
