"""Whether a clinic's own cases accept a version: two bets on the loss of each reviewed case. Pure.

One bets that the mean loss is below the contract's, one that it is above (monitoring/judge/wealth.py). The first to
reach odds of 20 to 1 decides; whatever is true, it decides wrongly in at most 1 of 20 clinics each way (Ville).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID

from monitoring.judge import wealth
from monitoring.judge.verdict import LABELS_MOST, PROVEN, Contract

FAR: Final = 500
"""Reviews beyond which no forecast is given."""


class Word(StrEnum):
    """What the cases say."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Case:
    """The first blinded review of one study that gave a Dice. ``minutes``: of the expert; None where not told."""

    seq: int
    review_id: UUID
    dice: float
    minutes: float | None
    contract: Contract


@dataclass(frozen=True, slots=True)
class Trial:
    """What the cases said, up to the one that decided. ``more``: reviews until a decision at the present mean."""

    word: Word
    reviews: int
    odds_good: float
    odds_bad: float
    mean_dice: float | None
    bar: float | None
    minutes: float
    untold: int
    more: int | None
    reviews_digest: str

    @property
    def sentence(self) -> str:
        """The state of the test as people read it."""
        if not self.reviews:
            return "No blinded review with a Dice yet."
        mean = f"mean Dice {self.mean_dice:.2f}, contract {self.bar:.2f}"
        if self.word is Word.ACCEPTED:
            return f"Accepted by {self.reviews} reviews: odds of {self.odds_good:.0f} to 1; {mean}."
        if self.word is Word.REFUSED:
            return f"Refused by {self.reviews} reviews: odds of {self.odds_bad:.0f} to 1; {mean}."
        if self.reviews >= LABELS_MOST:
            return f"{self.reviews} reviews leave it open: it is very near its contract; {mean}."
        more = f", about {self.more} more at this rate" if self.more else ""
        return f"Undecided after {self.reviews} reviews{more}; {mean}."


def decide(cases: Sequence[Case]) -> Trial:
    """The decision of ``cases`` in the order of their reviews; later ones do not change it."""
    good: wealth.Wealth = wealth.FRESH
    bad: wealth.Wealth = wealth.FRESH
    used: list[Case] = []
    for case in sorted({c.seq: c for c in cases}.values(), key=lambda c: c.seq):
        used.append(case)
        m, loss = case.contract.loss, min(max(1 - case.dice, 0.0), 1.0)
        good, bad = wealth.bet(good, 1 - loss, 1 - m), wealth.bet(bad, loss, m)
        if max(wealth.mean(good), wealth.mean(bad)) >= PROVEN:
            break
    odds = wealth.mean(good), wealth.mean(bad)
    word = Word.ACCEPTED if odds[0] >= PROVEN else Word.REFUSED if odds[1] >= PROVEN else Word.UNDECIDED
    told = [c.minutes for c in used if c.minutes is not None]
    found = Trial(
        word, len(used), *odds, None, None, sum(told), len(used) - len(told), None,
        "sha256:" + hashlib.sha256(json.dumps([str(c.review_id) for c in used]).encode()).hexdigest(),
    )  # fmt: skip
    if not used:
        return found
    dice = sum(c.dice for c in used) / len(used)
    bar = sum(1 - c.contract.loss for c in used) / len(used)
    more = _more(dice, bar, good, bad) if word is Word.UNDECIDED else None
    return replace(found, mean_dice=dice, bar=bar, more=more)


def _more(dice: float, bar: float, good: wealth.Wealth, bad: wealth.Wealth) -> int | None:
    """Reviews until one side is proven if each were like their mean so far; None beyond ``FAR``."""
    for n in range(1, FAR + 1):
        good, bad = wealth.bet(good, dice, bar), wealth.bet(bad, 1 - dice, 1 - bar)
        if max(wealth.mean(good), wealth.mean(bad)) >= PROVEN:
            return n
    return None
