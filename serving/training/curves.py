"""What both training programs share: learning rate, number format, the loss curve's record, the weights file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Curve = Callable[[str, float, int], None]


def cosine(rate: float, step: int, warm: int, done: float) -> float:
    """Learning rate: `warm` steps up, then a half cosine down over `done` from 0 to 1."""
    return rate * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 1e-5


def half_where_fast() -> Any:
    """bfloat16 inside a net where the processor computes in it; elsewhere it is emulated, ten times slower."""
    import torch

    fast = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


@contextmanager
def open_curve(name: str, path: Path, params: Mapping[str, Any] | None = None) -> Iterator[Curve]:
    """A log(metric, value, step) that writes JSON lines to `path`, and to MLflow where MLFLOW_TRACKING_URI is set.

    params: what the run was made with; MLflow shows them beside the curve.
    """
    remote: Curve | None = None
    if os.environ.get("MLFLOW_TRACKING_URI"):
        from registry.models import curve_logger

        remote = curve_logger(name, params=params)
    with path.open("w", encoding="utf-8") as lines:

        def log(metric: str, value: float, step: int) -> None:
            lines.write(json.dumps({"metric": metric, "value": round(value, 6), "step": step}) + "\n")
            lines.flush()
            if remote is not None:
                remote(metric, value, step)

        yield log


def half_precision_file(net: Any, path: Path) -> None:
    """Write a net's weights as float16 safetensors; whole or not at all."""
    from safetensors.numpy import save_file

    tensors = {
        name: np.ascontiguousarray(value.detach().float().cpu().numpy()).astype(np.float16)
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    part = path.with_suffix(".part")
    save_file(tensors, part)
    part.rename(path)


def load_weights(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The tensors of a weights file as float32."""
    from safetensors.numpy import load_file

    return {name: value.astype(np.float32) for name, value in load_file(path).items()}
