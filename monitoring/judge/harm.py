"""What reviews of randomly chosen studies say about harm: e-values against the contract, in review order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from monitoring.judge import wealth
from monitoring.judge.verdict import ALL, GROUP_LABELS_LEAST, PROVEN, Evidence

LABELS_A_YEAR: Final = 110
"""Reviews a year at the routine rate of 3 %, 10 studies a day."""
FALSE_A_YEAR: Final = 0.1


@dataclass(frozen=True, slots=True)
class Review:
    """One finished review. ``loss``: 1 - Dice in [0, 1]; None where it gave no Dice."""

    seq: int
    study_seq: int
    """The feature row of its study: a review long after the study still belongs to that day."""
    group: str
    loss: float | None
    random: bool
    """The study was chosen by chance, with a probability fixed before; others are never evidence."""
    recalibrated: float | None = None
    """The loss after a recalibration fitted on earlier reviews alone; None where none was tried."""
    between_readers: float | None = None
    """Dice between two readers of this study; None where one read it."""


def with_reviews(its: Evidence, reviews: Iterable[Review], since_seq: int | None) -> Evidence:
    """The evidence with what the reviews say. Their order of arrival and repeats do not matter.

    ``since_seq``: the feature row since which drift is flagged; harm is then also tested on studies since it alone,
    with wealth that begins there: wealth from healthy days is spent (the research note, 2.6). None: no drift flag.
    Without a contract nothing can be tested, and labels are only counted.
    """
    once = {review.seq: review for review in reviews}
    read = [once[seq] for seq in sorted(once)]
    twice = [r.between_readers for r in read if r.between_readers is not None]
    used = [r for r in read if r.random and r.loss is not None]
    its = replace(its, labels=len(used), double_read=sum(twice) / len(twice) if twice else None)
    if its.contract is None or not used:
        return its
    m = its.contract.loss
    fresh = [r for r in used if since_seq is not None and r.study_seq >= since_seq]
    group, labels = _named(fresh or used, m)
    tried = [r.recalibrated for r in (fresh or used) if r.recalibrated is not None]
    late = wealth.restarting(_losses(used), m) * FALSE_A_YEAR / LABELS_A_YEAR * PROVEN
    return replace(
        its,
        # Two ways to prove harm, each with its own small share of false alarms; either is enough, and stays so.
        e_harm=max(wealth.most(_losses(fresh), m), late),
        e_ok=wealth.product([1 - x for x in _losses(fresh or used)], 1 - m),
        e_bad=wealth.product(tried, m), e_fix=wealth.product([1 - y for y in tried], 1 - m),
        harm_group=group, group_labels=labels,
    )  # fmt: skip


def _losses(reviews: Sequence[Review]) -> list[float]:
    return [min(max(r.loss, 0.0), 1.0) for r in reviews if r.loss is not None]


def _named(reviews: Sequence[Review], m: float) -> tuple[str | None, int]:
    """``all`` where every group with enough labels is beyond the bound, else the worst of them, else nobody."""
    of: dict[str, list[float]] = {}
    for review in reviews:
        of.setdefault(review.group, []).extend(_losses([review]))
    means = {g: sum(x) / len(x) for g, x in sorted(of.items()) if len(x) >= GROUP_LABELS_LEAST}
    if not means or max(means.values()) <= m:
        return None, 0
    if min(means.values()) > m and len(means) == len(of):
        return ALL, len(reviews)
    worst = max(means, key=means.__getitem__)
    return worst, len(of[worst])
