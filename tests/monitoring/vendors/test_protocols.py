"""Protocols of the fleet: who uses which, and what changed on machines that stayed the same."""

import json
from datetime import UTC, datetime

from monitoring.streams import groups
from monitoring.vendors.protocols import Arrived, Used, changes, table
from registry.cli import main
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain

DAY = datetime(2026, 3, 11, tzinfo=UTC)
FACTS = groups.facts(
    {
        "vendor": "siemens",
        "model": "Prisma",
        "software_major": "E11",
        "field_t": 3.0,
        "protocol": "a",
        "te_ms": 90.0,
    }
)


def test_one_change_of_a_protocol_in_two_clinics_is_one() -> None:
    te = {"te_ms": ["90", "120"]}
    seen = [
        Arrived("south", "FLAIR", FACTS, te, DAY.replace(day=14)),
        Arrived("north", "FLAIR", FACTS, te, DAY),
        Arrived("north", "FLAIR", FACTS, te, DAY.replace(day=12)),  # of another task
        Arrived("north", "T1", FACTS, te, DAY.replace(day=1)),
        Arrived(
            "north", "FLAIR", FACTS, {"software_major": ["E11", "XA30"], **te}, DAY
        ),  # that is a software event
    ]
    (one, other) = changes(seen)
    assert one.sentence == (
        "another FLAIR protocol on the Siemens Prisma in 2 clinics (north, south), since 2026-03-11:"
        " echo time (ms) 90 → 120"
    )
    assert (other.sequence, other.clinics) == ("T1", ("north",))


def test_streams_of_two_tasks_count_their_studies_once() -> None:
    its = [Used("north", "FLAIR", FACTS, DAY, 60), Used("north", "FLAIR", FACTS, DAY, 40)]
    upgraded = FACTS | {"software_major": "XA30"}
    its += [Used("south", "FLAIR", upgraded, DAY.replace(day=2), 5)]
    (row,) = table(its)
    assert (row["clinics"], row["studies"], row["since"]) == (["north", "south"], 65, DAY.replace(day=2))
    assert (row["field_t"], row["settings"], row["says"]) == ("3", {"te_ms": "90"}, "echo time (ms) 90")


def test_a_changed_protocol_is_in_the_vendor_view(world: World, capsys) -> None:
    world.version()
    north = Clinic(world)
    world.bind(north.id)
    north.many(60, profile=PROFILE | {"protocol": "a", "te_ms": 90.0})
    north.many(3, profile=PROFILE | {"protocol": "b", "te_ms": 120.0})
    drain(world)
    assert main(["monitor", "vendors", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    (event,) = told["protocol_events"]
    assert (event["clinics"], event["change"]) == (["north"], {"te_ms": ["90", "120"]})
    assert sorted((p["protocol"], p["studies"]) for p in told["protocols"]) == [("a", 60), ("b", 3)]
    assert main(["monitor", "vendors"]) == 0
    assert "echo time (ms) 90 → 120" in capsys.readouterr().out
