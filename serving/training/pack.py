"""Builds the shipped packages from trained weights: `python -m serving.training.pack --help`.

The lesion net is calibrated first, on generated cases only; then everything is scored, and the scores go into the cards
as they are, bars met or not.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from serving.engine.package import write_package
from serving.training import bench, cards
from serving.training.calibrate import (
    Case,
    best_threshold,
    calibrate,
    direction_logits,
    folded,
    generated_cases,
    mean_chances,
)  # fmt: skip
from serving.training.curves import load_weights
from serving.training.evaluate import runtime_net
from serving.training.labelmaps import data_root

CALIBRATION_SEED = 11
BRAIN_NET, LESION_NET = "unet3d-b", "unet2d-b"
_GRID: dict[str, Any] = {"voxel_mm": 2.5, "threshold": 0.5}
BRAIN_PARAMETERS = {"1.0.0": _GRID, "1.1.0": _GRID | {"margin": 4}}  # 1.0.0 was trained without a margin
SMALLEST_MM3 = 5.0  # the smallest part that is planted in training
Weights = dict[str, NDArray[Any]]


def half_exact(weights: Weights) -> Weights:
    """The weights rounded once to what float16 holds."""
    return {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}


def stage(architecture: str, name: str) -> dict[str, str]:
    """The block of one stage in model.json."""
    return {
        "architecture": architecture,
        "weights": f"{name}.safetensors",
        "openvino": f"openvino/{name}.xml",
    }


def brain_model(version: str) -> dict[str, Any]:
    """model.json of a brain-extraction package."""
    return {
        "schema": 1,
        "name": "brain-extraction",
        "version": version,
        "task": "brain-extraction",
        "runtime_class": "cpu-small",
        "stages": {"brain": stage(BRAIN_NET, "brain")},
        "parameters": BRAIN_PARAMETERS[version],
        "labels": {
            "1": {
                "name": "Brain",
                "category": ["123037004", "SCT", "Anatomical Structure"],
                "type": ["12738006", "SCT", "Brain"],
            }
        },
        "accepts": {"Modality": "MR", "contrast": ["any"], "slices_min": 10},
        "intended_use": cards.INTENDED_USE,
    }


def lesion_model(version: str, threshold: float) -> dict[str, Any]:
    """model.json of an ms-lesion package, which brings its own brain stage: one digest names all that answered."""
    return {
        "schema": 1,
        "name": "ms-lesion",
        "version": version,
        "task": "ms-lesion",
        "runtime_class": "cpu-small",
        "stages": {"brain": stage(BRAIN_NET, "brain"), "lesion": stage(LESION_NET, "lesion")},
        "parameters": {
            "brain": BRAIN_PARAMETERS["1.1.0"],
            "threshold": threshold,
            "smallest_mm3": SMALLEST_MM3,
        },
        "labels": {
            "1": {
                "name": "White matter lesion",
                "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
                "type": ["52988006", "SCT", "Lesion"],
            }
        },
        "accepts": {"Modality": "MR", "contrast": ["FLAIR"], "slices_min": 10},
        "intended_use": cards.INTENDED_USE,
    }


def calibrated(path: Path, cases: list[Case], say: Any) -> tuple[Weights, dict[str, float]]:
    """Calibrated weights of a lesion net, and what was done: slope, offset, best threshold after it."""
    logits = direction_logits(runtime_net(LESION_NET, path), cases)
    slope, offset = calibrate(logits, cases)
    before, _ = best_threshold(mean_chances(logits), cases)
    best, top = best_threshold(mean_chances(logits, slope, offset), cases)
    say(
        f"{path.name}: slope {slope:.2f} offset {offset:+.2f}; best threshold {before} -> {best} (Dice {top:.3f})"
    )
    return folded(load_weights(path), slope, offset), {
        "slope": slope,
        "offset": offset,
        "best_threshold_before": before,
        "best_threshold": best,
        "cases": len(cases),
    }


def replace_package(
    folder: Path, model: dict[str, Any], card: Mapping[str, Any], weights: Any, key: Any
) -> str:
    """Write a package in place of what lies there; returns its digest."""
    if folder.exists():
        shutil.rmtree(folder)
    return str(write_package(folder, model, card, weights, key=key).digest)


def main(
    first: Annotated[Path, typer.Option(help="Brain weights after the first cycle: version 1.0.0.")],
    final: Annotated[Path, typer.Option(help="Brain weights after the last cycle: version 1.1.0.")],
    lesion: Annotated[list[Path], typer.Option(help="Lesion weights, one a seed; the first one ships.")],
    key: Annotated[Path, typer.Option(help="Private ed25519 key (PEM) of the publisher; made when absent.")],
    data: Annotated[Path | None, typer.Option(help="Open data folder; default RADFLEET_DATA.")] = None,
    cases: Annotated[int, typer.Option(help="Generated cases for the calibration.")] = 24,
    threads: Annotated[int, typer.Option()] = 2,
) -> None:
    """Calibrate, score, write and sign the three packages; keep the other seeds' nets for the bench."""
    import torch
    from safetensors.numpy import save_file

    from serving.engine.signature import read_key, write_key

    torch.set_num_threads(threads)
    root = data_root(data)
    if not key.exists():
        write_key(key)
    shutil.copyfile(key.with_name(key.name + ".pub"), bench.PACKAGES / "publisher.pub")
    signer = read_key(key)
    bench.WEIGHTS.mkdir(parents=True, exist_ok=True)
    lesions: dict[str, tuple[Weights, dict[str, float]]] = {}
    generated = generated_cases(root, cases, CALIBRATION_SEED, unseen_donors=False)
    for seed, path in enumerate(lesion, start=1):
        lesions[str(seed)] = calibrated(path, generated, typer.echo)
        tensors = {name: value.astype(np.float16) for name, value in lesions[str(seed)][0].items()}
        save_file(tensors, bench.WEIGHTS / f"ms-lesion-seed{seed}.safetensors")
    brains = {
        version: half_exact(load_weights(path)) for version, path in (("1.0.0", first), ("1.1.0", final))
    }
    model = lesion_model("1.0.0", 0.5)
    scores = bench.score_all(
        root,
        runtime_net(BRAIN_NET, final),
        {
            seed: runtime_net(LESION_NET, bench.WEIGHTS / f"ms-lesion-seed{seed}.safetensors")
            for seed in lesions
        },
        "1",
        model["parameters"],
        typer.echo,
    )
    rows = {
        "1.0.0": bench.score_brain(root, runtime_net(BRAIN_NET, first), BRAIN_PARAMETERS["1.0.0"]),
        "1.1.0": scores["brain"],
    }
    for version, weights in brains.items():
        folder = bench.PACKAGES / f"brain-extraction-{version}"
        card = cards.brain_card(version, rows[version])
        typer.echo(
            f"{folder.name} {replace_package(folder, brain_model(version), card, {'brain': weights}, signer)}"
        )
    stages = {"brain": brains["1.1.0"], "lesion": lesions["1"][0]}
    card = cards.lesion_card("1.0.0", scores, lesions["1"][1])
    folder = bench.PACKAGES / bench.LESION
    typer.echo(f"{folder.name} {replace_package(folder, model, card, stages, signer)}")
    # the shipped seed lies in its package
    (bench.WEIGHTS / "ms-lesion-seed1.safetensors").unlink()


if __name__ == "__main__":
    typer.run(main)
