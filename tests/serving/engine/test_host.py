"""A replica's work without Ray: requests are read strictly and answers are written whole, or named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine import errors, host
from serving.engine.calls import named, read_reply
from serving.engine.host import Request, segment
from serving.engine.predictor import Predictor
from serving.imaging.volume import Volume, load_volume, save_volume


@pytest.fixture
def predictor(packed: Path) -> Predictor:
    return Predictor(packed, 1, "openvino")


def request_for(predictor: Predictor, tmp_path: Path, **changes: Any) -> Request:
    voxels = np.random.default_rng(5).normal(size=(12, 10, 14)).astype(np.float32)
    save_volume(Volume(voxels, np.eye(4)), tmp_path / "volume")
    fields = {
        "volume_dir": str(tmp_path / "volume"),
        "out_dir": str(tmp_path / "answer"),
        "clinic_id": "c",
        "fence": 3,
        "digest": predictor.digest,
    }
    return Request.read({**fields, **changes})


def test_an_answer_is_complete_and_proven_on_reading(predictor: Predictor, tmp_path: Path) -> None:
    asked = request_for(predictor, tmp_path)
    summary = segment(predictor, asked)
    assert json.loads((tmp_path / "answer/segmentation.json").read_text()) == summary
    assert np.load(tmp_path / "answer/probability.npy").dtype == np.float16
    reply = read_reply(asdict(asked), summary)
    assert reply.digest == predictor.digest
    assert reply.mask.shape == reply.brain.shape == (12, 10, 14)


@pytest.mark.parametrize(
    ("name", "value"), [("digest", "sha256:" + "0" * 64), ("fence", 4), ("clinic_id", "d")]
)
def test_an_answer_to_another_question_is_refused(
    predictor: Predictor, tmp_path: Path, name: str, value: Any
) -> None:
    """P6 and P3. Mutants caught: not comparing the echoed digest, fence or clinic."""
    asked = request_for(predictor, tmp_path)
    summary = {**segment(predictor, asked), name: value}
    with pytest.raises(errors.IdentityMismatch):
        read_reply(asdict(asked), summary)


def test_another_answers_file_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    asked = request_for(predictor, tmp_path)
    summary = segment(predictor, asked)
    np.save(tmp_path / "answer/mask.npy", np.zeros((12, 10, 14), np.uint8))
    with pytest.raises(errors.IdentityMismatch):
        read_reply(asdict(asked), summary)


def test_a_loaded_package_answers_for_no_other_digest(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(errors.IdentityMismatch):
        segment(predictor, request_for(predictor, tmp_path, digest="sha256:" + "0" * 64))
    assert not (tmp_path / "answer").exists()


def test_the_digest_in_an_answer_is_the_loaders(predictor: Predictor, tmp_path: Path) -> None:
    """P6. Mutant caught: echoing the digest of the request."""
    asked = request_for(predictor, tmp_path, digest="sha256:" + "0" * 64)
    prediction = predictor.predict(load_volume(tmp_path / "volume"))
    assert host.save(prediction, asked)["digest"] == predictor.digest != asked.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "latest"},
        {"digest": "sha256:../../../etc"},
        {"volume_dir": "relative"},
        {"fence": "3"},
        {"fence": True},
        {"surprise": 1},
    ],
)
def test_a_bad_request_is_refused(predictor: Predictor, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(errors.RequestInvalid):
        request_for(predictor, tmp_path, **changes)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(errors.RequestInvalid):
        Request.read({})


def test_a_failing_model_and_a_number_that_is_none_are_named(
    predictor: Predictor, tmp_path: Path, monkeypatch: Any
) -> None:
    asked = request_for(predictor, tmp_path)
    predict = predictor.predict

    def broken(volume: Any) -> Any:
        raise RuntimeError("a text that may hold a value")

    def nan(volume: Any) -> Any:
        answer = predict(volume)
        answer.segmentation.numbers["brain_ml"] = float("nan")
        return answer

    for wrong in (broken, nan):
        monkeypatch.setattr(predictor, "predict", wrong)
        with pytest.raises(errors.ModelFailed) as failed:
            segment(predictor, asked)
        assert "may hold" not in failed.value.lines()


def test_a_full_disk_lets_the_study_wait(predictor: Predictor, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    asked = request_for(predictor, tmp_path)
    monkeypatch.setattr(host.np, "save", full)
    with pytest.raises(errors.AnswerNotSaved):
        segment(predictor, asked)


def test_a_named_error_crosses_as_data_and_comes_back_as_itself() -> None:
    from serving.imaging.errors import Malformed

    for error in (errors.PackageCold("w", "y", "c"), errors.EngineTimeout(), Malformed()):
        back = named(host.record(error))
        assert type(back) is type(error)
        assert back.lines() == error.lines()
    assert isinstance(named({"code": "x.y", "what": "", "why": "", "cure": ""}), errors.ModelFailed)
