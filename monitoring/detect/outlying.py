"""Whether outlying rows come more often: rows that lie, as a whole, farther out than nearly all of the reference.

Where only some studies change, a second scanner's or those of a coil that fails now and then, the mean moves little. So
for each place of a possible change the rate of outlying rows from it on is compared with the rate before: the
reference's, whose weight is bounded because rates wander, and the rows' until then. Both are beta-binomial, and each
alternative is a fixed share more. The likelihood ratio is multiplied with that of the mean (see ``windows``), tempered
because a season moves both.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from monitoring.detect.ranks import Floats
from monitoring.detect.shape import WITHIN
from monitoring.detect.windows import Windows

MORE: Final = np.array([0.1, 0.2, 0.4])[:, None]
"""Of the rows that were not outlying so far, the share that is now."""
MOST = 100.0
"""Rows that a reference is worth at most."""
TEMPER = 0.7
"""Of the log evidence of the mean; chosen on seed 3 of the grid, whose season flagged twice as often without."""


def evidence(
    its: Windows, far: NDArray[np.bool_], counted: NDArray[np.bool_], n: int, mean: Floats
) -> Floats:
    """Log evidence [K] that outlying rows come more often since each place and, tempered, that the mean moved there.

    ``far`` [T]: which rows are outlying, ``counted`` [T]: which of them are no rows of the reference of ``n`` rows.
    ``mean`` [K]: log evidence of a shift in any direction.
    """
    (late, late_rows), (early, early_rows) = _split(np.array([far & counted, counted]), its)
    reference = n * MOST / (n + MOST)
    a, b = reference * (1 - WITHIN) + early, reference * WITHIN + early_rows - early
    p = a / (a + b) + MORE * b / (a + b)
    log_e = (
        late * np.log(p)
        + (late_rows - late) * np.log1p(-p)
        - betaln(a + late, b + late_rows - late)
        + betaln(a, b)
    )
    return np.asarray(np.logaddexp.reduce(log_e) - np.log(len(MORE)) + TEMPER * mean)


def _split(rows: NDArray[np.bool_], its: Windows) -> tuple[Floats, Floats]:
    """How many there are since each place and before it, both [2, K], each worth less where rows hang together."""
    total = np.hstack([np.zeros((len(rows), 1)), rows.cumsum(axis=1)]) / its.spread
    before = total[:, rows.shape[1] - its.ages]
    return total[:, -1:] - before, before
