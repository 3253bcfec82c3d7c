"""The contract that a stream is judged by: what a person set for the clinic, else the figure on the version's card."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from monitoring.errors import ContractImpossible, ContractThin, SourceUnknown
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


LABELS_LEAST = 60
"""Reviews of drawn studies that a clinic's own figure needs."""
CLINICS_LEAST = 3
TWICE_LEAST = 5


def of_reviews(read: Mapping[UUID, Mapping[str, Any]], clinic_id: UUID, source: str) -> Contract:
    """A reference Dice out of reviews of drawn studies (``contracts_store.read``), margin included.

    acceptance: this clinic's own, from 60 labels on. fleet: the mean over other clinics with 60 labels each, three at
    least; every clinic weighs the same. Raises ContractThin, SourceUnknown.
    """
    enough = {its: row for its, row in read.items() if row["labels"] >= LABELS_LEAST}
    if source == "acceptance":
        if clinic_id not in enough:
            known = read.get(clinic_id, {}).get("labels", 0)
            raise ContractThin(f"this clinic has {known} of {LABELS_LEAST} reviews of drawn studies")
        row = enough[clinic_id]
        return Contract(float(row["dice"]), MARGIN, int(row["labels"]), source)
    if source != "fleet":
        raise SourceUnknown(f"{source} is neither acceptance, fleet nor card")
    others = [row for its, row in enough.items() if its != clinic_id]
    if len(others) < CLINICS_LEAST:
        raise ContractThin(f"{len(others)} of {CLINICS_LEAST} other clinics have {LABELS_LEAST} reviews each")
    dice = sum(float(row["dice"]) for row in others) / len(others)
    return Contract(dice, MARGIN, sum(int(row["labels"]) for row in others), source)


def check(its: Contract, read: Mapping[UUID, Mapping[str, Any]], clinic_id: UUID) -> None:
    """Whether this can be kept at all. Raises ContractImpossible.

    No model agrees with one reader better than two readers agree, so what readers reach here is the ceiling.
    """
    if not 0 < its.d_ref <= 1 or not 0 < its.margin < its.d_ref:  # NaN fits neither
        raise ContractImpossible(f"a Dice of {its.d_ref:g} with a margin of {its.margin:g} bounds nothing")
    if its.people < 1:
        raise ContractImpossible("a reference Dice was measured on at least one person")
    row = read.get(clinic_id)
    if row and row["twice"] >= TWICE_LEAST and its.d_ref > float(row["readers"]):
        raise ContractImpossible(
            f"two readers agree here by {float(row['readers']):.2f} ({row['twice']} studies read twice), and the "
            f"contract asks for {its.d_ref:.2f}"
        )
