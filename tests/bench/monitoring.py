"""Detector R over made-up and real streams: false flags a year at a budget of one, studies until a change is found.

Made-up (tests/bench/grid.py): nulls and changes of the research note and changes that it did not tune on; the seeds
are not those that chose R's constants. Real (tests/bench/tables.py): image quality of ABIDE, ds030 and of people who
travelled (RADFLEET_DATA). Rivals on the same streams: tests/bench/rivals.py. In pixels twenty seeds with a scanner
replaced (tests/bench/pixels.py), and what a fleet of 1,000 streams costs.

Run: python -m tests.bench.monitoring [--quick] [--streams N] [--seed N]
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from monitoring.streams import feed, groups, parts
from monitoring.streams.state import Row
from tests.bench import grid, peers, pixels, rivals, tables
from tests.bench.record import Goal, record, versions

# What each change has to reach, of research section 7: share found, median delay; both references.
REACH: Final[Mapping[str, tuple[float | None, Mapping[int, float]]]] = {
    "1 sd on 1 of 20": (1.0, {50: 26, 200: 26}),
    "1 sd on 5 of 20": (None, {50: 18, 200: 15}),
    "0.5 sd on 5 of 20": (0.95, {50: 60, 200: 60}),
    "20 % from a new scanner, 2 sd on 10": (0.95, {50: 45, 200: 45}),
}
QUICKLY: Final = tuple(REACH)[:2]
FIVE: Final = "1 sd on 5 of 20"


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
    for n in range(1, 500):
        its = feed.feed(its, row(n)).stream
    data, kept = parts.hot(its), parts.kept(its)
    rows = [[row(500 + n) for n in range(studies)] for _ in range(streams)]
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


def bound(null: str) -> float:
    """False flags a year that a kind of null may have."""
    return 0.6 if null.startswith(grid.IID) else 1.5 if null.startswith("hard") else 1.0


def reached(
    null: Mapping[str, Any], shift: Mapping[str, Any], beside: Mapping[str, Any], quick: bool
) -> list[Goal]:
    """The goals on made-up streams. A handful of streams cannot refute a figure: the quick form asks only whether the
    favourable end of what chance allows fits, and asks of rates and delays alone.
    """
    end = "low" if quick else "per_year"
    goals = [Goal(f"false flags a year{' (lower end)' if quick else ''}: {name}", f[end], bound(name), at_least=False)
             for name, f in null.items()]  # fmt: skip
    for change, (share, delay) in REACH.items():
        for n, most in delay.items():
            f = shift.get(name := f"{change}, reference {n}")
            if f is None:
                continue
            if quick:
                goals.append(
                    Goal(
                        f"lower quartile of the delay, studies: {name}", f["delay_quartiles"][0], most, False
                    )
                )
                continue
            goals.append(Goal(f"median delay, studies: {name}", f["delay_median"], most, at_least=False))
            if share is not None:
                goals.append(Goal(f"found in 200 studies: {name}", f["found"], share))
            if change.startswith("1 sd"):
                goals.append(Goal(f"top feature right: {name}", f.get("top_feature_right"), 0.98))
                goals.append(
                    Goal(f"tau-hat, median error: {name}", f.get("since_error_median"), 3, at_least=False)
                )
    for where, found in beside.items():
        adwin = found.get("river ADWIN")
        if where.startswith(grid.IID) and adwin and not quick:
            ours, its = (f["own"]["changes"][FIVE]["delay_median"] for f in (found["R"], adwin))
            goals.append(Goal(f"median delay over ADWIN's: {FIVE}, {where}", ours / its if ours and its else None, 0.5,
                              at_least=False))  # fmt: skip
    return goals


def _cell(f: Mapping[str, Any]) -> str:
    """Share found / median delay."""
    if f["found"] is None:
        return f"all early ({f['flagged_before_the_change']})"
    median = "-" if f["delay_median"] is None else f"{f['delay_median']:.0f}"
    return f"{100 * f['found']:.0f}/{median}"


def show(
    null: Mapping[str, Any], shift: Mapping[str, Any], beside: Mapping[str, Any], real: Mapping[str, Any]
) -> None:
    """The figures as people read them, on standard error."""
    lines = ["", "nothing changes: false flags a year (95 %)"]
    lines += [f"  {n:58} {f['per_year']:6.2f} ({f['low']:.2f} to {f['high']:.2f})" for n, f in null.items()]
    lines += [
        "",
        "found in 200 studies, % / median delay; quartiles, 90 %; top feature right; since error, 90 %",
    ]
    for name, f in shift.items():
        right = "  ".join(
            f"{f[k]:.3g}" for k in ("top_feature_right", "since_error_median", "since_error_90") if k in f
        )
        lines.append(f"  {name:58} {_cell(f):10} {f['delay_quartiles']} {f['delay_90']}  {right}")
    for where, found in beside.items():
        lines += ["", f"rivals, {where}: false a year; % found / median delay"]
        for name, f in found.items():
            for word in ("own", "matched"):
                if word in f:
                    cells = "  ".join(f"{_cell(c):>12}" for c in f[word]["changes"].values())
                    lines.append(f"  {name:30} {word:8} {f[word]['false_a_year']['per_year']:8.2f} {cells}")
    if real:
        lines += [
            "",
            "real tables: % found / median delay",
            f"  all site swaps {_cell(real['swaps']['all_swaps'])}",
        ]
    for name, f in real.get("mixtures", {}).items():
        lines.append(f"  {name:58} {_cell(f)}  early {f['flagged_before_the_change']}")
    for name, f in real.get("null_years_of_whole_days", {}).items():
        lines.append(f"  {name:58} {f['per_year']:6.2f} a year ({f['low']:.2f} to {f['high']:.2f})")
    for name, f in real.get("travelers", {}).items():
        right, named = f["named_and_true_with_direction"], f["named_in_all"]
        lines.append(
            f"  {name:58} {_cell(f)}  {f['people']} people, named {named}, same way in every person {right}"
        )
    print("\n".join(lines), file=sys.stderr)


def on_tables(pool: ProcessPoolExecutor, data: Path, seed: int, quick: bool) -> dict[str, Any]:
    """All that is asked of real tables; the quick form only swaps sites."""
    asked = {"swaps": pool.submit(tables.swaps, data, seed, 3 if quick else 30)}
    if not quick:
        asked |= {
            "mixtures": pool.submit(tables.mixtures, data, seed, 100),
            "travelers": pool.submit(tables.travelers, data, seed, 50),
            "null_years_of_whole_days": pool.submit(tables.days, data, seed, 20),
        }
    return {name: one.result() for name, one in asked.items()}


def stage(began: float, what: str) -> None:
    """Say what is measured now: the whole takes half an hour."""
    print(f"[{time.monotonic() - began:6.0f} s] {what}", file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="few streams, half of the seeds in pixels: under 3 minutes"
    )
    parser.add_argument(
        "--streams",
        type=int,
        help="half the null years of each kind (45; quick, all of them: 8); the rest in proportion",
    )
    parser.add_argument("--seed", type=int, default=101)
    asked = parser.parse_args(words)
    quick, seed, began = asked.quick, asked.seed, time.monotonic()
    streams = asked.streams or (8 if quick else 45)
    data = Path(os.environ["RADFLEET_DATA"]) if os.environ.get("RADFLEET_DATA") else None
    changes = QUICKLY if quick else (*grid.TUNED, *grid.UNSEEN)
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        stage(began, "a day of 1,000 clinics, beside it streams in which nothing changes")
        day = pool.submit(fleet, seed)
        null = grid.nulls(pool, seed, streams if quick else 2 * streams)
        stage(began, "changes")
        shift = grid.shifts(pool, seed, 3 * streams, changes)
        stage(began, "rivals on the same streams")
        beside = (
            rivals.beside(pool, seed, 10, 4, ((grid.IID, 200),), (FIVE,))
            if quick
            else rivals.beside(pool, seed, max(2, streams * 5 // 6), max(1, streams // 3))
        )
        stage(began, "what the libraries themselves say, beside it real tables")
        agreement = pool.submit(rivals.agreement, seed, 3, all_of_them=not quick)
        real = on_tables(pool, data / "drift_tables", seed, quick) if data else {}
        cost, said = day.result(), agreement.result()
    stage(began, "pixels")
    in_pixels, drawn = (
        pixels.run(data, range(1, 11 if quick else 21), range(1, 3 if quick else 21), 8)
        if data
        else ([], None)
    )
    show(null, shift, beside, real)
    goals = [
        *reached(null, shift, beside, quick),
        Goal("CPU seconds for a day: 1,000 clinics x 20 studies x 40 features", cost["seconds"], 60, at_least=False),
        Goal("bytes of a stream's state at 40 features, full reference", cost["state_bytes"], 16_000, at_least=False),
        *([Goal("site swaps, ABIDE and ds030: 90 % found within so many studies",
                real["swaps"]["all_swaps"]["delay_90"], 8, at_least=False)] if real else []),
        *in_pixels,
    ]  # fmt: skip
    return record(
        "bench-monitoring", goals, null=null, shift=shift, unseen=list(grid.UNSEEN), real=real, peers=beside,
        libraries_say_the_same=said, fleet=cost, pixels=drawn,
        seed=seed, quick=quick, seconds=round(time.monotonic() - began, 1),
        versions=versions(("radfleet", "numpy", "scipy", "evidently"), {}) | {"peers": peers.PEERS},
        conditions="budget 1 flag a year, 10 studies a day, threshold 3650; the generator is that of the research note"
        " without skew, which ranks do not see and which would hurt rivals; found and delays are of streams that were"
        " not flagged before the change; real rows shuffled within a site, the same people in every shuffle;"
        " heads in pixels are simulated from label maps",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
