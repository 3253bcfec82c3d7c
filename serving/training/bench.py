"""Scores the shipped models and says whether the bars are met: `python -m serving.training.bench`.

Brain: each raw scan of person 01 alone. Lesion: persons 07 and 19, each alone, left out of training with image and
lesion mask; one net per seed; and generated cases on unseen anatomies with unseen lesion masks, split by contrast.
n is always people. All three people were looked at while the recipes were made: development data, not a test.
Writes build/bench-models.json; exits with 1 where a bar is missed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from serving.engine import brain_extraction, ms_lesion
from serving.engine.outcome import Mask, Net, Parameters
from serving.imaging.volume import Volume
from serving.training.calibrate import BANDS, best_threshold, direction_logits, generated_cases, mean_chances
from serving.training.evaluate import dice, flair_person, lesion_score, raw_heads, runtime_net
from serving.training.labelmaps import data_root

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
WEIGHTS = Path(__file__).resolve().parent / "weights"  # nets of other seeds, kept only to be scored
BRAIN, LESION = "brain-extraction-1.1.0", "ms-lesion-1.0.0"
BRAIN_BAR, LESION_BARS = 0.94, {19: 0.60, 7: 0.20}
GENERATED, GENERATED_SEED = 42, 2026
Say = Any


def score_brain(root: Path, net: Net, parameters: Parameters) -> list[dict[str, Any]]:
    """One row a raw scan of person 01: Dice, volume ratio, ml, seconds."""
    rows = []
    for name, volume, truth in raw_heads(root):
        began = time.perf_counter()
        answer = brain_extraction.segment(volume, {"brain": net}, parameters)
        found = answer.mask > 0
        rows.append(
            {
                "scan": name,
                "dice": round(dice(found, truth), 4),
                "volume_ratio": round(float(found.sum()) / float(truth.sum()), 3),
                "brain_ml": round(answer.numbers["brain_ml"], 1),
                "seconds": round(time.perf_counter() - began, 2),
            }
        )
    return rows


def score_people(
    root: Path, nets: Mapping[str, Net], parameters: Parameters, seed: str
) -> list[dict[str, Any]]:
    """One row for each of persons 19 and 07, each alone."""
    rows = []
    for person in LESION_BARS:
        volume, truth = flair_person(root, person)
        began = time.perf_counter()
        answer = ms_lesion.segment(volume, nets, parameters)
        score = asdict(lesion_score(answer.mask > 0, truth, _voxel_mm3(volume)))
        seconds = round(time.perf_counter() - began, 2)
        rows.append({"person": person, "seed": seed, **_rounded(score), "seconds": seconds})
    return rows


def score_generated(root: Path, net: Net, threshold: float, smallest_mm3: float) -> dict[str, Any]:
    """Mean scores by lesion contrast on generated cases, and the best threshold on them."""
    cases = generated_cases(root, GENERATED, GENERATED_SEED, unseen_donors=True)
    found = mean_chances(direction_logits(net, cases))
    bands: dict[str, Any] = {}
    for band in BANDS:
        rows = [
            lesion_score(_parts(chance > threshold, smallest_mm3), case.lesion)
            for chance, case in zip(found, cases, strict=True)
            if case.band == band and case.lesion.any()
        ]
        bands[band] = {"cases": len(rows)} | {
            name: _mean([getattr(row, name) for row in rows])
            for name in ("dice", "sensitivity", "precision", "predicted_ml", "true_ml")
        }
    best, top = best_threshold(found, cases)
    return {
        "cases": len(cases),
        "anatomies": 2,
        "bands": bands,
        "best_threshold": best,
        "best_dice": round(top, 3),
    }


def _parts(mask: Mask, smallest_mm3: float) -> Mask:
    return ms_lesion.parts_of(mask, 1.0, smallest_mm3)[0]


def _voxel_mm3(volume: Volume) -> float:
    return float(np.prod(volume.spacing))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def _rounded(row: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 3) for name, value in row.items()}


def score_all(
    root: Path, brain: Net, lesions: Mapping[str, Net], shipped: str, parameters: Parameters, say: Say
) -> dict[str, Any]:
    """Every figure of this bench. lesions: seed -> net; shipped: the seed in the package; parameters: ms-lesion's."""
    report: dict[str, Any] = {"brain": score_brain(root, brain, parameters["brain"])}
    for row in report["brain"]:
        say(f"brain   {row}")
    report["lesion"] = []
    for seed, net in lesions.items():
        rows = score_people(root, {"brain": brain, "lesion": net}, parameters, seed)
        report["lesion"] += rows
        for row in rows:
            say(f"lesion  {row}")
    report["spread"] = {}
    for person in LESION_BARS:
        values = [row["dice"] for row in report["lesion"] if row["person"] == person]
        low, high = min(values), max(values)
        report["spread"][str(person)] = {
            "seeds": len(values),
            "mean": _mean(values),
            "low": low,
            "high": high,
        }
        say(f"person {person}: {len(values)} seeds, Dice {low:.3f} to {high:.3f}")
    threshold, smallest = float(parameters["threshold"]), float(parameters["smallest_mm3"])
    report["generated"] = score_generated(root, lesions[shipped], threshold, smallest)
    report["shipped_seed"] = shipped
    for band, row in report["generated"]["bands"].items():
        say(f"generated {band}: {row}")
    say(f"best threshold on generated cases: {report['generated']['best_threshold']}")
    return report


def missed(report: Mapping[str, Any]) -> list[str]:
    """The bars that a report misses, in words; empty where all are met. Lesion bars hold for every seed's mean too."""
    out = [
        f"brain {row['scan']}: {row['dice']} < {BRAIN_BAR}"
        for row in report["brain"]
        if row["dice"] < BRAIN_BAR
    ]
    for person, bar in LESION_BARS.items():
        spread = report["spread"][str(person)]
        if spread["seeds"] < 2:
            out.append(f"person {person}: fewer than two seeds")
        shipped = [
            row["dice"]
            for row in report["lesion"]
            if row["person"] == person and row["seed"] == report["shipped_seed"]
        ]
        for name, value in (("shipped net", shipped[0]), ("mean of seeds", spread["mean"])):
            if value < bar:
                out.append(f"lesion person {person}, {name}: {value} < {bar}")
    if report["generated"]["cases"] < 40:
        out.append("fewer than 40 generated cases")
    if not 0.3 <= report["generated"]["best_threshold"] <= 0.7:
        out.append(f"not calibrated: best threshold {report['generated']['best_threshold']}")
    return out


def main(
    data: Annotated[Path | None, typer.Option(help="Open data folder; default RADFLEET_DATA.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("build/bench-models.json"),
    threads: Annotated[int, typer.Option()] = 2,
) -> None:
    """Score the shipped weights and the nets of the other seeds."""
    import torch

    torch.set_num_threads(threads)
    model = json.loads((PACKAGES / LESION / "model.json").read_text())
    brain = json.loads((PACKAGES / BRAIN / "model.json").read_text())["stages"]["brain"]
    stage = model["stages"]["lesion"]
    lesions = {"1": runtime_net(stage["architecture"], PACKAGES / LESION / stage["weights"])}
    for path in sorted(WEIGHTS.glob("ms-lesion-seed*.safetensors")):
        lesions[path.stem.removeprefix("ms-lesion-seed")] = runtime_net(stage["architecture"], path)
    report = score_all(
        data_root(data),
        runtime_net(brain["architecture"], PACKAGES / BRAIN / brain["weights"]),
        lesions,
        "1",
        model["parameters"],
        typer.echo,
    )
    report["missed"] = missed(report)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    for line in report["missed"]:
        typer.echo(f"MISSED  {line}")
    typer.echo(f"{out}: {'bars met' if not report['missed'] else 'bars missed'}")
    raise typer.Exit(1 if report["missed"] else 0)


if __name__ == "__main__":
    typer.run(main)
