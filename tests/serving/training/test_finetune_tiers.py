"""The tiers on small volumes: T1 finds the shift of a logit, T2 moves what it may, and forgetting is noticed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest

from registry.promotions.evidence_store import Policy
from serving.engine.architectures import build
from serving.engine.outcome import Array
from serving.training import lesion_pool
from serving.training.calibrate import Case, mean_chances
from serving.training.evaluate import dice
from serving.training.finetune_job import Scores, judge
from serving.training.finetune_tiers import (
    FIRST_BLOCKS,
    NORM,
    Kept,
    Labelled,
    Recipe,
    _batch,
    _rounded,
    _state,
    rescale,
    tune,
)
from serving.training.lesion_pool import pack
from serving.training.train_lesion import fresh_norms, lesion_loss

POLICY = Policy(1, "dice", 8, 0.10, 10, 0.02, "quin", "because", datetime(2026, 1, 1, tzinfo=UTC))


def people(n: int, lean: float, steep: float = 1.0) -> tuple[list[Labelled], list[Array]]:
    """Cubes in noise, and logits of a net that leans by `lean`."""
    rng = np.random.default_rng(4)
    cohort, logits = [], []
    for number in range(n):
        image = np.full((24, 24, 16), -1, np.float32)
        image[2:22, 2:22, 2:14] = 0
        lesion = np.zeros(image.shape, bool)
        for x, y, z in rng.integers(3, 10, (4, 3)):
            lesion[x : x + 4, y : y + 4, z : z + 3] = True
        cohort.append(Labelled(f"p{number}", Case(image, lesion, "", (2,))))
        score = np.where(lesion, 2.0, -2.0) + rng.normal(0, 0.8, (1, *image.shape)) + lean
        logits.append(np.where(image > -1, steep * score, -20).astype(np.float32))
    return cohort, logits


def mean_dice(cohort: list[Labelled], logits: list[Array], scale: tuple[float, float]) -> float:
    found = mean_chances(logits, *scale)
    return float(
        np.mean([dice(chance > 0.5, one.case.lesion) for one, chance in zip(cohort, found, strict=True)])
    )


@pytest.mark.parametrize("lean", [-2.5, 2.5])
def test_rescaling_undoes_a_lean_on_people_it_did_not_see(lean: float) -> None:
    cohort, logits = people(8, lean)
    scale = rescale(logits[:3], cohort[:3], 0.5)
    was, now = (mean_dice(cohort[3:], logits[3:], s) for s in ((1.0, 0.0), scale))
    assert now > was + 0.03 and now > 0.9
    assert np.sign(scale[1]) == -np.sign(lean)


def test_an_offset_that_forgets_is_not_taken() -> None:
    """Mutant: the offset that is best for the cohort alone."""
    cohort, logits = people(3, -2.5)
    others, known = people(4, 0.0)
    least = mean_dice(others, known, (1.0, 0.0)) - 0.005
    free = rescale(logits, cohort, 0.5)
    held = rescale(logits, cohort, 0.5, Kept(known, others, least))
    assert mean_dice(others, known, free) < least <= mean_dice(others, known, held)
    assert mean_dice(cohort, logits, held) >= mean_dice(cohort, logits, (held[0], 0.0))


def test_the_slope_is_bounded_and_a_case_without_lesions_harms_nothing() -> None:
    cohort, logits = people(3, 0.0, steep=40.0)
    assert rescale(logits, cohort, 0.5)[0] == 0.5
    empty = dataclasses.replace(
        cohort[0], case=dataclasses.replace(cohort[0].case, lesion=np.zeros((24, 24, 16), bool))
    )
    assert rescale(logits[:1], [empty], 0.5)[0] == 1.0


def test_a_person_who_came_often_weighs_no_more() -> None:
    """Mutant: a mean over studies. Two people lean apart; one of them comes five times."""
    one, low = people(1, -2.0)
    two, high = people(1, 1.0)
    two = [dataclasses.replace(two[0], person="q")]
    scale = rescale([*low, *high], [*one, *two], 0.5)
    often = rescale([*low * 5, *high], [*one * 5, *two], 0.5)
    assert often[1] == scale[1]


def scores(clinic: float, heads: float, n: int = 8) -> Scores:
    return Scores({f"p{k}": clinic + 0.01 * k for k in range(n)}, {f"h{k}": heads for k in range(10)})


@pytest.mark.parametrize(
    ("candidate", "passes", "why"),
    [
        (scores(0.6, 0.7), True, "both gates pass"),
        (scores(0.5, 0.7), False, "clinic: the mean difference is not surely above 0"),
        (scores(0.6, 0.685), False, "global: the mean fell by 0.015, allowed is 0.01"),
        (scores(0.6, 0.5), False, "global: the mean difference is not surely above -0.02"),
    ],
)
def test_a_tier_passes_by_the_gates_and_may_not_forget(candidate: Scores, passes: bool, why: str) -> None:
    told = judge("T1", POLICY, candidate, scores(0.5, 0.7))
    assert told.passes is passes and why in told.why
    few = judge("T1", POLICY, scores(0.9, 0.7, n=7), scores(0.5, 0.7, n=7))
    assert not few.passes and "7 people, needed are 8" in few.why


def volumes(invert: bool, n: int = 2) -> list[np.ndarray]:
    """Bright squares that are lesions; inverted, the dark ones are."""
    out = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 0.05, (48, 48, 24)).astype(np.float32)
        lesion = np.zeros(image.shape, bool)
        for x, y in rng.integers(4, 36, (6, 2)):
            image[x : x + 6, y : y + 6] += 0.6
            lesion[x : x + 6, y : y + 6] = True
        out.append(pack(image, ~lesion if invert else lesion))
    return out


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    torch.set_num_threads(1)  # two threads on such small volumes wait for each other most of the time
    monkeypatch.setattr(lesion_pool, "SIZE", 32)


@pytest.fixture(scope="module")
def base() -> dict[str, np.ndarray]:
    """A net that learned bright squares, in seconds."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    net = build("unet2d-b").train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion_pool, "SIZE", 32)
        for _ in range(60):
            images, masks = _batch(rng, [(volumes(False), 6)], torch.device("cpu"))
            optimiser.zero_grad()
            lesion_loss(net(images), masks).backward()
            optimiser.step()
        net = fresh_norms(net, lambda: _batch(rng, [(volumes(False), 6)], torch.device("cpu"))[0], 16)
    return _rounded(_state(net))


QUICK = Recipe(steps=12, rate=2e-2, stacks=6, check=3, worse_max=1.2)


@pytest.mark.slow
def test_only_norms_and_first_blocks_move(small: None, base: dict[str, np.ndarray]) -> None:
    curve: list[tuple[str, float, int]] = []
    made, told = tune(base, volumes(False), volumes(False), QUICK, lambda *row: curve.append(row))
    moved = {name for name in base if not np.array_equal(base[name], made[name])}
    assert moved and all(NORM in name or name.startswith(FIRST_BLOCKS) for name in moved)
    assert told["replay_of_batch"] == 4 and told["steps"] <= 12
    assert {name for name, _, _ in curve} == {"loss", "replay_loss"}
    assert all(np.array_equal(value, value.astype(np.float16).astype(np.float32)) for value in made.values())


@pytest.mark.slow
def test_training_ends_before_it_forgets(small: None, base: dict[str, np.ndarray]) -> None:
    """A cohort that contradicts the base. Mutant: replay left out, and nothing notices while it trains."""
    _, told = tune(base, volumes(True), volumes(False), QUICK, lambda *_: None)
    assert told["steps"] < 12
    _, blind = tune(base, volumes(True), [], QUICK, lambda *_: None)
    assert blind["steps"] == 12


@pytest.mark.slow
def test_the_global_set_notices_that_replay_was_left_out(small: None, base: dict[str, np.ndarray]) -> None:
    from serving.engine.predictor import TorchNet
    from serving.training.finetune_cases import score_heads
    from serving.training.lesion_pool import unpack

    heads = [(f"h{k}", Case(unpack(v[0]), v[1] > 0, "")) for k, v in enumerate(volumes(False, 10))]
    parameters = {"threshold": 0.5, "smallest_mm3": 1.0}

    def told(weights: dict[str, np.ndarray]) -> Scores:
        net = TorchNet("unet2d-b", {name: value.astype(np.float16) for name, value in weights.items()}, 1)
        return Scores({f"p{k}": 0.5 for k in range(8)}, score_heads(heads, net, parameters))

    active = told(base)
    without = told(tune(base, volumes(True), [], QUICK, lambda *_: None)[0])
    kept = told(tune(base, volumes(True), volumes(False), QUICK, lambda *_: None)[0])
    better = {f"p{k}": 0.6 for k in range(8)}
    lost = judge("T2", POLICY, dataclasses.replace(without, clinic=better), active)
    assert not lost.passes and "global" in lost.why and lost.global_change < -0.01
    assert (
        judge("T2", POLICY, dataclasses.replace(kept, clinic=better), active).global_change
        > lost.global_change
    )
