"""The two tiers of a cure: T1 rescales the logit, T2 trains the last blocks and all norms, half of it on replay.

T1 is a slope by likelihood (Platt 1999) and an offset by mean Dice over people, folded into the last layer: two numbers
from a few people. T2 trains 5 % of the weights for a few dozen steps at a tenth of the base's rate; half of each batch
is replay, because a net that only sees its new scanner forgets the old one (Gonzalez et al. 2020, arXiv 2010.11008).
After it the norms are measured anew over the same mixture, and T1 is fitted again.
"""

from __future__ import annotations

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
LAST_BLOCKS = ("1.upcat_2.", "1.upcat_1.", "1.final_conv.")
NORM = ".adn.N."
NORM_ROUNDS = 16


@dataclass(frozen=True, slots=True)
class Labelled:
    """One person's case as the net sees it, at 1 mm."""

    person: str
    case: Case


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of T2: rules of thumb, tuned on nobody.

    replay: share of each batch. worse_max: the replay's loss may grow to so many times what it was; then it is over.
    """

    steps: int = 60
    rate: float = 2e-4
    decay: float = 1e-4
    stacks: int = 12
    replay: float = 0.5
    check: int = 15
    worse_max: float = 1.05
    seed: int = 1


def rescale(logits: Sequence[Array], cohort: Sequence[Labelled], threshold: float) -> tuple[float, float]:
    """T1: slope and offset for the logit; every person weighs the same.

    The slope makes the probabilities most likely, the offset the masks at `threshold` most alike.
    """
    slope = _slope(logits, cohort)

    def score(offset: float) -> float:
        found = mean_chances(list(logits), slope, offset)
        return people_mean(
            {one.person: [] for one in cohort},
            [
                (one.person, dice(chance > threshold, one.case.lesion))
                for one, chance in zip(cohort, found, strict=True)
            ],
        )

    offset = 0.0
    for step in STEPS_OF_OFFSET:
        offset = max((offset + step * turn for turn in range(-3, 4)), key=score)
    return slope, offset


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
    from serving.training.train_lesion import ARCHITECTURE, fresh_norms, lesion_loss

    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng((recipe.seed, 5))
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = build_net(ARCHITECTURE, {name: value.astype(np.float16) for name, value in weights.items()}).to(
        where
    )
    old = min(round(recipe.stacks * recipe.replay), recipe.stacks - 1) if replay else 0
    new = recipe.stacks - old
    fixed = _batch(rng, [(replay, recipe.stacks)], where) if replay else None

    def mixture() -> tuple[Tensor, Tensor]:
        return _batch(rng, [(cohort, new), (replay, old)], where)

    def forgotten() -> float:
        if fixed is None:
            return 0.0
        with torch.no_grad():
            return float(lesion_loss(net(fixed[0]).float(), fixed[1]))

    net.train()
    trained = _free(net)
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=recipe.decay)
    start, kept, steps = forgotten(), _state(net), 0
    for step in range(1, recipe.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * min(1.0, step / 10) * (1 - (step - 1) / recipe.steps)
        images, masks = mixture()
        loss = lesion_loss(net(images).float(), masks)
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
    net.load_state_dict(kept)
    made = _rounded(_state(fresh_norms(net, lambda: mixture()[0], NORM_ROUNDS)))
    return made, {"steps": steps, "weights": sum(part.numel() for part in trained), "replay_of_batch": old}


def _rounded(state: dict[str, Tensor]) -> Weights:
    """What a package keeps of a net's state, rounded once to what float16 holds."""
    return {
        name: value.float().cpu().numpy().astype(np.float16).astype(np.float32)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _free(net: Tensor) -> list[Tensor]:
    """The parameters that may move: norms everywhere, and the last blocks."""
    found = []
    for name, part in net.named_parameters():
        part.requires_grad = NORM in name or name.startswith(LAST_BLOCKS)
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
