"""The two tiers of a cure: T1 rescales the logit, T2 trains the first blocks and all norms, mostly on replay.

T1 is a slope by likelihood (Platt 1999) and an offset by mean Dice over people, folded into the last layer: two numbers
from a few people. T2 trains the blocks that meet the image first: another scanner changes what goes in, and there the
first blocks are the ones to adapt (Lee et al. 2023, "Surgical fine-tuning", arXiv 2210.11466). Most of each batch is
replay, because a net that only sees its new scanner forgets the old one (Gonzalez et al. 2020, arXiv 2010.11008), and
there the net is held to what the base says (Li and Hoiem 2016, "Learning without forgetting", arXiv 1606.09282). The
norms' statistics stay the base's: a few people are too few to measure them. What comes out is half way between the base
and what was trained, where most of the gain is and little was forgotten (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", arXiv 2109.01903). No T1 follows: replay was trained on now, and cannot say any more what an offset
forgets.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.outcome import Array
from serving.training.calibrate import Case, mean_chances
from serving.training.curves import Curve
from serving.training.evaluate import dice

Weights = dict[str, NDArray[Any]]
Tensor = Any
SLOPES = (0.5, 1.5)  # a fit on a few people may not turn the net over
STEPS_OF_OFFSET = (2.0, 0.5, 0.25)
FIRST_BLOCKS = ("1.conv_0.", "1.down_1.")
NORM = ".adn.N."


@dataclass(frozen=True, slots=True)
class Labelled:
    """One person's case as the net sees it, at 1 mm."""

    person: str
    case: Case


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of T2, chosen on generated heads with a flattened contrast; on nobody whom a bench or a clinic judges.

    300 steps were tried: a little more comes back on generated heads, and less on the one real person looked at. So 50
    stay, and who has many labelled people may ask for more.

    replay: share of each batch. hold: weight of staying near what the base says of it.
    worse_max: the replay's loss may grow to so many times what it was; then it is over.
    way: how far the weights go from the base's to those that were trained.
    """

    steps: int = 50
    rate: float = 2e-3
    decay: float = 1e-4
    stacks: int = 12
    replay: float = 2 / 3
    hold: float = 1.0
    check: int = 15
    worse_max: float = 1.05
    way: float = 0.5
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What may not be forgotten: replayed cases, a net's logits of them, and the mean Dice that must stay."""

    logits: Sequence[Array]
    cases: Sequence[Labelled]
    least: float


def rescale(
    logits: Sequence[Array], cohort: Sequence[Labelled], threshold: float, kept: Kept | None = None
) -> tuple[float, float]:
    """T1: slope and offset for the logit; every person weighs the same.

    The slope makes the probabilities most likely, the offset the masks at `threshold` most alike; of the offsets only
    those with which `kept` keeps its Dice, as long as there are any.
    """
    slope = _slope(logits, cohort)

    def score(offset: float) -> tuple[bool, float]:
        if kept is not None:
            old = mean_dice_of(kept.logits, kept.cases, (slope, offset), threshold)
            if old < kept.least:
                return False, old
        return True, mean_dice_of(logits, cohort, (slope, offset), threshold)

    offset = 0.0
    for step in STEPS_OF_OFFSET:
        offset = max((offset + step * turn for turn in range(-3, 4)), key=score)
    return slope, offset


def mean_dice_of(
    logits: Sequence[Array], cases: Sequence[Labelled], scale: tuple[float, float], threshold: float
) -> float:
    """Mean over people of the mean Dice of each one's masks at `threshold` of slope x logit + offset."""
    found = mean_chances(list(logits), *scale)
    scores = [
        (one.person, dice(chance > threshold, one.case.lesion))
        for chance, one in zip(found, cases, strict=True)
    ]
    return people_mean({one.person: [] for one in cases}, scores)


def people_mean(people: dict[str, list[float]], scores: Sequence[tuple[str, float]]) -> float:
    """Mean over people of each one's mean score."""
    for person, value in scores:
        people[person].append(value)
    return float(np.mean([np.mean(values) for values in people.values()]))


def _slope(logits: Sequence[Array], cohort: Sequence[Labelled]) -> float:
    """The slope of a logistic regression on the mean logit, by Newton's steps; every person weighs the same."""
    often = Counter(one.person for one in cohort)
    rows, truths, weights = [], [], []
    for each, one in zip(logits, cohort, strict=True):
        inside = one.case.image > -1
        z, truth = each.mean(0)[inside].astype(np.float64), one.case.lesion[inside]
        if not truth.any() or truth.all():
            continue
        rows.append(z)
        truths.append(truth.astype(np.float64))
        weights.append(np.full(z.size, 1 / (z.size * often[one.person])))
    if not rows:
        return 1.0
    z, t, w = np.concatenate(rows), np.concatenate(truths), np.concatenate(weights)
    design, theta = np.stack([z, np.ones_like(z)], 1), np.zeros(2)
    for _ in range(12):
        chance = 0.5 * (1 + np.tanh(0.5 * design @ theta))
        gradient = design.T @ (w * (chance - t)) + 1e-6 * theta
        curvature = (design * (w * chance * (1 - chance))[:, None]).T @ design + 1e-6 * np.eye(2)
        theta = theta - np.linalg.solve(curvature, gradient).clip(-2, 2)
    return float(np.clip(theta[0], *SLOPES))


def tune(
    weights: Weights,
    cohort: Sequence[NDArray[np.uint8]],
    replay: Sequence[NDArray[np.uint8]],
    recipe: Recipe,
    curve: Curve,
) -> tuple[Weights, dict[str, int]]:
    """T2 on volumes of `lesion_pool.pack`: new weights (float16-representable) and what was done.

    Stops early where the replay's loss on fixed stacks has grown beyond `worse_max`, and then gives the last state
    that was within it. Runs on a GPU where there is one.
    """
    import torch

    from serving.engine.predictor import build_net
    from serving.training.train_lesion import ARCHITECTURE, lesion_loss

    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng((recipe.seed, 5))
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = {name: value.astype(np.float16) for name, value in weights.items()}
    net = build_net(ARCHITECTURE, half).to(where).eval()  # the norms' statistics stay
    base = copy.deepcopy(net)
    old = min(round(recipe.stacks * recipe.replay), recipe.stacks - 1) if replay else 0
    fixed = _batch(rng, [(replay, recipe.stacks)], where) if replay else None

    def forgotten() -> float:
        if fixed is None:
            return 0.0
        with torch.no_grad():
            return float(lesion_loss(net(fixed[0]).float(), fixed[1]))

    trained = _free(net)
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=recipe.decay)
    start, kept, steps = forgotten(), _state(net), 0
    for step in range(1, recipe.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * min(1.0, step / 10) * (1 - (step - 1) / recipe.steps)
        batch = _batch(rng, [(cohort, recipe.stacks - old), (replay, old)], where)
        loss = _loss(net, base, batch, old, recipe.hold)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 3.0)
        optimiser.step()
        curve("loss", float(loss.detach()), step)
        if step % recipe.check == 0 or step == recipe.steps:
            now = forgotten()
            curve("replay_loss", now, step)
            if now > start * recipe.worse_max:
                break
            kept, steps = _state(net), step
    first = base.state_dict()
    half_way = {name: first[name] + recipe.way * (value - first[name]) for name, value in kept.items()}
    return _rounded(half_way), {
        "steps": steps,
        "weights": sum(part.numel() for part in trained),
        "replay_of_batch": old,
    }


def _loss(net: Tensor, base: Tensor, batch: tuple[Tensor, Tensor], old: int, hold: float) -> Tensor:
    """The loss of a batch whose last `old` stacks are replay: there what the base says counts too."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as bce

    from serving.training.train_lesion import lesion_loss

    images, masks = batch
    logits = net(images).float()
    loss = lesion_loss(logits, masks)
    if old:
        with torch.no_grad():
            said = torch.sigmoid(base(images[-old:]).float())
        loss = loss + hold * bce(logits[-old:], said)
    return loss


def _rounded(state: dict[str, Tensor]) -> Weights:
    """What a package keeps of a net's state, rounded once to what float16 holds."""
    return {
        name: value.float().cpu().numpy().astype(np.float16).astype(np.float32)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _free(net: Tensor) -> list[Tensor]:
    """The parameters that may move: norms everywhere, and the first blocks."""
    found = []
    for name, part in net.named_parameters():
        part.requires_grad = NORM in name or name.startswith(FIRST_BLOCKS)
        found += [part] if part.requires_grad else []
    return found


def _state(net: Tensor) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _batch(
    rng: np.random.Generator, shares: Sequence[tuple[Sequence[NDArray[np.uint8]], int]], where: Tensor
) -> tuple[Tensor, Tensor]:
    """Images [N,5,128,128] and masks [N,1,128,128]: so many stacks out of random volumes of each source."""
    import torch

    from serving.training.lesion_pool import cut

    pairs = [
        cut(rng, volumes[int(rng.integers(len(volumes)))]) for volumes, count in shares for _ in range(count)
    ]
    images, masks = (torch.from_numpy(np.stack(each)).to(where) for each in zip(*pairs, strict=True))
    return images.to(memory_format=torch.channels_last), masks
