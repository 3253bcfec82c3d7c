"""Trains the brain net on rendered heads: `python -m serving.training.train_brain --out FOLDER`.

No real image is seen. Two cosine cycles; `first.safetensors` is the net after cycle one, `final.safetensors` after two.
The curve is written beside the weights (JSON lines) and to MLflow where MLFLOW_TRACKING_URI is set.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn import functional

from serving.engine.architectures import build
from serving.training.curves import (
    Curve,
    cosine,
    half_precision_file,
    half_where_fast,
    load_weights,
    open_curve,
)
from serving.training.labelmaps import HELD_MAPS, TRAIN_MAPS, data_root
from serving.training.render_head import Head, head_anatomy, head_image, head_stream, load_head

Tensor = Any
ARCHITECTURE = "unet3d-b"


@dataclass(frozen=True, slots=True)
class Cycle:
    """One run of the learning rate from `rate` down to nothing over `minutes` of wall clock."""

    name: str
    minutes: float
    rate: float


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined, unused-ignore]
    """Rendered heads out of a process of its own, so that rendering and training use two cores."""

    def __init__(self, heads: list[Head], seed: int) -> None:
        self.heads, self.seed = heads, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.set_num_threads(1)
        return head_stream(np.random.default_rng((self.seed, 0)), self.heads)


def brain_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Mean soft Dice (squared) of the three outlines + 0.5 x cross-entropy. [1,3,X,Y,Z] each."""
    chance, axes = torch.sigmoid(logit), (2, 3, 4)
    both = chance.pow(2).sum(axes) + target.pow(2).sum(axes)
    dice = 1 - (2 * (chance * target).sum(axes) + 1) / (both + 1)
    return dice.mean() + 0.5 * functional.binary_cross_entropy_with_logits(logit, target)


def held_out_dice(net: Tensor, cases: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Mean Dice of the three outlines at probability .5 on rendered cases."""
    rows = []
    with torch.no_grad(), half_where_fast():
        for image, target in cases:
            found, truth = net(image[None, None]).float()[0] > 0, target > 0.5
            both = (found & truth).sum((1, 2, 3)) * 2.0
            rows.append((both / (found.sum((1, 2, 3)) + truth.sum((1, 2, 3))).clamp(min=1)).numpy())
    return [float(value) for value in np.mean(rows, 0)]


def run_cycle(
    cycle: Cycle, net: Tensor, mean: Tensor, stream: Iterator[tuple[Tensor, Tensor]],
    held: list[tuple[Tensor, Tensor]], out: Path, curve: Curve, done: int,
) -> int:  # fmt: skip
    """Train `net` in place with its running average `mean`; writes out/<name>.safetensors. Returns all steps so far."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=cycle.rate, weight_decay=1e-4)
    start, step, checked, losses = time.monotonic(), 0, 0.0, [0.0]
    while (passed := (time.monotonic() - start) / 60) < cycle.minutes:
        for group in optimiser.param_groups:
            group["lr"] = cosine(cycle.rate, step, 100, passed / cycle.minutes)
        image, target = next(stream)
        with half_where_fast():
            logit = net(image[None, None].to(memory_format=torch.channels_last_3d))
        loss = brain_loss(logit.float(), target[None])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 3.0)
        optimiser.step()
        step += 1
        keep = min(0.998, (done + step) / (done + step + 20))
        with torch.no_grad():
            for slow, fast in zip(mean.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        losses.append(float(loss.detach()))
        if step % 100 == 0:
            curve("loss", float(np.mean(losses[-100:])), done + step)
            curve("minutes", passed, done + step)
        if passed - checked > 4:
            checked = passed
            for name, value in zip(("hull", "mask", "icv"), held_out_dice(mean, held), strict=True):
                curve(f"held_dice_{name}", value, done + step)
            half_precision_file(mean, out / f"{cycle.name}.safetensors")
    half_precision_file(mean, out / f"{cycle.name}.safetensors")
    return done + step


def main(
    out: Annotated[Path, typer.Option(help="Folder for first and final weights.")] = Path(".train/brain"),
    data: Annotated[Path | None, typer.Option(help="Open data folder; default RADFLEET_DATA.")] = None,
    minutes: Annotated[float, typer.Option(help="Of both cycles; the first takes 52 %.")] = 80,
    seed: Annotated[int, typer.Option()] = 1,
    resume: Annotated[Path | None, typer.Option(help="Start the second cycle from these weights.")] = None,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train the brain net: first cycle from nothing, second cycle from its average."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    root = data_root(data)
    heads, others = ([load_head(root, number) for number in numbers] for numbers in (TRAIN_MAPS, HELD_MAPS))
    rng = np.random.default_rng(99)
    held = [head_image(rng, *head_anatomy(rng, others)) for _ in range(12)]
    loader = torch.utils.data.DataLoader(
        Stream(heads, seed + 100 * (resume is not None)), batch_size=None, num_workers=1, prefetch_factor=8
    )
    net = build(ARCHITECTURE).train().to(memory_format=torch.channels_last_3d)
    cycles = [Cycle("first", 0.52 * minutes, 1.5e-3), Cycle("final", 0.48 * minutes, 6e-4)]
    if resume is not None:
        net.load_state_dict({name: torch.from_numpy(value) for name, value in load_weights(resume).items()})
        cycles = [Cycle("final", minutes, 6e-4)]
    out.mkdir(parents=True, exist_ok=True)
    stream, steps, mean = iter(loader), 0, copy.deepcopy(net)
    with open_curve(f"train-brain-seed{seed}", out / "curve.jsonl") as curve:
        for cycle in cycles:
            net.load_state_dict(mean.state_dict())
            steps = run_cycle(cycle, net, mean, stream, held, out, curve, steps)
            typer.echo(f"{cycle.name}: {steps} steps in all")


if __name__ == "__main__":
    typer.run(main)
