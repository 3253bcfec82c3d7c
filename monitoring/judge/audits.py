"""Which studies experts are asked to read: by chance, with a probability that is fixed before anybody reads.

Only such studies are evidence of harm: whoever picks what looks odd proves that odd things look odd. Drift raises the
probability, and so buys time: the harm is proven in days instead of months.
"""

import secrets
from dataclasses import dataclass
from typing import Final

from monitoring.judge.verdict import LABELS_MOST

ROUTINE: Final = 0.03
RAISED: Final = 0.20
NEW_GROUP: Final = 0.50
NEW_GROUP_STUDIES: Final = 30
"""So many first studies of a scanner group that comes beside a reference are new."""
BLINDED: Final = 0.20
"""One in five is drawn by a reader who has not seen our mask."""
TWICE: Final = 0.10
SETTLED: Final = (3, 4, 5, 9)
"""Rows of the verdict table that answer a flag of drift: after them nothing more is asked of readers."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What decided about one study. ``draw`` in [0, 1); it is chosen where ``draw`` < ``chance``."""

    chance: float
    why: str
    draw: float
    blinded: bool
    twice: bool

    @property
    def chosen(self) -> bool:
        """Whether an expert is asked to read it."""
        return self.draw < self.chance


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stream's last verdict says about how much should be read."""

    rule: int = 9
    labels: int = 0
    """Reviews of drawn studies since the drift, or since harm was first suspected."""
    suspected: bool = False
    """Reviews speak against the contract, proven or not."""
    answers_drift: bool = False
    """The verdict was given after the flag of drift, and so is about it."""


def chance(last: Standing, *, drifting: bool, group_studies: int | None) -> tuple[float, str]:
    """The probability of the next study, and why, from what is known before it.

    ``drifting``: a flag of drift is open in the epoch. ``group_studies``: studies so far of its scanner group; None
    while the stream's first reference is made.
    """
    if group_studies is not None and group_studies < NEW_GROUP_STUDIES:
        return NEW_GROUP, "new_group"
    if last.labels < LABELS_MOST:
        if last.suspected and last.rule not in SETTLED:
            return RAISED, "harm"
        if drifting and not (last.answers_drift and last.rule in SETTLED):
            return RAISED, "drift"
    return ROUTINE, "routine"


def draw(probability: float, why: str) -> Draw:
    """Draw one study from the operating system's source: nobody, the reader least of all, can foresee it."""
    return Draw(probability, why, _uniform(), _uniform() < BLINDED, _uniform() < TWICE)


def _uniform() -> float:
    return secrets.randbits(53) / 2.0**53
