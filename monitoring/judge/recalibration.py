"""Whether a moved threshold would bring the contract back: fitted on earlier reviews, tried on the next one.

g has one parameter, a step of the threshold in logits, as tier T1 of a cure moves it. A review keeps the Dice that its
study would have had at each step (serving computes it when the reader's mask comes in). A step that is chosen on the
reviews on which it is tried would always look like a cure, hence *earlier*.
"""

from collections.abc import Mapping, Sequence
from typing import Final

FIT_LEAST: Final = 5
"""Earlier reviews that a fit needs; until then nothing is tried and nothing is claimed."""
FIT_MOST: Final = 60
Ladder = Mapping[float, float]
"""Step of the threshold in logits -> Dice of the study at that threshold."""


def fit(earlier: Sequence[Ladder]) -> float:
    """The step with the best mean Dice over ``earlier``, of equals the smallest move; 0 where they share no step."""
    steps = sorted(set.intersection(*(set(ladder) for ladder in earlier)), key=lambda step: (abs(step), step))
    return max(steps, key=lambda step: sum(ladder[step] for ladder in earlier), default=0.0)


def losses(ladders: Sequence[Ladder | None]) -> list[float | None]:
    """The loss 1 - Dice of each review under the g of those before it; None where nothing could be tried."""
    earlier: list[Ladder] = []
    found: list[float | None] = []
    for ladder in ladders:
        if ladder is None or len(earlier) < FIT_LEAST:
            found.append(None)
        else:
            step = fit(earlier[-FIT_MOST:])
            found.append(1 - ladder[step] if step in ladder else None)
        if ladder:
            earlier.append(ladder)
    return found
