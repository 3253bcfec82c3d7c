"""How a FLAIR is scaled before the lesion net sees it: the same call in training and at use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi


def peak_of(values: NDArray[np.floating[Any]]) -> float:
    """The histogram peak of brain voxels [n]: the brightness of normal tissue, in the image's own units, > 0.

    The peak moves neither with lesion load nor with atrophy, as mean, deviation and percentiles do. It needs a brain
    mask: with the skull in, it finds air or fat.
    """
    values = values[values > 0.25 * np.percentile(values, 99)] if values.size else values
    if values.size < 100:
        return 1.0
    counts, edges = np.histogram(values, 160, (0, float(np.percentile(values, 99.8))))
    top = int(ndi.gaussian_filter1d(counts.astype(float), 3).argmax())
    return max(float(edges[top] + edges[top + 1]) / 2, 1e-6)
