"""The verdict on a stream: one pure function of stored numbers, the first row of the table that matches.

Drift (S, in studies, against its threshold h) says *look here*. Harm (E, odds from reviews of randomly chosen studies)
alone may say *recalibrate* or *fine_tune*. Nothing here reads a clock, a database or a setting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from monitoring.detect.detector import LEAST, WATCH
from monitoring.judge.counts import Count

PROVEN: Final = 20.0
"""Odds of 20 to 1."""
SUSPECTED: Final = 5.0
LABELS_LEAST: Final = 25
GROUP_LABELS_LEAST: Final = 15
LABELS_MOST: Final = 150
CONFIRMING: Final = 60
"""Reviews that a stream without drift or harm typically needs until it is confirmed healthy (measured, median)."""
SETTLING: Final = 50
"""Studies after a change of the model within which nothing is tuned."""
LARGE: Final = 1e6
"""From here on a number is written with its power of ten."""
ALL: Final = "all"


class Word(StrEnum):
    """What a verdict can be."""

    NOT_ENOUGH_DATA = "not_enough_data"
    HEALTHY = "healthy"
    WATCH = "watch"
    HOLD = "hold"
    RECALIBRATE = "recalibrate"
    FINE_TUNE = "fine_tune"


LEVEL: Final[Mapping[Word, int]] = {
    Word.HEALTHY: 0, Word.NOT_ENOUGH_DATA: 1, Word.WATCH: 1, Word.RECALIBRATE: 2, Word.HOLD: 2, Word.FINE_TUNE: 2,
}  # fmt: skip
"""How loud each verdict is: 2 asks for a person's decision. Without data a stream is never as calm as healthy."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What was promised: a mean Dice below ``d_ref - margin`` is harm. ``people``: how many d_ref was measured on."""

    d_ref: float
    margin: float
    people: int
    source: str
    version: int = 0
    """Its number in the clinic's history; 0 where nobody set one and the version's card speaks."""

    @property
    def loss(self) -> float:
        """The largest mean loss (1 - Dice) that keeps the contract."""
        return 1 - (self.d_ref - self.margin)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict is made of. An e-value of 1 is no evidence, 20 are odds of 20 to 1."""

    reference: Mapping[str, int] = field(default_factory=dict)
    """Reference studies by scanner group."""
    contract: Contract | None = None
    gates: tuple[str, ...] = ()
    """Open gates of data quality, in words: a fault of data or of their preparation, not of the model."""
    since_model_change: int | None = None
    """Studies since this version took over from another; None: it is the first one here."""
    double_read: float | None = None
    """Dice between two readers of the same studies; None: no study was read twice."""
    statistic: float = 0.0
    threshold: float = 1.0
    watching: bool = False
    """S reached h / 10 and has not fallen below h / 20 since."""
    flagged: bool = False
    """S reached h in this epoch; that stays until a person or a promotion begins the next."""
    e_harm: float = 1.0
    e_ok: float = 1.0
    confirmed: bool = False
    """Results keep the contract: E_ok reached 20 and has not fallen below 5 since, and blinded reviews do not speak
    against it. A reader who sees our mask is drawn to it, so open reviews alone confirm nothing."""
    e_bad: float = 1.0
    """Odds that a recalibration would not bring the contract back; 1 while none was tried."""
    e_fix: float = 1.0
    labels: int = 0
    """Reviews of drawn studies since the drift, or since harm was suspected; without either, since the epoch began."""
    all_labels: int = 0
    """Reviews of drawn studies since the epoch began."""
    blinded: int = 0
    """How many of ``labels`` a reader drew before seeing our mask."""
    counts: tuple[Count, ...] = ()
    """What readers decide and what becomes of studies, each with its own odds."""
    policy: int = 0
    """The version of the clinic's policy; 0 where nobody set one."""
    harm_group: str | None = None
    """The scanner group that the harm is named to, ``all``, or None while it cannot be named."""
    group_labels: int = 0
    """Labels of ``harm_group``."""

    @property
    def drifted(self) -> bool:
        """Drift is flagged."""
        return self.flagged or self.statistic >= self.threshold

    @property
    def suspected(self) -> bool:
        """Reviews speak against the contract: more of the studies should be read."""
        return self.e_harm >= SUSPECTED or any(its.name in ("reject", "edit") for its in self.counts_beyond)

    @property
    def counts_beyond(self) -> tuple[Count, ...]:
        """Counts that are beyond what was accepted. Failures and missing features are gates and stand there."""
        return tuple(its for its in self.counts if its.beyond and its.name not in ("failure", "missing"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a stream: the row of the table, a sentence, what to do, what would change it."""

    word: Word
    rule: int
    sentence: str
    action: str
    would_change: str


def judge(its: Evidence) -> Verdict:
    """The first row of the table that matches; every evidence has one."""
    for rule in (_missing, _hold, _proven, _drift, _watch):
        if found := rule(its):
            return found
    return _healthy(its)


def _missing(its: Evidence) -> Verdict | None:
    most = max(its.reference.values(), default=0)
    lacking = []
    if most < LEAST:
        lacking.append(f"{most} of {LEAST} reference studies")
    if its.contract is None:
        lacking.append("no contract (the Dice that this version must keep)")
    if not lacking:
        return None
    drift = " Drift is flagged all the same." if its.drifted else ""
    return Verdict(
        Word.NOT_ENOUGH_DATA, 1, f"Not enough data: {' and '.join(lacking)}.{drift}",
        "Collect; nothing is claimed about this stream.",
        f"{LEAST - most} more studies of one scanner group" if most < LEAST else "a contract for this task",
    )  # fmt: skip


def _hold(its: Evidence) -> Verdict | None:
    assert its.contract is not None
    if its.gates:
        return Verdict(
            Word.HOLD, 2, f"Hold: {'; '.join(its.gates)}.", "An engineer looks at the data first; nothing is tuned.",
            "the fault mended and studies without it",
        )  # fmt: skip
    if its.since_model_change is not None and its.since_model_change < SETTLING:
        left = SETTLING - its.since_model_change
        return Verdict(
            Word.HOLD, 2, f"Hold: the model changed {its.since_model_change} studies ago.",
            "Nothing is tuned yet; consider a rollback if it is worse.", f"{left} more studies",
        )  # fmt: skip
    if its.double_read is not None and its.double_read < its.contract.d_ref:
        return Verdict(
            Word.HOLD, 2,
            f"Hold: two readers agree less ({its.double_read:.2f}) than the model must ({its.contract.d_ref:.2f}).",
            "Settle the reading first: reviews cannot judge the model.", "readers that agree",
        )  # fmt: skip
    return None


def _proven(its: Evidence) -> Verdict | None:
    """Rows 3 to 6: harm is proven, the remedy perhaps."""
    if its.e_harm < PROVEN:
        return None
    harm = f"worse than the contract by odds of {its.e_harm:.0f} to 1, from {its.labels} reviews"
    bad, fix = its.e_bad >= PROVEN, its.e_fix >= PROVEN
    enough = its.labels >= LABELS_LEAST
    named = its.harm_group == ALL or (its.harm_group is not None and its.group_labels >= GROUP_LABELS_LEAST)
    if bad and not fix and enough and named:
        where = "" if its.harm_group == ALL else f" on {its.harm_group}"
        return Verdict(
            Word.FINE_TUNE, 3,
            f"Needs a fine-tuned version: results are {harm}{where}, and recalibration would not help "
            f"(odds {its.e_bad:.0f} to 1).",
            "Fine-tune: radfleet model finetune --flag NUMBER, then the promotion that it requests.",
            "reviews back above the contract",
        )  # fmt: skip
    if fix and not bad and enough:
        return Verdict(
            Word.RECALIBRATE, 4,
            f"Needs recalibration: results are {harm}; a recalibrated threshold brings them back "
            f"(odds {its.e_fix:.0f} to 1).",
            "Recalibrate: radfleet model finetune --flag NUMBER (T1 alone), then its promotion.",
            "reviews back above the contract",
        )  # fmt: skip
    if (bad and fix) or its.labels >= LABELS_MOST:
        return Verdict(
            Word.HOLD, 5, f"Hold: results are {harm}, and what would help is not known.",
            "Senior review; mark the results.", "a recalibration or a fine-tune that is tried",
        )  # fmt: skip
    lacking = [f"{LABELS_LEAST - its.labels} more reviews"] if not enough else []
    lacking += ["reviews that name a scanner group"] if not named else []
    lacking += ["a recalibration that is tried on earlier reviews"] if not bad and not fix else []
    return Verdict(
        Word.WATCH, 6, f"Harm is proven: results are {harm}.",
        "Warn the clinic now; go on reviewing 20 % of its studies.",
        ", ".join(lacking) or "reviews back above the contract",
    )  # fmt: skip


def size(statistic: float) -> str:
    """A statistic as people can read it: once far above its threshold it grows by powers of ten."""
    return f"{statistic:.0f}" if statistic < LARGE else with_power(statistic)


def with_power(value: float) -> str:
    """A large number with two digits and its power of ten, as pages write it too."""
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def _drift(its: Evidence) -> Verdict | None:
    if not its.drifted or its.confirmed:
        return None
    return Verdict(
        Word.WATCH, 7,
        f"Drift is flagged (statistic {size(its.statistic)}, flag at {its.threshold:.0f}); whether results are worse "
        f"is not known yet: {_reviews(its, LABELS_LEAST)}.", "Review 20 % of the studies since then.",
        "reviews: harm shows after about 25, its absence after about 60",
    )  # fmt: skip


def _watch(its: Evidence) -> Verdict | None:
    # As in row 7: results that are confirmed make a drift benign, a small one no less than a large one.
    drifting = not (its.drifted or its.confirmed) and (its.watching or its.statistic >= its.threshold / WATCH)
    what = []
    if its.e_harm >= SUSPECTED:
        what.append(f"reviews speak against the contract by odds of {its.e_harm:.0f} to 1")
    what += [count.sentence for count in its.counts_beyond]
    if drifting:
        what.append(f"the drift statistic stands at {size(its.statistic)} of {its.threshold:.0f}")
    if not what:
        return None
    return Verdict(
        Word.WATCH, 8, f"Watch: {', and '.join(what)}.",
        "Nothing yet but the list." if drifting and len(what) == 1 else "Go on reading what is drawn.",
        f"S below {its.threshold / WATCH / 2:.0f}" if drifting and len(what) == 1 else "more reviews",
    )  # fmt: skip


def _healthy(its: Evidence) -> Verdict:
    if its.drifted:  # and confirmed, or row 7 had matched
        return Verdict(
            Word.HEALTHY, 9, f"The drift is benign: results keep the contract by odds of {its.e_ok:.0f} to 1, from "
            f"{its.labels} reviews.", "Offer a new reference.", "reviews below the contract",
        )  # fmt: skip
    if its.confirmed:
        return Verdict(
            Word.HEALTHY, 9, f"Confirmed healthy by {its.labels} reviews (odds {its.e_ok:.0f} to 1).", "Nothing.",
            "drift, or reviews below the contract",
        )  # fmt: skip
    return Verdict(
        Word.HEALTHY, 9, f"No drift and no harm seen, but not confirmed: {_reviews(its, CONFIRMING)}.",
        "Nothing; the routine reviews go on.", "drift, or reviews below the contract",
    )  # fmt: skip


def _reviews(its: Evidence, wanted: int) -> str:
    return f"not enough reviews ({its.labels} of about {wanted})"
