"""The judges of bench-monitoring: what was never found is no short delay, what came early is no find, people count."""

import numpy as np
import pytest

from monitoring.detect.detector import Flag
from tests.bench import grid, rules
from tests.bench.grid import IID, NAMES, TUNED, UNSEEN, changed, judged, spread
from tests.bench.tables import METRICS, paired


def _flag(row: int, first: str, since: int) -> tuple[int, Flag]:
    return row, Flag(row, since, (since - 1, since + 1), 1.0, 1.0, (first,), True, {}, (), None)


def test_a_change_never_found_counts_as_the_longest_delay() -> None:
    assert spread([10, 20, 30], 3)["delay_median"] == 20
    found = spread([10, 20], 4)
    assert (found["found"], found["delay_median"], found["delay_quartiles"]) == (0.5, 20, (10, None))
    assert found["delay_90"] is None
    assert spread([], 4)["delay_median"] is None
    assert spread([], 0)["found"] is None, "where all were flagged early nothing is known of the delay"


def test_a_flag_before_the_change_is_no_find() -> None:
    outcomes = [_flag(90, NAMES[0], 80), _flag(109, NAMES[0], 102), _flag(119, NAMES[7], 100), (200, None)]
    found = judged(outcomes, at=100, moved=5)
    assert (found["flagged_before_the_change"], found["streams"]) == (1, 3)
    assert found["found"] == pytest.approx(2 / 3)
    assert (found["delay_median"], found["delay_quartiles"]) == (20, (10, None))
    assert (found["top_feature_right"], found["since_error_median"]) == (0.5, 1.0)
    assert found["since_range_holds"] == 0.5


@pytest.mark.parametrize("change", [*TUNED, *UNSEEN])
def test_a_change_touches_its_features_from_its_study_on_and_nothing_else(change: str) -> None:
    moved, at = {**TUNED, **UNSEEN}[change].moved, 50 + grid.BEFORE
    one, groups = changed(1, IID, 50, change, 3)
    plain, _ = grid.stream(grid.KINDS[IID], len(one), (1, 3, 50, 5, 0))
    assert set(groups) == {""}
    assert np.array_equal(one[:at], plain[:at]) and np.array_equal(one[at:, moved:], plain[at:, moved:])
    assert (one[at:, :moved] != plain[at:, :moved]).any(axis=0).all()


def test_unseen_changes_of_shape_keep_mean_and_variance() -> None:
    for change, tolerance in (
        ("correlation .25 to 0, all 20", 0.1),
        ("heavy tails (t, 3 degrees) on 5", 0.3),
    ):
        rows = np.random.default_rng(1).standard_normal((20_000, UNSEEN[change].moved))
        after = UNSEEN[change].apply(np.random.default_rng(2), rows)
        assert np.allclose(after.mean(0), 0, atol=0.05) and np.allclose(after.var(0), 1, atol=tolerance)


def test_a_metric_differs_only_if_it_does_in_every_person_who_was_on_both() -> None:
    first = {p: np.zeros((2, len(METRICS))) for p in ("a", "b", "only here")}
    then = {p: np.zeros((1, len(METRICS))) for p in ("a", "b")}
    then["a"][:, :3] = 1, -1, 1
    then["b"][:, :3] = 2, -2, -1
    assert paired(first, then) == {METRICS[0]: "up", METRICS[1]: "down"}


def test_a_matched_threshold_keeps_the_budget_and_no_lower_one_does() -> None:
    rng = np.random.default_rng(1)
    curves = [rng.standard_normal(3650) for _ in range(6)]
    level = rules.matched(curves)

    def flags(threshold: float) -> float:
        firsts = [rules.first(c, threshold) for c in curves]
        return sum(f is not None for f in firsts) / sum(f or 3650 for f in firsts) * 3650

    below = max(float(c[c < level].max()) for c in curves)
    assert flags(level) <= 1 < flags(below)
