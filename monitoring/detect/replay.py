"""Runs the detector over a table as if its rows came in one by one, and keeps what happened."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.detect import detector
from monitoring.detect.detector import LEAST, Flag
from monitoring.detect.ranks import Floats
from monitoring.detect.state import State
from monitoring.detect.table import Table
from monitoring.errors import BudgetUnfit, ColumnConstant, ColumnEmpty, ReferenceUnfit

EPOCH = 1
H_MAX = 1e6
"""Far below the cap on M: a threshold that S cannot reach would call everything quiet."""


@dataclass(frozen=True, slots=True)
class Group:
    """How many rows of one scanner group were reference at the start, and how many later ones were ranked."""

    name: str
    reference: int
    later: int
    ranked: int
    first_seen: int | None
    """Row at which a group appeared that the reference does not know: the acquisition changed."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcome; rows are counted from 0 in the order of the replay, the header not counted."""

    rows: int
    reference: int
    flag: Flag | None
    groups: tuple[Group, ...]
    missing: dict[str, int]
    """Rows after the reference in which a column has no value: there the detector saw nothing of it."""
    state: State

    @property
    def ranked(self) -> int:
        """Rows that the detector could say something about."""
        return sum(group.ranked for group in self.groups)

    @property
    def new_groups(self) -> tuple[Group, ...]:
        """Groups that the reference does not know."""
        return tuple(group for group in self.groups if group.first_seen is not None)


def replay(table: Table, columns: Sequence[str], reference: int, *, group: str | None, h: float) -> Replay:
    """Take the first ``reference`` rows as the reference and watch the others. ``h`` is the threshold, in studies.

    Raises ColumnUnknown, ColumnNotNumeric, ColumnEmpty, ColumnConstant, ReferenceUnfit.
    """
    names = tuple(dict.fromkeys(columns))
    values = np.array([table.numbers(name) for name in names]).T
    groups = table.text(group) if group is not None else [""] * len(values)
    _check(values, names, groups, reference)
    state = detector.begin(names, values[:reference], groups[:reference], epoch=EPOCH, h=h)
    known, flag, ranked = set(state.groups), None, Counter[str]()
    for row in range(reference, len(values)):
        ranked[groups[row]] += detector.is_ranked(state, groups[row]) and not np.isnan(values[row]).all()
        state, raised = detector.step(state, str(row), groups[row], values[row])
        flag = flag or raised
    seen = tuple(
        Group(
            name, groups[:reference].count(name), groups[reference:].count(name), ranked[name],
            None if name in known else groups.index(name),
        )
        for name in state.groups
    )  # fmt: skip
    gaps = np.isnan(values[reference:]).sum(0).tolist()
    return Replay(len(values), reference, flag, seen, dict(zip(names, gaps, strict=True)), state)


def threshold(per_day: float, budget: float) -> float:
    """h for studies a day and false flags a year. Raises BudgetUnfit."""
    h = detector.threshold(per_day, budget) if per_day > 0 and budget > 0 else 0.0
    if not 1 <= h <= H_MAX:
        raise BudgetUnfit(f"{per_day:g} studies a day and {budget:g} flags a year make no threshold")
    return h


def _check(values: Floats, names: Sequence[str], groups: Sequence[str], reference: int) -> None:
    for name, column in zip(names, values.T, strict=True):
        some = column[~np.isnan(column)]
        if not len(some):
            raise ColumnEmpty(f"column {name} has no value in any row")
        if some.min() == some.max():
            raise ColumnConstant(f"column {name} has the same value in every row")
    if not LEAST <= reference < len(values):
        raise ReferenceUnfit(f"{reference} of {len(values)} rows cannot be the reference")
    first = np.asarray(groups[:reference])
    for name, column in zip(names, values[:reference].T, strict=True):
        most = max(int((~np.isnan(column[first == group])).sum()) for group in set(first.tolist()))
        if most < LEAST:
            raise ReferenceUnfit(f"column {name} has at most {most} values in the reference of one group")
