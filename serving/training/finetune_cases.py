"""A clinic's labelled studies as the lesion net sees them, and how a package answers them at use.

Whatever is trained or fitted sees the very grid and scaling of the served path (`ms_lesion`); whatever is judged is the
served answer itself, on the study's own grid, small parts removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from registry.canonical import sha256_digest
from serving.engine.brain_extraction import brain_of
from serving.engine.grids import shrink, spacing_of, turn_of
from serving.engine.ms_lesion import already_stripped, directions_of, lesion_chance, parts_of, seen, segment
from serving.engine.outcome import Array, Mask, Net, Parameters
from serving.engine.package import OpenPackage
from serving.engine.predictor import OpenVinoNet
from serving.imaging.volume import Volume, load_volume
from serving.training.calibrate import Case
from serving.training.evaluate import dice
from serving.training.finetune_tiers import Labelled

TRUTH = "truth.npy"
TRAIN, EVALUATION = "train", "evaluation"


@dataclass(frozen=True, slots=True)
class Study:
    """One reviewed study: whose, on which side of the split, and the folder with its volume and corrected mask."""

    person: str
    split: str
    folder: Path

    def read(self) -> tuple[Volume, Mask]:
        """The volume and the corrected mask on its grid [I,J,K]."""
        return load_volume(self.folder), np.load(self.folder / TRUTH, allow_pickle=False) > 0


class Remembered:
    """A net that answers the same input once: the stage that every tier shares, asked about every person again."""

    def __init__(self, net: Net) -> None:
        self._net, self._said, self._lock = net, dict[str, Array](), Lock()

    def __call__(self, x: Array) -> Array:
        """Logits of ``x``; two threads may ask."""
        key = f"{x.shape} {sha256_digest(np.ascontiguousarray(x).tobytes())}"
        with self._lock:
            if key not in self._said:
                self._said[key] = self._net(x)
            return self._said[key]


def nets_of(content: OpenPackage, threads: int) -> dict[str, Net]:
    """The stages of a package in the runtime that answers at use."""
    return {
        stage: OpenVinoNet(*content.openvino(stage), threads) for stage in content.package.model["stages"]
    }


def labelled(study: Study, nets: Mapping[str, Net], parameters: Parameters) -> Labelled:
    """A study on the lesion net's grid: brain at 1 mm, scaled, cut to its box; the mask with it."""
    volume, truth = study.read()
    turn = turn_of(volume.affine)
    spacing = spacing_of(volume.affine, turn)
    image = np.maximum(np.ascontiguousarray(turn.apply(volume.voxels), np.float32), 0)
    brain, _, _ = brain_of(image, spacing, nets["brain"], parameters["brain"])
    own = already_stripped(image, brain)
    brain = brain if own is None else own
    fine, inside, box = seen(image, brain, spacing)
    mask = shrink(np.ascontiguousarray(turn.apply(truth)[box], np.float32), spacing, 1.0) > 0.5
    directions = directions_of(float(spacing.max()), int(np.argmax(spacing)))
    return Labelled(study.person, Case(fine, mask & inside, "", directions))


def score_studies(
    studies: Sequence[Study], nets: Mapping[str, Net], parameters: Parameters
) -> dict[str, float]:
    """Dice by person of the served answer; a person's studies are averaged."""
    found: dict[str, list[float]] = {}
    for study in studies:
        volume, truth = study.read()
        answer = segment(volume, nets, parameters)
        found.setdefault(study.person, []).append(dice(answer.mask > 0, truth))
    return {person: float(np.mean(values)) for person, values in found.items()}


def score_heads(heads: Sequence[tuple[str, Case]], net: Net, parameters: Parameters) -> dict[str, float]:
    """Dice by generated head, read across as a thick scan is; three directions would take three times as long."""
    smallest = float(parameters["smallest_mm3"])
    out = {}
    for name, case in heads:
        found = lesion_chance(case.image, net, case.directions) > float(parameters["threshold"])
        out[name] = dice(parts_of(found, 1.0, smallest)[0], case.lesion)
    return out


def read_studies(folder: Path, listed: Sequence[Mapping[str, Any]]) -> list[Study]:
    """The studies that a request lists: person, split and folder, below the request's folder."""
    return [Study(str(row["person"]), str(row["split"]), folder / str(row["folder"])) for row in listed]
