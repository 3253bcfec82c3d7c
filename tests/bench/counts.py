"""By chance and on a real change: days of far fewer or more studies, and what drift, missing and volume spend together.

SIMULATED clinics of 10 studies a day. Volume was chosen on seed 401 with Poisson days that scatter by a quarter and a
season of a fifth that begins at its mean; the sixteen days of a closure that nobody stated were looked at on seeds
below 20. Here the seeds are others (from 911) and so are the seasons: none of these shapes chose a constant. The two
with closures are those that the rule was made for. Days are gamma-Poisson, the week has a weekend.

Run: python -m tests.bench.counts [--quick] [--seed N]
"""

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
from scipy.stats import chi2

from monitoring.detect import detector
from monitoring.streams import feed, groups, shares, volume
from monitoring.streams.state import Row
from tests.bench.record import Goal, record, versions

WEEK = np.array([1.25, 1.3, 1.2, 1.25, 1.1, 0.5, 0.4])
WEEK /= WEEK.mean()
FIRST = date(2026, 1, 5)
DAYS = 365
A_DAY = 10.0
BUDGET = 1.0
Season = Callable[[np.ndarray], np.ndarray]
HOLIDAYS = (88, 91, 116, 129, 140, 150, 275, 304)
"""Days of the year, from its first Monday on, of which one study in ten comes."""


def closures(day: np.ndarray, *parts: tuple[int, int, float]) -> np.ndarray:
    """What is left of each day: ``parts`` are first day of the year, days, factor; holidays are always there."""
    left, at = np.ones(len(day)), day % DAYS
    for first, n, factor in (*((one, 1, 0.1) for one in HOLIDAYS), *parts):
        left = np.where((at >= first) & (at < first + n), factor, left)
    return left


SEASONS: Mapping[str, Season] = {
    "none": lambda day: np.ones(len(day)),
    "a sawtooth of 15 %": lambda day: 1 + 0.15 * (2 * ((day / DAYS + 0.3) % 1) - 1),
    "two waves of 15 % a year, begun at the crest": lambda day: 1 + 0.15 * np.cos(4 * np.pi * day / DAYS),
    "a summer of six weeks at 70 %": lambda day: np.where((day % DAYS >= 190) & (day % DAYS < 232), 0.7, 1.0),
    "Christmas and Easter: nine days at 35 %, four at 50 %": lambda day: np.where(
        day % DAYS >= 352, np.where(day % DAYS < 361, 0.35, 1.0), np.where((day >= 88) & (day < 92), 0.5, 1.0)
    ),
    "growth of 20 % over the year": lambda day: 1 + 0.2 * day / DAYS,
    "holidays, a summer fortnight at 50 %, a Christmas one at 35 %": lambda day: closures(
        day, (208, 14, 0.5), (351, 14, 0.35)
    ),
    "holidays, and sixteen days shut in summer": lambda day: closures(day, (208, 16, 0.0)),
}
SCATTER = {"Poisson": 0.0, "scatter .2": 0.2, "scatter .35": 0.35}
CHANGES = {"to 40 %": 0.4, "to 25 %": 0.25, "to nothing": 0.0, "to 250 %": 2.5, "to 300 %": 3.0,
           "to 50 %": 0.5}  # fmt: skip


def days(
    rng: np.random.Generator, season: Season, scatter: float, n: int, a_day: float = A_DAY
) -> np.ndarray:
    """Studies of each of ``n`` days; ``scatter``: sd of the day's mean beyond chance, as a part of it."""
    at = np.arange(n)
    mean = a_day * WEEK[at % 7] * season(at)
    if scatter:
        mean = mean * rng.gamma(1 / scatter**2, scatter**2, n)
    return rng.poisson(mean)


def interval(count: int, years: float) -> tuple[float, float]:
    """The exact 95 % interval of a rate a year (Poisson)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low / years, float(chi2.ppf(0.975, 2 * count + 2)) / 2 / years


def first_flag(numbers: np.ndarray) -> tuple[int | None, str]:
    """The first day on which volume is proven, and which way."""
    found = [(FIRST + timedelta(days=n), int(k)) for n, k in enumerate(numbers)]
    for n, (_, _, its) in enumerate(volume.follow(None, found, [], [(FIRST, BUDGET)])):
        for one in volume.counts(its):
            if one.beyond:
                return n, one.name
    return None, ""


def by_chance(seed: int, streams: int, season: Season, scatter: float, a_day: float) -> dict[str, Any]:
    flags, years = 0, 0.0
    for n in range(streams):
        at, _ = first_flag(days(np.random.default_rng([seed, n]), season, scatter, DAYS, a_day))
        flags += at is not None
        years += ((at if at is not None else DAYS - 1) + 1) / DAYS
    low, high = interval(flags, years)
    return {
        "streams": streams,
        "years": round(years, 1),
        "flags": flags,
        "per_year": flags / years,
        "low": low,
        "high": high,
    }


def on_change(seed: int, streams: int, factor: float, scatter: float) -> dict[str, Any]:
    """Days from the change, on day 120, to the flag."""
    took = []
    for n in range(streams):
        numbers = days(np.random.default_rng([seed, 9, n]), SEASONS["none"], scatter, 240)
        after = days(np.random.default_rng([seed, 10, n]), SEASONS["none"], scatter, 240, A_DAY * factor)
        numbers[120:] = after[120:]
        at, _ = first_flag(numbers)
        if at is not None and at >= 120:
            took.append(at - 119)
    spread = [round(float(np.quantile(took, q)), 1) for q in (0.25, 0.5, 0.75, 0.9)] if took else None
    return {"streams": streams, "found": len(took), "days: quartiles and 90 %": spread}


def together(seed: int, clinics: int, days_each: int) -> dict[str, Any]:
    """Clinics of one stream, nothing changes: all flags of drift, missing and volume against the budget."""
    h = detector.threshold(A_DAY, shares.share("drift", BUDGET))
    group = groups.facts({"vendor": "siemens", "model": "Prisma", "te_ms": 90.0})
    names = [f"f{k:02}" for k in range(20)]
    said = {"drift": 0, "missing": 0, "volume": 0}
    exposure = dict.fromkeys(said, 0.0)
    for n in range(clinics):
        rng = np.random.default_rng([seed, 77, n])
        numbers = days(rng, SEASONS["none"], 0.2, days_each)
        at, _ = first_flag(numbers)
        said["volume"] += at is not None
        exposure["volume"] += ((at if at is not None else days_each - 1) + 1) / DAYS
        its, over, rows = feed.new(1, h, 0), {"drift": 0, "missing": 0}, int(numbers.sum())
        common = 0.5 * rng.standard_normal((rows, 1))
        values = common + 0.75**0.5 * rng.standard_normal((rows, 20))
        gone = rng.random((rows, 20)) < 0.1  # at the very bar of what may be missing
        for seq in range(rows):
            row = {name: float(v) for name, v, g in zip(names, values[seq], gone[seq], strict=True) if not g}
            step = feed.feed(its, Row(seq + 1, str(seq), "2026-01-01T00:00:00+00:00", group, row))
            its = step.stream
            over["drift"] = over["drift"] or (seq + 1 if step.drift else 0)
            over["missing"] = over["missing"] or (seq + 1 if any(its.gaps.proven) else 0)
        for name, seq in over.items():
            said[name] += seq > 0
            exposure[name] += (seq or rows) / A_DAY / DAYS
    rates = {name: said[name] / exposure[name] for name in said}
    flags = sum(said.values())
    low, high = interval(flags, sum(exposure.values()) / len(said))
    return {"clinics": clinics, "flags": said, "years": exposure, "per_year": rates, "sum": sum(rates.values()),
            "low": low, "high": high, "shares": {name: shares.share(name, BUDGET) for name in said}}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Volume on held-out seasons; the budget spent together.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=911)
    asked = parser.parse_args()
    began = time.perf_counter()
    streams, clinics = (30, 3) if asked.quick else (200, 24)
    chance: dict[str, Any] = {}
    for s, (season, shape) in enumerate(SEASONS.items()):
        for k, (scatter, width) in enumerate(SCATTER.items()):
            chance[f"{season}; {scatter}"] = by_chance(asked.seed + 10 * s + k, streams, shape, width, A_DAY)
    for a_day in (2.0, 40.0):
        chance[f"{a_day:g} a day; scatter .2"] = by_chance(
            asked.seed + 90 + int(a_day), streams, SEASONS["none"], 0.2, a_day
        )
    for name, row in chance.items():
        print(
            f"{name:70} {row['per_year']:.3f} a year ({row['low']:.3f} to {row['high']:.3f}), {row['years']} years",
            flush=True,
        )
    change = {
        f"{name}; {scatter}": on_change(asked.seed + 200 + 10 * c, streams, factor, SCATTER[scatter])
        for c, (name, factor) in enumerate(CHANGES.items()) for scatter in ("Poisson", "scatter .2")
    }  # fmt: skip
    for name, row in change.items():
        print(f"{name:30} {row}", flush=True)
    spent = together(asked.seed + 300, clinics, DAYS)
    print(spent)
    allowed = shares.share("volume", BUDGET)
    end = "low" if asked.quick else "per_year"
    goals = [
        Goal(f"volume by chance, a year: {name}", row[end], allowed, at_least=False)
        for name, row in chance.items()
    ]
    goals.append(
        Goal(
            "drift, missing and volume together, a year",
            spent["low" if asked.quick else "sum"],
            BUDGET,
            at_least=False,
        )
    )
    return record(
        "bench-counts", goals, chance=chance, change=change, together=spent, seed=asked.seed, quick=asked.quick,
        seconds=round(time.perf_counter() - began, 1), versions=versions(("radfleet", "numpy"), {}),
        conditions="simulated; budget 1 flag a year in all; the first flag of a clinic ends its exposure",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
