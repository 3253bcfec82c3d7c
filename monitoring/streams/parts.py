"""A stream in two kinds of bytes: a small state that changes with every study, and rows that are written once.

Reference rows, waiting rows and the latest rows make up nearly all of a stream. Each is kept as a row
of its own under a place; what a new study writes is its state (some kB) and three rows at most. Together they are the
stream again, to the last bit: ``state.to_bytes`` of the two is equal.
"""

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from monitoring.detect.detector import HISTORY, LAG, MOST
from monitoring.detect.ranks import Floats
from monitoring.detect.state import State
from monitoring.errors import StateDamaged
from monitoring.streams import state
from monitoring.streams.state import Stream

Place = tuple[str, int, int, int]
"""Part, epoch in which the reference began, number of the scanner group, number of the row within them."""
SLOTS: Final = {"collecting": MOST, "history": HISTORY, "waiting": LAG + 1}
"""How many rows of a part exist at most; a later one takes the slot of the oldest. References stay."""


def hot(its: Stream) -> bytes:
    """The state without what is kept in rows: a line of JSON that counts them, then the rest."""
    found = its.detector
    counts = {
        "base": its.base, "collecting": len(its.collecting), "history": len(its.moments),
        "waiting": len(found.waiting) if found else 0,
        "references": [len(reference) for reference in found.references] if found else [],
    }  # fmt: skip
    bare = replace(its, collecting=(), moments=(), detector=_bare(found) if found else None)
    return json.dumps(counts, sort_keys=True).encode() + b"\n" + state.to_bytes(bare)


def base(data: bytes) -> int:
    """The epoch in which the reference of these ``hot`` bytes began. Raises StateDamaged."""
    return int(_counts(data)["base"])


def kept(its: Stream, known: Container[Place] = frozenset()) -> dict[Place, bytes]:
    """The rows of a stream by their places, those in ``known`` left out."""
    return {place: _body(its, place, at) for place, at in _places(its) if place not in known}


def places(its: Stream) -> set[Place]:
    """Where all that belongs to the stream is kept."""
    return {place for place, _ in _places(its)}


def whole(data: bytes, rows: Mapping[Place, bytes]) -> Stream:
    """The stream of these ``hot`` bytes and rows; other rows may be among them. Raises StateDamaged."""
    counts, its = _counts(data), state.from_bytes(data.partition(b"\n")[2])
    try:
        first = its.n - counts["collecting"]
        collecting = tuple(
            state.row(json.loads(rows["collecting", 0, 0, first + i])) for i in range(counts["collecting"])
        )
        found = its.detector
        if found is None:
            return replace(its, collecting=collecting)
        lines = [
            _line(rows["history", 0, 0, found.seq - counts["history"] + i]) for i in range(counts["history"])
        ]
        waiting = [_row(rows["waiting", 0, 0, found.left + i]) for i in range(counts["waiting"])]
        references = [
            [_row(rows["reference", its.base, g, i]) for i in range(many)]
            for g, many in enumerate(counts["references"])
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise StateDamaged(why="A row that the state counts is not there, or cannot be read.") from error
    width = len(found.features)
    found = replace(
        found, references=tuple(_stacked([values for _, values in rows], width) for rows in references),
        joined=tuple(np.array([row for row, _ in rows], dtype=np.int64) for rows in references),
        history=_stacked([values for _, _, values in lines], width),
        history_groups=np.array([group for _, group, _ in lines], dtype=np.int64),
        waiting=_stacked([values for _, values in waiting], width),
        waiting_groups=np.array([group for (group, _), _ in waiting], dtype=np.int64),
        waiting_rows=np.array([row for (_, row), _ in waiting], dtype=np.int64),
    )  # fmt: skip
    return replace(its, moments=tuple(moment for moment, _, _ in lines), detector=found)


def _bare(its: State) -> State:
    nothing, nowhere = np.empty((0, len(its.features))), np.empty(0, dtype=np.int64)
    return replace(
        its, history=nothing, history_groups=nowhere, waiting=nothing, waiting_groups=nowhere,
        waiting_rows=nowhere, references=(), joined=(),
    )  # fmt: skip


def _places(its: Stream) -> Iterator[tuple[Place, int]]:
    """Every place, and where in its list the row stands."""
    for i in range(len(its.collecting)):
        yield ("collecting", 0, 0, its.n - len(its.collecting) + i), i
    if (found := its.detector) is None:
        return
    for i in range(len(its.moments)):
        yield ("history", 0, 0, found.seq - len(its.moments) + i), i
    for i in range(len(found.waiting)):
        yield ("waiting", 0, 0, found.left + i), i
    for g, reference in enumerate(found.references):
        for i in range(len(reference)):
            yield ("reference", its.base, g, i), i


def _body(its: Stream, place: Place, at: int) -> bytes:
    part, _, group, _ = place
    if part == "collecting":
        return json.dumps(state.plain(its.collecting[at]), sort_keys=True).encode()
    found = its.detector
    assert found is not None
    if part == "history":
        head: list[Any] = [*its.moments[at], int(found.history_groups[at])]
        return json.dumps(head).encode() + b"\n" + _raw(found.history[at])
    if part == "waiting":
        head = [int(found.waiting_groups[at]), int(found.waiting_rows[at])]
        return json.dumps(head).encode() + b"\n" + _raw(found.waiting[at])
    return json.dumps(int(found.joined[group][at])).encode() + b"\n" + _raw(found.references[group][at])


def _counts(data: bytes) -> dict[str, Any]:
    try:
        counts = json.loads(data.partition(b"\n")[0])
        if set(counts) != {"base", "collecting", "history", "waiting", "references"}:
            raise StateDamaged(why="An earlier version wrote it.")
    except (ValueError, TypeError) as error:
        raise StateDamaged from error
    return dict(counts)


def _line(body: bytes) -> tuple[tuple[int, str], int, Floats]:
    head, _, values = body.partition(b"\n")
    seq, at, group = json.loads(head)
    return (int(seq), str(at)), int(group), np.frombuffer(values, dtype="<f8")


def _row(body: bytes) -> tuple[Any, Floats]:
    head, _, values = body.partition(b"\n")
    return json.loads(head), np.frombuffer(values, dtype="<f8")


def _stacked(rows: list[Floats], width: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _raw(values: Floats) -> bytes:
    return values.astype("<f8").tobytes()
