"""Measures studies whose lesions are known: real and generated heads through the served model, clean and with events.

Two real people (07 and 19, skull-stripped FLAIR) and the sixteen generated heads of `serving.training.scenes`, brought
to slices of 5 mm and, each time anew, to a scanner's noise, shading, contrast and gain of its own. Then the same under
an event. Each is answered by ms-lesion 1.0.0 as it is served and measured by serving's own quality features; Dice at
every step of the threshold is taken as a review keeps it. Real rows are two people's, whatever their number.

The severities were set before any Dice of theirs was seen, but for "threshold off": it was 1 and 2 logits up until a
first look at the two real people showed that up helps; since then it is 2 up and 2 down. Writes one CSV line a study,
which `tests.bench.harm_measured` and `radfleet monitor simulate --measured` resample; generated, never committed.

Run: python -m tests.bench.measured [--turns N] [--out build/measured.csv]
"""

import argparse
import csv
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from serving.engine.ms_lesion import segment
from serving.engine.outcome import Array, Net
from serving.engine.package import default_package, read_package
from serving.imaging.quality import measure
from serving.imaging.volume import Volume
from serving.reviews import ladder, masks
from serving.reviews.lattice import Grid
from serving.training import scenes
from serving.training.evaluate import dice, flair_person
from serving.training.finetune_cases import nets_of
from serving.training.labelmaps import data_root
from tests.bench.cure import tuned_net
from tests.bench.record import BUILD

SLICE = 5
PEOPLE = (7, 19)
SEED = 301
Event = Callable[[np.random.Generator, Array, float], Array]


def _shaded(rng: np.random.Generator, image: Array, strength: float) -> Array:
    """A slope and a bowl of brightness in a direction of chance."""
    place = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape), indexing="ij")
    slope = rng.normal(0, 1, 3)
    slope /= np.linalg.norm(slope)
    along = sum(s * p for s, p in zip(slope, place, strict=True))
    return np.asarray(image * (1 + strength * (along - (along**2) / 2)), np.float32)


def _noisy(rng: np.random.Generator, image: Array, sd: float) -> Array:
    grain = rng.standard_normal((2, *image.shape), dtype=np.float32) * sd
    return np.asarray(np.hypot(image + grain[0], grain[1]), np.float32)


def _blurred(_: np.random.Generator, image: Array, sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter(image, (sigma, sigma, 0)), np.float32)


def _gapped(_: np.random.Generator, image: Array, kept: float) -> Array:
    """Only every second or third slice was made, and what lies between is filled from the neighbours."""
    step = int(kept)
    return np.asarray(
        ndimage.zoom(image[..., ::step], (1, 1, image.shape[2] / image[..., ::step].shape[2]), order=1)
    )


def _inverted(_: np.random.Generator, image: Array, share: float) -> Array:
    """Bright becomes dark; ``share`` of it, for a mixture of both contrasts."""
    top = float(np.quantile(image[image > 0], 0.99))
    return np.asarray(
        np.where(image > 0, (1 - share) * image + share * np.maximum(top - image, 0.05), 0), np.float32
    )


def _cropped(_: np.random.Generator, image: Array, share: float) -> Array:
    """The upper part of the head lies outside the field of view."""
    out = image.copy()
    out[..., int(image.shape[2] * (1 - share)) :] = 0
    return out


def _unnulled(_: np.random.Generator, image: Array, amount: float) -> Array:
    """Fluid is bright: the inversion time is wrong."""
    return np.asarray(np.where(image > 0, image + amount / (1 + np.exp((image - 0.5) / 0.07)), 0), np.float32)


def _contrast(_: np.random.Generator, image: Array, power: float) -> Array:
    return np.asarray(np.maximum(image, 0) ** power, np.float32)


EVENTS: Mapping[str, tuple[Event, tuple[float, float]]] = {
    "bias field": (_shaded, (0.3, 0.6)), "noise": (_noisy, (0.08, 0.16)), "blur": (_blurred, (0.8, 1.6)),
    "slice gap": (_gapped, (2, 3)), "inversion": (_inverted, (0.35, 0.7)), "cropped": (_cropped, (0.2, 0.4)),
    "fluid not nulled": (_unnulled, (0.4, 0.8)), "flat contrast": (_contrast, (0.7, 0.5)),
}  # fmt: skip
"""What changes in the image, white matter near 1, and how much: mildly, strongly."""
MODEL_EVENTS: Mapping[str, tuple[float, float]] = {
    "threshold off": (2.0, -2.0),
    "weights corrupted": (0.05, 0.1),
}
"""What changes in the version: logits by which its threshold moved; noise of each weight, in sd of its layer."""


def bases(root: Path, turns: int) -> Iterator[tuple[int, str, str, Array, Array]]:
    """Turn, person, real or rendered, image [X,Y,Z] at 1 mm with white matter near 1 and 0 outside, lesions."""
    real = []
    for number in PEOPLE:
        volume, lesion = flair_person(root, number)
        image = np.maximum(volume.voxels.astype(np.float32), 0)
        real.append(
            (f"person {number:02d}", "real", image / float(np.median(image[image > 0])), np.asarray(lesion))
        )
    for turn in range(turns):
        yield from ((turn, *its) for its in real)
        for name, flair in scenes.whole(turn):
            yield turn, name, "rendered", np.where(flair.image > -1, flair.image + 1, 0), flair.lesion


def scanned(rng: np.random.Generator, image: Array, event: str = "", strength: float = 0.0) -> Array:
    """One scan of a head: what varies from study to study, and the event."""
    its = _contrast(rng, image, float(np.exp(rng.normal(0, 0.06))))
    its = _shaded(rng, its, float(abs(rng.normal(0, 0.08))))
    its = _blurred(rng, its, float(rng.uniform(0, 0.4)))
    if event in EVENTS:
        its = EVENTS[event][0](rng, its, strength)
    its = _noisy(rng, its, 0.02 * float(np.exp(rng.normal(0, 0.3)))) * 400 * float(np.exp(rng.normal(0, 0.1)))
    return np.where(image > 0, np.maximum(its, 1), 0).astype(np.float32)


@cache
def answering(corrupted: float = 0.0) -> tuple[dict[str, Net], dict[str, Any]]:
    """The nets and model.json of the version, its lesion net's weights noisy where asked."""
    content = read_package(default_package("ms-lesion"))
    nets = nets_of(content, 1)
    if corrupted:
        rng = np.random.default_rng(SEED)
        weights = {}
        for name, tensor in sorted(content.weights("lesion").items()):  # they come in any order
            w = tensor.astype(np.float32)  # squares of float16 overflow
            noise = corrupted * float(w.std()) * rng.standard_normal(w.shape, dtype=np.float32)
            weights[name] = w + noise
        nets["lesion"] = tuned_net(content, weights)
    return nets, dict(content.package.model)


def row(
    name: tuple[str, str], image: Array, lesion: Array, event: str, severity: int, seed: Sequence[int]
) -> dict[str, Any]:
    """One study: scanned, answered, measured, compared with its lesions."""
    rng = np.random.default_rng([SEED, *seed])
    strength = (
        0.0 if not event else (EVENTS[event][1] if event in EVENTS else MODEL_EVENTS[event])[severity - 1]
    )
    affine = np.diag([1.0, 1.0, float(SLICE), 1.0])
    volume = Volume(scanned(rng, image, event, strength), affine)
    nets, model = answering(strength if event == "weights corrupted" else 0.0)
    parameters = model["parameters"]
    if event == "threshold off":
        cut = parameters["threshold"]
        parameters = {
            **parameters,
            "threshold": float(1 / (1 + np.exp(-(np.log(cut / (1 - cut)) + strength)))),
        }
    model = {**model, "parameters": parameters}
    reply = segment(volume, nets, parameters)
    levels = ladder.keep(reply.probability, reply.mask, volume, model)
    assert levels is not None, "one label, one threshold"
    grid = Grid(volume.shape, affine)
    kept, _ = masks.decode(levels, hashlib.sha256(levels).digest())
    steps = ladder.dice_by_step(kept, lesion.astype(np.uint8), reply.mask, grid, "ms-lesion", parameters)
    features = {**measure(volume, reply.brain), **dict(reply.numbers)}
    return {
        "simulated": "yes", "person": name[0], "source": name[1], "event": event or "none", "severity": severity,
        **{key: value for key, value in features.items() if value is not None},
        "dice": dice(reply.mask > 0, lesion),
        # As with a review: where the levels do not give the delivered mask again, nothing is said of other steps.
        **{f"dice_at_{step:g}": steps and steps[f"{step:g}"] for step in ladder.STEPS},
    }  # fmt: skip


def studies(root: Path, turns: int) -> Iterator[tuple[Any, ...]]:
    """The arguments of `row` for the whole table: every head clean, and under each event at one of two severities."""
    for n, (turn, person, source, image, lesion) in enumerate(bases(root, turns)):
        seen, truth = scenes.thick(image, SLICE), scenes.thick(lesion.astype(np.float32), SLICE) > 0.5
        yield (person, source), seen, truth, "", 0, (n, 0)
        for k, event in enumerate((*EVENTS, *MODEL_EVENTS), 1):
            yield (person, source), seen, truth, event, 1 + turn % 2, (n, k)


def _row(its: tuple[Any, ...]) -> dict[str, Any]:
    return row(*its)


def write(out: Path, root: Path, turns: int) -> list[dict[str, Any]]:
    """Measure every study, in as many processes as there are cores, and write the table."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        rows = list(pool.map(_row, studies(root, turns), chunksize=4))
    names = list(dict.fromkeys(name for its in rows for name in its))
    out.parent.mkdir(exist_ok=True)
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, ["study", *names], restval="")
        table.writeheader()
        table.writerows({"study": n, **{k: _plain(v) for k, v in its.items()}} for n, its in enumerate(rows))
    return rows


def _plain(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def main() -> int:
    """Write the table and say what it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=4, help="scans of each head, clean and with each event")
    parser.add_argument("--out", type=Path, default=BUILD / "measured.csv")
    asked = parser.parse_args()
    began = time.perf_counter()
    rows = write(asked.out, data_root(None), asked.turns)
    for event in dict.fromkeys(its["event"] for its in rows):
        for severity in sorted({its["severity"] for its in rows if its["event"] == event}):
            some = [its for its in rows if (its["event"], its["severity"]) == (event, severity)]
            kept = [its for its in some if its["dice_at_0"] is not None]
            steps = (
                {s: np.mean([its[f"dice_at_{s:g}"] for its in kept]) for s in ladder.STEPS}
                if kept
                else {0: np.nan}
            )
            best = max(steps, key=lambda s: steps[s])
            print(f"{event:18} {severity}  n {len(some):3}  Dice {np.mean([i['dice'] for i in some]):.3f}"
                  f"  best step {best:+g}: {steps[best]:.3f} ({len(kept)} with levels)")  # fmt: skip
    heads = len({its["person"] for its in rows if its["source"] == "rendered"})
    people = len({its["person"] for its in rows if its["source"] == "real"})
    print(f"{asked.out}: {len(rows)} studies of {people} real people and {heads} generated heads, "
          f"{time.perf_counter() - began:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
