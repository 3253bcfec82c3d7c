"""Detector R on real tables: sites of ABIDE and ds030, the same people on two scanners, null years from real days.

All are image-quality metrics of MRIQC, 20 of them, computed by others (RADFLEET_DATA/drift_tables).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from monitoring.detect.ranks import Floats
from monitoring.detect.table import read
from tests.bench.grid import PER_DAY, YEAR, first_flag, rate, spread

METRICS = (
    "cjv", "cnr", "efc", "fber", "fwhm_avg", "icvs_csf", "icvs_gm", "icvs_wm", "inu_med", "inu_range", "qi_2",
    "rpve_gm", "rpve_wm", "snr_gm", "snr_wm", "snrd_total", "summary_bg_mean", "summary_wm_stdv", "tpm_overlap_gm",
    "wm2max",
)  # fmt: skip
QUIET = 30
"""Studies of the first site after the reference and before the second site, in a swap."""
HOST, GUESTS = "abide NYU", ("abide UM", "abide SDSU", "abide STANFORD")
"""A Siemens site, and the GE sites of which a fifth of its later studies come."""
GE, SIEMENS, FSPGR, SECOND = "GE MPRAGE", "Siemens MPRAGE", "GE FSPGR", "GE MPRAGE, second session"
SCANS: Final = {
    GE: ("cfmri1_acq-mprage", "cfmri2_acq-mprage"), SIEMENS: ("sdsu1_acq-mprage", "sdsu2_acq-mprage"),
    FSPGR: ("cfmri1_acq-fspgr", "cfmri2_acq-fspgr"), "GE MPRAGE, first session": ("cfmri1_acq-mprage",),
    SECOND: ("cfmri2_acq-mprage",),
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


def swaps(data: Path, seed: int, shuffles: int, reference: int = 50) -> dict[str, Any]:
    """Every site that is long enough alone, shuffled and in table order, and followed by every other of its study."""
    its = sites(data)
    long = [name for name, rows in its.items() if len(rows) >= reference + QUIET + 10]
    alone, in_order, swapped, late, early = {}, {}, {}, list[int](), 0
    for name in long:
        rng, rows = np.random.default_rng([seed, len(its[name])]), its[name]
        mixed = [rng.permutation(rows) for _ in range(shuffles)]
        alone[name] = rate([first_flag(m, [""] * len(m), reference, METRICS) for m in mixed])
        in_order[name] = rate([first_flag(rows, [""] * len(rows), reference, METRICS)])
        for other, rows_after in its.items():
            if other == name or other.split()[0] != name.split()[0] or len(rows_after) < 20:
                continue
            found, soon = _after(
                [np.vstack([m[: reference + QUIET], rng.permutation(rows_after)[:60]]) for m in mixed[:10]],
                reference,
            )
            early += soon
            swapped[f"{name} > {other}"] = spread(found, min(10, shuffles) - soon)
            late += found
    return {
        "rows": {name: len(rows) for name, rows in its.items()}, "alone_shuffled": alone, "alone_in_order": in_order,
        "swaps": swapped, "all_swaps": spread(late, len(swapped) * min(10, shuffles) - early),
        "flagged_before_the_swap": early,
    }  # fmt: skip


def _after(many: Sequence[Floats], reference: int) -> tuple[list[int], int]:
    """Delays of flags that came after the change, and how many flags came before it."""
    found = [first_flag(values, [""] * len(values), reference, METRICS) for values in many]
    return [seen - QUIET for seen, flag in found if flag and seen > QUIET], sum(
        flag is not None and seen <= QUIET for seen, flag in found
    )


def mixtures(data: Path, seed: int, draws: int, reference: int = 50) -> dict[str, Any]:
    """A fifth of a Siemens site's later studies come from a GE site, at random; the site's people are shuffled."""
    its, found = sites(data), {}
    for guest in GUESTS:
        rng, many = np.random.default_rng([seed, len(its[guest])]), []
        for _ in range(draws):
            own, others = rng.permutation(its[HOST]), rng.permutation(its[guest])
            later = own[reference + QUIET :].copy()
            of = np.flatnonzero(rng.random(len(later)) < 0.2)[: len(others)]
            later[of] = others[: len(of)]
            many.append(np.vstack([own[: reference + QUIET], later]))
        late, early = _after(many, reference)
        found[f"{HOST} > 20 % {guest}"] = spread(late, draws - early) | {
            "flagged_before_the_change": early, "looked_for": len(later),
        }  # fmt: skip
    return found


def days(data: Path, seed: int, streams: int) -> dict[str, Any]:
    """Null years of whole days drawn again and again from one site in table order; a day is ten rows in a row.

    No table here has a clinic's dates, so the days are ours: what lies together in the table stays together.
    """
    found = {}
    for name, rows in sites(data).items():
        if len(rows) < 90:
            continue
        blocks = [rows[at : at + PER_DAY] for at in range(0, len(rows) - PER_DAY + 1, PER_DAY)]
        for reference in (50, 200):
            rng, outcomes = np.random.default_rng([seed, len(rows), reference]), []
            for _ in range(streams):
                drawn = rng.integers(len(blocks), size=(reference + YEAR) // PER_DAY)
                values = np.vstack([blocks[i] for i in drawn])
                outcomes.append(first_flag(values, [""] * len(values), reference, METRICS))
            found[f"{name}, {len(blocks)} days, reference {reference}"] = rate(outcomes)
    return found


def travelers(data: Path, seed: int, draws: int, reference: int = 60) -> dict[str, Any]:
    """The same people on two scanners: does R name what truly differs within a person, and which way?

    Nine people make no reference of 50, so it is drawn from their scans with replacement, as is what follows: R is
    shown "these very people, then the same people on the other scanner". What differs is read from the people, paired.
    """
    scans = _scans(data / "traveling_subjects_ds005664_mriqc_T1w.tsv")
    return {
        f"{first} > {then}": _travel(scans[first], scans[then], seed, draws, reference)
        for first, then in ((GE, SIEMENS), (GE, FSPGR), ("GE MPRAGE, first session", SECOND))
    }


People = dict[str, Floats]
"""Scans [N, F] of each person."""


def _scans(path: Path) -> dict[str, People]:
    table = read(path)
    rows = dict(
        zip(table.text("bids_name"), zip(*(table.numbers(m) for m in METRICS), strict=True), strict=True)
    )
    found: dict[str, People] = {}
    for name, endings in SCANS.items():
        people: dict[str, list[tuple[float, ...]]] = {}
        for scan, row in rows.items():
            if any(f"ses-{ending}_" in scan for ending in endings):
                people.setdefault(scan.split("_")[0], []).append(row)
        found[name] = {person: np.array(its) for person, its in people.items()}
    return found


def paired(first: People, then: People) -> dict[str, str]:
    """Metrics that went the same way in every person who was on both, with the way; a person counts once."""
    both = sorted(first.keys() & then.keys())
    apart = np.array([then[p].mean(0) - first[p].mean(0) for p in both])
    return {
        name: "up" if (apart[:, f] > 0).all() else "down"
        for f, name in enumerate(METRICS)
        if (apart[:, f] > 0).all() or (apart[:, f] < 0).all()
    }


def _travel(first: People, then: People, seed: int, draws: int, reference: int) -> dict[str, Any]:
    both = sorted(first.keys() & then.keys())
    truth, rng = paired(first, then), np.random.default_rng([seed, len(both), len(then)])
    before, after = (np.vstack([its[p] for p in both]) for its in (first, then))
    late, early, named = list[int](), 0, dict[str, dict[str, int]]()
    for _ in range(draws):
        values = np.vstack([before[rng.integers(len(before), size=reference + QUIET)],
                            after[rng.integers(len(after), size=60)]])  # fmt: skip
        seen, flag = first_flag(values, [""] * len(values), reference, METRICS)
        early += bool(flag and seen <= QUIET)
        if flag and seen > QUIET:
            late.append(seen - QUIET)
            for feature in flag.features:
                ways = named.setdefault(feature, {})
                ways[flag.direction[feature]] = ways.get(flag.direction[feature], 0) + 1
    said = [(truth.get(f), way, n) for f, ways in named.items() for way, n in ways.items()]
    return spread(late, draws - early) | {
        "people": len(both), "scans": (len(before), len(after)), "flagged_before_the_change": early,
        "same_way_in_every_person": truth, "named": named,
        "named_in_all": sum(n for *_, n in said),
        "named_and_true_with_direction": sum(n for true, way, n in said if true == way),
        "named_with_the_opposite_direction": sum(n for true, way, n in said if true and way not in (true, "wider")),
        "named_wider": sum(n for _, way, n in said if way == "wider"),
        "named_but_not_in_every_person": sum(n for true, way, n in said if not true and way != "wider"),
        "true_and_never_named": sorted(truth.keys() - named.keys()),
    }  # fmt: skip
