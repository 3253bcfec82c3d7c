"""References in people's hands: listed, begun again with a reason, old ones kept; a protocol change named as one."""

import json

import pytest

from monitoring import sentences
from monitoring.streams import feed, groups
from monitoring.streams.feed import Arrival
from monitoring.streams.state import Row
from registry.cli import main
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main([*words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_person_begins_a_reference_and_the_old_one_stays(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.version()
    clinic = Clinic(world)
    world.bind(clinic.id)
    clinic.many(160)
    drain(world)
    code, out, _ = run(capsys, "monitor", "reference", "north", "--json")
    ((first,),) = (json.loads(out),)
    assert (code, first["epoch"], first["holds"], first["reference_rows"]) == (0, 1, True, 50 + 10)
    code, _, err = run(capsys, "monitor", "reference", "north", "--new", "--as", "ada")
    assert code == 2 and "monitoring.reason_lacking" in err
    words = (
        "monitor",
        "reference",
        "north",
        "--new",
        "--reason",
        "the coil was mended",
        "--as",
        "ada",
        "--json",
    )
    old, new = json.loads(run(capsys, *words)[1])
    assert (old["holds"], old["reference_rows"]) == (False, 60)
    assert (new["holds"], new["fresh"], new["by_whom"], new["reason"]) == (
        True,
        True,
        "ada",
        "the coil was mended",
    )
    clinic.many(55)
    drain(world)
    rows = json.loads(run(capsys, "monitor", "reference", "north", "--json")[1])
    assert [row["reference_rows"] for row in rows] == [60, 50]
    assert run(capsys, "monitor", "verify", "north")[0] == 0
    assert run(capsys, "monitor", "reference", "nowhere")[0] == 3
    assert run(capsys, "monitor", "reference", "north", "--task", "no such")[0] == 3


def facts(**changed: object) -> dict[str, str]:
    return groups.facts(PROFILE | {"te_ms": 90.0, "ti_ms": 2500.0, "spacing_mm": [1.0, 1.0, 3.0]} | changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"te_ms": 120.0, "protocol": "f"}, "a changed protocol (Siemens Prisma) since 1 March 2026: "
         "echo time (ms) 90 -> 120."),
        ({"ti_ms": 2200.0, "spacing_mm": [1.0, 1.0, 5.0], "protocol": "f"}, "a changed protocol (Siemens Prisma) since "
         "1 March 2026: inversion time (ms) 2500 -> 2200, voxel (mm) 1 x 1 x 3 -> 1 x 1 x 5."),
        ({"protocol": "f"}, "a changed protocol (Siemens Prisma) since 1 March 2026: protocol 0123456789abcdef -> f."),
        ({"software_major": "XA30", "te_ms": 92.0, "protocol": "f"}, "a changed scanner (Siemens Prisma) since "
         "1 March 2026: software release E11 -> XA30, echo time (ms) 90 -> 92. They came with one study, so what each "
         "does cannot be told apart."),
    ],
)  # fmt: skip
def test_a_protocol_change_is_named_as_one(changed: dict[str, object], said: str) -> None:
    its = feed.new(1, 3650.0, 0)
    for n in range(1, 60):
        values = {f"f{i}": float((n * 37 + i * 11) % 101) for i in range(3)}
        its = feed.feed(its, Row(n, str(n), "2026-02-01T00:00:00+00:00", facts(), values)).stream
    row = Row(60, "60", "2026-03-01T00:00:00+00:00", facts(**changed), {"f0": 1.0})
    arrival = feed.feed(its, row).arrival
    assert isinstance(arrival, Arrival)
    assert sentences.arrival("FLAIR", arrival) == f"FLAIR comes from {said}"


def test_small_noise_of_an_echo_time_is_no_change() -> None:
    assert groups.changed(facts(te_ms=90.02), [facts()]) == {}
