"""Scores: brain masks against a given mask carried into raw space, lesion masks by overlap and lesion by lesion.

The people of these scores (01, 07, 19) were looked at while the recipes were made: development data, not a test.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.engine.outcome import Mask, Net
from serving.engine.predictor import OpenVinoNet, convert
from serving.imaging.volume import Volume, read_nifti
from serving.training.curves import load_weights

SMALLEST_MM3 = 14  # a sphere 3 mm across: smaller parts are not counted as lesions
RAW_SCANS = tuple(f"study{study}_{kind}" for study in (1, 2) for kind in ("FLAIR", "T1W"))


def runtime_net(architecture: str, weights: Path, threads: int = 2) -> Net:
    """A network as tasks see it, in the runtime that answers at use, from a float16 weights file.

    Raises PackageParity where the runtime and torch differ.
    """
    tensors = {name: value.astype(np.float16) for name, value in load_weights(weights).items()}
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "net.xml"
        convert(weights.stem, architecture, tensors, xml, 1)
        return OpenVinoNet(xml.read_bytes(), xml.with_suffix(".bin").read_bytes(), threads)


def dice(one: Mask, other: Mask) -> float:
    """Overlap 2 |A and B| / (|A| + |B|) of two masks of one shape; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class LesionScore:
    """One case: overlap, share of true lesions found, share of found lesions that are true, volumes in ml."""

    dice: float
    sensitivity: float | None
    precision: float | None
    predicted_ml: float
    true_ml: float


def lesion_score(found: Mask, truth: Mask, voxel_mm3: float = 1.0) -> LesionScore:
    """Scores of a lesion mask [X,Y,Z].

    Lesions are 26-neighbour parts of at least 14 mm3; one is hit where at least 10 % of it overlaps. None: no part.
    """
    return LesionScore(
        dice(found, truth),
        _hit_share(truth, found, voxel_mm3),
        _hit_share(found, truth, voxel_mm3),
        float(found.sum()) * voxel_mm3 / 1000,
        float(truth.sum()) * voxel_mm3 / 1000,
    )


def _hit_share(parts_of: Mask, other: Mask, voxel_mm3: float) -> float | None:
    parts, count = ndi.label(parts_of, np.ones((3, 3, 3)))
    size = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    hit = np.bincount(parts[other], minlength=count + 1)[1:]
    big = size * voxel_mm3 >= SMALLEST_MM3
    return float((hit[big] >= 0.1 * size[big]).mean()) if big.any() else None


def itk_affine(path: Path) -> NDArray[np.float64]:
    """An ITK text transform x' = A (x - c) + t + c in LPS mm, as a 4x4 matrix in RAS mm."""
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    values, centre = (
        np.array(lines["Parameters"].split(), float),
        np.array(lines["FixedParameters"].split(), float),
    )
    matrix = np.eye(4)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    mirror = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.asarray(mirror @ matrix @ mirror)


def carried(mask: Any, transform: NDArray[np.float64], volume: Volume) -> Mask:
    """A NIfTI mask of common space on a raw scan's grid; transform: common -> raw, RAS mm."""
    matrix = np.linalg.inv(mask.affine) @ np.linalg.inv(transform) @ volume.affine
    soft = (np.asarray(mask.dataobj) > 0).astype(np.float32)
    out = ndi.affine_transform(soft, matrix[:3, :3], matrix[:3, 3], output_shape=volume.voxels.shape, order=1)
    return np.asarray(out > 0.5)


def raw_heads(root: Path) -> list[tuple[str, Volume, Mask]]:
    """The four raw scans of person 01 with skull, each with the given brain mask carried to its grid."""
    folder = root / "ms_lesions" / "longitudinal" / "patient01"
    mask = nib.load(folder / "brainmask.nii.gz")
    out = []
    for name in RAW_SCANS:
        volume = read_nifti(folder / "raw" / f"{name}.nii.gz")
        # one transform a study: it was made on the FLAIR, and the T1W lies in the same world space
        transform = itk_affine(folder / f"{name.split('_')[0]}_FLAIR_to_common_space.txt")
        out.append((name, volume, carried(mask, transform, volume)))
    return out


def flair_person(root: Path, person: int) -> tuple[Volume, Mask]:
    """The skull-stripped FLAIR of person 7 or 19 (1 mm, MNI space) and the consensus lesion mask."""
    folder = root / "ms_lesions" / "cross_sectional_MNI" / f"patient{person:02d}"
    lesion = nib.load(folder / "lesion_consensus.nii.gz")
    return read_nifti(folder / "FLAIR.nii.gz"), np.asarray(lesion.dataobj) > 0
