"""Drift of the fleet by manufacturer and software: what is weak in each clinic may be sure in all of them together.

S of a stream is an e-detector, and so is the average over any streams that are chosen without looking at it: it takes
h studies a stream, on average, until it reaches h by chance. A roll-out in three clinics is then one event with three
clinics in it, and not three.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from registry.vendors import written

WATCH = 10
"""A clinic carries an event when its own S is at least h / 10."""
LEAST = 2


@dataclass(frozen=True, slots=True)
class Member:
    """One stream of one clinic, on one vendor and software that its studies come from."""

    clinic: str
    vendor: str
    software: str
    statistic: float
    threshold: float
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Shared:
    """One vendor and software over its clinics. ``statistic`` and ``threshold`` are averages, in studies."""

    vendor: str
    software: str
    clinics: tuple[str, ...]
    carried_by: tuple[str, ...]
    statistic: float
    threshold: float
    since: datetime | None
    """The earliest beginning among the clinics that carry it."""

    @property
    def event(self) -> bool:
        """Whether the clinics drift together: the average is at its threshold, and more than one carries it."""
        return self.statistic >= self.threshold and len(self.carried_by) >= LEAST


def shared(members: Iterable[Member]) -> list[Shared]:
    """Every vendor and software that two clinics or more use, events first, the strongest first."""
    found: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for one in members:
        found[one.vendor, one.software].append(one)
    all_of = [_one(vendor, software, its) for (vendor, software), its in sorted(found.items())]
    several = [one for one in all_of if len(one.clinics) >= LEAST]
    return sorted(several, key=lambda one: (not one.event, -one.statistic / one.threshold))


def sentence(its: Shared) -> str:
    """What it says, in one sentence."""
    where = f"{written(its.vendor)} software {its.software}, {len(its.clinics)} clinics ({', '.join(its.clinics)})"
    if not its.event:
        return f"{where}: no drift in common ({its.statistic:.0f} of {its.threshold:.0f})"
    since = f" since {its.since:%Y-%m-%d}" if its.since else ""
    return f"{where} drift together{since}, carried by {', '.join(its.carried_by)}: one event"


def _one(vendor: str, software: str, its: list[Member]) -> Shared:
    carried = {one.clinic for one in its if one.statistic >= one.threshold / WATCH}
    began = [one.since for one in its if one.clinic in carried and one.since]
    return Shared(
        vendor, software, tuple(sorted({one.clinic for one in its})), tuple(sorted(carried)),
        fsum(one.statistic for one in its) / len(its), fsum(one.threshold for one in its) / len(its),
        min(began, default=None),
    )  # fmt: skip
