"""The judge of bench-promotion: it finds each kind of mixed answer, and none where all is right."""

from dataclasses import replace

import pytest

from tests.bench.promotion import Answer, Range, mixed

RANGES = {1: Range("a", 0.0, 0.0), 2: Range("b", 10.0, 10.2), 3: Range("a", 20.0, 20.1)}
RIGHT = [
    Answer(5.0, 5.1, 1, "a", 6.0, "a"),
    Answer(9.9, 10.1, 1, "a", 12.0, "a"),  # claimed before, answered after: its own version
    Answer(10.1, 10.2, 1, "a", 11.0, "a"),  # bound, but nobody could know yet
    Answer(10.1, 10.3, 2, "b", 11.0, "b"),
    Answer(21.0, 21.1, 3, "a", 22.0, "a"),
]


def test_nothing_is_mixed_where_each_is_answered_by_what_was_bound_at_its_claim() -> None:
    assert mixed(RIGHT, RANGES) == []
    assert mixed([replace(RIGHT[3], echoed="", error="engine.away")], RANGES) == [], "that is a failure"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"echoed": "a"}, "answered by another version than was asked"),
        ({"digest": "a", "echoed": "a"}, "asked for another version than its sequence number names"),
        ({"seq": 4}, "asked for another version than its sequence number names"),
        ({"asked": 8.0, "resolved": 9.0}, "asked for a version before it was bound"),
        ({"asked": 20.2, "resolved": 20.3}, "asked for a version after another was bound"),
    ],
)
def test_each_kind_of_mixing_is_found(changes: dict[str, object], found: str) -> None:
    assert mixed([*RIGHT, replace(RIGHT[3], **changes)], RANGES) == [found]  # type: ignore[arg-type]
