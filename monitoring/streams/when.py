"""When would I know? Studies, days, labels and reading time until a change is found, from simulated streams.

Features are normal scores with one common factor (correlation .25). Losses are beta numbers; 3 % of the studies are
reviewed, 20 % once drift is flagged, by chance; harm is proven at odds of 20 to 1 against the contract, by the bets of
``judge/wealth`` on reviews of studies since the change was dated. Real clinics are less regular: take it as a floor.
"""

from dataclasses import dataclass

import numpy as np

from monitoring.detect import detector
from monitoring.judge import wealth
from monitoring.judge.verdict import PROVEN
from monitoring.streams import shares

QUIET = 60
"""Studies between the reference and the change."""
ROUTINE, RAISED = 0.03, 0.20
COMMON = 0.25
LOSS_SD = 0.12


@dataclass(frozen=True, slots=True)
class Question:
    """A change of ``shift`` sd on ``moved`` of ``features``; ``dice``: the mean after it, None: drift alone."""

    shift: float = 1.0
    moved: int = 5
    features: int = 20
    reference: int = 50
    per_day: float = 10.0
    budget: float = 1.0
    within: int = 400
    dice: float | None = None
    contract: float = 0.75
    minutes: float = 6.0


@dataclass(frozen=True, slots=True)
class Spread:
    """How often it was found, and how long that took: median, quartiles, 90 %; None where nothing was found."""

    found: float
    median: float | None
    low: float | None
    high: float | None
    most: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All counted from the change on. ``n``: simulated streams; ``early`` flagged before it and are left out."""

    n: int
    early: int
    drift_studies: Spread
    drift_days: Spread
    harm_studies: Spread | None
    harm_days: Spread | None
    labels: Spread | None
    minutes: Spread | None


def answer(its: Question, *, n: int, seed: int) -> Answer:
    """Simulate ``n`` streams."""
    found = [_one(its, np.random.default_rng([seed, i])) for i in range(n)]
    kept = [one for one in found if one is not None]
    drift, harm, labels = ([one[k] for one in kept] for k in range(3))

    def days(studies: list[int | None]) -> list[float | None]:
        return [None if s is None else s / its.per_day for s in studies]

    asked = its.dice is not None
    minutes = [None if count is None else count * its.minutes for count in labels]
    return Answer(
        n, n - len(kept), _spread(drift), _spread(days(drift)), _spread(harm) if asked else None,
        _spread(days(harm)) if asked else None, _spread(labels) if asked else None, _spread(minutes) if asked else None,
    )  # fmt: skip


def _one(its: Question, rng: np.random.Generator) -> tuple[int | None, int | None, int | None] | None:
    """Studies until the flag, studies until harm is proven, labels read by then; None: it flagged before the change."""
    at, rows = its.reference + QUIET, its.reference + QUIET + its.within
    values = COMMON**0.5 * rng.standard_normal((rows, 1)) + (1 - COMMON) ** 0.5 * rng.standard_normal(
        (rows, its.features)
    )
    values[at:, : its.moved] += its.shift
    h = detector.threshold(its.per_day, shares.share("drift", its.budget))
    names = [f"f{f}" for f in range(its.features)]
    state = detector.begin(names, values[: its.reference], [""] * its.reference, epoch=1, h=h)
    for row in range(its.reference, rows):
        state, flag = detector.step(state, str(row), "", values[row])
        if flag:
            if row < at:
                return None
            harm = _harm(its, rng, row, flag.since_row, at, rows) if its.dice is not None else (None, None)
            return row - at + 1, *harm
    return None, None, None


def _harm(
    its: Question, rng: np.random.Generator, flagged: int, since: int, at: int, rows: int
) -> tuple[int | None, int | None]:
    """Studies and labels until harm is proven; what was reviewed by chance since the dated change counts too."""
    assert its.dice is not None
    m, labels = 1 - its.contract, 0
    fortune: wealth.Wealth = wealth.FRESH
    for row in range(since, rows):
        if rng.random() >= (ROUTINE if row <= flagged else RAISED):
            continue
        labels += 1
        mean = 1 - (its.dice if row >= at else its.contract)
        parts = mean * (1 - mean) / LOSS_SD**2 - 1
        fortune = wealth.bet(fortune, float(rng.beta(mean * parts, (1 - mean) * parts)), m)
        if row >= flagged and wealth.mean(fortune) >= PROVEN:
            return row - at + 1, labels
    return None, None


def _spread(numbers: list[int | None] | list[float | None]) -> Spread:
    known = [float(x) for x in numbers if x is not None]
    if not known:
        return Spread(0.0, None, None, None, None)
    middle, low, high, most = np.quantile(known, [0.5, 0.25, 0.75, 0.9]).tolist()
    return Spread(len(known) / len(numbers), middle, low, high, most)
