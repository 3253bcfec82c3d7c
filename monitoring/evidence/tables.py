"""What goes into a report, decided before the library sees a row: columns, their tests, their thresholds.

The library's defaults choose a test by sample size and flag one column in twenty by chance; ours are named.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from monitoring.evidence.errors import RowsTooFew

GROUP: Final = "scanner_group"
REFERENCE_MIN, CURRENT_MIN = 20, 5
NUMBER_METHOD, GROUP_METHOD = "ks", "jensenshannon"
LEVEL: Final = 0.05  # over all numeric columns together (Bonferroni)
GROUP_THRESHOLD: Final = 0.15

Row = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Method:
    """How one column is compared: ``ks`` moves below its threshold (a p-value), a distance above it."""

    column: str
    method: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Tables:
    """Reference and current rows with the methods that compare them. Values are finite numbers, groups are text."""

    reference: Sequence[Row]
    current: Sequence[Row]
    methods: Sequence[Method]
    left_out: Mapping[str, str]

    @property
    def digest(self) -> str:
        """``sha256:`` of the rows and methods: the same evidence has the same name."""
        text = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def drift_share(self) -> float:
        """One column that moved is enough for the library to say "drift": its opinion is over the whole table."""
        return 1 / len(self.methods)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "reference": [dict(row) for row in self.reference],
            "current": [dict(row) for row in self.current],
            "methods": [[m.column, m.method, m.threshold] for m in self.methods],
        }


def prepare(reference: Sequence[Row], current: Sequence[Row], features: Sequence[str]) -> Tables:
    """Choose among ``features`` what can be compared, and the scanner group where both sides have one.

    A feature needs ``REFERENCE_MIN`` values before and ``CURRENT_MIN`` since, and more than one value in all.
    Raises RowsTooFew.
    """
    if len(reference) < REFERENCE_MIN or len(current) < CURRENT_MIN:
        raise RowsTooFew(f"there are {len(reference)} rows before and {len(current)} since")
    usable, left_out = [], {}
    for name in sorted(set(features)):
        before, since = ([row[name] for row in rows if name in row] for rows in (reference, current))
        if len(before) < REFERENCE_MIN or len(since) < CURRENT_MIN:
            left_out[name] = f"{len(before)} values before, {len(since)} since"
        elif len({*before, *since}) < 2:
            left_out[name] = "one value everywhere"
        else:
            usable.append(name)
    if not usable:
        raise RowsTooFew("no feature has enough values on both sides")
    methods = [Method(name, NUMBER_METHOD, LEVEL / len(usable)) for name in usable]
    if all(GROUP in row for row in (*reference, *current)):
        methods.append(Method(GROUP, GROUP_METHOD, GROUP_THRESHOLD))
    keep = [m.column for m in methods]
    old, new = ([{n: row[n] for n in keep if n in row} for row in rows] for rows in (reference, current))
    return Tables(old, new, methods, left_out)


def opinion(tables: Tables, values: Mapping[str, float]) -> dict[str, Any]:
    """What the library's numbers say by the named thresholds; it stands beside our verdict and raises no flag.

    ``values`` is the number of each column: a p-value for ks, a distance for jensenshannon.
    """
    columns = [
        {"column": m.column, "method": m.method, "threshold": m.threshold, "value": values[m.column],
         "moved": values[m.column] < m.threshold if m.method == NUMBER_METHOD else values[m.column] > m.threshold}
        for m in tables.methods
    ]  # fmt: skip
    share = sum(bool(column["moved"]) for column in columns) / len(columns)
    return {
        "drift": share >= tables.drift_share, "share": share, "columns": columns, "left_out": dict(tables.left_out)
    }  # fmt: skip
