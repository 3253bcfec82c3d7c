"""From a harmful change to the right verdict with measured studies: features and Dice of one scan belong together.

SIMULATED clinics of 10 studies a day, drawn with replacement from `tests.bench.measured`: clean rows for 100 studies,
then rows of one event at one severity. Readers are those of `tests.bench.harm` (noise, late, drawn to our mask), the
modules that decide are the real ones, and beside them stand its fixed audit and "drift alarm = retrain". People are few
(two real, sixteen generated heads), so a clinic here sees each of them many times.

What an event is was stated before any of its figures was seen, from the table alone. With m = D_ref - .05 the contract,
D_ref the clean rows' mean Dice, r the event's mean Dice and q the best that one step of the threshold would bring:
harmless r >= m + .03, broken r <= m - .05 and q <= m - .05, recalibrable r <= m - .05 and q >= m + .02; all else is not
decisive and only shown. A version or scanner that helps is harmless.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.judge.verdict import Word
from monitoring.streams import measured
from tests.bench import harm
from tests.bench.harm import MARGIN, QUIET, STEPS, Clinic, Event, Found
from tests.bench.record import Goal

WRONG = 0.20
"""A delivered result whose Dice lies so far below D_ref is called wrong."""
RIGHT: Mapping[str, tuple[Word, ...]] = {"broken": (Word.FINE_TUNE,), "recalibrable": (Word.RECALIBRATE,)}
SHARES: Mapping[str, float] = {"harmless": 0.4, "recalibrable": 0.3, "broken": 0.3}


@dataclass(frozen=True, slots=True)
class Rows:
    """One event at one severity: features [n, F], Dice [n, steps] (gaps are not a number), Dice as delivered [n]."""

    names: tuple[str, ...]
    features: np.ndarray
    dice: np.ndarray
    delivered: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Mean Dice at each step."""
        return np.asarray(np.nanmean(self.dice, 0))


def load(path: Path) -> dict[str, Rows]:
    """Event and severity -> its rows; ``none`` are the clean ones."""
    table = measured.read(path)
    dice = np.stack([table.steps[step] for step in STEPS], 1)
    found = {}
    for event in dict.fromkeys(table.events):
        its = table.rows(event)
        found[event] = Rows(table.names, table.features[its], dice[its], table.dice[its])
    return found


def kind_of(clean: Rows, its: Rows) -> str:
    """What an event is, by the rule above."""
    m = clean.delivered.mean() - MARGIN
    r, q = its.delivered.mean(), its.means.max()
    if r >= m + 0.03:
        return "harmless"
    if r <= m - 0.05 and q <= m - 0.05:
        return "broken"
    return "recalibrable" if r <= m - 0.05 and q >= m + 0.02 else "not decisive"


@dataclass(slots=True)
class Measured(Clinic):
    """A clinic whose studies are drawn from measured rows."""

    before: Rows | None = None
    after: Rows | None = None
    steps: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        assert self.before is not None
        assert self.after is not None
        n = self.days * harm.PER_DAY
        pick = [self.rng.integers(len(its.dice), size=n) for its in (self.before, self.after)]
        late = (np.arange(n) >= QUIET)[:, None]
        self.values = np.where(late, self.after.features[pick[1]], self.before.features[pick[0]])
        self.steps = np.where(late, self.after.dice[pick[1]], self.before.dice[pick[0]])
        self.dice = np.where(late[:, 0], self.after.delivered[pick[1]], self.before.delivered[pick[0]])

    def row(self, n: int) -> dict[str, float]:
        """The features that this study has."""
        assert self.before is not None
        return {
            name: float(v)
            for name, v in zip(self.before.names, self.values[n], strict=True)
            if not np.isnan(v)
        }

    def ladder(self, n: int, seen: float) -> dict[float, float]:
        """The measured Dice of each step, moved as much as this reader's Dice lies beside the measured one."""
        moved = seen - self.dice[n]
        noise = self.rng.normal(0, 0.02, len(STEPS))
        found = np.clip(self.steps[n] + moved + noise, 0, 1)
        if np.isnan(found).any():  # no levels were kept: nothing is known of other steps
            return {}
        return dict(zip(STEPS, found.tolist(), strict=True)) | {0.0: seen}


def clinic(clean: Rows, its: Rows, seed: Sequence[int], days: int) -> tuple[Found, Found, Found]:
    """What Radfleet, the alarm and the fixed audit said of one clinic."""

    def one() -> Measured:
        d_ref = float(clean.delivered.mean())
        rng = np.random.default_rng(seed)
        return Measured(
            Event(0.0, d_ref, 0.0, ()),
            days,
            rng,
            d_ref=d_ref,
            unusable=d_ref - WRONG,
            before=clean,
            after=its,
        )

    ours, alarm = harm.radfleet(one())
    return ours, alarm, harm.fixed(one())


def measure(path: Path, clinics: int, seed: int, days: int) -> tuple[list[Goal], dict[str, Any]]:
    """``clinics`` of each event of the table: goals and figures."""
    table = load(path)
    clean = table["none"]
    kinds = {name: "harmless" if name == "none" else kind_of(clean, its) for name, its in table.items()}
    out: dict[str, Any] = {}
    with ProcessPoolExecutor(2) as pool:
        asked = {
            name: [pool.submit(clinic, clean, its, [seed, place, n], days) for n in range(clinics)]
            for place, (name, its) in enumerate(table.items())
        }
        for name, waiting in asked.items():
            found = [one.result() for one in waiting]
            out[name] = _told(clean, table[name], kinds[name], found)
            row = out[name]["radfleet"]
            right = f"right {row['right']} of {row['clinics']}" if kinds[name] in SHARES else "not judged"
            print(f"{name:20} {kinds[name]:13} Dice {out[name]['dice']:.3f}, best step {out[name]['best']:.3f}; "
                  f"{right}; {row['said']}; days {row['days, median and 90 %']}, labels {row['labels']}",
                  flush=True)  # fmt: skip
    return _goals(out), {"table": str(path.name), "clean_rows": len(clean.dice), "events": out}


def _told(clean: Rows, its: Rows, kind: str, found: Sequence[tuple[Found, Found, Found]]) -> dict[str, Any]:
    ours, alarms, fixeds = (list(each) for each in zip(*found, strict=True))
    event = Event(0.0, 0.0, 0.0, RIGHT.get(kind, ()))
    wanted: set[str | None] = {word.value for word in event.right} or {None, "benign"}
    trained: set[str | None] = {"retrain"} if kind == "broken" else {None}
    return {
        "kind": kind, "dice": float(its.delivered.mean()), "best": float(its.means.max()),
        "with_levels": int((~np.isnan(its.dice[:, 0])).sum()),
        "contract": float(clean.delivered.mean()) - MARGIN, "rows": len(its.dice),
        "radfleet": harm.told(event, ours, wanted),
        "fixed audit": harm.told(event, fixeds, {"fine_tune"} if kind == "broken" else wanted - {"benign"}),
        "drift alarm = retrain": harm.told(event, alarms, trained),
        "found": [(one.days, one.labels) for one in ours if one.word in wanted and one.days is not None],
    }  # fmt: skip


def _goals(out: Mapping[str, Any]) -> list[Goal]:
    """The goals of the research note's section 7, with real masks' rows in place of drawn numbers."""
    by: dict[str, list[Any]] = {kind: [o for o in out.values() if o["kind"] == kind] for kind in SHARES}
    share = {
        kind: sum(o["radfleet"]["right"] for o in rows) / sum(o["radfleet"]["clinics"] for o in rows)
        for kind, rows in by.items() if rows
    }  # fmt: skip
    deep = [o for o in by["broken"] if o["dice"] <= o["contract"] - 0.09]
    found = [pair for o in deep for pair in o["found"]]
    n = sum(o["radfleet"]["clinics"] for o in deep)
    tuned = sum(o["radfleet"]["said"].get("fine_tune", 0) for o in by["harmless"])
    weight = sum(SHARES[kind] for kind in share)
    return [
        Goal("measured: fine_tune found where Dice is .09 or more under the contract",
             len(found) / n if n else None, 0.95),
        Goal("measured: labels until then, median", _at(found, 1, 0.5), 30, at_least=False),
        Goal("measured: days until then, median", _at(found, 0, 0.5), 21, at_least=False),
        Goal("measured: days until then, 90 %", _at(found, 0, 0.9), 45, at_least=False),
        Goal("measured: verdicts right, 40 % harmless, 30 % recalibrable, 30 % broken",
             sum(SHARES[kind] * its for kind, its in share.items()) / weight if share else None, 0.93),
        Goal("measured: fine_tune without harm, clinics", tuned, 0, at_least=False),
        # Studies without levels are left out of the trial of a threshold; were they the worst, the rest would mislead.
        Goal("measured: kept levels give the delivered mask, share of scans",
             sum(o["with_levels"] for o in out.values()) / sum(o["rows"] for o in out.values()), 1.0),
    ]  # fmt: skip


def _at(found: Sequence[tuple[float, int]], place: int, q: float) -> float | None:
    return float(np.quantile([pair[place] for pair in found], q)) if found else None
