"""A stream in small bytes and rows is the same stream again, at 40 features too."""

from dataclasses import replace

import numpy as np
import pytest

from monitoring.errors import StateDamaged
from monitoring.streams import feed, groups, parts
from monitoring.streams.state import Row, Stream, to_bytes

GROUPS = [groups.facts({"vendor": "siemens", "model": model}) for model in ("Prisma", "Vida")]
NAMES = [f"feature {f:02}" for f in range(40)]


def row(rng: np.random.Generator, n: int, shift: float = 0.0) -> Row:
    drawn = rng.standard_normal(len(NAMES)) + shift
    values = {name: float(v) for name, v in zip(NAMES, drawn, strict=True) if rng.random() > 0.02}
    return Row(n, str(n), f"2026-01-01T00:00:{n % 60:02}+00:00", GROUPS[int(rng.random() < 0.3)], values)


def fed(count: int, shift_from: int = 10**9) -> tuple[Stream, dict[parts.Place, bytes], int]:
    """A stream, the rows kept on the way as the store keeps them, and the most rows one study wrote."""
    rng, its, kept, most = np.random.default_rng(3), feed.new(1, 3650.0, 0), {}, 0
    for n in range(1, count + 1):
        before = parts.places(its)
        if n == 400:
            its = feed.restarted(its, 2, 3650.0, fresh=False)
        its = feed.feed(its, row(rng, n, 2.0 if n >= shift_from else 0.0)).stream
        new = parts.kept(its, before)
        most, kept = max(most, len(new) if its.ranked else 0), kept | new
    return its, kept, most


@pytest.mark.parametrize("count", [20, 49, 71, 120, 330, 450])
def test_it_is_whole_again(count: int) -> None:
    its, kept, most = fed(count)
    data = parts.hot(its)
    assert to_bytes(parts.whole(data, kept)) == to_bytes(its)
    assert len(data) < 16_000
    assert most <= 3


def test_a_flagged_stream_is_whole_again_and_small() -> None:
    its, kept, _ = fed(330, shift_from=300)
    assert its.flagged_seq and its.began
    assert to_bytes(parts.whole(parts.hot(its), kept)) == to_bytes(its)
    assert len(parts.hot(its)) < 16_000


@pytest.mark.parametrize("part", ["history", "waiting", "reference"])
def test_a_lost_row_is_noticed(part: str) -> None:
    its, kept, _ = fed(150)
    gone = next(place for place in parts.places(its) if place[0] == part)
    with pytest.raises(StateDamaged):
        parts.whole(parts.hot(its), {place: body for place, body in kept.items() if place != gone})


def test_state_of_another_version_is_refused() -> None:
    for data in (b"", b"{}\n", to_bytes(feed.new(1, 1.0, 0))):
        with pytest.raises(StateDamaged):
            parts.base(data)


def test_a_new_reference_does_not_touch_the_old_one() -> None:
    its, kept, _ = fed(150)
    old = {place for place in kept if place[0] == "reference"}
    again = feed.restarted(replace(its, seq=150), 2, 3650.0, fresh=True)
    rng = np.random.default_rng(4)
    for n in range(151, 260):
        again = feed.feed(again, row(rng, n)).stream
    assert again.detector is not None
    assert not old & parts.places(again)
