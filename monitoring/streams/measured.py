"""Measured studies as a table, and a simulated fleet that is drawn from them.

A line is one scan that was really answered and measured, real or rendered, clean (event ``none``) or under an event at
a severity, with its Dice. ``python -m tests.bench.measured`` writes such a table. What happens at a clinic is which
lines its studies are drawn from, with replacement: features and Dice stay together as they were measured.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from monitoring.detect.ranks import Floats
from monitoring.errors import MeasuredUnfit
from monitoring.streams.simulate import RAMP_DAYS, Truth, headers_of, write_table, write_truth

CLEAN, CLEAN_MIN = "none", 20
NEEDED: Final = ("event", "severity", "dice")
_TEXT: Final = ("study", "simulated", "person", "source", "event", "severity")


@dataclass(frozen=True, slots=True)
class Table:
    """Measured studies. ``features`` [n, F] and ``steps`` -> Dice [n]: not a number where it was not measured."""

    names: tuple[str, ...]
    features: Floats
    dice: Floats
    steps: Mapping[float, Floats]
    events: tuple[str, ...]

    def rows(self, event: str) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """The numbers of an event's lines, such as ``noise, 2``. Raises MeasuredUnfit where there are none."""
        found = np.array([n for n, its in enumerate(self.events) if its == event], np.int64)
        if not len(found):
            known = ", ".join(sorted({*self.events} - {CLEAN}))
            raise MeasuredUnfit(
                f"no study of this table has the event {event}", why=f"It has {known or 'none'}."
            )
        return found


def read(path: Path) -> Table:
    """Read a table. Raises MeasuredUnfit, which names line and column and never the cell."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MeasuredUnfit(f"the table cannot be read ({type(error).__name__})") from None
    if not lines:
        raise MeasuredUnfit("the table has no line")
    if missing := [name for name in NEEDED if name not in lines[0]]:
        raise MeasuredUnfit(f"the table has no column {missing[0]}")
    names = tuple(
        n for n in lines[0] if n and n not in _TEXT and n != "dice" and not n.startswith("dice_at_")
    )
    at = tuple(n for n in lines[0] if n and n.startswith("dice_at_"))
    if not names:
        raise MeasuredUnfit("the table has no feature beside its Dice")
    events = tuple(_event(line) for line in lines)
    if (n := events.count(CLEAN)) < CLEAN_MIN:
        raise MeasuredUnfit(f"{n} studies of this table are clean, needed are {CLEAN_MIN}")
    numbers = {name: _column(lines, name, gaps=name != "dice") for name in (*names, "dice", *at)}
    steps = {float(name.removeprefix("dice_at_")): numbers[name] for name in at}
    return Table(names, np.stack([numbers[name] for name in names], 1), numbers["dice"], steps, events)


def _event(line: Mapping[str, str]) -> str:
    return CLEAN if line["event"] in (CLEAN, "") else f"{line['event']}, {line['severity']}"


def _column(lines: list[dict[str, str]], name: str, *, gaps: bool) -> Floats:
    found = np.full(len(lines), np.nan)
    for n, line in enumerate(lines):
        text = line[name] or ""
        try:
            found[n] = float(text) if text or not gaps else np.nan
        except ValueError:
            raise MeasuredUnfit(f"line {n + 2} has no number in the column {name}") from None
        if name.startswith("dice") and not (0 <= found[n] <= 1 or (gaps and not text)):
            raise MeasuredUnfit(f"line {n + 2} has a Dice in the column {name} that is none")
    return found


@dataclass(frozen=True, slots=True)
class Kind:
    """What happens at one clinic: which event's lines come, all at once or slowly, and what its header says."""

    says: str
    event: str = CLEAN
    header: Mapping[str, str] = field(default_factory=dict)
    slowly: bool = False
    dice_noise: float = 1.0
    people: str = ""
    """A feature of which only the upper half comes, from the event on or (with ``season``) in winter more often."""
    season: bool = False
    alike: int = 0
    """A day's studies are drawn from so many lines alone."""


_UPGRADE = Kind("software upgrade of three clinics: images are smoother", "blur, 1", {"software": "XA30"})
KINDS: Final[Mapping[str, Kind]] = {
    "quiet": Kind("nothing happens"),
    "scanner-swap": Kind("another scanner, and its header says so", "flat contrast, 2", {"model": "Vida"}),
    "scanner-swap-silent": Kind("another scanner, and its header is stripped", "flat contrast, 2"),
    "software-1": _UPGRADE, "software-2": _UPGRADE, "software-3": _UPGRADE,
    "inversion-time": Kind("fluid is not nulled any more", "fluid not nulled, 2", {"ti_ms": "1800"}),
    "coil-fault": Kind("a coil element fails", "bias field, 2"),
    "population": Kind("patients with more lesions", people="lesion_ml"),
    "ageing": Kind("a scanner grows noisy slowly", "noise, 2", slowly=True),
    "label-noise": Kind("reviewers scatter three times as much, images stay", dice_noise=3.0),
    "noisy": Kind("days resemble each other, from the first day", alike=3),
    "seasons": Kind("larger heads in winter, smaller ones in summer", people="brain_ml", season=True),
}  # fmt: skip
_BEFORE: Final = {"vendor": "siemens", "model": "Prisma", "software": "E11", "ti_ms": "2500"}


def fleet(out: Path, table: Table, *, days: int, per_day: int, event_day: int, seed: int) -> list[Truth]:
    """Write a table a clinic and ``truth.json`` into the folder ``out``; returns the truth. Raises MeasuredUnfit."""
    drawn = {}
    for number, (name, kind) in enumerate(KINDS.items()):  # all of them before a file is written
        rng = np.random.default_rng([seed, number])
        drawn[name] = (rng, lines_of(rng, table, kind, days, per_day, event_day))
    truths = []
    for name, (rng, its) in drawn.items():
        kind, event = KINDS[name], event_day * per_day
        path = out / f"simulated-{name}.csv"
        headers = headers_of(_BEFORE, kind.header, len(its), event)
        write_table(path, name, table.names, headers, _rows(rng, table, kind, its, event), per_day)
        happens = bool(kind.event != CLEAN or kind.dice_noise != 1 or (kind.people and not kind.season))
        says = f"{kind.says} (measured: {kind.event})" if kind.event != CLEAN else kind.says
        truths.append(Truth(f"simulated-{name}", True, says, event if happens else None, _moved(table, its, event),
                            dict(kind.header), path.name))  # fmt: skip
    write_truth(out, truths)
    return truths


def lines_of(
    rng: np.random.Generator, table: Table, kind: Kind, days: int, per_day: int, event_day: int
) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The line of the table that each study is, [days * per_day]."""
    clean, event = table.rows(CLEAN), table.rows(kind.event)
    upper = _upper(table, clean, kind.people) if kind.people else clean
    found = []
    for day in range(days):
        late = day >= event_day
        some = rng.choice(clean, kind.alike, replace=False) if kind.alike else clean
        share = float(late) if not kind.slowly else min(max((day - event_day) / RAMP_DAYS, 0), 1)
        its, other = some, some if kind.event == CLEAN else event
        if kind.season:
            share, other = 0.5 + 0.4 * float(np.cos(2 * np.pi * day / 365)), upper
        elif kind.people:
            other = upper
        moved = rng.random(per_day) < share
        found += np.where(moved, rng.choice(other, per_day), rng.choice(its, per_day)).tolist()
    return np.array(found, np.int64)


def _upper(table: Table, clean: "np.ndarray[Any, np.dtype[np.int64]]", name: str) -> Any:
    if name not in table.names:
        raise MeasuredUnfit(f"the table has no column {name}")
    values = table.features[clean, table.names.index(name)]
    return clean[values >= np.nanmedian(values)]


def _moved(table: Table, its: Any, event: int) -> dict[str, float]:
    """How far each feature's mean lies after the event, in sd of before; those by half a sd or more."""
    before, after = table.features[its[:event]], table.features[its[event:]]
    known = np.isfinite(before).any(0) & np.isfinite(after).any(0)
    names, before, after = np.array(table.names)[known], before[:, known], after[:, known]
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (np.nanmean(after, 0) - np.nanmean(before, 0)) / np.nanstd(before, 0)
    return {
        str(n): round(float(v), 2) for n, v in zip(names, z, strict=True) if np.isfinite(v) and abs(v) >= 0.5
    }


def _rows(rng: np.random.Generator, table: Table, kind: Kind, its: Any, event: int) -> Iterator[list[str]]:
    """Each study's features and, of one in ten, the Dice that a reviewer found."""
    for n, line in enumerate(its):
        noise = 0.03 * (kind.dice_noise if n >= event else 1) * rng.standard_normal()
        dice = f"{np.clip(table.dice[line] + noise, 0, 1):.3f}" if rng.random() < 0.1 else ""
        yield [*("" if np.isnan(v) else f"{v:.6g}" for v in table.features[line]), dice]
