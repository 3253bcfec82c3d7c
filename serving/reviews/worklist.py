"""What a reader does next, and why: drawn studies first, for they alone are evidence; then what drift points at."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from registry.core.db import Conn
from serving.reviews import worklist_store

_WHY = {
    "routine": "drawn by chance", "drift": "drawn by chance, more often since drift was flagged",
    "harm": "drawn by chance, more often since reviews speak against the contract",
    "new_group": "drawn by chance, more often while its scanner is new",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Due:
    """One study to read. ``blinded``: the reader draws before seeing our mask, which nothing here shows."""

    clinic: str
    study_id: UUID
    task: str
    model: str
    why: str
    evidence: bool
    blinded: bool
    command: str


def due(conn: Conn, clinic: str | None, reader: str, limit: int) -> Sequence[Due]:
    """The work list of one reader, who is not asked twice for a study. Needs a system transaction."""
    drawn = [_drawn(row) for row in worklist_store.drawn(conn, clinic, reader, limit)]
    left = limit - len(drawn)
    return [*drawn, *(_pointed(row) for row in worklist_store.flagged(conn, clinic, left))] if left else drawn


def _drawn(row: worklist_store.Drawn) -> Due:
    second = ", a second reading" if row.readers else ""
    add = f"radfleet review add {row.study_id} --task {row.task} --decision"
    how = " edit --blinded --mask FILE" if row.blinded else " accept|edit|reject --mask FILE"
    return Due(
        row.clinic, row.study_id, row.task, row.model, _WHY[row.why] + second, True, row.blinded, add + how
    )


def _pointed(row: worklist_store.Flagged) -> Due:
    return Due(
        row.clinic, row.study_id, row.task, row.model, f"flag {row.flag_id}: read to see what moved; no evidence",
        False, False, f"radfleet review add {row.study_id} --task {row.task} --decision accept|edit|reject --mask FILE",
    )  # fmt: skip
