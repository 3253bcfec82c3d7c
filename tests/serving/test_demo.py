"""The demo judges itself: a wrong version or a missing object ends it by name."""

import pytest

from serving.demo import play
from serving.demo.errors import DemoFailed


def _row(version: str) -> dict[str, object]:
    return {
        "delivered": 3,
        "answers": [{"task": "brain-extraction", "version": f"brain-extraction {version}"}],
    }


def test_the_bound_versions_in_order_pass() -> None:
    play._judge([_row("1.0.0"), _row("1.1.0"), _row("1.1.0")], [{}] * 12, 3)


@pytest.mark.parametrize("versions", [("1.0.0", "1.0.0", "1.1.0"), ("1.0.0", "1.1.0", "1.0.0")])
def test_another_version_fails_the_demo(versions: tuple[str, ...]) -> None:
    with pytest.raises(DemoFailed, match="versions"):
        play._judge([_row(v) for v in versions], [{}] * 12, 3)


def test_a_missing_object_fails_the_demo() -> None:
    with pytest.raises(DemoFailed, match="number of objects"):
        play._judge([_row("1.0.0"), _row("1.1.0"), _row("1.1.0")], [{}] * 11, 3)
