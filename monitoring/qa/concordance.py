"""How often a clinic's own radiology report says the same as our answer: counts, no judgement. Pure, from rows.

A model that drifts away from the clinic's reports shows here without an expert's minute. Nothing decides by it: what a
report says is read from text by rules that were never validated on real reports, and a report is no reference.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.qa.intervals import Share, share

HOW = "read from text by rules, not validated on real reports; no verdict takes it"
LEAST = 20  # clear reports; below, an interval is so wide that the share would only mislead
SHOWN = 5  # on a page, which a blind reader may open: of fewer reports a cell would say what we answered
CODED = "coded"


@dataclass(frozen=True, slots=True)
class Row:
    """What the latest report of one study says, and whether our latest answer has lesions (None: withheld)."""

    clinic: str
    task: str
    model: str
    says: str
    rules: str
    ours: bool | None


@dataclass(frozen=True, slots=True)
class Concordance:
    """Of one clinic, task and version: ``n`` clear reports in four cells. ``agree`` is None below ``LEAST`` of them.

    ``unclear`` reports and answers whose number was ``withheld`` are in no cell. ``coded``: how many of the ``n`` the
    clinic coded itself. ``sentence`` says all of it, with n and how it was read.
    """

    clinic: str
    task: str
    model: str
    n: int
    agree: Share | None
    both: int
    neither: int
    only_ours: int
    only_theirs: int
    unclear: int
    withheld: int
    coded: int
    sentence: str
    how: str = HOW


def concordance(rows: Sequence[Row]) -> list[Concordance]:
    """Every clinic, task and version of these rows (one a study), by name."""
    cuts: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cuts[row.clinic, row.task, row.model].append(row)
    return [_of(key, cuts[key]) for key in sorted(cuts)]


def _of(key: tuple[str, str, str], rows: Sequence[Row]) -> Concordance:
    said = [row for row in rows if row.says != "unclear"]
    clear = [row for row in said if row.ours is not None]
    cells = {
        (ours, theirs): sum(row.ours is ours and (row.says == "present") is theirs for row in clear)
        for ours in (True, False) for theirs in (True, False)
    }  # fmt: skip
    both, neither = cells[True, True], cells[False, False]
    agree = share(both + neither, len(clear)) if len(clear) >= LEAST else None
    coded = sum(row.rules == CODED for row in clear)
    return Concordance(
        *key, len(clear), agree, both, neither, cells[True, False], cells[False, True],
        unclear=len(rows) - len(said), withheld=len(said) - len(clear), coded=coded,
        sentence=_sentence(both + neither, len(clear), agree, coded),
    )  # fmt: skip


def _sentence(same: int, n: int, agree: Share | None, coded: int) -> str:
    part = "too few for a share"
    if agree is not None:
        part = f"{agree.value:.0%}, 95 % interval {agree.low:.0%} to {agree.high:.0%}"
    by_hand = f", {coded} of them coded by the clinic" if coded else ""
    return (
        f"{same} of n {n} clear reports say the same as our answer ({part}){by_hand}; read from text by rules"
    )
