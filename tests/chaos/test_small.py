"""A small storm: one kill of each part while a few studies arrive; the large one is ``make chaos``."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos import killer, storm
from tests.chaos.__main__ import QUICK, smaller
from tests.chaos.ledger import Entry, Ledger, entries

# Without delivery: what a killed sender had claimed waits out its lease of 60 s.
KILLS = {
    "door dicom": 2,
    "work": 1,
    "sweep": 1,
    "postgres": 1,
    "replica": 1,
    "web": 1,
    "metrics": 1,
    "monitor": 1,
}


@pytest.mark.slow
def test_a_small_storm_loses_doubles_and_forgets_nothing(tmp_path: Path) -> None:
    report = storm.run(tmp_path / "home", storm.Size(8, KILLS, 0.5, (1.0, 3.0), settle_s=240), seed=3)
    assert dict(report.kills) == KILLS
    assert (report.verdict.lost, report.verdict.duplicate, report.verdict.stuck) == ([], [], [])
    assert report.shown == []
    assert report.verdict.counted["instances_acknowledged"] == 8 * storm.SHAPE[2]


def test_the_plan_is_the_seed_s_and_keeps_the_heads_apart() -> None:
    order = list(killer.plan(killer.QUICK, random.Random(1)))
    assert (
        order
        == list(killer.plan(killer.QUICK, random.Random(1)))
        != list(killer.plan(killer.QUICK, random.Random(2)))
    )
    assert Counter(order) == Counter(killer.QUICK) and len(order) == 200
    heads = [place for place, name in enumerate(order) if name == "ray head"]
    assert min(b - a for a, b in itertools.pairwise(heads)) > 40
    assert sum(smaller(QUICK, 8, 20).kills.values()) == 20


def test_the_ledger_reads_back_what_was_acknowledged(tmp_path: Path) -> None:
    entry = Entry("north", "1.2", "1.2.3", "00", 2)
    Ledger(tmp_path / "north.ledger").add(entry)
    assert list(entries(tmp_path)) == [entry]
