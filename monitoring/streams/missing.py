"""Features and header fields that begin to be missing: a bet on each that was there, averaged over all of them. Pure.

How often each was missing in the reference is fixed when the reference is: twice that, and one study in ten, are
accepted. A restarting sum of bets for each field finds a later beginning, their mean over the fields is the evidence,
so that many fields keep one budget (averages of e-detectors are e-detectors): their share of the clinic's (``shares``).
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from monitoring.detect.detector import LEAST
from monitoring.detect.ranks import Floats
from monitoring.judge import wealth
from monitoring.streams import groups, shares

RATE: Final = 0.10
RATE_MOST: Final = 0.90
OFTEN_ABSENT: Final = 0.70
"""Share of reference studies without it from which on a field is not expected."""
SHARE: Final = shares.PARTS["drift"] / shares.PARTS["missing"]
"""So many times as often as what is missing may drift flag, by chance."""
PROVEN: Final = 20.0
OVER: Final = 5.0
DATING: Final = 0.4
"""The stake whose sum, kept above 0, says since when."""
HEADER: Final = "header "
ALL: Final = ""
"""The scope of header fields: a header that falls silent is another scanner group."""
_SILENT: Final = (groups.UNKNOWN, "unknown")


@dataclass(frozen=True, slots=True)
class Gap:
    """One field that was missing: since ``seq`` in ``lacks`` of ``of`` studies. ``c`` is 0 when that is over."""

    lacks: int
    of: int
    bar: float
    c: float
    seq: int
    at: str
    sums: tuple[float, ...] = wealth.NOTHING


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is known of missing fields in an epoch."""

    fields: tuple[str, ...] = ()
    """All that are followed, by name; header fields begin with ``HEADER``."""
    bars: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scanner group -> field -> how often it may be missing there; ``RATE`` where none is given, 1: not expected."""
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    proven: tuple[bool, bool] = (False, False)
    """Whether features, and whether header fields, are missing more often than they may, by 20 to 1."""


def header(facts: Mapping[str, str]) -> set[str]:
    """The header fields that a study's scanner group says, as names of fields."""
    named = [*(part for part in groups.PARTS if part != "protocol"), *groups.SETTINGS]
    return {HEADER + name for name in named if facts.get(name, groups.UNKNOWN) not in _SILENT}


def begin(rows: Sequence[tuple[str, Collection[str]]]) -> Gaps:
    """Out of each reference study's scanner group and the fields it has. Groups of 50 studies are judged."""
    of = [group for group, _ in rows]
    had = Counter(name for _, its in rows for name in its)
    fields = tuple(sorted(name for name, n in had.items() if n / len(rows) >= 1 - OFTEN_ABSENT))
    bars = {}
    for scope in [ALL, *sorted({group for group in of if of.count(group) >= LEAST})]:
        its = [there for group, there in rows if scope in (ALL, group)]
        mine = [name for name in fields if name.startswith(HEADER) == (scope == ALL)]
        bars[scope] = _bars({name: sum(name in there for there in its) / len(its) for name in mine})
    return Gaps(fields, bars)


def joined(its: Gaps, group: str, features: Sequence[str], reference: Floats) -> Gaps:
    """With a scanner group whose own reference [N, F] has come together since; nothing else is expected of it."""
    if group in its.bars:
        return its
    shares = dict(zip(features, (~np.isnan(reference)).mean(axis=0).tolist(), strict=True))
    mine = {name: shares.get(name, 0.0) for name in its.fields if not name.startswith(HEADER)}
    return replace(its, bars={**its.bars, group: _bars(mine)})


def _bars(shares: Mapping[str, float]) -> dict[str, float]:
    """Bars other than the common one, from the share of studies that had each field."""
    found = {}
    for name, share in shares.items():
        absent = 1 - share
        bar = 1.0 if absent > OFTEN_ABSENT else round(min(max(RATE, 2 * absent), RATE_MOST), 3)
        if bar != RATE:
            found[name] = bar
    return found


def step(its: Gaps, group: str, there: Collection[str], seq: int, at: str, h: float) -> Gaps:
    """After a study of this group with these fields. ``h``: the stream's threshold of drift, in studies."""
    gaps = dict(its.gaps)
    for name in its.fields:
        bars = its.bars.get(ALL if name.startswith(HEADER) else group)
        bar = 1.0 if bars is None else bars.get(name, RATE)
        if bar < 1 and (name not in there or name in gaps):
            gaps[name] = _after(gaps.get(name), name not in there, bar, seq, at)
    its = replace(its, gaps=gaps)
    was = its.proven
    return replace(
        its, proven=(_over(its, h, was[0], of_header=False), _over(its, h, was[1], of_header=True))
    )


def _after(gap: Gap | None, absent: bool, bar: float, seq: int, at: str) -> Gap:
    if gap is None or (gap.c <= 0 and absent):
        gap = Gap(0, 0, bar, 0.0, seq, at, gap.sums if gap else wealth.NOTHING)
    c = max(0.0, gap.c + math.log(1 + DATING / bar * (absent - bar)))
    sums = wealth.gather(gap.sums, float(absent), bar)
    return replace(gap, lacks=gap.lacks + absent, of=gap.of + 1, bar=bar, c=c, sums=sums)


def _over(its: Gaps, h: float, proven: bool, *, of_header: bool) -> bool:
    return odds(its, h, of_header=of_header) >= (OVER if proven else PROVEN)


def odds(its: Gaps, h: float, *, of_header: bool) -> float:
    """The evidence as odds: by chance, header fields and features together reach 20 as often as the budget says."""
    sums = [wealth.mean(gap.sums) for name, gap in its.gaps.items() if name.startswith(HEADER) == of_header]
    return math.fsum(sums) / len(its.fields) / (SHARE * h) * PROVEN if sums else 0.0


def strongest(its: Gaps, *, of_header: bool) -> list[tuple[str, Gap]]:
    """Fields that are missing now more often than they may, those with the most evidence first."""
    found = [
        (name, gap) for name, gap in its.gaps.items() if name.startswith(HEADER) == of_header and gap.c > 0
    ]
    most = max((wealth.mean(gap.sums) for _, gap in found), default=0.0)
    named = [one for one in found if wealth.mean(one[1].sums) >= most / 100]
    return sorted(named, key=lambda one: (-wealth.mean(one[1].sums), one[1].seq, one[0]))


def from_json(head: Mapping[str, Any]) -> Gaps:
    """What ``state.plain`` wrote."""
    gaps = {name: Gap(**{**gap, "sums": tuple(gap["sums"])}) for name, gap in head["gaps"].items()}
    return Gaps(tuple(head["fields"]), head["bars"], gaps, (bool(head["proven"][0]), bool(head["proven"][1])))
