"""The contract that a stream is judged by: what a person set for the clinic, else the figure on the version's card."""

from collections.abc import Mapping
from typing import Any

from monitoring.judge.verdict import Contract

MARGIN = 0.05


def of_card(card: Mapping[str, Any]) -> Contract | None:
    """The Dice that a version's card names, people counted and not scans; None where it names none."""
    scored = card.get("scored_on")
    if not isinstance(scored, Mapping):
        return None
    of: dict[str, list[float]] = {}
    for row in scored.get("rows") or scored.get("scans") or []:
        if isinstance(row, Mapping) and isinstance(row.get("dice"), int | float) and 0 < row["dice"] <= 1:
            of.setdefault(str(row.get("person", "")), []).append(float(row["dice"]))
    if not of:
        return None
    d_ref = sum(sum(dice) / len(dice) for dice in of.values()) / len(of)
    people = len(of) if set(of) != {""} else max(1, int(scored.get("people") or 1))
    return Contract(d_ref, MARGIN, people, "the version's card") if d_ref > MARGIN else None
