"""Everything the detector knows about one stream, frozen, and the same as bytes."""

import json
from dataclasses import dataclass, fields
from math import fsum, prod
from typing import Final

import numpy as np

from monitoring.detect.history import Ranked
from monitoring.detect.ranks import Counts, Floats
from monitoring.detect.shape import Shape
from monitoring.errors import StateDamaged

FORM = "radfleet-drift-6"
NO_FLAG = -1
WEIGHTS: Final = {"location": 0.22, "wider": 0.04, "beyond": 0.38, "together": 0.26, "outlying": 0.1}
"""Of what S is the mean: a mean of e-detectors is one, whatever the weights are."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One stream after ``seq`` rows; F features, G scanner groups. Rows are counted from 0 within the epoch.

    No array is ever changed in place: a step makes a new state.
    """

    features: tuple[str, ...]
    groups: tuple[str, ...]
    epoch: int
    threshold: float
    seq: int
    flagged: int
    """Row of the open flag, -1 while there is none."""
    phi: Floats
    """Lag-1 correlation of the reference scores, [F]."""
    z: Floats
    """Latest known score by a randomised rank, any group, [F]."""
    m: Floats
    """Evidence of each feature and bet, [F, 5], dimensionless; compared with the threshold in studies."""
    beyond: Floats
    """Evidence of what each feature says beyond the others, [F]."""
    together: float
    """Evidence of all features as one."""
    outlying: float
    """Evidence that outlying rows come more often, and that the mean moved with them."""
    before: Floats
    """Score of each feature before the first line of the history, [F]."""
    history: Floats
    """The latest rows, oldest first, [up to 400, F]; NaN is missing, all of a line where it was not ranked."""
    history_groups: Counts
    """The group of each line of the history."""
    left: int
    """Rows that waited and no longer do."""
    waiting: Floats
    """Ranked rows too young for the reference, oldest first, [up to 100, F]."""
    waiting_groups: Counts
    """The group of each waiting row."""
    waiting_rows: Counts
    """And the row of the epoch that it was."""
    references: tuple[Floats, ...]
    """Reference rows of each group, [up to 400, F]; NaN is missing."""
    joined: tuple[Counts, ...]
    """The row of the epoch that each reference row was when it was ranked, -1 for one that never was."""
    ranked: Ranked | None
    """The history in the references as they are: made when it is needed, as ``shape`` is, and never written."""
    shape: Shape | None

    @property
    def statistic(self) -> float:
        """S: the weighted mean of the evidence, the same to the last bit in any order of features."""
        parts = (mean(self.m[:, :-1]), mean(self.m[:, -1]), mean(self.beyond), self.together, self.outlying)
        return fsum(weight * part for weight, part in zip(WEIGHTS.values(), parts, strict=True))


def mean(numbers: Floats) -> float:
    """The same to the last bit in whatever order they come."""
    return fsum(numbers.ravel().tolist()) / numbers.size


def to_bytes(state: State) -> bytes:
    """A line of JSON with names, numbers and shapes, then every array as little-endian 8-byte numbers."""
    head: dict[str, object] = {"form": FORM}
    body: list[bytes] = []
    for field in WRITTEN:
        value = getattr(state, field.name)
        if field.name in _OF_GROUPS:
            head[field.name] = [list(array.shape) for array in value]
            body += [_raw(array) for array in value]
        elif isinstance(value, np.ndarray):
            head[field.name] = list(value.shape)
            body.append(_raw(value))
        else:
            head[field.name] = value
    return json.dumps(head).encode() + b"\n" + b"".join(body)


def from_bytes(data: bytes) -> State:
    """The state that ``to_bytes`` wrote. Raises StateDamaged."""
    line, _, body = data.partition(b"\n")
    try:
        head = json.loads(line)
        form = head.pop("form")
        if form != FORM or set(head) != {field.name for field in WRITTEN}:
            raise StateDamaged(why=f"This program reads the form {FORM} and no other.")
        at = 0
        for name, kind in _ARRAYS.items():
            head[name], at = _array(body, at, head[name], kind)
        for name, kind in _OF_GROUPS.items():
            arrays = []
            for shape in head[name]:
                array, at = _array(body, at, shape, kind)
                arrays.append(array)
            head[name] = tuple(arrays)
        head |= {k: tuple(head[k]) for k in ("features", "groups")}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateDamaged from error
    if at != len(body):
        raise StateDamaged
    return State(**head, ranked=None, shape=None)


WRITTEN = tuple(field for field in fields(State) if field.name not in ("ranked", "shape"))
_ARRAYS = {
    "phi": "<f8", "z": "<f8", "m": "<f8", "beyond": "<f8", "before": "<f8", "history": "<f8", "history_groups": "<i8",
    "waiting": "<f8", "waiting_groups": "<i8", "waiting_rows": "<i8",
}  # fmt: skip
_OF_GROUPS = {"references": "<f8", "joined": "<i8"}


def _raw(array: Floats | Counts) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _array(body: bytes, at: int, shape: list[int], kind: str) -> tuple[Floats, int]:
    end = at + prod(shape) * 8
    native = np.dtype(kind).newbyteorder("=")
    return np.frombuffer(body[at:end], dtype=kind).reshape(shape).astype(native), end
