"""Trains the FLAIR lesion net on rendered volumes: `python -m serving.training.train_lesion --seed 1 --out FILE`.

No image of a real person is used and neither person 07 nor 19 gives a lesion mask, so one net serves both left-out
tests. The curve is written beside the weights (JSON lines) and to MLflow where MLFLOW_TRACKING_URI is set.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
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
from serving.training.labelmaps import data_root
from serving.training.lesion_pool import Pool, fill

Tensor = Any
ARCHITECTURE = "unet2d-b"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a run. The rate follows a cosine over the minutes, so a shared machine only means fewer steps."""

    minutes: float
    seed: int
    rate: float = 2e-3
    decay: float = 1e-3
    volumes: int = 3
    stacks: int = 2
    average: float = 0.995


def lesion_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Soft Dice over the whole batch + 2 x cross-entropy; the second keeps the probabilities honest."""
    chance = torch.sigmoid(logit)
    dice = 1 - (2 * (chance * target).sum() + 1) / (chance.sum() + target.sum() + 1)
    return dice + 2 * functional.binary_cross_entropy_with_logits(logit, target)


def batch_of(pool: Pool, volumes: int, stacks: int) -> tuple[Tensor, Tensor]:
    """Images [N,5,128,128] and masks [N,1,128,128], `stacks` out of each of `volumes` random volumes."""
    pairs = [pair for _ in range(volumes) for pair in pool.stacks(stacks)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs]))
    return images.to(memory_format=torch.channels_last), torch.from_numpy(
        np.stack([mask for _, mask in pairs])
    )


def fresh_norms(net: Tensor, batches: Callable[[], Tensor], rounds: int = 40) -> Tensor:
    """A copy with the batch-norm statistics measured anew over `rounds` batches; no labels are used.

    Averaged weights need it: the running statistics they carry belong to other weights (on the prototype the mismatch
    cost Dice .62 -> .45).
    """
    net = copy.deepcopy(net)
    norms = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain mean over the rounds
    net.train()
    with torch.no_grad(), half_where_fast():
        for _ in range(rounds):
            net(batches())
    return net.eval()


def train(recipe: Recipe, pool: Pool, out: Path, curve: Curve, resume: Path | None = None) -> int:
    """Train until the minutes are over; leaves float16 weights at `out`, refreshed every 4 minutes. Returns steps."""
    torch.manual_seed(recipe.seed)
    net = build(ARCHITECTURE).train().to(memory_format=torch.channels_last)
    if resume is not None:
        kept = {name: torch.from_numpy(value) for name, value in load_weights(resume).items()}
        net.load_state_dict(net.state_dict() | kept)  # batch norm's counters are in no weights file
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    start, step, saved, losses = time.monotonic(), 0, 0.0, [0.0]
    while (passed := (time.monotonic() - start) / 60) < recipe.minutes:
        if step % 50 == 0:
            pool.refresh()
        for group in optimiser.param_groups:
            group["lr"] = cosine(recipe.rate, step, 60, passed / recipe.minutes)
        images, masks = batch_of(pool, recipe.volumes, recipe.stacks)
        with half_where_fast():
            logit = net(images)
        loss = lesion_loss(logit.float(), masks)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 3.0)
        optimiser.step()
        step += 1
        _follow(mean, net, min(recipe.average, step / (step + 20)))
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            curve("loss", float(np.mean(losses[-50:])), step)
            curve("minutes", passed, step)
        if passed - saved > 4:
            saved = passed
            half_precision_file(fresh_norms(mean, lambda: batch_of(pool, 4, 3)[0], 12), out)
    half_precision_file(fresh_norms(mean, lambda: batch_of(pool, 12, 1)[0]), out)
    return step


def _follow(mean: Tensor, net: Tensor, keep: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(mean.parameters(), net.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)


def main(
    out: Annotated[Path, typer.Option(help="Weights file to write.")] = Path(
        ".train/lesion/seed1.safetensors"
    ),
    data: Annotated[Path | None, typer.Option(help="Open data folder; default RADFLEET_DATA.")] = None,
    minutes: Annotated[float, typer.Option()] = 35,
    seed: Annotated[int, typer.Option()] = 1,
    pool: Annotated[
        Path | None, typer.Option(help="Folder of rendered volumes, filled when it is absent.")
    ] = None,
    volumes: Annotated[int, typer.Option(help="Volumes to render into a new pool.")] = 570,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    resume: Annotated[Path | None, typer.Option(help="Go on from these weights.")] = None,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    """Train one net; render the shared pool first where it does not exist."""
    torch.set_num_threads(threads)
    folder = pool if pool is not None else out.parent / "pool"
    if not folder.is_dir():
        fill(data_root(data), folder, volumes, seed=1)
    source = Pool(folder, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_curve(f"train-lesion-seed{seed}", out.with_suffix(".jsonl")) as curve:
        steps = train(Recipe(minutes, seed, rate), source, out, curve, resume)
    typer.echo(f"{out}: {steps} steps, {source.refresh()} rendered volumes, {minutes:g} min")


if __name__ == "__main__":
    typer.run(main)
