"""A simulated fleet: one clinic for each kind of event that a QA team should have seen once, and the truth beside it.

The numbers are made up: normal scores with one common factor, put on scales that the features of serving have. Which
feature an event moves, and how far, is a plausible choice and no measurement; rendered heads are in the pixel bench.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from monitoring.detect.ranks import Floats

SCALES: Final[Mapping[str, tuple[float, float]]] = {
    "snr_wm": (14.0, 1.6), "cjv": (0.55, 0.05), "cnr": (3.2, 0.35), "wm_to_max": (0.62, 0.04),
    "bias_ratio": (1.25, 0.06),
    "background_mean": (0.03, 0.004), "background_sd": (0.02, 0.003), "background_p95": (0.07, 0.008),
    "ghost_ratio": (1.6, 0.2), "fwhm_mm": (3.1, 0.2), "gradient": (0.11, 0.01), "slice_jump": (0.04, 0.006),
    "efc": (0.52, 0.02), "coverage_si_mm": (165.0, 8.0), "brain_ml": (1450.0, 120.0), "lesion_ml": (9.0, 3.0),
}  # fmt: skip
"""Feature -> mean and sd of the simulated quiet clinic."""
DICE, DICE_SD = 0.82, 0.06
COMMON = 0.25
RAMP_DAYS = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """What happens at one simulated clinic. Shifts are in sd; ``header``: what of it changes and says so."""

    says: str
    shifts: Mapping[str, float] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    slowly: bool = False
    dice: float = 0.0
    dice_noise: float = 1.0
    related: float = 0.0
    season: float = 0.0


_SWAP = {"snr_wm": 1.5, "fwhm_mm": -1.5, "background_mean": -1.0}
_UPGRADE = Kind("software upgrade of three clinics", {"efc": -0.8, "gradient": 0.8}, {"software": "XA30"})
KINDS: Final[Mapping[str, Kind]] = {
    "quiet": Kind("nothing happens"),
    "scanner-swap": Kind("another scanner, and its header says so", _SWAP, {"model": "Vida"}),
    "scanner-swap-silent": Kind("another scanner, and its header is stripped", _SWAP),
    "software-1": _UPGRADE, "software-2": _UPGRADE, "software-3": _UPGRADE,
    "echo-time": Kind("TE 90 -> 120 ms, in the header", {"cnr": -1.2, "cjv": 1.0, "snr_wm": -0.6}, {"te_ms": "120"},
                      dice=-0.05),
    "coil-fault": Kind("a coil element fails", {"snr_wm": -1.5, "bias_ratio": 1.5, "background_sd": 0.8}, dice=-0.08),
    "population": Kind("older patients with more lesions", {"lesion_ml": 1.0, "brain_ml": -0.8}),
    "ageing": Kind("a scanner ages slowly", {"snr_wm": -2.0, "ghost_ratio": 1.0}, slowly=True, dice=-0.04),
    "label-noise": Kind("reviewers scatter three times as much, images stay", dice_noise=3.0),
    "noisy": Kind("days resemble each other (AR .6), from the first day", related=0.6),
    "seasons": Kind("every third feature follows the year by .3 sd", season=0.3),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Truth:
    """What was simulated at one clinic; rows count from 0."""

    clinic: str
    simulated: bool
    says: str
    row: int | None
    moved: dict[str, float]
    header: dict[str, str]
    table: str


def fleet(out: Path, *, days: int, per_day: int, event_day: int, seed: int) -> list[Truth]:
    """Write a table a clinic and ``truth.json`` into the folder ``out``; returns the truth."""
    truths = []
    for number, (name, kind) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, number])
        path = out / f"simulated-{name}.csv"
        _write(path, rng, name, kind, days, per_day, event_day * per_day)
        happens = bool(kind.shifts or kind.header or kind.dice_noise != 1)
        truths.append(Truth(f"simulated-{name}", True, kind.says, event_day * per_day if happens else None,
                            dict(kind.shifts), dict(kind.header), path.name))  # fmt: skip
    write_truth(out, truths)
    return truths


def write_truth(out: Path, truths: Sequence[Truth]) -> None:
    """Write what was simulated beside its tables."""
    (out / "truth.json").write_text(json.dumps([asdict(one) for one in truths], indent=1) + "\n")


def scores(rng: np.random.Generator, kind: Kind, rows: int, event: int, per_day: int) -> Floats:
    """Normal scores [rows, F] of a clinic, moved from row ``event`` on."""
    e = COMMON**0.5 * rng.standard_normal((rows, 1)) + (1 - COMMON) ** 0.5 * rng.standard_normal(
        (rows, len(SCALES))
    )
    for t in range(1, rows) if kind.related else ():
        e[t] = kind.related * e[t - 1] + (1 - kind.related**2) ** 0.5 * e[t]
    e[:, ::3] += kind.season * np.sin(2 * np.pi * np.arange(rows) / per_day / 365)[:, None]
    since = np.maximum(np.arange(rows) - event + 1, 0)
    part = np.minimum(since / (RAMP_DAYS * per_day), 1) if kind.slowly else since > 0
    for feature, shift in kind.shifts.items():
        e[:, list(SCALES).index(feature)] += shift * part
    return np.asarray(e)


def write_table(
    path: Path, name: str, names: Iterable[str], headers: Iterable[Mapping[str, str]], rows: Iterable[Sequence[Any]],
    per_day: int,
) -> None:  # fmt: skip
    """Write a clinic's studies in order; of each what its header says, its features and its Dice."""
    began = datetime(2026, 1, 5, 8, tzinfo=UTC)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        for n, (header, row) in enumerate(zip(headers, rows, strict=True)):
            if n == 0:
                out.writerow(
                    ["simulated", "clinic", "study", "acquired", "scanner", *header, *names, "review_dice"]
                )
            at = began + timedelta(days=n // per_day, minutes=n % per_day * 40)
            scanner = " | ".join(header.values())
            out.writerow(["yes", f"simulated-{name}", n, at.isoformat(), scanner, *header.values(), *row])


def headers_of(
    before: Mapping[str, str], change: Mapping[str, str], rows: int, event: int
) -> list[dict[str, str]]:
    """What each study's header says: ``change`` from row ``event`` on."""
    return [{**before, **(change if n >= event else {})} for n in range(rows)]


def _write(
    path: Path, rng: np.random.Generator, name: str, kind: Kind, days: int, per_day: int, event: int
) -> None:
    its = scores(rng, kind, days * per_day, event, per_day)
    before = {"vendor": "siemens", "model": "Prisma", "software": "E11", "te_ms": "90"}
    rows = (
        [*(f"{mean + sd * z:.6g}" for (mean, sd), z in zip(SCALES.values(), row, strict=True)),
         _dice(rng, kind, n >= event)]
        for n, row in enumerate(its)
    )  # fmt: skip
    write_table(path, name, SCALES, headers_of(before, kind.header, len(its), event), rows, per_day)


def _dice(rng: np.random.Generator, kind: Kind, after: bool) -> Any:
    """Dice of the one study in ten that was reviewed."""
    if rng.random() >= 0.1:
        return ""
    spread = DICE_SD * (kind.dice_noise if after else 1)
    return f"{min(max(DICE + kind.dice * after + spread * rng.standard_normal(), 0), 1):.3f}"
