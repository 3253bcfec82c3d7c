"""Everything known of one stream, frozen: the rows it still collects, or the detector and what people ask of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monitoring.detect import state as detector_state
from monitoring.detect.ranks import Floats
from monitoring.errors import StateDamaged
from monitoring.streams.missing import Gap, Gaps, from_json

FORM = "radfleet-stream-4"


@dataclass(frozen=True, slots=True)
class Row:
    """One feature row as it was published. ``at``: ISO 8601, when serving stored it."""

    seq: int
    study: str
    at: str
    group: Mapping[str, str]
    """The parts of its scanner group (``groups.facts``)."""
    values: Mapping[str, float]
    """Finite numbers by feature; what is missing, NaN or no number is not in it."""
    binding: tuple[str, int] | None = None
    """Scope and sequence of the binding that answered it."""
    blank: tuple[str, ...] = ()
    """Features that were written without a finite number, by name."""


@dataclass(frozen=True, slots=True)
class Group:
    """One scanner group of an epoch: its parts, its first study, how many came."""

    facts: Mapping[str, str]
    first_seq: int
    first_at: str
    n: int


@dataclass(frozen=True, slots=True)
class Began:
    """When a change began, in feature sequences and times: the likeliest study, and the 90 % range around it."""

    seq: int
    at: str
    low_seq: int
    low_at: str
    high_seq: int
    high_at: str


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One stream after the row ``seq``. Counts are those of the epoch."""

    epoch: int
    threshold: float
    seq: int
    base: int = 0
    """The epoch in which its reference began."""
    last_at: str = ""
    n: int = 0
    ranked: int = 0
    again: int = 0
    """Rows of studies that had been taken before: a later revision is no new study."""
    crowded: int = 0
    """Rows left out because there were too many scanner groups already."""
    bindings: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    collecting: tuple[Row, ...] = ()
    detector: detector_state.State | None = None
    unwatched: Mapping[str, str] = field(default_factory=dict)
    """Feature -> why it is not watched."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Watched feature -> rows since the reference without a value."""
    unknown: tuple[str, ...] = ()
    """Features that came later than the reference."""
    watching: bool = False
    """S reached h / 10 and has not fallen below h / 20 since."""
    flagged_seq: int | None = None
    began: Began | None = None
    """Since when, as it was known at the flag."""
    moments: tuple[tuple[int, str], ...] = ()
    """Feature sequence and time of the latest rows that the detector holds scores of, oldest first."""
    gaps: Gaps = field(default_factory=Gaps)
    """Fields of the reference that go missing more often than they may."""

    @property
    def statistic(self) -> float:
        """S, in studies; 0 while the reference is collected."""
        return self.detector.statistic if self.detector else 0.0


def to_bytes(stream: Stream) -> bytes:
    """A line of JSON with sorted keys, then the detector's own bytes. Equal streams give equal bytes."""
    head = {name: plain(getattr(stream, name)) for name in _FIELDS} | {"form": FORM}
    tail = detector_state.to_bytes(stream.detector) if stream.detector else b""
    return json.dumps(head, sort_keys=True).encode() + b"\n" + tail


def from_bytes(data: bytes) -> Stream:
    """The stream that ``to_bytes`` wrote. Raises StateDamaged."""
    line, _, tail = data.partition(b"\n")
    try:
        head = json.loads(line)
        if head.pop("form") != FORM or set(head) != set(_FIELDS):
            raise StateDamaged(why=f"This program reads the form {FORM} and no other.")
        head |= {
            "groups": {name: Group(**group) for name, group in head["groups"].items()},
            "collecting": tuple(row(one) for one in head["collecting"]),
            "unknown": tuple(head["unknown"]),
            "began": Began(**head["began"]) if head["began"] else None,
            "moments": tuple((int(seq), str(at)) for seq, at in head["moments"]),
            "gaps": from_json(head["gaps"]),
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateDamaged from error
    return Stream(**head, detector=detector_state.from_bytes(tail) if tail else None)


_FIELDS = tuple(sorted(set(Stream.__dataclass_fields__) - {"detector"}))


def plain(value: Any) -> Any:
    """A part of a stream as JSON takes it."""
    if isinstance(value, Row | Group | Began | Gaps | Gap):
        return {name: plain(getattr(value, name)) for name in type(value).__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def row(head: dict[str, Any]) -> Row:
    """The row that ``plain`` wrote."""
    binding, blank = head.pop("binding"), head.pop("blank")
    return Row(**head, binding=(str(binding[0]), int(binding[1])) if binding else None, blank=tuple(blank))


def vector(its: Row, features: tuple[str, ...]) -> Floats:
    """The row's values [F] in the order of ``features``, NaN where it has none."""
    return np.array([its.values.get(name, np.nan) for name in features], dtype=np.float64)
