"""The synthetic grid: streams in which nothing changes, and streams in which one thing does, for detector R and rivals.

20 features with one common factor (correlation .25), 10 studies a day, a null is a year. The change comes 100 studies
after the reference and is looked for in 200. ``TUNED`` are the changes of the research note that chose R's constants;
``UNSEEN`` were written down before any figure of theirs was seen. All changes meet the same streams: seed, number and
reference alone draw them. Found, and the quantiles of the delay, are of streams not flagged before the change, as in
the note; one that was never found counts as the longest delay.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Final

import numpy as np
from scipy.stats import chi2, norm, t

from monitoring.detect import detector
from monitoring.detect.detector import Flag
from monitoring.detect.ranks import Floats

WIDTH, PER_DAY, YEAR = 20, 10, 3650
H = detector.threshold(PER_DAY, 1)
NAMES = [f"feature {f}" for f in range(WIDTH)]
BEFORE, LOOKED = 100, 200
"""Studies between reference and change, and studies in which it is looked for."""
Rng = np.random.Generator


def related(rng: Rng, shape: tuple[int, ...], rho: float) -> Floats:
    """Normal numbers with unit variance, each correlated by ``rho`` with the one before along the first axis."""
    e = rng.standard_normal(shape)
    for row in range(1, shape[0]):
        e[row] = rho * e[row - 1] + np.sqrt(1 - rho * rho) * e[row]
    return e


@dataclass(frozen=True, slots=True)
class Kind:
    """How a stream is when nothing changes. ``days``: the second scanner works whole days, not studies at random."""

    rho: float = 0.0
    two: bool = False
    days: bool = False
    season: float = 0.0
    """Height, in sd, of a yearly wave on five features; its phase is drawn."""


IID, AR = "exchangeable", "AR .3, two scanners"
KINDS: Final[Mapping[str, Kind]] = {
    IID: Kind(), AR: Kind(0.3, two=True), f"{AR} by days": Kind(0.3, two=True, days=True),
    "hard: AR .6, two scanners, season .3 sd": Kind(0.6, two=True, season=0.3),
}  # fmt: skip


def stream(kind: Kind, rows: int, key: Sequence[int]) -> tuple[Floats, list[str]]:
    """Rows [N, F] and the scanner of each; the scanners are 1.5 sd apart on every second feature."""
    rng = np.random.default_rng(list(key))
    factor, own = related(rng, (rows, 1), kind.rho), related(rng, (rows, WIDTH), kind.rho)
    values = 0.5 * factor + np.sqrt(0.75) * own
    second = np.zeros(rows, dtype=bool)
    if kind.two:
        of = rng.random(rows // PER_DAY + 1) < 0.5
        second = np.repeat(of, PER_DAY)[:rows] if kind.days else rng.random(rows) < 0.5
        values[:, ::2] += 1.5 * second[:, None]
    if kind.season:
        wave = np.sin(2 * np.pi * (np.arange(rows) / YEAR + rng.random()))
        values[:, 1::4] += kind.season * wave[:, None]
    return values, [f"scanner {int(s)}" if kind.two else "" for s in second]


@dataclass(frozen=True, slots=True)
class Change:
    """``moved``: how many features it touches, the first ones. ``apply`` gives the changed rows [N, moved]."""

    moved: int
    apply: Callable[[Rng, Floats], Floats]


def _shift(size: float, _: Rng, x: Floats) -> Floats:
    return x + size


def _mixture(rng: Rng, x: Floats) -> Floats:
    return x + 2.0 * (rng.random((len(x), 1)) < 0.2)


def _ramp(_: Rng, x: Floats) -> Floats:
    return x + 2.0 * np.arange(1, len(x) + 1)[:, None] / len(x)


def _wider(_: Rng, x: Floats) -> Floats:
    return x * np.sqrt(2)


def _unrelated(rng: Rng, x: Floats) -> Floats:
    return rng.standard_normal(x.shape)


def _heavy(_: Rng, x: Floats) -> Floats:
    return np.asarray(t.ppf(norm.cdf(x), 3) / np.sqrt(3))


def _weekends(_: Rng, x: Floats) -> Floats:
    return x + 1.0 * (np.arange(len(x)) // PER_DAY % 7 >= 5)[:, None]


def _rounded(_: Rng, x: Floats) -> Floats:
    return np.round(x * 2) / 2


TUNED: Final[Mapping[str, Change]] = {
    **{f"{size:g} sd on {moved} of 20": Change(moved, partial(_shift, size))
       for size in (0.5, 1.0, 2.0) for moved in (1, 5)},
    "variance x 2 on 5": Change(5, _wider),
    "20 % from a new scanner, 2 sd on 10": Change(10, _mixture),
    "ramp to 2 sd on 5": Change(5, _ramp),
}  # fmt: skip
UNSEEN: Final[Mapping[str, Change]] = {
    "correlation .25 to 0, all 20": Change(20, _unrelated),
    "heavy tails (t, 3 degrees) on 5": Change(5, _heavy),
    "1 sd on 5, two days in seven only": Change(5, _weekends),
    "rounded to half sd, 10": Change(10, _rounded),
}


def first_flag(
    values: Floats, groups: Sequence[str], reference: int, names: Sequence[str]
) -> tuple[int, Flag | None]:
    """Studies watched until the first flag, and the flag."""
    state = detector.begin(names, values[:reference], groups[:reference], epoch=1, h=H)
    for row in range(reference, len(values)):
        state, flag = detector.step(state, str(row), groups[row], values[row])
        if flag:
            return row + 1 - reference, flag
    return len(values) - reference, None


def rate(outcomes: Sequence[tuple[int, Any]]) -> dict[str, float | int]:
    """False flags a year of 3,650 studies with the exact 95 % interval; an outcome is studies watched, flag or None."""
    flags, years = sum(flag is not None for _, flag in outcomes), sum(seen for seen, _ in outcomes) / YEAR
    low = float(chi2.ppf(0.025, 2 * flags)) / 2 if flags else 0.0
    return {
        "per_year": flags / years, "low": low / years, "high": float(chi2.ppf(0.975, 2 * flags + 2)) / 2 / years,
        "flags": flags, "years": years, "streams": len(outcomes),
    }  # fmt: skip


def spread(late: Sequence[int], quiet: int) -> dict[str, Any]:
    """Share found of ``quiet`` streams, and the delay in studies; None where a quantile lies among those not found."""
    delays = np.sort(np.append(late, np.full(quiet - len(late), np.inf)))
    low, median, high, most = (
        float(delays[max(0, int(np.ceil(q * quiet)) - 1)]) if quiet else np.inf
        for q in (0.25, 0.5, 0.75, 0.9)
    )
    at = [None if np.isinf(q) else q for q in (low, median, high, most)]
    return {
        "found": len(late) / quiet if quiet else None, "delay_median": at[1], "delay_quartiles": (at[0], at[2]),
        "delay_90": at[3], "streams": quiet,
    }  # fmt: skip


def quiet(seed: int, name: str, reference: int, number: int) -> tuple[Floats, list[str]]:
    """A year in which nothing changes, after its reference."""
    kind = KINDS[name]
    return stream(kind, reference + YEAR, (seed, number, reference, int(kind.rho * 10), kind.days))


def changed(seed: int, kind: str, reference: int, change: str, number: int) -> tuple[Floats, list[str]]:
    """A stream of ``kind`` whose rows from ``reference`` + BEFORE on are changed."""
    at, its = reference + BEFORE, {**TUNED, **UNSEEN}[change]
    values, groups = stream(KINDS[kind], at + LOOKED, (seed, number, reference, 5, int(KINDS[kind].rho * 10)))
    rng = np.random.default_rng([seed, number, reference, 6])
    values[at:, : its.moved] = its.apply(rng, values[at:, : its.moved])
    return values, groups


def _null(seed: int, name: str, reference: int, number: int) -> tuple[int, Flag | None]:
    return first_flag(*quiet(seed, name, reference, number), reference, NAMES)


def _found(seed: int, reference: int, change: str, number: int) -> tuple[int, Flag | None]:
    return first_flag(*changed(seed, IID, reference, change, number), reference, NAMES)


def nulls(pool: Executor, seed: int, streams: int) -> dict[str, dict[str, float | int]]:
    """R's false flags a year on every kind of stream in which nothing changes."""
    cases = [(IID, 50), *((name, 200) for name in KINDS)]
    asked = {
        f"{name}, reference {n}": pool.map(
            _null, repeat(seed), repeat(name), repeat(n), range(streams), chunksize=4
        )
        for name, n in cases
    }
    return {name: rate(list(outcomes)) for name, outcomes in asked.items()}


def shifts(pool: Executor, seed: int, streams: int, changes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What R finds of each change, when, where and which feature, at a reference of 50 and of 200."""
    cases = [(change, n) for change in changes for n in (50, 200)]
    asked = [
        pool.map(_found, repeat(seed), repeat(n), repeat(change), range(streams), chunksize=8)
        for change, n in cases
    ]
    return {
        f"{change}, reference {n}": judged(list(outcomes), n + BEFORE, {**TUNED, **UNSEEN}[change].moved)
        for (change, n), outcomes in zip(cases, asked, strict=True)
    }


def judged(outcomes: Sequence[tuple[int, Flag | None]], at: int, moved: int) -> dict[str, Any]:
    """Delays, first feature and date of outcomes whose change came at row ``at`` on the first ``moved`` features."""
    flags = [flag for _, flag in outcomes if flag]
    right = [flag for flag in flags if flag.row >= at]
    early = len(flags) - len(right)
    found = spread([flag.row + 1 - at for flag in right], len(outcomes) - early)
    found["flagged_before_the_change"] = early
    if right:
        off = [abs(flag.since_row - at) for flag in right]
        found |= {
            "top_feature_right": float(np.mean([bool(set(f.features[:1]) & set(NAMES[:moved])) for f in right])),
            "since_error_median": float(np.median(off)), "since_error_90": float(np.quantile(off, 0.9)),
            "since_range_holds": float(np.mean([f.since_range[0] <= at <= f.since_range[1] for f in right])),
        }  # fmt: skip
    return found
