"""Weak in each clinic, sure in three together: one event; strong in one alone is that clinic's own."""

from datetime import UTC, datetime

import numpy as np

from monitoring.detect import detector
from monitoring.vendors.shared import Member, Shared, sentence, shared

H = 3650.0


def member(clinic: str, statistic: float, software: str = "XA30", day: int = 1) -> Member:
    return Member(clinic, "siemens", software, statistic, H, datetime(2026, 3, day, tzinfo=UTC))


def test_one_roll_out_in_three_clinics_is_one_event() -> None:
    found = shared([member("north", 5000, day=3), member("south", 4000, day=2), member("west", 3000, day=5),
                    member("hill", 2, "E11"), member("lake", 3, "E11")])  # fmt: skip
    assert [one.event for one in found] == [True, False]
    assert sentence(found[0]) == (
        "Siemens software XA30, 3 clinics (north, south, west) drift together since 2026-03-02, "
        "carried by north, south, west: one event"
    )
    assert "no drift in common" in sentence(found[1])


def test_one_clinic_alone_is_its_own_affair() -> None:
    (one,) = shared([member("north", 1e12), member("south", 1.0), member("west", 2.0)])
    assert one.carried_by == ("north",) and not one.event
    assert shared([member("north", 1e12)]) == [], "a fleet of one is none"


def _three(seed: int, shift: float) -> tuple[Shared, list[float]]:
    members = []
    for clinic in range(3):
        rng = np.random.default_rng([seed, clinic])
        values = rng.standard_normal((200, 5))
        values[120:, :2] += shift
        state = detector.begin([f"f{i}" for i in range(5)], values[:100], [""] * 100, epoch=1, h=H)
        for n in range(100, 200):
            state, _ = detector.step(state, str(n), "", values[n])
        members.append(member(f"clinic {clinic}", state.statistic))
    (one,) = shared(members)
    return one, [m.statistic for m in members]


def test_a_weak_roll_out_is_seen_together_and_nothing_is_quiet() -> None:
    """20 fleets of three clinics: 0.7 sd on two of five features in every clinic, and no change at all."""
    moved = [_three(seed, 0.7)[0].event for seed in range(20)]
    alone = [_three(seed, 0.0)[0].event for seed in range(20)]
    assert sum(moved) >= 15
    assert sum(alone) == 0
