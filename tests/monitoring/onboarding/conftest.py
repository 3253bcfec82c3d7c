"""A clinic on its way in a fresh database."""

import pytest

from tests.kit.world import World
from tests.monitoring.onboarding.way import Way, begin


@pytest.fixture
def way(world: World) -> Way:
    return begin(world)
