"""Training steps, weights files, calibration: small and exact, no claim about accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serving.engine.architectures import ARCHITECTURES, build
from serving.engine.errors import UnknownArchitecture
from serving.training.calibrate import (
    LAST,
    Case,
    best_threshold,
    calibrate,
    direction_logits,
    folded,
    mean_chances,
)  # fmt: skip
from serving.training.curves import cosine, half_precision_file, load_weights, open_curve
from serving.training.evaluate import runtime_net

pytestmark = pytest.mark.slow


def test_architectures_keep_the_grid_and_limit_the_logit() -> None:
    import torch

    for name in ("unet3d-b", "unet2d-b"):
        spec = ARCHITECTURES[name]
        shape = (*spec.example[:2], *[2 * spec.multiple] * (len(spec.example) - 2))
        with torch.no_grad():
            out = build(name)(100 * torch.randn(shape))
        assert out.shape == (shape[0], spec.outputs, *shape[2:])
        assert float(out.abs().max()) <= 20
    with pytest.raises(UnknownArchitecture):
        build("whatever")


def test_weights_are_written_whole_and_in_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    half_precision_file(build("unet2d-b"), path)
    assert path.stat().st_size < 8_000_000 and [p.name for p in tmp_path.iterdir()] == [path.name]
    weights = load_weights(path)
    assert all(value.dtype == np.float32 for value in weights.values())
    assert set(LAST) <= set(weights)


def test_folding_equals_adjusting_the_logit(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "net.safetensors"
    half_precision_file(build("unet2d-b"), path)
    x = np.random.default_rng(0).standard_normal((2, 5, 64, 64)).astype(np.float32)
    expected = 1.5 * runtime_net("unet2d-b", path, 1)(x) - 0.75
    net = build("unet2d-b")
    weights = folded(load_weights(path), 1.5, -0.75)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.no_grad():
        assert np.abs(net(torch.from_numpy(x)).numpy() - expected).max() < 0.02


def test_best_threshold_is_found_on_the_cases_given() -> None:
    image = np.full((32, 40, 36), -1, np.float32)
    image[4:28, 4:36, 4:32] = 0
    image[10:20, 10:20, 10:20] = 0.5
    case = Case(image, image == 0.5, "strong")
    # brain voxels get chance .73, lesions .88: the best cut lies between
    logits = direction_logits(lambda x: (1 + 2 * x[:, 2:3]).astype(np.float32), [case])
    found = mean_chances(logits)
    cut, value = best_threshold(found, [case])
    assert 0.73 < cut < 0.88 and value == 1.0
    moved = mean_chances(logits, slope=1.0, offset=-1.5)
    assert best_threshold(moved, [case])[0] < cut
    assert moved[0][case.lesion].min() > 0.5 > moved[0][~case.lesion].max()


@pytest.mark.parametrize("lean", [-2.5, 2.5])
def test_calibration_brings_the_best_threshold_to_the_middle(lean: float) -> None:
    """A net that leans by `lean`, with noise in its logits as every net has, and steep by a factor of two."""
    rng = np.random.default_rng(3)
    image = np.full((40, 44, 40), -1, np.float32)
    image[4:36, 4:40, 4:36] = 0
    cases, logits = [], []
    for _ in range(3):
        lesion = np.zeros(image.shape, bool)
        for corner in rng.integers(6, 28, (6, 3)):
            lesion[tuple(slice(c, c + 5) for c in corner)] = True
        cases.append(Case(image, lesion, "middle"))
        score = np.where(lesion, 1.5, -1.5) + rng.normal(0, 1.0, (3, *image.shape))
        logits.append(np.where(image > -1, 2 * (score + lean), -20).astype(np.float32))
    before, _ = best_threshold(mean_chances(logits), cases)
    slope, offset = calibrate(logits, cases)
    after, _ = best_threshold(mean_chances(logits, slope, offset), cases)
    assert not 0.3 <= before <= 0.7 and 0.4 <= after <= 0.6
    assert np.sign(offset) == -np.sign(lean)


def test_rate_rises_then_falls() -> None:
    rates = [cosine(1e-3, step, 10, step / 100) for step in range(101)]
    assert int(np.argmax(rates)) in range(8, 11) and rates[-1] == pytest.approx(1e-5)


def test_lesion_training_writes_weights_and_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.training.lesion_pool import Pool
    from serving.training.train_lesion import Recipe, train

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rng = np.random.default_rng(1)
    stored = np.stack([rng.integers(1, 255, (48, 48, 48)), rng.integers(0, 2, (48, 48, 48))]).astype(np.uint8)
    np.save(tmp_path / "001-00000.npy", stored)
    out = tmp_path / "net.safetensors"
    with open_curve("test", tmp_path / "curve.jsonl") as curve:
        curve("loss", 1.0, 0)
        steps = train(Recipe(minutes=0.02, seed=1, volumes=1, stacks=2), Pool(tmp_path, 1), out, curve)
    assert steps >= 1 and out.exists()
    assert json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[0])["metric"] == "loss"
