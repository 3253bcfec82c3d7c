"""In pixels: four clinics' studies rendered from label maps, measured by the product's own code, one scanner replaced.

The heads are simulated: each study is one of a few label maps (RADFLEET_DATA/labelmaps) at 4 mm with its clinic's
contrast, blur, shading and noise, all varying from study to study. From study 120 on, one clinic's images come from
another scanner: noisier, blurrier or more shaded. Told by an honest header, and with a header that stayed the same.
The seeds 1 to 20 are only judged by; what estimates the date of a change was chosen on others (101 and up).
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from monitoring.detect import detector
from monitoring.judge.verdict import Contract, Evidence, Word, judge
from monitoring.streams import feed, groups
from monitoring.streams.state import Row, Stream
from serving.imaging.quality import measure
from serving.imaging.volume import Volume
from serving.training import labelmaps as lm
from tests.bench.record import Goal

VOXEL = 4
REPLACED, LAST = 120, 150
"""Studies are counted from 1; the reference takes the first 50."""
H = detector.threshold(10, 1)
AT = "2026-01-01T00:00:00+00:00"
VENDORS = (("siemens", "Prisma"), ("ge", "MR750"), ("philips", "Achieva"), ("siemens", "Skyra"))
"""Of the four clinics of a seed."""
# What each kind of replacement moves: the first feature named must be one of these.
MOVES: Mapping[str, frozenset[str]] = {
    "noise": frozenset(
        {"snr_wm", "cjv", "cnr", "wm_to_max", "background_sd", "background_mean", "background_p95", "efc"}
    ),
    "blur": frozenset({"fwhm_mm", "gradient", "snr_wm", "cjv"}),
    "shading": frozenset({"bias_ratio", "snr_wm", "cjv", "wm_to_max", "gradient"}),
}


@dataclass(frozen=True, slots=True)
class Scanner:
    """How a scanner draws: tissue brightness by group, noise, blur in voxels, shading. Each varies by study."""

    means: np.ndarray
    noise: float
    blur: float
    shading: float
    profile: Mapping[str, Any]


@cache
def heads(data: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tissue groups and brain of the first label maps, every fourth voxel."""
    found = []
    for number in range(1, count + 1):
        labels, _ = lm.read_ras(data / "labelmaps" / f"training_seg_{number:02d}.nii.gz")
        group = lm._LOOKUP[labels[::VOXEL, ::VOXEL, ::VOXEL].astype(np.int64)]
        found.append((group, ((group > 0) & (group < lm.FIRST_OUTSIDE)).astype(np.uint8)))
    return found


def scanner(rng: np.random.Generator, clinic: int) -> Scanner:
    """A T1-weighted scanner of one clinic."""
    means = np.full(len(lm.GROUPS), 0.45)
    means[lm.FIRST_OUTSIDE :] = rng.uniform(0.2, 0.7, len(lm.GROUPS) - lm.FIRST_OUTSIDE)
    means[0], means[lm.CSF], means[lm.VENTRICLE] = 0.0, 0.15, 0.12
    means[[lm.CORTEX, lm.CEREBELLAR_CORTEX]] = rng.uniform(0.52, 0.58)
    means[[lm.WHITE, lm.CEREBELLAR_WHITE, lm.STEM]] = rng.uniform(0.76, 0.84)
    vendor, model = VENDORS[clinic]
    profile = {
        "vendor": vendor,
        "model": model,
        "software_major": "1",
        "field_t": 3.0,
        "coil": "head",
        "protocol": "p",
    }
    return Scanner(means, rng.uniform(0.025, 0.035), rng.uniform(0.35, 0.5), rng.uniform(0.1, 0.2), profile)


def replacement(its: Scanner, kind: str) -> Scanner:
    """The scanner that comes instead: one thing about its images is clearly different, its name too."""
    changed = {
        "noise": {"noise": its.noise * 1.5},
        "blur": {"blur": its.blur + 0.35},
        "shading": {"shading": 0.45},
    }
    return replace(its, **changed[kind], profile={**its.profile, "model": "Vida"})


def study(rng: np.random.Generator, its: Scanner, head: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """One study's features: drawn, then measured as serving measures."""
    group, brain = head
    means = its.means * (1 + rng.normal(0, 0.02, len(its.means)))
    image = ndimage.gaussian_filter(means[group], its.blur * float(np.exp(rng.normal(0, 0.05))))
    place = [np.linspace(-1, 1, n) for n in image.shape]
    slope = rng.normal(0, 1, 3)
    slope *= its.shading * float(np.exp(rng.normal(0, 0.1))) / np.linalg.norm(slope)
    shade = sum(
        s * np.expand_dims(p, [a for a in range(3) if a != n])
        for n, (s, p) in enumerate(zip(slope, place, strict=True))
    )
    noise = its.noise * float(np.exp(rng.normal(0, 0.08))) * rng.standard_normal((2, *image.shape))
    drawn = (
        np.hypot(image * (1 + np.asarray(shade)) + noise[0], noise[1])
        * 1000
        * float(np.exp(rng.normal(0, 0.1)))
    )
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    found = measure(Volume(drawn.astype(np.float32), affine), brain)
    return {name: value for name, value in found.items() if value is not None}


def history(
    seed: int, clinic: int, people: Sequence[tuple[np.ndarray, np.ndarray]], kind: str | None
) -> Iterator[Row]:
    """A clinic's rows; with ``kind`` the scanner is replaced at study 120 and says so in its header."""
    rng = np.random.default_rng([seed, clinic, 77])
    first = scanner(rng, clinic)
    for n in range(1, LAST + 1):
        its = replacement(first, kind) if kind and n >= REPLACED else first
        values = study(rng, its, people[int(rng.integers(len(people)))])
        yield Row(n, f"{seed}-{clinic}-{n}", AT, groups.facts(its.profile), values)


def replaced(data: Path, count: int, seed: int) -> dict[str, Any]:
    """One clinic whose scanner is replaced: what an honest header says, and what a silent one lets us find."""
    people, kind = heads(data, count), tuple(MOVES)[seed % len(MOVES)]
    honest = silent = feed.new(1, H, 0)
    arrival, drift, same = None, None, None
    for row in history(
        seed, seed % 3, people, kind
    ):  # drawn once, watched twice, and no longer than until both know
        same = same or row.group
        one, other = feed.feed(honest, row), feed.feed(silent, replace(row, group=same))
        honest, silent = one.stream, other.stream
        arrival, drift = arrival or one.arrival, drift or other.drift
        if arrival and drift:
            break
    late = drift is not None and drift.seq >= REPLACED
    return {
        "seed": seed, "kind": kind, "header_event_at": arrival.seq if arrival else None,
        "header_named": next(iter(arrival.changed), None) if arrival else None,
        "studies_until_flag": drift.seq - REPLACED + 1 if drift and late else None,
        "since_error": drift.since.seq - REPLACED if drift and late else None,
        "since_range_holds": drift.since.low_seq <= REPLACED <= drift.since.high_seq if drift and late else None,
        "named_first": drift.features[0][0] if drift else None,
        "verdict": verdict_on(silent).value if drift else None,
        "named_right": bool(drift and late and drift.features[0][0] in MOVES[kind]),
    }  # fmt: skip


def verdict_on(stream: Stream) -> Word:
    """What the table says of a stream with a contract and no review yet."""
    known = Evidence(
        reference={name: group.n for name, group in stream.groups.items()}, contract=Contract(0.8, 0.05, 60, "set"),
        statistic=stream.statistic, threshold=H, watching=stream.watching, flagged=stream.flagged_seq is not None,
    )  # fmt: skip
    return judge(known).word


def quiet(data: Path, count: int, seed: int, clinic: int) -> tuple[bool, Word]:
    """Whether a clinic whose scanner stays the same was flagged, and the verdict on it in the end."""
    its, flagged = feed.new(1, H, 0), False
    for row in history(seed, clinic, heads(data, count), None):
        step = feed.feed(its, row)
        flagged = flagged or bool(step.drift or step.arrival)
        its = step.stream
    return flagged, verdict_on(its)


def run(
    data: Path, seeds: Sequence[int], watched: Sequence[int], count: int
) -> tuple[list[Goal], dict[str, Any]]:
    """Each of ``seeds``: one clinic's scanner replaced; each of ``watched``: the three clinics beside it, as ever.

    Two processes at once where there are two cores. Returns goals and figures.
    """
    began = time.monotonic()
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        moved = [pool.submit(replaced, data, count, seed) for seed in seeds]
        beside = [pool.submit(quiet, data, count, seed, clinic) for seed in watched for clinic in range(4)
                  if clinic != seed % 3]  # fmt: skip
        found = [one.result() for one in moved]
        others = [one.result() for one in beside]
    n = len(found)
    off = [f["since_error"] for f in found if f["since_error"] is not None]
    goals = [
        Goal(f"in pixels, {n} seeds: header event at the very study, naming the model", sum(
            f["header_event_at"] == REPLACED and f["header_named"] == "model" for f in found), n),
        Goal(f"in pixels, {n} seeds: flag within 25 studies with a silent header", sum(
            (f["studies_until_flag"] or 99) <= 25 for f in found), n),
        Goal(f"in pixels, {n} seeds: tau-hat within 10", sum(abs(error) <= 10 for error in off), n),
        Goal(f"in pixels, {n} seeds: cause named first", sum(f["named_right"] for f in found), n),
        Goal(f"in pixels, {n} seeds: verdict right: watch, for no review says harm yet", sum(
            f["verdict"] == Word.WATCH for f in found), n),
        Goal(f"in pixels: flags of {len(others)} clinics that stayed the same", sum(flag for flag, _ in others), 0,
             at_least=False),
        Goal(f"in pixels: verdict healthy, share of {len(others)} clinics that stayed the same",
             sum(word is Word.HEALTHY for _, word in others) / len(others), 1),
    ]  # fmt: skip
    facts = {
        "seeds": found,
        "since_errors": sorted(off),
        "since_range_holds": sum(bool(f["since_range_holds"]) for f in found),
        "quiet_clinics": len(others),
        "quiet_verdicts": [word.value for _, word in others],
        "people": count,
        "seconds": round(time.monotonic() - began, 1),
    }
    return goals, facts
