"""What an event is follows from its Dice alone, and a study's features, Dice and steps are those of one scan."""

import numpy as np
import pytest

from tests.bench.harm import STEPS
from tests.bench.harm_measured import Measured, Rows, clinic, kind_of


def rows(dice: float, best: float, features: float = 0.0, n: int = 30) -> Rows:
    """Made-up lines: the n-th has its number as a feature, and Dice that rises with it."""
    spread = np.linspace(-0.02, 0.02, n)
    steps = np.tile(np.full(len(STEPS), dice - 0.1), (n, 1)) + spread[:, None]
    steps[:, STEPS.index(1.0)] = best + spread
    return Rows(
        ("number", "other"), np.stack([np.arange(n) + features, np.zeros(n)], 1), steps, dice + spread
    )


CLEAN = rows(0.7, 0.7)  # the contract is .65


@pytest.mark.parametrize(("its", "kind"), [
    (rows(0.70, 0.70), "harmless"), (rows(0.68, 0.68), "harmless"), (rows(0.80, 0.80), "harmless"),
    (rows(0.66, 0.70), "not decisive"), (rows(0.58, 0.58), "broken"), (rows(0.55, 0.68), "recalibrable"),
    (rows(0.55, 0.65), "not decisive"),
])  # fmt: skip
def test_what_an_event_is(its: Rows, kind: str) -> None:
    assert kind_of(CLEAN, its) == kind


def test_features_and_dice_of_a_study_are_those_of_one_scan() -> None:
    after = rows(0.4, 0.4, features=100)
    its = Measured(None, 20, np.random.default_rng(1), d_ref=0.7, before=CLEAN, after=after)  # type: ignore[arg-type]
    for n in (0, 99, 100, 199):
        of = CLEAN if n < 100 else after
        number = int(its.row(n)["number"]) - (0 if n < 100 else 100)
        assert its.dice[n] == of.delivered[number]
        assert np.array_equal(its.steps[n], of.dice[number])
    gone = Rows(after.names, after.features, np.full_like(after.dice, np.nan), after.delivered)
    its = Measured(None, 20, np.random.default_rng(1), d_ref=0.7, before=CLEAN, after=gone)  # type: ignore[arg-type]
    assert its.ladder(150, 0.4) == {}
    assert its.ladder(50, 0.4)[0.0] == 0.4


def test_a_broken_version_under_drift_is_fine_tuned() -> None:
    ours, alarm, _ = clinic(CLEAN, rows(0.2, 0.2, features=100), [1], 40)
    assert ours.word == "fine_tune"
    assert alarm.word == "retrain"


def test_levels_that_are_missing_from_the_worst_studies_hide_that_no_threshold_helps() -> None:
    """Planted: as small lesions lost theirs until the levels gave each delivered mask again."""
    broken = rows(0.52, 0.52, features=100)
    broken.delivered[:] = np.linspace(0.3, 0.74, 30)
    broken.dice[:] = broken.delivered[:, None]
    assert clinic(CLEAN, broken, [1], 130)[0].word == "fine_tune"
    lost = Rows(broken.names, broken.features, broken.dice.copy(), broken.delivered)
    lost.dice[:15] = np.nan
    assert clinic(CLEAN, lost, [1], 130)[0].word == "hold"
