"""Whether a moved threshold would bring the contract back: fitted on earlier reviews, tried on the next one.

g has one parameter, a step of the threshold in logits, as tier T1 of a cure moves it. A review keeps the Dice that its
study would have had at each step (serving computes it when the reader's mask comes in). A step that is chosen on the
reviews on which it is tried would always look like a cure, hence *earlier*.
"""

from collections.abc import Mapping, Sequence
from typing import Final

FIT_LEAST: Final = 5
"""Earlier reviews that a fit needs; until then nothing is tried and nothing is claimed."""
Ladder = Mapping[float, float]
"""Step of the threshold in logits -> Dice of the study at that threshold."""


def losses(ladders: Sequence[Ladder | None]) -> list[float | None]:
    """The loss 1 - Dice of each review under the g of those before it; None where nothing could be tried.

    g is the step with the best mean Dice so far, of equals the smallest move; steps that a review lacks are left out.
    """
    total: dict[float, float] = {}
    seen = 0
    found: list[float | None] = []
    for ladder in ladders:
        if not ladder:
            found.append(None)
            continue
        if seen >= FIT_LEAST and total.keys() & ladder.keys():
            steps = sorted(total.keys() & ladder.keys(), key=lambda step: (abs(step), step))
            found.append(1 - ladder[max(steps, key=total.__getitem__)])
        else:
            found.append(None)
        total = {
            step: total.get(step, 0.0) + dice for step, dice in ladder.items() if not seen or step in total
        }
        seen += 1
    return found
