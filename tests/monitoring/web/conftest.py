"""Two clinics behind running pages."""

from collections.abc import Iterator

import pytest

from tests.kit.db import FreshDb
from tests.kit.site import Site, people, serving, stream
from tests.kit.world import World
from tests.registry.promoting import begin


@pytest.fixture
def site(fresh_db: FreshDb, world: World) -> Iterator[Site]:
    """Two clinics, a flag at each; clara sees north alone."""
    line = begin(fresh_db)
    for slug in ("north", "south"):
        stream(
            world,
            line.another(slug).id,
            line.version(1).digest,
            studies=12,
            shifted=3,
            verdict="watch",
            flag=True,
        )
    line.measured(2, clinic=line.clinic("north"))
    line.request(2, clinic=line.clinic("north"))
    with serving(fresh_db, people(fresh_db, clara="north")) as running:
        yield running
