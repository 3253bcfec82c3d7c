"""The answer of one task about one volume, on that volume's own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Net = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Arrays [I,J,K] in the input's index order.

    mask: uint8, the label values that model.json declares. brain: uint8, 1 inside the brain mask. probability: float16
    of label 1. numbers: what the task measured, unit in the name (`_ml`). warnings: sentences for the reader.
    """

    mask: NDArray[np.uint8]
    brain: NDArray[np.uint8]
    probability: NDArray[np.float16]
    numbers: Mapping[str, float]
    warnings: tuple[str, ...]


Parameters = Mapping[str, Any]
