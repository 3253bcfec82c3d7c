"""A simulated past of one clinic: one real scan as a scanner would have made it day after day, before and after a
replacement that nobody announced. The features are measured from those pixels by the very code that measures studies.
"""

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

BEFORE, AFTER, SEED = 60, 15, 20261126
PROFILE = {
    "vendor": "philips", "model": "Ingenia", "software_major": "5.7", "field_t": "3",
    "sequence_class": "FLAIR",
}  # fmt: skip
Floats = NDArray[np.float32]


def write_past(nifti: Path, table: Path) -> Path:
    """Measure ``BEFORE + AFTER`` simulated studies of the head in ``nifti``, one a day up to yesterday; the CSV."""
    from serving.imaging.quality import NAMES, measure
    from serving.imaging.volume import read_nifti

    head = read_nifti(nifti)
    # Every second voxel of a plane: the measures take a fourth of the time, while everything else starts.
    coarse = replace(
        head,
        voxels=head.voxels[::2, ::2].astype(np.float32),
        affine=head.affine @ np.diag([2.0, 2.0, 1.0, 1.0]),
    )
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=BEFORE + AFTER)
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as out:
        rows = csv.DictWriter(out, ["at", *PROFILE, *NAMES])
        rows.writeheader()
        for day, voxels in enumerate(_scans(coarse.voxels)):
            found = measure(replace(coarse, voxels=voxels))
            at = (first + timedelta(days=day)).isoformat()
            rows.writerow({"at": at, **PROFILE, **{name: found[name] for name in NAMES}})
    return table


def _scans(real: Floats) -> Iterator[Floats]:
    """The head with each day's noise, sharpness and shading; from the replacement on with more noise and less sharp.

    Noise and blur are fractions of bright tissue and voxels; 4 % of noise becomes 5 %, .3 voxels of blur become .6.
    """
    rng = np.random.default_rng(SEED)
    bright = float(np.percentile(real, 95))
    for day in range(BEFORE + AFTER):
        noise, blur = (0.04, 0.3) if day < BEFORE else (0.05, 0.6)
        sharp = max(0.0, blur + float(rng.normal(0, 0.08)))
        scan = ndi.gaussian_filter(real, (sharp, sharp, 0))
        shade = np.linspace(-1, 1, real.shape[0], dtype=np.float32)[:, None, None] * float(
            rng.normal(0, 0.05)
        )
        grain = (
            rng.standard_normal(real.shape, dtype=np.float32)
            * noise
            * bright
            * float(rng.uniform(0.85, 1.15))
        )
        yield np.where(real > 0, np.abs(scan * (1 + shade) + grain), 0).astype(np.float32)


if __name__ == "__main__":
    write_past(Path(sys.argv[1]), Path(sys.argv[2]))
