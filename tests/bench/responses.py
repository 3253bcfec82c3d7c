"""How the features answer to another TE, TI or voxel size: simulated, for naming a silent protocol change.

SIMULATED heads from label maps (RADFLEET_DATA/labelmaps) at 4 mm. Brightness comes from signal equations and tissue
constants at 3 T; what varies from scanner to scanner and from study to study is that of tests/bench/pixels.py. The
table is made of seeds 1 to 6 and the heads 1 to 6; bound and margin are chosen on seeds 11 to 16 and the same heads;
seeds from 101 on, the heads 7 to 12 and other sizes of change judge, and seeds from 201 on with another protocol.

T1: MPRAGE, the steady state of inversion, delay, 100 pulses of 9 degrees every 7.1 ms, recovery (Deichmann et al.,
NeuroImage 2000), TR 2300 ms. FLAIR: PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), TR 9000 ms (Bernstein et al.,
Handbook of MRI Pulse Sequences, 2004). Tissue: Wansapura et al., JMRI 1999 (white and grey matter), Stanisz et al.,
MRM 2005 (muscle), de Bazelaire et al., Radiology 2004 (fat), Rooney et al., MRM 2007 (CSF); rounded, and the
proton densities are round numbers. Noise of a voxel goes with 1 / (volume sqrt(phase encodes)).

Run: python -m tests.bench.responses [--write] [--develop] [--elsewhere] [--again] [--seeds N]
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from monitoring.detect import ranks
from monitoring.streams import feed, groups, responses
from monitoring.streams.feed import Drift
from monitoring.streams.state import Row
from serving.imaging.quality import measure
from serving.imaging.volume import Volume
from serving.training import labelmaps as lm
from tests.bench import pixels
from tests.bench.record import BUILD, Goal, record

TABLE_SEEDS, BOUND_SEEDS = range(1, 7), range(11, 17)
MADE_OF, JUDGED_ON = range(1, 7), range(7, 13)
"""Heads."""
UNCHANGED, CHANGED, CALM, MOST = 100, 12, 10, 25
"""Studies: of a scanner before and after, in the table; before a change beyond the reference, and after it at most."""
PULSES, SPACING, FLIP = 100, 7.1, np.deg2rad(9)
SETTINGS: Mapping[str, Mapping[str, float]] = {
    "T1": {"te": 3.0, "ti": 900.0, "tr": 2300.0},
    "FLAIR": {"te": 90.0, "ti": 2500.0, "tr": 9000.0},
}
ELSEWHERE: Mapping[str, Mapping[str, float]] = {
    "T1": {"te": 2.3, "ti": 1100.0, "tr": 2500.0},
    "FLAIR": {"te": 120.0, "ti": 2350.0, "tr": 8000.0},
}
"""Another clinic's protocol: the table knows that of SETTINGS alone."""
WHITE, GREY, DEEP, FLUID = (
    (832, 79.6, 46, 0.70),
    (1331, 105, 47, 0.82),
    (1150, 90, 45, 0.77),
    (4300, 2000, 1000, 1.0),
)
"""T1, T2 and T2* in ms, proton density."""
FAT, MUSCLE = (380, 70, 30, 0.9), (1400, 50, 25, 0.75)
UP = {"te": "a longer echo time", "ti": "a longer inversion time", "voxel": "larger voxels"}
DOWN = {"te": "a shorter echo time", "ti": "a shorter inversion time", "voxel": "smaller voxels"}
# Relative sizes: those that the table is made of, and those that judge.
SIZES = {"table": {"te": (1.1, 1.25), "ti": (1.1, 1.25), "voxel": (1.15, 1.3)},
         "judged": {"te": (1.15, 1.35), "ti": (1.15, 1.35), "voxel": (1.2, 1.4)}}  # fmt: skip
# Of the machine, not of the protocol: never named, but a likeness must exceed these too.
MACHINE: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "table": {"more noise": {"noise": 1.4}, "less noise": {"noise": 0.7}, "more blur": {"blur": 0.25},
              "more shading": {"shading": 0.35}, "more smoothing": {"smoothing": 0.4}},
    "judged": {"more noise": {"noise": 1.5}, "less noise": {"noise": 0.65}, "more blur": {"blur": 0.35},
               "more shading": {"shading": 0.45}, "more smoothing": {"smoothing": 0.5}},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Its:
    """A scanner with its protocol: constants [tissue groups, 4], gain, and what varies as in tests/bench/pixels.py."""

    sequence: str
    tissue: np.ndarray
    gain: float
    noise: float
    blur: float
    shading: float
    settings: Mapping[str, float]
    smoothing: float = 0.0
    """Of the drawn image with its noise, as a filter of the reconstruction does, in voxels."""
    changes: Mapping[str, float] = field(default_factory=dict)


def signal(sequence: str, tissue: np.ndarray, te: float, ti: float, tr: float) -> np.ndarray:
    """Brightness of each tissue [N, 4]; times in ms."""
    t1, t2, t2_star, density = tissue.T
    if sequence == "FLAIR":
        return np.asarray(density * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2))
    wait = ti - PULSES * SPACING / 2
    rest = tr - wait - PULSES * SPACING
    # One cycle is affine in Mz (M0 = 1): iterated to its steady state.
    pulse, z = np.exp(-SPACING / t1), np.ones_like(t1)
    after, ahead = np.exp(-rest / t1), np.exp(-wait / t1)
    level = (1 - pulse) / (1 - np.cos(FLIP) * pulse)
    for _ in range(30):
        z = 1 - ahead * (1 + z)
        centre = level + (z - level) * (np.cos(FLIP) * pulse) ** (PULSES // 2)
        z = level + (z - level) * (np.cos(FLIP) * pulse) ** PULSES
        z = 1 - after * (1 - z)
    return np.asarray(density * np.sin(FLIP) * np.abs(centre) * np.exp(-te / t2_star))


def scanner(rng: np.random.Generator, sequence: str, settings: Mapping[str, float] | None = None) -> Its:
    """A scanner; what the clusters outside the brain are made of is drawn, for nobody labelled them."""
    rows = [DEEP] * len(lm.GROUPS)
    for group in (lm.WHITE, lm.CEREBELLAR_WHITE, lm.STEM):
        rows[group] = WHITE
    for group in (lm.CORTEX, lm.CEREBELLAR_CORTEX):
        rows[group] = GREY
    for group in (lm.CSF, lm.VENTRICLE, lm.THIRD_VENTRICLE, lm.FOURTH_VENTRICLE):
        rows[group] = FLUID
    rows[0] = (1000, 100, 50, 0.0)
    tissue = np.array(rows, dtype=np.float64)
    share = rng.uniform(0, 1, (len(tissue) - lm.FIRST_OUTSIDE, 1))
    tissue[lm.FIRST_OUTSIDE :] = share * np.array(FAT) + (1 - share) * np.array(MUSCLE)
    tissue[lm.FIRST_OUTSIDE :, 3] *= rng.uniform(0.2, 0.9, len(share))
    tissue[1:, :3] *= rng.normal(1, 0.02, (len(tissue) - 1, 3))
    settings = settings or SETTINGS[sequence]
    gain = 0.8 / signal(sequence, tissue, **settings)[lm.WHITE]
    return Its(
        sequence,
        tissue,
        gain,
        rng.uniform(0.025, 0.035),
        rng.uniform(0.35, 0.5),
        rng.uniform(0.1, 0.2),
        settings,
    )


def changed(its: Its, what: str, size: float) -> Its:
    """The same scanner with one setting ``size`` times as large."""
    return replace(its, changes={what: size})


def broken(its: Its, how: Mapping[str, float]) -> Its:
    """The same protocol on a machine with other noise (a factor), blur (voxels more) or shading."""
    return replace(its, noise=its.noise * how.get("noise", 1), blur=its.blur + how.get("blur", 0),
                   shading=how.get("shading", its.shading), smoothing=how.get("smoothing", 0))  # fmt: skip


@cache
def head(data: Path, number: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Tissue groups and brain of a label map, every ``step`` mm."""
    group = lm._LOOKUP[_labels(data, number)]
    at = [np.arange(0, n - 0.5, step).round().astype(int) for n in group.shape]
    group = group[np.ix_(*at)]
    return group, ((group > 0) & (group < lm.FIRST_OUTSIDE)).astype(np.uint8)


@cache
def _labels(data: Path, number: int) -> np.ndarray:
    labels, _ = lm.read_ras(data / "labelmaps" / f"training_seg_{number:02d}.nii.gz")
    return labels.astype(np.int16)


def study(rng: np.random.Generator, its: Its, data: Path, people: Sequence[int]) -> dict[str, float]:
    """One study's features: drawn as tests/bench/pixels.py draws, then measured as serving measures."""
    wider = its.changes.get("voxel", 1.0)
    edge = pixels.VOXEL * wider
    group, brain = head(data, int(rng.choice(people)), round(edge, 3))
    at = {name: value * its.changes.get(name, 1.0) for name, value in its.settings.items()}
    means = its.gain * signal(its.sequence, its.tissue, **at) * (1 + rng.normal(0, 0.02, len(its.tissue)))
    image = ndimage.gaussian_filter(means[group], its.blur * float(np.exp(rng.normal(0, 0.05))))
    slope = rng.normal(0, 1, 3)
    slope *= its.shading * float(np.exp(rng.normal(0, 0.1))) / np.linalg.norm(slope)
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij", sparse=True)
    shade = sum(s * p for s, p in zip(slope, place, strict=True))
    # Both phase-encoded directions have 1 / wider lines: noise of a voxel falls by wider^3 / sqrt(wider^2).
    noise = its.noise / wider**2 * float(np.exp(rng.normal(0, 0.08))) * rng.standard_normal((2, *image.shape))
    noise[0] += image * (1 + shade)
    if its.smoothing:
        noise = np.stack([ndimage.gaussian_filter(part, its.smoothing) for part in noise])
    drawn = np.hypot(*noise) * 1000 * float(np.exp(rng.normal(0, 0.1)))
    found = measure(Volume(drawn.astype(np.float32), np.diag([edge, edge, edge, 1.0])), brain)
    return {name: value for name, value in found.items() if value is not None}


def variants(its: Its, which: str) -> Iterator[tuple[str, float, Its]]:
    """Every change that is looked at: its words, its size, and the scanner after it."""
    for what, sizes in SIZES[which].items():
        for size in sizes:
            yield UP[what], size, changed(its, what, size)
            yield DOWN[what], size, changed(its, what, 1 / size)
    for words, how in MACHINE[which].items():
        yield words, next(iter(how.values())), broken(its, how)


def shifts(data: Path, sequence: str, seed: int) -> dict[tuple[str, float], dict[str, tuple[float, float]]]:
    """Change -> feature -> mean normal score of changed studies among unchanged ones, and the mean shift in sd."""
    rng = np.random.default_rng([seed, 5, len(sequence)])
    its = scanner(rng, sequence)
    before = [study(rng, its, data, MADE_OF) for _ in range(UNCHANGED)]
    kept = [f for f in sorted(before[0]) if len({row.get(f) for row in before}) >= feed.DISTINCT]
    reference = np.array([[row.get(f, np.nan) for f in kept] for row in before])
    n, sd, middle = ranks.present(reference), np.nanstd(reference, axis=0), np.nanmean(reference, axis=0)
    found = {}
    for words, size, after in variants(its, "table"):
        rows = [study(rng, after, data, MADE_OF) for _ in range(CHANGED)]
        values = np.array([[row.get(f, np.nan) for f in kept] for row in rows])
        z = [ranks.normal(ranks.rank(reference, n, row, np.full(len(kept), 0.5))) for row in values]
        in_sd = (np.nanmean(values, axis=0) - middle) / sd
        found[words, size] = dict(zip(kept, zip(np.nanmean(z, axis=0), in_sd, strict=True), strict=True))
    return found


def table(data: Path) -> dict[str, Any]:
    """Per sequence, change and size: mean shift of each feature over the seeds as score and in sd, and its spread."""
    out: dict[str, Any] = {}
    for sequence in SETTINGS:
        each = [shifts(data, sequence, seed) for seed in TABLE_SEEDS]
        its = out.setdefault(sequence, {})
        for words, size in each[0]:
            rows = [one[words, size] for one in each]
            names = [f for f in rows[0] if all(f in row for row in rows)]
            cells = {f: np.array([row[f] for row in rows], dtype=np.float64) for f in names}
            its.setdefault(words, {})[f"{size:g}"] = {
                f: {"score": c[:, 0].mean(), "sd": c[:, 1].mean(), "spread": c[:, 1].std(ddof=1)}
                for f, c in cells.items()
            }
    return out


def committed(full: Mapping[str, Any]) -> dict[str, Any]:
    """What monitoring keeps of the table: scores alone, to 2 decimals."""
    return {
        sequence: {words: {size: {f: round(c["score"], 2) for f, c in cells.items()} for size, cells in sizes.items()}
                   for words, sizes in its.items()}
        for sequence, its in full.items()
    }  # fmt: skip


def watched(
    data: Path, sequence: str, seed: int, which: str, settings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One scanner, and every change from the same calm past on: each followed until its flag."""
    rng = np.random.default_rng([seed, 6, len(sequence)])
    its, people = scanner(rng, sequence, settings), JUDGED_ON if which == "judged" else MADE_OF
    facts, calm = groups.facts(pixels.scanner(rng, seed % 4).profile), feed.new(1, pixels.H, 0)
    for n in range(1, feed.LEAST + CALM + 1):
        calm = feed.feed(calm, Row(n, f"{seed}-{n}", pixels.AT, facts, study(rng, its, data, people))).stream
    found = []
    # Neither is in the table: another machine with the same protocol, and other patients.
    others = [
        ("another scanner", 1.0, scanner(rng, sequence, settings), people),
        ("other people", 1.0, its, people[:2]),
    ]
    for words, size, after, who in [*((*variant, people) for variant in variants(its, which)), *others]:
        stream, drift, n = calm, None, calm.seq
        while drift is None and n < calm.seq + MOST:
            n += 1
            step = feed.feed(stream, Row(n, f"{seed}-{n}", pixels.AT, facts, study(rng, after, data, who)))
            stream, drift = step.stream, step.drift
        found.append(
            {"sequence": sequence, "seed": seed, "change": words, "size": size, **_said(drift, sequence)}
        )
    return found


def _said(drift: Drift | None, sequence: str) -> dict[str, Any]:
    if drift is None:
        return {"flagged": False, "named": None, "shift": None}
    return {"flagged": True, "shift": drift.shift, "studies": drift.studies, **_named(drift.shift, sequence)}


def _named(shift: Mapping[str, float] | None, sequence: str) -> dict[str, Any]:
    like = responses.likeness(shift, sequence) if shift else None
    return {"named": like.words if like else None, "cosine": like.cosine if like else None}


def outcome(row: Mapping[str, Any]) -> str:
    """Of a flagged change: right, wrong or silent. Nothing that the machine did is ever right."""
    if row["named"] is None:
        return "silent"
    return "right" if row["change"] == row["named"] else "wrong"


def counted(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per sequence and change: of how many flags how many were named right, wrong, not at all."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        cell = found.setdefault(f"{row['sequence']}: {row['change']}", Counter(changes=0, flags=0))
        cell["changes"] += 1
        if row["flagged"]:
            cell.update(("flags", outcome(row)))
    return {name: dict(cell) for name, cell in found.items()}


def tried(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int, int]]:
    """Bound, margin, named right, named wrongly: what bound and margin were chosen from."""
    kept, found = (responses.BOUND, responses.MARGIN), []
    for bound in (0.8, 0.85, 0.9, 0.93, 0.95):
        for margin in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15):
            responses.BOUND, responses.MARGIN = bound, margin
            said = Counter(
                outcome({**row, **_named(row["shift"], row["sequence"])}) for row in rows if row["flagged"]
            )
            found.append((bound, margin, said["right"], said["wrong"]))
    responses.BOUND, responses.MARGIN = kept
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Simulated responses of the features to TE, TI and voxel size."
    )
    parser.add_argument("--write", action="store_true", help="make the table that monitoring keeps")
    parser.add_argument(
        "--develop", action="store_true", help="the seeds that bound and margin are chosen on"
    )
    parser.add_argument(
        "--again", action="store_true", help="name the drifts of the last run again, draw nothing"
    )
    parser.add_argument(
        "--elsewhere", action="store_true", help="judge on another protocol, from seed 201 on"
    )
    parser.add_argument("--seeds", type=int, default=10)
    asked, began, data = parser.parse_args(), time.monotonic(), lm.data_root(None)
    if asked.write:
        full = table(data)
        BUILD.mkdir(exist_ok=True)
        (BUILD / "responses-table.json").write_text(
            json.dumps(
                {
                    "simulated": True,
                    "seeds": list(TABLE_SEEDS),
                    "studies": [UNCHANGED, CHANGED],
                    "table": full,
                },
                indent=1,
            )
            + "\n"
        )
        responses.TABLE.write_text(
            json.dumps(committed(full), separators=(",", ":")).replace("},", "},\n") + "\n"
        )
        return 0
    name = "responses" + ("-develop" if asked.develop else "-elsewhere" if asked.elsewhere else "")
    if asked.again:
        last = json.loads((BUILD / f"{name}.json").read_text())
        rows = [{**row, **_named(row["shift"], row["sequence"])} for row in last["rows"]]
        return judged(name, rows, last["seeds"], last["seconds"])
    which, first = ("table", BOUND_SEEDS[0]) if asked.develop else ("judged", 201 if asked.elsewhere else 101)
    seeds = range(first, first + (len(BOUND_SEEDS) if asked.develop else asked.seeds))
    protocols = ELSEWHERE if asked.elsewhere else SETTINGS
    rows = [row for seed in seeds for sequence, its in protocols.items()
            for row in watched(data, sequence, seed, which, its)]  # fmt: skip
    return judged(name, rows, list(seeds), time.monotonic() - began)


def judged(name: str, rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], seconds: float) -> int:
    """Record figures and goals. Naming right has a low goal: silence is meant to be frequent."""
    flags = [row for row in rows if row["flagged"]]
    settings = {*UP.values(), *DOWN.values()}
    protocol = [row for row in flags if row["change"] in settings]
    machine = [row for row in flags if row["change"] not in settings]
    wrong = [row for row in flags if outcome(row) == "wrong"]
    for change, cell in counted(rows).items():
        print(f"{change:35} {cell}", flush=True)
    if name.endswith("develop"):
        for line in tried(rows):
            print("bound {:.2f}, margin {:.2f}: {} right, {} wrong".format(*line))
    n, m = len(flags), len(machine)
    goals = [
        Goal(f"simulated, {n} flags: named wrongly", len(wrong) / max(n, 1), 0.05, at_least=False),
        Goal(f"simulated, {m} flags of other changes: called a protocol change",
             sum(row in machine for row in wrong) / max(m, 1), 0.05, at_least=False),
        Goal(f"simulated, {len(protocol)} flags of protocol changes: named right",
             sum(outcome(row) == "right" for row in protocol) / max(len(protocol), 1), 0.3),
    ]  # fmt: skip
    by_seed = [_share([row for row in protocol if row["seed"] == seed], "right") for seed in seeds]
    return record(name, goals, seeds=list(seeds), changes=counted(rows), right_by_seed=by_seed, rows=list(rows),
                  seconds=round(seconds, 1))  # fmt: skip


def _share(rows: Sequence[Mapping[str, Any]], word: str) -> float:
    return sum(outcome(row) == word for row in rows) / max(len(rows), 1)


if __name__ == "__main__":
    raise SystemExit(main())
