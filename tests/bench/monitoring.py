"""Detector R over made-up and real streams: false flags a year at a budget of one, studies until a change is found.

Made-up: 20 features with one common factor (correlation .25), 10 studies a day, streams of one year. The seeds are
not those of the note that chose the constants. Real: image quality of ABIDE and ds030 by site (RADFLEET_DATA).
A rate is first flags over studies watched; its interval is the exact Poisson one.

Beside it on the same streams: rules of others (tests/bench/rules.py) and river's (tests/bench/peers.py); in pixels
twenty seeds with a scanner replaced (tests/bench/pixels.py); and what a fleet of 1,000 streams costs.

Run: python -m tests.bench.monitoring [--quick] [--streams N] [--seed N]
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from monitoring.detect import detector
from monitoring.detect.detector import Flag
from monitoring.detect.ranks import Floats
from monitoring.detect.table import read
from monitoring.streams import feed, groups, parts
from monitoring.streams.state import Row
from tests.bench import peers, pixels, rules
from tests.bench.record import Goal, record, versions

WIDTH, PER_DAY, YEAR = 20, 10, 3650
H = detector.threshold(PER_DAY, 1)
METRICS = (
    "cjv", "cnr", "efc", "fber", "fwhm_avg", "icvs_csf", "icvs_gm", "icvs_wm", "inu_med", "inu_range", "qi_2",
    "rpve_gm", "rpve_wm", "snr_gm", "snr_wm", "snrd_total", "summary_bg_mean", "summary_wm_stdv", "tpm_overlap_gm",
    "wm2max",
)  # fmt: skip
QUIET = 30
"""Studies of the first site after the reference and before the second site, in a swap."""


def related(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> Floats:
    """Normal numbers with unit variance, each correlated by ``rho`` with the one before along the first axis."""
    e = rng.standard_normal(shape)
    for t in range(1, shape[0]):
        e[t] = rho * e[t - 1] + np.sqrt(1 - rho * rho) * e[t]
    return e


def made_up(rng: np.random.Generator, rows: int, rho: float) -> Floats:
    return 0.5 * related(rng, (rows, 1), rho) + np.sqrt(0.75) * related(rng, (rows, WIDTH), rho)


def scanners(rng: np.random.Generator, values: Floats, days: bool) -> list[str]:
    """Give each row one of two scanners, 1.5 sd apart on every second feature, at random or whole days at once."""
    of = rng.random(len(values) // PER_DAY + 1) < 0.5
    second = np.repeat(of, PER_DAY)[: len(values)] if days else rng.random(len(values)) < 0.5
    values[:, ::2] += 1.5 * second[:, None]
    return [f"scanner {int(s)}" for s in second]


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


NAMES = [f"feature {f}" for f in range(WIDTH)]


def rate(outcomes: Sequence[tuple[int, Flag | None]]) -> dict[str, float | int]:
    """False flags a year of 3,650 studies with the exact 95 % interval."""
    flags, years = sum(flag is not None for _, flag in outcomes), sum(seen for seen, _ in outcomes) / YEAR
    low = float(chi2.ppf(0.025, 2 * flags)) / 2 if flags else 0.0
    return {
        "per_year": flags / years, "low": low / years, "high": float(chi2.ppf(0.975, 2 * flags + 2)) / 2 / years,
        "flags": flags, "years": years, "streams": len(outcomes),
    }  # fmt: skip


def nulls(seed: int, streams: int) -> Iterator[tuple[str, dict[str, float | int]]]:
    """The four kinds of stream in which nothing changes."""
    for name, reference, rho, two, days in (
        ("exchangeable, reference 50", 50, 0.0, False, False),
        ("exchangeable, reference 200", 200, 0.0, False, False),
        ("AR .3, two scanners, reference 200", 200, 0.3, True, False),
        ("AR .3, two scanners by days, reference 200", 200, 0.3, True, True),
    ):
        outcomes = []
        for i in range(streams):
            rng = np.random.default_rng([seed, i, reference, int(rho * 10), days])
            values = made_up(rng, reference + YEAR, rho)
            groups = scanners(rng, values, days) if two else [""] * len(values)
            outcomes.append(first_flag(values, groups, reference, NAMES))
        yield name, rate(outcomes)


def delays(seed: int, streams: int) -> Iterator[tuple[str, dict[str, float | int]]]:
    """A shift of 1 sd on one or five features, 100 studies after the reference, looked for in 200 studies."""
    for reference in (50, 200):
        for moved in (1, 5):
            at, late, off, top, held = reference + 100, [], [], 0, 0
            for i in range(streams):
                values = made_up(np.random.default_rng([seed, i, reference, moved]), at + 200, 0.0)
                values[at:, :moved] += 1
                _, flag = first_flag(values, [""] * len(values), reference, NAMES)
                if flag and flag.row >= at:
                    late.append(flag.row + 1 - at)
                    off.append(abs(flag.since_row - at))
                    held += flag.since_range[0] <= at <= flag.since_range[1]
                    top += flag.features[0] in NAMES[:moved]
            yield f"1 sd on {moved} of 20, reference {reference}", spread(late, streams) | {
                "top_feature_right": top / len(late), "since_error_median": float(np.median(off)),
                "since_error_90": float(np.quantile(off, 0.9)), "since_range_holds": held / len(late),
            }  # fmt: skip


def spread(late: Sequence[int], streams: int) -> dict[str, float | int]:
    """Share found, and the delay in studies: median, quartiles, 90 %."""
    q = np.quantile(late, [0.25, 0.5, 0.75, 0.9]).tolist() if late else [float("nan")] * 4
    return {
        "found": len(late) / streams, "delay_median": q[1], "delay_quartiles": (q[0], q[2]), "delay_90": q[3],
        "streams": streams,
    }  # fmt: skip


def sites(data: Path) -> dict[str, Floats]:
    """Image-quality rows of each site, in the order of the table, rows with a gap left out."""
    found: dict[str, list[list[float]]] = {}
    for study in ("abide", "ds030"):
        image, rated = read(data / f"mriqc_x_{study}.csv.gz"), read(data / f"mriqc_y_{study}.csv.gz")
        site = dict(zip(rated.text("subject_id"), rated.text("site"), strict=True))
        columns = zip(*(image.numbers(name) for name in METRICS), strict=True)
        for subject, row in zip(image.text("subject_id"), columns, strict=True):
            found.setdefault(f"{study} {site[subject]}", []).append(list(row))
    arrays = {name: np.array(rows) for name, rows in found.items()}
    return {name: rows[~np.isnan(rows).any(1)] for name, rows in arrays.items()}


def real(data: Path, seed: int, shuffles: int, reference: int = 50) -> dict[str, Any]:
    """Every site that is long enough alone, shuffled and in table order, and followed by every other of its study."""
    its = sites(data)
    long = [name for name, rows in its.items() if len(rows) >= reference + QUIET + 10]
    alone, in_order, swaps, late, early = {}, {}, {}, list[int](), 0
    for name in long:
        rng, rows = np.random.default_rng([seed, len(its[name])]), its[name]
        mixed = [rng.permutation(rows) for _ in range(shuffles)]
        alone[name] = rate([first_flag(m, [""] * len(m), reference, METRICS) for m in mixed])
        in_order[name] = rate([first_flag(rows, [""] * len(rows), reference, METRICS)])
        for other, rows_after in its.items():
            if other == name or other.split()[0] != name.split()[0] or len(rows_after) < 20:
                continue
            found: list[int] = []
            for m in mixed[:10]:
                values = np.vstack([m[: reference + QUIET], rng.permutation(rows_after)[:60]])
                seen, flag = first_flag(values, [""] * len(values), reference, METRICS)
                early += bool(flag and seen <= QUIET)
                found += [seen - QUIET] if flag and seen > QUIET else []
            swaps[f"{name} > {other}"] = spread(found, 10)
            late += found
    return {
        "rows": {name: len(rows) for name, rows in its.items()}, "alone_shuffled": alone, "alone_in_order": in_order,
        "swaps": swaps, "all_swaps": spread(late, len(swaps) * 10), "flagged_before_the_swap": early,
    }  # fmt: skip


def beside(seed: int, streams: int, years: int) -> dict[str, Any]:
    """The peers on exchangeable streams, reference 200: false alarms a year, and the delay of 1 sd on 5 of 20.

    At their own thresholds, and where a rule has a curve at the one that keeps 1 a year on these quiet streams.
    """
    n, at = 200, 300
    null = [made_up(np.random.default_rng([seed, i, n, 0, 0]), n + YEAR, 0.0) for i in range(years)]
    moved = [made_up(np.random.default_rng([seed, i, n, 5]), at + 200, 0.0) for i in range(streams)]
    for values in moved:
        values[at:, :5] += 1
    found: dict[str, Any] = {"evidently_says_the_same": peers.evidently_agrees(moved[:3], n)}
    for name, rule in rules.RULES.items():
        quiet, late = ([rule.curve(values, n) for values in some] for some in (null, moved))
        levels = {"own": rule.threshold, "matched": rules.matched(quiet)}
        found[name] = {"source": rule.source} | {
            word: {"threshold": level} | _peer([rules.first(c, level) for c in quiet],
                                               [rules.first(c, level) for c in late], at - n)
            for word, level in levels.items() if level is not None
        }  # fmt: skip
    quiets, lates = peers.river(null, n), peers.river(moved, n)
    if isinstance(quiets, str) or isinstance(lates, str):
        return found | {"river": quiets if isinstance(quiets, str) else lates}
    return found | {
        f"river {name}": {"own": _peer(quiets[name], lates[name], at - n)} for name in peers.RIVERS
    }


_none = Flag(-1, -1, (-1, -1), 0.0, 0.0, (), {}, ())


def _peer(null: Sequence[int | None], moved: Sequence[int | None], quiet: int) -> dict[str, Any]:
    """First alarms over studies watched, and delays of alarms that came after the change."""
    alarms = [(YEAR if first is None else first, None if first is None else _none) for first in null]
    late = [first - quiet for first in moved if first is not None and first > quiet]
    early = sum(first is not None and first <= quiet for first in moved)
    found = spread(late, len(moved)) if late else {"found": 0.0, "streams": len(moved)}
    return {"false_a_year": rate(alarms), "shift": found, "alarmed_before_the_change": early}


def fleet(seed: int, streams: int = 1000, studies: int = 20, width: int = 40) -> dict[str, float]:
    """CPU seconds for a day of 1,000 streams with full references: read, fed by the follower's own step, written.

    The database is not in it. All begin with one stream's rows and see studies of their own.
    """
    rng = np.random.default_rng([seed, streams])
    facts = groups.facts({"vendor": "siemens", "model": "Prisma"})
    names = [f"feature {f}" for f in range(width)]

    def row(n: int) -> Row:
        return Row(
            n, str(n), pixels.AT, facts, dict(zip(names, rng.standard_normal(width).tolist(), strict=True))
        )

    its = feed.new(1, 1e9, 0)  # so that it never flags and its reference grows full
    for n in range(1, 440):
        its = feed.feed(its, row(n)).stream
    data, kept = parts.hot(its), parts.kept(its)
    rows = [[row(440 + n) for n in range(studies)] for _ in range(streams)]
    largest, began = 0, time.process_time()  # of this process: a busy machine is no property of the detector
    for new in rows:
        one = parts.whole(data, kept)
        known = parts.places(one)
        for r in new:
            one = feed.feed(one, r).stream
        parts.kept(one, known)
        largest = max(largest, len(parts.hot(one)))
    seconds = time.process_time() - began
    return {
        "streams": streams, "studies": studies, "features": width, "seconds": seconds,
        "ms_a_study": seconds * 1000 / streams / studies, "state_bytes": largest,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="few streams and half of the seeds in pixels: under 3 minutes"
    )
    parser.add_argument("--streams", type=int)
    parser.add_argument("--seed", type=int, default=101)
    asked = parser.parse_args()
    quick, began = asked.quick, time.monotonic()
    streams = asked.streams or (8 if quick else 60)
    null = {}
    for name, figures in nulls(asked.seed, streams):
        null[name] = figures
        print(name, figures, file=sys.stderr)
    shift = dict(delays(asked.seed, 3 * streams if quick else 2 * streams))
    others = beside(asked.seed, 10 if quick else 40, 4 if quick else 20)
    cost = fleet(asked.seed)
    data = os.environ.get("RADFLEET_DATA", "")
    on_real = real(Path(data) / "drift_tables", asked.seed, 3 if quick else 30) if data else None
    in_pixels, drawn = (
        pixels.run(Path(data), range(1, 11 if quick else 21), range(1, 3 if quick else 11), 8)
        if data
        else ([], None)
    )
    # A handful of streams cannot refute a figure: in the quick form the lower end of what chance allows must fit.
    end = "low" if quick else "per_year"
    goals = [
        *(Goal(f"false flags a year{' (lower end)' if quick else ''}: {name}", f[end],
               0.6 if "exch" in name else 1.0, at_least=False) for name, f in null.items()),
        *(Goal(f"{'lower quartile of the' if quick else 'median'} delay, studies: {name}",
               float(f["delay_quartiles"][0] if quick else f["delay_median"]), 26 if "on 1" in name else 18,
               at_least=False) for name, f in shift.items()),
        Goal("CPU seconds for a day: 1,000 clinics x 20 studies x 40 features", cost["seconds"], 60, at_least=False),
        Goal("bytes of a stream's state at 40 features, full reference", cost["state_bytes"], 16_000, at_least=False),
        *([Goal("site swaps, ABIDE and ds030: 90 % found within so many studies",
                float(on_real["all_swaps"]["delay_90"]), 8, at_least=False)] if on_real else []),
        *in_pixels,
    ]  # fmt: skip
    return record(
        "bench-monitoring", goals, null=null, shift=shift, real=on_real, peers=others, fleet=cost, pixels=drawn,
        seed=asked.seed, quick=quick, seconds=round(time.monotonic() - began, 1),
        versions=versions(("radfleet", "numpy", "scipy", "evidently"), {}) | {"river": peers.RIVER},
        conditions="budget 1 flag a year, 10 studies a day, threshold 3650; the generator is that of the research note"
        " without skew, which ranks do not see; real rows shuffled within a site, the same people in every shuffle;"
        " heads in pixels are simulated from label maps",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
