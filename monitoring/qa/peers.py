"""Where a clinic's QA figure stands among clinics with the same task and version: a percentile, and of how many.

Five clinics at least, this one among them, each with cases enough for the figure: in a smaller group a percentile would
say more of one neighbour than of the clinic, and somebody could tell whose it is. No verdict takes it.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from monitoring.qa.metrics import Metrics

CLINICS_LEAST: Final = 5
CASES_LEAST: Final[Mapping[str, int]] = {
    "failed": 50, "rejected": 50, "accepted": 20, "dice": 6, "turnaround_p50_s": 50,
}  # fmt: skip
"""Cases that a figure needs: ended tasks, reviews, blinded cases, delivered studies."""
MORE_IS_BETTER: Final = frozenset({"accepted", "dice"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one clinic: shares, median blinded Dice, seconds."""

    clinic: str
    task: str
    model: str
    name: str
    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Standing:
    """``percentile``: percent of the ``others`` that do worse; those that do just as well count half."""

    percentile: float
    others: int


def figures(its: Metrics) -> list[Figure]:
    """What a clinic's cut by version says, where it has cases enough; nothing for what was never answered."""
    if its.task is None or its.model is None:
        return []
    blinded = its.dice.get("blinded")
    known: dict[str, tuple[float | None, int]] = {
        "failed": (its.failed.value, its.failed.n),
        "rejected": (its.rejected.value, its.rejected.n),
        "accepted": (its.accepted.value, its.accepted.n),
        "dice": (blinded.median, blinded.n) if blinded else (None, 0),
        "turnaround_p50_s": (its.turnaround_p50_s, its.turnaround_n),
    }
    return [
        Figure(its.clinic, its.task, its.model, name, float(value), n)
        for name, (value, n) in known.items()
        if value is not None and n >= CASES_LEAST[name]
    ]


def standings(figures: Iterable[Figure]) -> dict[tuple[str, str, str], dict[str, Standing]]:
    """By clinic, task and version: where each of its figures stands, in groups of five clinics and more."""
    groups: dict[tuple[str, str, str], list[Figure]] = defaultdict(list)
    for one in figures:
        groups[one.task, one.model, one.name].append(one)
    found: dict[tuple[str, str, str], dict[str, Standing]] = defaultdict(dict)
    for (task, model, name), members in groups.items():
        if len(members) < CLINICS_LEAST:
            continue
        side, others = (1 if name in MORE_IS_BETTER else -1), len(members) - 1
        values = sorted(side * one.value for one in members)
        for one in members:
            worse, upto = (f(values, side * one.value) for f in (bisect_left, bisect_right))
            percentile = 100 * (worse + (upto - worse - 1) / 2) / others
            found[one.clinic, task, model][name] = Standing(percentile, others)
    return dict(found)
