"""Scores, carried masks and the bars of the bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.training import bench
from serving.training.evaluate import dice, itk_affine, lesion_score


def test_dice() -> None:
    one = np.array([True, True, False, False])
    assert dice(one, np.array([True, False, False, True])) == 0.5
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1.0


def test_lesions_are_counted_by_parts() -> None:
    truth = np.zeros((30, 30, 30), bool)
    truth[2:6, 2:6, 2:6] = True
    truth[12:16, 12:16, 12:16] = True
    truth[25, 25, 25] = True  # below 14 mm3: not a lesion to find
    found = np.zeros_like(truth)
    found[2:6, 2:6, 2:6] = True
    found[20:24, 2:6, 2:6] = True
    score = lesion_score(found, truth)
    assert score.sensitivity == 0.5 and score.precision == 0.5
    assert score.predicted_ml == pytest.approx(0.128) and score.true_ml == pytest.approx(0.129)
    assert lesion_score(np.zeros_like(truth), truth).precision is None


def test_itk_transform_is_turned_from_lps_to_ras(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(
        "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 10 20 30\nFixedParameters: 5 6 7\n"
    )
    assert itk_affine(path)[:3, 3].tolist() == [-10, -20, 30]


def report(**changes: Any) -> dict[str, Any]:
    good = {
        "brain": [{"scan": "a", "dice": 0.95}],
        "lesion": [
            {"person": person, "seed": seed, "dice": value}
            for person, value in ((19, 0.7), (7, 0.3))
            for seed in ("1", "2")
        ],
        "spread": {"19": {"seeds": 2, "mean": 0.7}, "7": {"seeds": 2, "mean": 0.3}},
        "generated": {"cases": 42, "best_threshold": 0.5},
        "shipped_seed": "1",
    }
    return {**good, **changes}


def test_bars() -> None:
    assert bench.missed(report()) == []
    assert len(bench.missed(report(brain=[{"scan": "a", "dice": 0.9399}]))) == 1
    assert len(bench.missed(report(generated={"cases": 39, "best_threshold": 0.2}))) == 2
    assert (
        len(bench.missed(report(spread={"19": {"seeds": 1, "mean": 0.7}, "7": {"seeds": 2, "mean": 0.1}})))
        == 2
    )
