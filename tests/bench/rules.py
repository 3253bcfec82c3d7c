"""Published rules of other detectors as curves: a rule alarms where its curve reaches its threshold.

A curve [T] has one value a study after the reference, -inf where the rule does not look. So each rule can be judged at
its own threshold and at the one at which it keeps a budget on the very same quiet streams (an oracle: nobody has it).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from monitoring.detect import detector
from monitoring.detect.ranks import Floats

WINDOW, DAY = 50, 10
ASYMPTOTIC = "asymp"
YEAR = 3650
_P: dict[tuple[int, int, int, str], float] = {}


@dataclass(frozen=True, slots=True)
class Rule:
    """``threshold``: what its authors set or a textbook gives; None where there is none for this many columns."""

    curve: Callable[[Floats, int], Floats]
    threshold: float | None
    source: str


def r(values: Floats, n: int, groups: Sequence[str] = ()) -> Floats:
    """S of detector R; it goes on after its flag, its reference does not. ``groups``: each row's scanner, if known."""
    of = groups or [""] * len(values)
    state = detector.begin([f"f{i}" for i in range(values.shape[1])], values[:n], of[:n], epoch=1, h=YEAR)
    found = np.empty(len(values) - n)
    for t in range(len(found)):
        state, _ = detector.step(state, str(n + t), of[n + t], values[n + t])
        found[t] = state.statistic
    return found


def _standardised(values: Floats, n: int) -> Floats:
    return np.asarray((values[n:] - values[:n].mean(0)) / values[:n].std(0))


def cusum(values: Floats, n: int) -> Floats:
    """The largest of two-sided CUSUMs, k = .5, on columns standardised by the reference."""
    x = _standardised(values, n)
    up, down, found = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.empty(len(x))
    for t, row in enumerate(x):
        up, down = np.maximum(up + row - 0.5, 0), np.maximum(down - row - 0.5, 0)
        found[t] = max(up.max(), down.max())
    return found


def mewma(values: Floats, n: int, weight: float = 0.1) -> Floats:
    """T2 of an exponentially weighted mean (Lowry 1992), covariance of the reference."""
    x = _standardised(values, n)
    inverse = np.linalg.pinv(np.cov((values[:n] - values[:n].mean(0)) / values[:n].std(0), rowvar=False))
    mean, found = np.zeros(x.shape[1]), np.empty(len(x))
    for t, row in enumerate(x):
        mean = weight * row + (1 - weight) * mean
        spread = weight / (2 - weight) * (1 - (1 - weight) ** (2 * (t + 1)))
        found[t] = mean @ inverse @ mean / spread
    return found


def p_values(values: Floats, n: int, at: int, method: str = "auto") -> Floats:
    """KS p of each column, the window that ends before row n + at against the reference."""
    window = values[n + at - WINDOW : n + at]
    return np.array([_p(values[:n, f], window[:, f], method) for f in range(values.shape[1])])


def _p(reference: Floats, window: Floats, method: str) -> float:
    """Without ties p follows from the sizes and the largest distance, so each distance is asked once."""
    both = np.sort(np.concatenate([reference, window]))
    below = [np.searchsorted(np.sort(x), both, side="right") for x in (reference, window)]
    apart = int(np.abs(below[0] * len(window) - below[1] * len(reference)).max())
    key = (len(reference), len(window), apart, method)
    if key not in _P:
        _P[key] = float(ks_2samp(reference, window, method=method).pvalue)
    return _P[key]


def _daily(values: Floats, n: int, said: Callable[[int], float]) -> Floats:
    found = np.full(len(values) - n, -np.inf)
    for at in range(WINDOW, len(found) + 1, DAY):
        found[at - 1] = said(at)
    return found


def evidently(values: Floats, n: int) -> Floats:
    """Share of columns with KS p < .05, window 50, looked at each day."""
    return _daily(values, n, lambda at: float(np.mean(p_values(values, n, at) < 0.05)))


def bonferroni(values: Floats, n: int) -> Floats:
    """-log10 of the smallest KS p, asymptotic as alibi-detect has it, window 50, looked at each day."""
    return _daily(values, n, lambda at: -float(np.log10(p_values(values, n, at, ASYMPTOTIC).min())))


def distances(values: Floats, n: int) -> tuple[Floats, Floats]:
    """Jensen-Shannon distances by chunks of 50, bins by Doane's rule: of the reference and later, [C, F]."""
    columns = range(values.shape[1])
    edges = [np.histogram_bin_edges(values[:n, f], bins="doane") for f in columns]

    def of(rows: Floats) -> Floats:
        chunks = [rows[at : at + WINDOW] for at in range(0, len(rows) - WINDOW + 1, WINDOW)]
        return np.array([[_js(values[:n, f], chunk[:, f], edges[f]) for f in columns] for chunk in chunks])

    return of(values[:n]), of(values[n:])


def _by_chunk(said: Floats, length: int) -> Floats:
    found = np.full(length, -np.inf)
    found[WINDOW - 1 :: WINDOW] = said
    return found


def nannyml_old(values: Floats, n: int) -> Floats:
    """The largest distance of a column."""
    return _by_chunk(distances(values, n)[1].max(1), len(values) - n)


def nannyml(values: Floats, n: int) -> Floats:
    """How far the worst column is above the mean + 3 sd of the reference's own chunks."""
    before, later = distances(values, n)
    return _by_chunk((later - (before.mean(0) + 3 * before.std(0))).max(1), len(values) - n)


def _js(reference: Floats, chunk: Floats, edges: Floats) -> float:
    """What lies beyond the bins of the reference is a bin of its own."""
    before, now = (np.histogram(x, edges)[0] / len(x) for x in (reference, chunk))
    rest = [max(0.0, 1 - part.sum()) for part in (before, now)]
    return float(jensenshannon(np.append(before, rest[0]), np.append(now, rest[1]), base=2))


RULES: Final[Mapping[str, Rule]] = {
    "R": Rule(r, float(YEAR), "ours: studies a year / budget"),
    "CUSUM": Rule(cusum, 10.03, "textbook, known mean: one false alarm in 3,650 studies over 20 two-sided columns"),
    "MEWMA": Rule(mewma, None, "weight .1; no table for 20 columns at this run length"),
    "Evidently dataset rule": Rule(evidently, 0.5, "KS p < .05 in half of the columns; compared with the library"),
    "alibi-detect's KSDrift rule": Rule(
        bonferroni, -float(np.log10(0.05 / 20)), "smallest KS p, Bonferroni, p_val .05; compared with the library"
    ),
    "NannyML's univariate rule": Rule(
        nannyml, 0.0, "Jensen-Shannon distance, chunks of 50, mean + 3 sd of the reference's chunks; compared with it"
    ),
    "NannyML's older rule": Rule(nannyml_old, 0.1, "Jensen-Shannon distance above .1, chunks of 50"),
}  # fmt: skip


def first(curve: Floats, threshold: float) -> int | None:
    """Studies until the first alarm."""
    above = np.flatnonzero(curve >= threshold)
    return int(above[0]) + 1 if len(above) else None


def matched(curves: Sequence[Floats], per_year: float = 1.0) -> float:
    """The lowest threshold at which first alarms on quiet curves come at most so often; found by halving."""

    def rate(threshold: float) -> float:
        alarms = [(first(curve, threshold), len(curve)) for curve in curves]
        return sum(a is not None for a, _ in alarms) / sum(a or whole for a, whole in alarms) * YEAR

    known = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    levels = np.unique(known)
    low, high = 0, len(levels)  # levels[high] would never alarm
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rate(float(levels[middle])) <= per_year else (middle + 1, high)
    return float(levels[low]) if low < len(levels) else float(np.nextafter(levels[-1], np.inf))
