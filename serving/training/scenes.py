"""Sixteen generated heads that ship with the code, so that a cure needs no data folder: ten judge, six are replayed.

A head is an anatomy of the label maps with the lesions of one real person's mask, stored as labels and rendered when it
is used (`render_flair`). The ten of the global set stand on anatomies and carry lesions that no training run saw; the
six for replay are of the kind that the base was trained on. They are generated heads and no people: what they show is
that a version still does what its parent did.
Written by `python -m serving.training.scenes` out of the open data folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import ndimage as ndi

from registry.canonical import sha256_digest
from serving.training.calibrate import BANDS, Case
from serving.training.donors import TEST_DONORS, TEST_PEOPLE, load_donors, load_host
from serving.training.labelmaps import HELD_MAPS, data_root

FILE = Path(__file__).with_name("scenes.npz")
GLOBAL, REPLAY = "global", "replay"
REPLAY_MAPS, REPLAY_DONORS = (1, 3, 4, 6, 8, 10), (1, 4, 11, 14, 22, 28)
SEED = 2026
ACROSS = (2,)  # heads are read across slices only: three directions would take three times as long
SLAB = 48  # axial slices that are judged and replayed: those with most lesions


def write(root: Path, path: Path = FILE) -> None:
    """Draw the heads out of the data folder and write them, labels only."""
    from serving.training.render_flair import flair_scene

    pairs = [(GLOBAL, number, person) for number in HELD_MAPS for person in TEST_DONORS]
    pairs += [(REPLAY, number, person) for number, person in zip(REPLAY_MAPS, REPLAY_DONORS, strict=True)]
    stored: dict[str, Any] = {}
    hosts = {number: load_host(root, number) for number in (*HELD_MAPS, *REPLAY_MAPS)}
    for kind, number, person in pairs:
        rng = np.random.default_rng((SEED, number, person))
        scene = flair_scene(rng, hosts[number], load_donors(root, (person,), TEST_PEOPLE), True)
        inside = scene.brain.numpy()
        box = ndi.find_objects(inside.astype(np.uint8))[0]
        labels = np.stack([np.where(inside, part.numpy(), 0) for part in (scene.group, scene.part)])
        name = f"{kind}-map{number:02d}-mask{person:02d}"
        stored[name] = np.stack([*labels.astype(np.uint8), inside.astype(np.uint8)])[(slice(None), *box)]
        stored[f"{name}-corner"] = np.array([side.start for side in box], np.uint8)
    with path.open("wb") as out:
        np.savez_compressed(out, **stored)


@cache
def digest(path: Path = FILE) -> str:
    """What the shipped heads are, as a digest of their file."""
    return sha256_digest(path.read_bytes())


def cases(kind: str, turns: Sequence[int] = (0,), path: Path = FILE) -> Iterator[tuple[str, Case]]:
    """Name and image of every head of a kind, rendered once a turn; lesion contrast goes through the bands in turn.

    The same every time: seeds follow from head and turn. Images [X,Y,48] at 1 mm, peak - 1, -1 outside the brain.
    """
    from serving.training.render_flair import flair_image

    bands = list(BANDS)
    with np.load(path, allow_pickle=False) as stored:
        names = sorted(name for name in stored.files if name.startswith(kind) and "corner" not in name)
        for place, name in enumerate(names):
            scene = _scene(stored[name], stored[f"{name}-corner"])
            for turn in turns:
                band = bands[(place + turn) % len(bands)]
                image, lesion, _ = flair_image(np.random.default_rng((SEED, place, turn)), scene, BANDS[band])
                yield name.removeprefix(f"{kind}-"), _slab(image, lesion, band)


def whole(turn: int, path: Path = FILE) -> Iterator[tuple[str, Any]]:
    """Name and `Flair` of every head, all slices, rendered once without a scanner's traits: replay heads first."""
    from serving.training.render_flair import flair_image

    with np.load(path, allow_pickle=False) as stored:
        names = sorted((name for name in stored.files if "corner" not in name), reverse=True)
        for place, name in enumerate(names):
            scene = _scene(stored[name], stored[f"{name}-corner"])
            yield name, flair_image(np.random.default_rng((SEED, place, turn)), scene, BANDS["middle"], False)


def thick(image: NDArray[np.float32], planes: int) -> NDArray[np.float32]:
    """Slices of ``planes`` planes each, their mean, [X,Y,Z // planes]; planes that fill no slice are left out."""
    n = image.shape[2] // planes
    return np.asarray(image[..., : n * planes].reshape(*image.shape[:2], n, planes).mean(3), np.float32)


def _scene(stored: NDArray[np.uint8], corner: NDArray[np.uint8]) -> Any:
    import torch

    from serving.training.render_flair import BOX, Scene

    whole = np.zeros((3, *BOX), np.uint8)
    box = tuple(slice(int(c), int(c) + n) for c, n in zip(corner, stored.shape[1:], strict=True))
    whole[(slice(None), *box)] = stored
    group, part, brain = (torch.from_numpy(each) for each in whole)
    return Scene(group.long(), part.long(), brain > 0)


def _slab(image: NDArray[np.float32], lesion: NDArray[np.bool_], band: str) -> Case:
    box = ndi.find_objects((image > -1).astype(np.uint8))[0]
    image, lesion = image[box], lesion[box]
    load = np.convolve(lesion.sum((0, 1)), np.ones(SLAB), "valid")
    start = int(np.argmax(load)) if load.size else 0
    return Case(
        np.ascontiguousarray(image[..., start : start + SLAB]),
        np.ascontiguousarray(lesion[..., start : start + SLAB]),
        band,
        ACROSS,
    )


def main(
    data: Annotated[Path | None, typer.Option(help="Open data folder; default RADFLEET_DATA.")] = None,
    out: Annotated[Path, typer.Option()] = FILE,
) -> None:
    """Write the heads again."""
    write(data_root(data), out)
    typer.echo(f"{out}: {out.stat().st_size} bytes, {digest(out)}")


if __name__ == "__main__":
    typer.run(main)
