"""Estimated performance: what the features of unread studies say of their Dice, corrected by the read ones. Pure.

Loss (1 - Dice) is regressed on features over drawn and read studies of other clinics with the same version, and the
mean of those guesses over a clinic's studies is corrected by how far they were off on its own drawn and read ones
(Saerndal's difference estimator, weights 1 / chance; Angelopoulos et al. 2023 call it prediction-powered). It saves
reviews where guess and loss go together, and is always called estimated: nothing that judges, flags or promotes reads
it, and where it cannot be had the reasons stand in its place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
DAYS: Final = 90
LEVEL: Final = 0.95
STUDIES_LEAST: Final = 30
HERE_LEAST: Final = 10
ELSEWHERE_LEAST: Final = 60
CLINICS_LEAST: Final = 2
HAVE_IT: Final = 0.9
"""A feature must stand in this share of the studies on both sides."""
OFF_MOST: Final = 0.05
"""So far may guesses be off here before they are called not calibrated: the margin of a contract."""
PENALTIES: Final = (1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class Label:
    """A drawn study that was read. ``chance``: with which it was drawn, as it was logged before."""

    clinic: str
    study: str
    loss: float
    chance: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimated:
    """Mean Dice of ``studies``, estimated, with its 95 % interval; None where ``reasons`` say why it cannot be had."""

    dice: float | None
    low: float | None
    high: float | None
    studies: int
    labels: int
    """Drawn and read studies here, among ``studies``."""
    labels_elsewhere: int
    clinics_elsewhere: int
    r: float | None = None
    """How guess and loss go together on the studies that were read here; reviews saved go with its square."""
    off: float | None = None
    """Mean Dice that the guesses promise too much here; the estimate is corrected by it."""
    reasons: tuple[str, ...] = ()
    level: float = LEVEL
    days: int = DAYS
    what: str = "estimated"

    @property
    def sentence(self) -> str:
        """For people: never without the word, never without interval and numbers."""
        if self.dice is None or self.low is None or self.high is None:
            return f"not estimated: {'; '.join(self.reasons)}"
        return (
            f"estimated Dice {self.dice:.3f} ({self.low:.3f} to {self.high:.3f}, {self.level:.0%}) over {self.studies} "
            f"studies of {self.days} days, from {self.labels} drawn reviews here and {self.labels_elsewhere} in "
            f"{self.clinics_elsewhere} other clinics (r {self.r:.2f}); nothing is decided by it"
        )


def estimate(
    studies: Mapping[str, Mapping[str, float]], here: Sequence[Label], elsewhere: Sequence[Label]
) -> Estimated:
    """The estimate for ``studies`` (features by study) of one stream. Labels ``here`` of other studies are left out."""
    here = [label for label in here if label.study in studies]
    clinics = {label.clinic for label in elsewhere}
    nothing = Estimated(None, None, None, len(studies), len(here), len(elsewhere), len(clinics))
    names = _features(studies, elsewhere)
    if reasons := _lacking(nothing, names):
        return _without(nothing, reasons)
    guess = _fitted(_matrix([label.values for label in elsewhere], names), _losses(elsewhere))
    guesses = guess(_matrix([*studies.values()], names))
    mine, losses = guess(_matrix([label.values for label in here], names)), _losses(here)
    weights = np.array([1 / label.chance for label in here])
    off, half = _mean(losses - mine, weights)
    r = _together(mine, losses, weights)
    found = Estimated(
        None, None, None, len(studies), len(here), len(elsewhere), len(clinics), None if r is None else round(r, 4),
        round(off, 4),
    )  # fmt: skip
    if reasons := _not_held(off, half, r):
        return _without(found, reasons)
    dice = 1 - float(guesses.mean()) - off
    low, middle, high = (round(min(max(x, 0.0), 1.0), 4) for x in (dice - half, dice, dice + half))
    return Estimated(
        middle, low, high, len(studies), len(here), len(elsewhere), len(clinics), found.r, found.off
    )


def _without(its: Estimated, reasons: Sequence[str]) -> Estimated:
    return Estimated(
        None, None, None, its.studies, its.labels, its.labels_elsewhere, its.clinics_elsewhere, its.r, its.off,
        tuple(reasons),
    )  # fmt: skip


def _lacking(its: Estimated, names: Sequence[str]) -> list[str]:
    found = []
    if its.studies < STUDIES_LEAST:
        found.append(f"{its.studies} of {STUDIES_LEAST} studies in {DAYS} days")
    if its.labels < HERE_LEAST:
        found.append(f"too few reviews: {its.labels} of {HERE_LEAST} drawn studies were read here")
    if its.labels_elsewhere < ELSEWHERE_LEAST or its.clinics_elsewhere < CLINICS_LEAST:
        found.append(
            f"too few reviews elsewhere: {its.labels_elsewhere} of {ELSEWHERE_LEAST} with this version, in "
            f"{its.clinics_elsewhere} of {CLINICS_LEAST} other clinics"
        )
    if not found and not names:
        found.append("no feature stands in nine of ten studies both here and elsewhere")
    return found


def _not_held(off: float, half: float, r: float | None) -> list[str]:
    """Why guesses that other clinics taught are not believed here."""
    found = []
    if off - half > OFF_MOST or off + half < -OFF_MOST:
        found.append(
            f"calibration not held: guesses are off by {off:+.3f} Dice here ({off - half:+.3f} to {off + half:+.3f})"
        )
    if r is None or r <= 0:
        said = "cannot be told" if r is None else f"r {r:.2f}"
        found.append(f"calibration not held: guess and review do not go together here ({said})")
    return found


def _features(studies: Mapping[str, Mapping[str, float]], elsewhere: Sequence[Label]) -> list[str]:
    sides = [[*studies.values()], [label.values for label in elsewhere]]
    names = {name for rows in sides for row in rows for name in row}
    return sorted(
        name for name in names
        if all(rows and sum(name in row for row in rows) >= HAVE_IT * len(rows) for rows in sides)
        and len({label.values[name] for label in elsewhere if name in label.values}) > 1
    )  # fmt: skip


def _matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Floats:
    """Rows [N, F], NaN where a study has no value."""
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)


def _losses(labels: Sequence[Label]) -> Floats:
    return np.array([min(max(label.loss, 0.0), 1.0) for label in labels])


def _fitted(x: Floats, y: Floats) -> Any:
    """Ridge regression, its penalty by generalised cross-validation (Golub et al. 1979); guesses lie in [0, 1]."""
    centre, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    scale[scale == 0] = 1.0

    def standard(raw: Floats) -> Floats:
        z = np.clip((raw - centre) / scale, -5, 5)
        return np.where(np.isnan(z), 0.0, z)

    u, s, vt = np.linalg.svd(standard(x), full_matrices=False)
    mean = float(y.mean())
    uy = u.T @ (y - mean)

    def score(penalty: float) -> float:
        kept = s**2 / (s**2 + penalty)
        rest = (y - mean) - u @ (kept * uy)
        return float(rest @ rest) / max(len(y) - 1 - float(kept.sum()), 1e-9) ** 2

    penalty = min(PENALTIES, key=score)
    slope = vt.T @ (s / (s**2 + penalty) * uy)
    return lambda raw: np.clip(mean + standard(raw) @ slope, 0.0, 1.0)


def _mean(values: Floats, weights: Floats) -> tuple[float, float]:
    """Weighted mean (Hajek) and half of its 95 % interval, by Student's t with the effective number of cases."""
    total = float(weights.sum())
    mean = float(weights @ values) / total
    n, effective = len(values), total**2 / float(weights @ weights)
    error = math.sqrt(float(weights**2 @ (values - mean) ** 2) * n / (n - 1)) / total
    return mean, float(stdtrit(max(effective - 1, 1.0), 1 - (1 - LEVEL) / 2)) * error


def _together(guesses: Floats, losses: Floats, weights: Floats) -> float | None:
    total = float(weights.sum())
    a = guesses - float(weights @ guesses) / total
    b = losses - float(weights @ losses) / total
    scale = math.sqrt(float(weights @ a**2) * float(weights @ b**2))
    return float(weights @ (a * b)) / scale if scale > 0 else None
