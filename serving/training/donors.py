"""Lesion masks of real people, planted into the white matter of somebody else's anatomy.

Masks: Ljubljana consensus masks in MNI space (Lesjak et al., Neuroinformatics 2018, doi 10.1007/s12021-017-9348-7).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.training.labelmaps import (
    CEREBELLAR_WHITE,
    STEM,
    WHITE,
    WHITE_SPOT,
    BoolArray,
    LabelMap,
    cropped,
    load_map,
    map_to_mni,
    read_ras,
)  # fmt: skip

TEST_PEOPLE = (7, 19)  # their images and masks are in no training run
TEST_DONORS = (3, 8, 15, 21, 25)  # masks kept for the generated cases that check the nets: light to heavy


@dataclass(frozen=True, slots=True)
class Donor:
    """One person's lesion mask: uint8 [X,Y,Z] and voxel -> MNI RAS mm."""

    person: int
    mask: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Host:
    """A label map that receives lesions. white: where one may be; to_mni: voxel -> MNI RAS mm."""

    anatomy: LabelMap
    white: BoolArray
    to_mni: NDArray[np.float64]


def load_donors(
    root: Path, people: tuple[int, ...] | None = None, without: tuple[int, ...] = ()
) -> list[Donor]:
    """The donors of the data folder: only `people` where given, never those in `without`."""
    found = []
    for path in sorted((root / "ms_lesions" / "lesion_masks_MNI").glob("patient*_lesion_consensus.nii.gz")):
        person = int(path.name[7:9])
        if person not in without and (people is None or person in people):
            mask, affine = read_ras(path)
            found.append(Donor(person, (mask > 0).astype(np.uint8), affine))
    return found


def load_host(root: Path, number: int) -> Host:
    """Label map `number` cut to its brain, with its white matter and its way to MNI."""
    anatomy = cropped(load_map(root, number))
    white = np.isin(anatomy.group, [WHITE, WHITE_SPOT, CEREBELLAR_WHITE, STEM])
    return Host(anatomy, white, map_to_mni(root, number) @ anatomy.affine)


def draw_donor(rng: np.random.Generator, donors: list[Donor], power: float = 0.4) -> Donor:
    """A donor, drawn by lesion volume to a power. Training: 0.4; drawn evenly (0), confluent lesions are missed."""
    weight = np.array([donor.mask.sum() for donor in donors], float) ** power
    return donors[int(rng.choice(len(donors), p=weight / weight.sum()))]


def _jitter(rng: np.random.Generator) -> NDArray[np.float64]:
    """Random affine of MNI space about the middle of the brain: +-7 mm, +-13 %, mirror."""
    move = np.eye(4)
    move[:3, :3] = np.diag(rng.uniform(0.88, 1.14, 3)) @ (np.eye(3) + rng.uniform(-0.06, 0.06, (3, 3)))
    middle = np.array([0.0, -18.0, 10.0])
    move[:3, 3] = rng.uniform(-7, 7, 3) + middle - move[:3, :3] @ middle
    if rng.random() < 0.5:
        move = np.diag([-1.0, 1.0, 1.0, 1.0]) @ move
    return move


def plant(rng: np.random.Generator, host: Host, donor: Donor, whole: bool = False) -> NDArray[np.uint8]:
    """Parts of the donor's lesions inside the host's white matter: uint8 [X,Y,Z], 0 = none, else a part number.

    Part numbers are shared by parts 250 apart; they only choose a part's brightness. whole: no part is left out.
    """
    matrix = np.linalg.inv(donor.affine) @ _jitter(rng) @ host.to_mni
    soft = ndi.affine_transform(
        donor.mask.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=host.white.shape, order=1
    )
    parts, count = ndi.label((soft > rng.uniform(0.35, 0.6)) & host.white)
    size = np.bincount(parts.ravel(), minlength=count + 1)
    # a big part is mostly kept, or the heavy loads of the donors would vanish by chance
    kept = (rng.random(count + 1) < rng.uniform(0.4, 1)) | ((size > 1500) & (rng.random() < 0.7))
    keep = (size >= 5) & (kept | whole)
    number = np.where(keep, 1 + np.arange(count + 1) % 250, 0).astype(np.uint8)
    number[0] = 0
    return np.asarray(number[parts], np.uint8)
