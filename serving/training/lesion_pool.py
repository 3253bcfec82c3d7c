"""A folder of rendered FLAIR volumes that every lesion training run shares: written once, read stack by stack.

One file a volume: uint8 [2,X,Y,Z], first the image in 255 steps (0 = outside the brain, else
1 + (value + 1) * 254 / 3), then the lesion mask. A file appears under its final name
only when it is whole, so training may start while the pool still grows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from serving.training.donors import TEST_DONORS, TEST_PEOPLE, load_donors, load_host
from serving.training.labelmaps import TRAIN_MAPS

SIZE, HALF = 128, 2  # a training stack is 5 neighbouring slices of 128 x 128 voxels
_STEPS = 254.0 / 3.0


def pack(image: NDArray[np.float32], lesion: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Image (-1 outside, to 2) and mask [X,Y,Z] as uint8 [2,X,Y,Z], cut to the brain's box."""
    box = ndi.find_objects((image > -1).astype(np.uint8))[0]
    steps = np.where(image[box] > -1, 1 + np.rint((image[box] + 1) * _STEPS), 0)
    return np.stack([steps.clip(0, 255).astype(np.uint8), lesion[box].astype(np.uint8)])


def unpack(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image behind stored steps of any shape; -1 where nothing is."""
    return np.where(stored > 0, (stored.astype(np.float32) - 1) / np.float32(_STEPS) - 1, np.float32(-1))


def fill(root: Path, folder: Path, count: int, seed: int, contrasts: int = 3) -> None:
    """Render until the folder holds `count` volumes; each anatomy with lesions is given `contrasts` contrasts.

    People 07 and 19 are in no way part of it, nor are the donors kept for generated checks.
    """
    from serving.training.render_flair import flair_image, flair_scene

    folder.mkdir(parents=True, exist_ok=True)
    hosts = [load_host(root, number) for number in TRAIN_MAPS]
    donors = load_donors(root, without=TEST_PEOPLE + TEST_DONORS)
    for index in range(0, count, contrasts):
        rng = np.random.default_rng((seed, index))
        scene = flair_scene(rng, hosts[int(rng.integers(len(hosts)))], donors)
        for number in range(index, min(index + contrasts, count)):
            image, lesion, _ = flair_image(rng, scene)
            target = folder / f"{seed:03d}-{number:05d}.npy"
            part = target.with_suffix(".part")
            with part.open("wb") as out:
                np.save(out, pack(image, lesion))
            part.rename(target)


class Pool:
    """Random training stacks out of the folder's volumes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng((seed, 77))
        self.names: list[Path] = []

    def refresh(self) -> int:
        """Look for new volumes; returns how many there are."""
        self.names = sorted(self.folder.glob("*.npy"))
        return len(self.names)

    def stacks(self, per_volume: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """`per_volume` (image [5,128,128], mask [1,128,128]) out of one random volume."""
        stored: NDArray[np.uint8] = np.load(self.names[int(self.rng.integers(len(self.names)))])
        return [cut(self.rng, stored) for _ in range(per_volume)]


def cut(
    rng: np.random.Generator, stored: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Five slices in a random direction, where there are lesions in half; mirrored; small gain.

    stored: [2,X,Y,Z] of `pack`. Returns image [5,128,128] and mask [1,128,128], padded with -1 and 0.
    """
    axis = int(rng.choice(3, p=[0.25, 0.25, 0.5]))
    both = np.moveaxis(stored, 1 + axis, 1)
    count = both.shape[1]
    rows: Any = np.flatnonzero(both[1].any((1, 2)))
    if not len(rows) or rng.random() > 0.5:
        rows = np.arange(count)
    middle = min(max(int(rows[rng.integers(len(rows))]), HALF), count - 1 - HALF)
    image, mask = both[0, middle - HALF : middle + HALF + 1], both[1, middle]
    corner = [int(rng.integers(0, max(1, n - SIZE + 1))) for n in mask.shape]
    window = tuple(slice(start, start + SIZE) for start in corner)
    image, mask = image[(slice(None), *window)], mask[window]
    missing = [SIZE - n for n in mask.shape]
    before = [int(rng.integers(0, n + 1)) for n in missing]
    edges = [(left, n - left) for left, n in zip(before, missing, strict=True)]
    image, mask = np.pad(image, [(0, 0), *edges]), np.pad(mask, edges)
    for axis in (1, 2):
        if rng.random() < 0.5:
            image, mask = np.flip(image, axis), np.flip(mask, axis - 1)
    if rng.random() < 0.5:
        image = image[::-1]
    values = unpack(image)
    inside = values > -1
    gain = float(rng.uniform(0.92, 1.08))
    values = np.where(inside, (values + 1) * np.float32(gain) - 1, np.float32(-1)).astype(np.float32)
    return np.ascontiguousarray(values), np.ascontiguousarray(mask[None]).astype(np.float32)
