"""Everything the detector knows about one stream, frozen, and the same as bytes."""

import json
from dataclasses import dataclass, fields
from math import fsum, prod
from typing import Final

import numpy as np

from monitoring.detect.ranks import Counts, Floats
from monitoring.detect.shape import Shape
from monitoring.errors import StateDamaged

FORM = "radfleet-drift-4"
NO_FLAG = -1
BESIDE: Final = ("beyond", "together")
"""What is said by each feature beyond the others, and by all features as one."""
WEIGHTS: Final = {"location": 0.22, "wider": 0.05, "beyond": 0.36, "together": 0.27}
"""Of what S is the mean: a mean of e-detectors is one, whatever the weights are. The rest is staked on nothing: it pays
for what a small reference does not know."""


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
    """Latest known normal score, any group, [F]."""
    m: Floats
    """Evidence of each feature and bet, [F, 5], dimensionless; compared with the threshold in studies."""
    beside: Floats
    """Evidence of all features, as in ``BESIDE``, [2]."""
    scores: Floats
    """Normal scores of the latest rows, NaN where not ranked, after one line that precedes them, [1 + up to 200, F]."""
    scores_groups: Counts
    """The group of each line of ``scores``, -1 for one before the epoch."""
    left: int
    """Rows that waited and no longer do."""
    waiting: Floats
    """Ranked rows too young for the reference, oldest first, [up to 30, F]."""
    waiting_groups: Counts
    """The group of each waiting row."""
    references: tuple[Floats, ...]
    """Reference rows of each group, [up to 400, F]; NaN is missing."""
    shape: Shape | None
    """Made from the references when it is needed, and never written: the references make it again."""

    @property
    def statistic(self) -> float:
        """S: the weighted mean of the evidence, the same to the last bit in any order of features."""
        parts = (mean(self.m[:, :-1]), mean(self.m[:, -1]), *self.beside.tolist())
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
        if field.name == "references":
            head[field.name] = [list(reference.shape) for reference in value]
            body += [_raw(reference) for reference in value]
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
        references = []
        for shape in head["references"]:
            reference, at = _array(body, at, shape, "<f8")
            references.append(reference)
        head |= {"references": tuple(references)} | {k: tuple(head[k]) for k in ("features", "groups")}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateDamaged from error
    if at != len(body):
        raise StateDamaged
    return State(**head, shape=None)


WRITTEN = tuple(field for field in fields(State) if field.name != "shape")
_ARRAYS = {
    "phi": "<f8", "z": "<f8", "m": "<f8", "beside": "<f8", "scores": "<f8", "scores_groups": "<i8", "waiting": "<f8",
    "waiting_groups": "<i8",
}  # fmt: skip


def _raw(array: Floats | Counts) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _array(body: bytes, at: int, shape: list[int], kind: str) -> tuple[Floats, int]:
    end = at + prod(shape) * 8
    native = np.dtype(kind).newbyteorder("=")
    return np.frombuffer(body[at:end], dtype=kind).reshape(shape).astype(native), end
