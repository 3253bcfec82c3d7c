"""Made-up heads for the imaging tests."""

from typing import Any

import numpy as np
from scipy import ndimage

from serving.imaging.volume import Volume

FLAIR = {
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Prisma",
    "SoftwareVersions": "syngo MR E11",
    "MagneticFieldStrength": 3.0,
    "ScanningSequence": ["SE", "IR"],
    "EchoTime": 120.0,
    "RepetitionTime": 9000.0,
    "InversionTime": 2500.0,
    "PatientID": "TEST-1",
}


def head(shape: tuple[int, int, int] = (64, 72, 40), edges: tuple[float, ...] = (3.0, 3.0, 4.0)) -> Volume:
    """A head-sized ellipsoid of three tissues in noisy air, whole numbers: made up, not a person."""
    rng = np.random.default_rng(5)
    grid = np.indices(shape, dtype=np.float64)
    middle = [(n - 1) / 2 for n in shape]
    scaled = [(grid[a] - middle[a]) * edges[a] / radius for a, radius in enumerate((78.0, 95.0, 75.0))]
    radius = np.sqrt(sum(s**2 for s in scaled))
    folds = ndimage.gaussian_filter(rng.normal(size=shape), [5.0 / e for e in edges])
    folds /= folds.std()
    tissue = np.where(radius < 0.6, 700.0, 500.0) + 60.0 * folds
    tissue = np.where((radius > 0.78) & (radius < 0.86), 150.0, tissue)
    tissue = np.where(radius < 0.18, 150.0, tissue)
    image = np.where(radius < 1.0, tissue, 0.0) + np.abs(rng.normal(0, 12.0, size=shape))
    affine = np.diag([-edges[0], edges[1], edges[2], 1.0])
    affine[:3, 3] = [90.0, -110.0, -70.0]
    return Volume(np.rint(np.clip(image, 0, 4000)).astype(np.float32), affine)


def brain_of(volume: Volume) -> Any:
    """The true brain of ``head``."""
    grid = np.indices(volume.shape, dtype=np.float64)
    scaled = [
        (grid[a] - (volume.shape[a] - 1) / 2) * volume.spacing[a] / radius
        for a, radius in enumerate((78.0, 95.0, 75.0))
    ]
    return (np.sqrt(sum(s**2 for s in scaled)) < 0.78).astype(np.uint8)
