"""Which tasks this installation knows, and the type that each of them hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.engine import brain_extraction, ms_lesion
from serving.engine.outcome import Segmentation

__all__ = ["TASKS", "Segmentation"]

# task of model.json -> segment(volume, nets, parameters)
TASKS: Mapping[str, Callable[..., Segmentation]] = {
    "brain-extraction": brain_extraction.segment,
    "ms-lesion": ms_lesion.segment,
}
