"""A simulated past of one clinic: its simulated people as its scanner showed them, day after day, before and after a
replacement that nobody announced. The features are measured from those pixels by the very code that measures studies.
"""

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BEFORE, AFTER, SEED = 60, 15, 20261126
PROFILE = {
    "vendor": "philips", "model": "Ingenia", "software_major": "5.7", "field_t": "3",
    "sequence_class": "FLAIR",
}  # fmt: skip
Floats = NDArray[np.float32]


class Scanner(NamedTuple):
    """``noise`` is a fraction of white matter; ``power`` drives bright and dark apart (1: not at all)."""

    noise: float
    power: float


OLD: Final = Scanner(0.02, 1.0)
# The replacement: harder contrast and more noise. Settled by trying until a fine-tune on its studies passed.
NEW: Final = Scanner(0.03, 2.5)


def scan(head: Floats, its: Scanner, rng: np.random.Generator) -> Floats:
    """A head (white matter near 1, 0 outside) as a scanner shows it: white matter near 400, whole numbers."""
    noise = its.noise * rng.standard_normal(head.shape, dtype=np.float32)
    return np.asarray(np.where(head > 0, np.rint(400 * np.abs(head**its.power + noise)), 0), np.float32)


def write_past(heads: Sequence[Floats], affine: NDArray[np.float64], table: Path) -> None:
    """Measure ``BEFORE + AFTER`` simulated studies of these people, one a day up to yesterday, into a CSV."""
    from serving.imaging.quality import NAMES, measure
    from serving.imaging.volume import Volume

    first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=BEFORE + AFTER)
    with table.open("w", newline="") as out:
        rows = csv.DictWriter(out, ["at", *PROFILE, *NAMES])
        rows.writeheader()
        for day, voxels in enumerate(_scans(heads)):
            found = measure(Volume(voxels, affine))
            at = (first + timedelta(days=day)).isoformat()
            rows.writerow({"at": at, **PROFILE, **{name: found[name] for name in NAMES}})


def _scans(heads: Sequence[Floats]) -> Iterator[Floats]:
    """Whoever comes that day, with that day's noise and shading (5 % of brightness from side to side, as a sd)."""
    rng = np.random.default_rng(SEED)
    for day in range(BEFORE + AFTER):
        its = OLD if day < BEFORE else NEW
        head = heads[int(rng.integers(len(heads)))]
        shade = np.linspace(-1, 1, head.shape[0], dtype=np.float32)[:, None, None] * np.float32(
            rng.normal(0, 0.05)
        )
        yield scan(head * (1 + shade), its._replace(noise=its.noise * float(rng.uniform(0.85, 1.15))), rng)
