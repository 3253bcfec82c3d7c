"""What goes into a report: named tests, columns with enough values, the opinion by our thresholds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.evidence.errors import RowsTooFew
from monitoring.evidence.tables import CURRENT_MIN, GROUP, REFERENCE_MIN, opinion, prepare


def rows(count: int, start: float = 0.0, **more: float | str) -> list[dict[str, float | str]]:
    return [{"a": start + n, "b": start - n, GROUP: "g", **more} for n in range(count)]


@given(st.integers(0, 30), st.integers(0, 12))
def test_too_few_rows_are_no_report(before: int, since: int) -> None:
    if before >= REFERENCE_MIN and since >= CURRENT_MIN:
        its = prepare(rows(before), rows(since), ["a", "b"])
        assert [m.column for m in its.methods] == ["a", "b", GROUP]
        assert [m.method for m in its.methods] == ["ks", "ks", "jensenshannon"]
        assert its.methods[0].threshold == 0.05 / 2
    else:
        with pytest.raises(RowsTooFew):
            prepare(rows(before), rows(since), ["a", "b"])


def test_a_column_without_values_or_change_is_left_out_by_name() -> None:
    before, since = rows(25, flat=1.0), rows(6, flat=1.0)
    for row in since[:3]:
        del row["b"]
    its = prepare(before, since, ["a", "b", "flat", "absent"])
    assert [m.column for m in its.methods] == ["a", GROUP]
    assert its.left_out == {"b": "25 values before, 3 since", "flat": "one value everywhere",
                            "absent": "0 values before, 0 since"}  # fmt: skip
    with pytest.raises(RowsTooFew, match="no feature"):
        prepare(before, since, ["flat"])


def test_the_digest_names_rows_and_methods() -> None:
    one = prepare(rows(25), rows(6), ["a", "b"])
    assert one.digest == prepare(rows(25), rows(6), ["b", "a"]).digest
    assert one.digest != prepare(rows(25), rows(7), ["a", "b"]).digest
    assert one.digest != prepare(rows(25), rows(6), ["a"]).digest


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_opinion_is_by_the_named_thresholds(a: float, b: float, group: float) -> None:
    its = opinion(prepare(rows(25), rows(6), ["a", "b"]), {"a": a, "b": b, GROUP: group})
    moved = {c["column"]: c["moved"] for c in its["columns"]}
    assert moved == {"a": a < 0.025, "b": b < 0.025, GROUP: group > 0.15}
    assert its["drift"] == any(moved.values())
