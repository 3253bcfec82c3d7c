"""Both runtimes answer alike, name themselves, and refuse a machine that computes otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.engine import errors
from serving.engine.package import seal, verify_package
from serving.engine.predictor import Predictor, choose_runtime, noise
from tests.serving.engine.test_package import edit


def volume(shape: tuple[int, ...] = (20, 18, 22), seed: int = 3) -> Any:
    return SimpleNamespace(voxels=noise(shape, seed), affine=np.eye(4))


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_the_answer_names_who_gave_it(packed: Path, runtime: str) -> None:
    answer = Predictor(packed, 1, runtime).predict(volume())
    assert answer.digest == verify_package(packed).digest
    assert answer.runtime == runtime
    assert answer.device
    assert set(answer.seconds) == {"segment", "brain"}
    assert answer.seconds["brain"] <= answer.seconds["segment"]


def test_the_runtimes_agree(packed: Path) -> None:
    first, second = (
        Predictor(packed, 1, name).predict(volume()).segmentation for name in ("openvino", "torch")
    )
    assert np.abs(first.probability.astype(float) - second.probability.astype(float)).max() < 0.005
    assert (first.mask != second.mask).mean() < 0.001
    assert first.mask.any()


def test_an_answer_survives_the_next_one(packed: Path) -> None:
    """Mutant caught: handing out the graph's own output buffer, which the next study overwrites."""
    net = Predictor(packed, 1, "openvino")._nets["brain"]
    first = net(noise((1, 1, 16, 16, 16), 1))
    kept = first.copy()
    net(noise((1, 1, 16, 16, 16), 2))
    assert np.array_equal(first, kept)


def test_shapes_come_and_go_and_rest_gives_them_back(packed: Path) -> None:
    predictor = Predictor(packed, 1, "openvino")
    for side in (16, 17, 18, 19):
        assert predictor.predict(volume((side, 16, 16))).segmentation.mask.shape == (side, 16, 16)
    assert len(predictor._nets["brain"]._compiled) == 2
    predictor.rest()
    assert not predictor._nets["brain"]._compiled
    assert predictor.predict(volume()).segmentation.mask.shape == (20, 18, 22)


def test_a_machine_that_computes_otherwise_is_refused(packed: Path) -> None:
    golden = json.loads((packed / "golden/golden.json").read_bytes())
    golden["stages"]["brain"]["logits"][5] += 0.1
    edit(packed, "golden/golden.json", **golden)
    for runtime in ("openvino", "torch"):
        with pytest.raises(errors.PackageGolden):
            Predictor(packed, 1, runtime)


def test_other_weights_under_the_old_golden_answer_are_refused(packed: Path) -> None:
    from safetensors.numpy import save

    from tests.serving.engine.toy import toy_weights

    other = {name: value.astype(np.float16) for name, value in toy_weights(9).items()}
    (packed / "brain.safetensors").write_bytes(save(other))
    seal(packed)
    with pytest.raises(errors.PackageGolden):
        Predictor(packed, 1, "torch")


@pytest.mark.parametrize("golden", [{"stages": {}}, {"stages": {"brain": {"shape": "x"}}}, {"stages": 1}])
def test_a_golden_answer_out_of_order_is_refused(packed: Path, golden: dict[str, Any]) -> None:
    edit(packed, "golden/golden.json", **golden)
    with pytest.raises(errors.PackageModel):
        Predictor(packed, 1, "openvino")


def test_an_unknown_task_is_refused(packed: Path) -> None:
    edit(packed, "model.json", task="unheard-of")
    with pytest.raises(errors.PackageModel):
        Predictor(packed, 1, "openvino")


def test_a_task_that_leaves_the_grid_or_its_labels_is_refused(packed: Path, monkeypatch: Any) -> None:
    predictor = Predictor(packed, 1, "openvino")
    segment = predictor._segment

    def cropped(*arguments: Any) -> Any:
        answer = segment(*arguments)
        return SimpleNamespace(mask=answer.mask[1:], brain=answer.brain, probability=answer.probability)

    def mislabelled(*arguments: Any) -> Any:
        answer = segment(*arguments)
        return SimpleNamespace(mask=answer.mask * 7, brain=answer.brain, probability=answer.probability)

    for wrong in (cropped, mislabelled):
        monkeypatch.setattr(predictor, "_segment", wrong)
        with pytest.raises(errors.ModelFailed):
            predictor.predict(volume())


def test_auto_takes_the_processor_where_no_gpu_answers() -> None:
    assert choose_runtime("auto") in ("openvino", "torch")
    with pytest.raises(errors.RuntimeUnknown):
        choose_runtime("tensorrt")
