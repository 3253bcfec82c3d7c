"""The shape of a reference: how its features move together, so that a study can be judged as a whole.

The covariance of the normal scores, drawn towards independence by as many rows as there are features (the mean of a
Wishart prior): fifty rows know little about 190 correlations. Every row is measured by the others, as a later study is:
a row's distance by a covariance that it helped to make is too small (Sherman, Morrison 1950 give it at once).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.detect import ranks
from monitoring.detect.ranks import Counts, Floats

STEP = 10
"""The shape is made anew at each tenth row of a group's reference: between, nothing that it says changes much."""
WITHIN = 0.98
"""Of the reference's rows; one that lies farther out is outlying."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Of ``rows`` [G] reference rows of each group. Centred scores w [., F] become w @ root and w @ alone."""

    rows: tuple[int, ...]
    level: Floats
    """The mean score of each group's reference, [G, F], columns in order: not 0 where values are often the same."""
    order: Counts
    """Of the columns, [F]: by name, so that no sum of products depends on the order in which a stream holds them."""
    root: Floats
    """To scores that are uncorrelated, with unit variance: the symmetric root of the inverse covariance."""
    alone: Floats
    """To what each feature says beyond the others, with unit variance."""
    edge: float
    """The length, in root's scores, within which ``WITHIN`` of the reference's rows lie; longer ones are cut to it."""


def rows(references: Sequence[Floats]) -> tuple[int, ...]:
    """How many rows of each group's reference a shape is made of."""
    return tuple(len(reference) // STEP * STEP for reference in references)


def of(references: Sequence[Floats], order: Counts) -> Shape:
    """The shape of reference rows [N, F] of each group, of which one at least has ten, their columns in this order."""
    taken = rows(references)
    scores = [ranks.mid_scores(r[:n, order]) for r, n in zip(references, taken, strict=True)]
    there = [np.maximum(ranks.present(s), 1) for s in scores]
    level = np.array([np.nansum(s, axis=0) / n for s, n in zip(scores, there, strict=True)])
    z = np.nan_to_num(np.vstack([s - mean for s, mean in zip(scores, level, strict=True)]))
    n, width = z.shape
    inverse = np.linalg.inv(z.T @ z + width * np.eye(width))
    by_all = z @ inverse
    own = (by_all * z).sum(axis=1)
    left = 1 - own[:, None]
    lengths = (n - 1 + width) * own / left[:, 0]
    scale = max(1.0, float(lengths.mean()) / width)
    beyond = by_all / left / np.sqrt(np.diag(inverse) + by_all**2 / left)
    values, vectors = np.linalg.eigh(inverse)
    return Shape(
        taken,
        level,
        order,
        (vectors * np.sqrt(values * (n + width) / scale)) @ vectors.T,
        inverse / np.sqrt(np.diag(inverse)) / np.sqrt((beyond**2).mean(axis=0)),
        float(np.sqrt(np.quantile(lengths / scale, WITHIN))),
    )


def whole(its: Shape, w: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Whitened scores [T, F], columns in order, as uncorrelated ones; outlying rows, [T], are cut to the edge."""
    y = w @ its.root
    length = np.sqrt((y * y).sum(axis=1))
    return y * np.minimum(1, its.edge / np.maximum(length, its.edge))[:, None], length > its.edge
