"""What reviews of randomly drawn studies say about harm: e-values against the contract, in review order.

Two windows in which harm is proven and cures are tried, because wealth from healthy days is spent (the research note,
2.6): the studies since a flag of drift, and, for harm that no drift announced, the reviews after harm was suspected.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from monitoring.judge import counts, recalibration, wealth
from monitoring.judge.verdict import ALL, GROUP_LABELS_LEAST, PROVEN, SUSPECTED, Evidence

LABELS_A_YEAR: Final = 110
"""Reviews a year at the routine rate of 3 %, 10 studies a day."""
BLINDED_LEAST: Final = 5
CONFIRMED_OVER: Final = 5.0
TWICE_LEAST: Final = 5
"""Double readings below which nothing is said of the readers."""
BARS: Final[Mapping[str, float]] = {"reject": 0.10, "edit": 0.90}


@dataclass(frozen=True, slots=True)
class Review:
    """One finished review. ``loss``: 1 - Dice in [0, 1]; None where it gave none."""

    seq: int
    study_seq: int
    """The feature row of its study: a review long after the study still belongs to that day."""
    group: str
    loss: float | None
    random: bool
    """The study was drawn by chance before it was read, with a logged probability; others are never evidence."""
    study: str = ""
    """Readings of one study are one label; empty: a study of its own."""
    decision: str = "edit"
    blinded: bool = False
    ladder: Mapping[float, float] | None = field(default=None, hash=False)
    """Step of the threshold -> Dice it would have given; None where that is not known."""
    between_readers: float | None = None
    """Dice between two readers of this study; None where one read it."""


def loss_of(decision: str, dice: float | None) -> float | None:
    """The loss of a drawn study. A reader who accepts without drawing says that nothing is to be corrected, one who
    rejects without drawing that nothing can be used: leaving either out would keep the edited ones alone.
    """
    return 1 - dice if dice is not None else {"accept": 0.0, "reject": 1.0}.get(decision)


def with_reviews(
    its: Evidence, reviews: Iterable[Review], since_seq: int | None, *, a_year: float = LABELS_A_YEAR,
    bars: Mapping[str, float] = BARS,
) -> Evidence:  # fmt: skip
    """The evidence with what the reviews say. Their order of arrival and repeats do not matter.

    ``since_seq``: the feature row since which drift is flagged, None: no flag. ``a_year``: labels a year at the routine
    rate. ``bars``: the rates of rejected and edited answers that are accepted. Without a contract nothing can be
    tested, and labels are only counted.
    """
    used, twice = _labels(reviews)
    its = replace(
        its, labels=len(used), all_labels=len(used), blinded=sum(r.blinded for r in used),
        double_read=sum(twice) / len(twice) if len(twice) >= TWICE_LEAST else None,
        counts=(*its.counts, *(_decided(used, name, bar, a_year) for name, bar in sorted(bars.items()))),
    )  # fmt: skip
    if its.contract is None or not used:
        return its
    m = its.contract.loss
    fresh = [r for r in used if since_seq is not None and r.study_seq >= since_seq]
    late = [counts.as_odds(s, a_year) for s in _sums(_losses(used), m)]
    suspected = used[next((n for n, odds in enumerate(late, 1) if odds >= SUSPECTED), len(used)) :]
    windows = [window for window in (fresh, suspected) if window]
    tried = [_tried(window) for window in windows]
    group, labels = max((_named(window, m) for window in windows or [used]), key=lambda named: named[1])
    window = max(windows or [used], key=len)
    confirming = fresh or used
    return replace(
        its,
        # Two ways to prove harm, each with its own small share of false alarms; either is enough, and stays so.
        e_harm=max(wealth.most(_losses(fresh), m), *late),
        e_ok=wealth.product([1 - x for x in _losses(confirming)], 1 - m), confirmed=_confirmed(confirming, m),
        e_bad=max((wealth.most(y, m) for y in tried), default=1.0),
        e_fix=max((wealth.most([1 - x for x in y], 1 - m) for y in tried), default=1.0),
        labels=len(window), blinded=sum(r.blinded for r in window), harm_group=group, group_labels=labels,
    )  # fmt: skip


def _labels(reviews: Iterable[Review]) -> tuple[list[Review], list[float]]:
    """One label a drawn study, its first reading, in the order of reading; and how second readers agree with the first.

    A second reading measures the readers: were it averaged in, a verdict could change without a new study.
    """
    once = {review.seq: review for review in reviews}
    first: dict[str, Review] = {}
    twice = []
    for seq in sorted(once):
        review = once[seq]
        if not review.random or review.loss is None:
            continue
        first.setdefault(review.study or str(seq), review)
        if review.between_readers is not None:
            twice.append(review.between_readers)
    return list(first.values()), twice


def _decided(used: Sequence[Review], name: str, bar: float, a_year: float) -> counts.Count:
    """How often readers decided so; whoever drew blindly decided nothing about our mask."""
    return counts.count(name, [r.decision == name for r in used if not r.blinded], bar, a_year)


def _losses(reviews: Sequence[Review]) -> list[float]:
    return [min(max(r.loss, 0.0), 1.0) for r in reviews if r.loss is not None]


def _sums(numbers: Iterable[float], m: float) -> list[float]:
    """The restarting sum after each number."""
    sums: wealth.Wealth = wealth.NOTHING
    found = []
    for x in numbers:
        sums = wealth.gather(sums, x, m)
        found.append(wealth.mean(sums))
    return found


def _tried(window: Sequence[Review]) -> list[float]:
    """Losses under a recalibration that earlier reviews of the window chose."""
    return [y for y in recalibration.losses([r.ladder for r in window]) if y is not None]


def _confirmed(reviews: Sequence[Review], m: float) -> bool:
    """E_ok proven and not taken back, and at least five blinded reviews that do not speak against it."""
    blinded = [1 - x for x in _losses([r for r in reviews if r.blinded])]
    if len(blinded) < BLINDED_LEAST or wealth.product(blinded, 1 - m) < 1:
        return False
    proven = False
    fortune: wealth.Wealth = wealth.FRESH
    for x in _losses(reviews):
        fortune = wealth.bet(fortune, 1 - x, 1 - m)
        proven = wealth.mean(fortune) >= (CONFIRMED_OVER if proven else PROVEN)
    return proven


def _named(reviews: Sequence[Review], m: float) -> tuple[str | None, int]:
    """``all`` where every group with enough labels is beyond the bound, else the worst of them, else nobody.

    The last naming stands: harm that was named is not unnamed by good days that follow.
    """
    total: dict[str, float] = {}
    of: dict[str, int] = {}
    named: str | None = None
    for review, loss in zip(reviews, _losses(reviews), strict=True):
        total[review.group] = total.get(review.group, 0.0) + loss
        of[review.group] = of.get(review.group, 0) + 1
        means = {g: total[g] / n for g, n in sorted(of.items()) if n >= GROUP_LABELS_LEAST}
        if means and max(means.values()) > m:
            every = min(means.values()) > m and len(means) == len(of)
            named = ALL if every else max(means, key=means.__getitem__)
    return named, 0 if named is None else len(reviews) if named == ALL else of[named]
