"""A toy network and task, so that engine tests take milliseconds and no training; also inside Ray replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ToyShape:
    example: tuple[int, ...] = (1, 1, 16, 16, 16)
    dynamic: tuple[int, ...] = (1, 1, -1, -1, -1)
    multiple: int = 8
    outputs: int = 2


def toy_net(name: str) -> Any:
    """Two 3-D convolutions: the smallest thing that torch and OpenVINO can disagree about."""
    import torch

    assert name == "toy"
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 3, padding=1)
    )


def toy_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 0.3, tensor.shape).astype(np.float16).astype(np.float32)
        for name, tensor in toy_net("toy").state_dict().items()
    }


def toy_segment(volume: Any, nets: Mapping[str, Callable[..., Any]], parameters: Mapping[str, Any]) -> Any:
    from serving.engine.segmentation import Segmentation

    if "sleep_s" in parameters:
        time.sleep(parameters["sleep_s"])
    if "fail" in parameters:
        raise ZeroDivisionError("a text that may hold a patient's name")
    logits = nets["brain"](volume.voxels[None, None])[0]
    mask = (logits[1] > logits[0] + parameters["threshold"]).astype(np.uint8)
    probability = (1 / (1 + np.exp(np.clip(logits[0] - logits[1], -30, 30)))).astype(np.float16)
    return Segmentation(
        mask=mask,
        brain=np.ones_like(mask),
        probability=probability,
        numbers={"brain_ml": float(mask.sum()) / 1000},
        warnings=(),
    )


def toy_model(**changes: Any) -> dict[str, Any]:
    model = {
        "schema": 1,
        "name": "toy",
        "version": "1.0.0",
        "task": "toy",
        "runtime_class": "cpu-small",
        "stages": {
            "brain": {
                "architecture": "toy",
                "weights": "brain.safetensors",
                "openvino": "openvino/brain.xml",
            }
        },
        "parameters": {"threshold": 0.0},
        "labels": {
            "1": {
                "name": "Brain",
                "category": ["123037004", "SCT", "Anatomical Structure"],
                "type": ["12738006", "SCT", "Brain"],
            }
        },
        "accepts": {"Modality": "MR"},
        "intended_use": "research: a toy for tests",
    }
    return {**model, **changes}


def install() -> None:
    """Adds architecture and task ``toy`` to this process for good: what a replica of the tests does."""
    from serving.engine import architectures, segmentation

    architectures.ARCHITECTURES = {**architectures.ARCHITECTURES, "toy": ToyShape()}
    architectures.build = toy_net
    segmentation.TASKS = {**segmentation.TASKS, "toy": toy_segment}
