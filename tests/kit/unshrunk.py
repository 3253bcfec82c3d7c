"""A property test that is meant to fail fails with its first example: making that one small helps nobody."""

from collections.abc import Callable
from unittest.mock import patch

from hypothesis import Phase, settings

USED = "_hypothesis_internal_use_settings"


def unshrunk(test: Callable[[], None]) -> None:
    """Run a property test without making its counterexample smaller, which took 26 s of 27."""
    its = settings(getattr(test, USED, None), phases=(Phase.explicit, Phase.generate), database=None)
    with patch.object(test, USED, its, create=True):
        test()
