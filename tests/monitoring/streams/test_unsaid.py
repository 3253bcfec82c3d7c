"""A header that says more than before of the same machine is no acquisition flag."""

import pytest

from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain

SILENT = PROFILE | {"coil": None, "protocol": None}


@pytest.mark.parametrize(
    ("past", "live", "kinds"),
    [
        (SILENT, {"coil": "head", "protocol": "p"}, []),
        (SILENT, {"coil": "head", "software_major": "XA30"}, ["acquisition"]),
        (SILENT | {"model": None}, {"model": "Prisma"}, ["acquisition"]),
    ],
)
def test_what_a_header_did_not_say_before_is_no_change(
    world: World, past: dict[str, object], live: dict[str, object], kinds: list[str]
) -> None:
    """A past without coil and protocol, then live studies. Mutant: was_unsaid without its word on the machine."""
    world.version()
    clinic = Clinic(world)
    world.bind(clinic.id)
    clinic.many(60, profile=past)
    clinic.many(3, profile=past | live)
    drain(world)
    assert [kind for (kind,) in world.sql("select kind from monitoring.flag_v order by id")] == kinds
