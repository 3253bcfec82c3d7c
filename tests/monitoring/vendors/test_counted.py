"""What scanners a clinic has is counted as its rows are taken: as many studies as the rows themselves say."""

import pytest

from monitoring.vendors import vendors_store
from monitoring.vendors.changes import Span
from tests.kit.world import World
from tests.monitoring.fleet import PROFILE, Clinic, drain

GE = PROFILE | {"vendor": "ge", "model": "MR750", "software": "27"}
FROM_ROWS = """
select vendor, model, software, count(distinct study_id), min(at), max(at) from (
  select study_id, at, coalesce(nullif(profile ->> 'vendor', ''), '?') as vendor,
    coalesce(nullif(profile ->> 'model', ''), '?') as model,
    coalesce(nullif(profile ->> 'software', ''), '?') as software
  from serving.feature where clinic_id = %s) f
group by 1, 2, 3 order by 1, 2, 3"""


def counted(world: World, slug: str) -> list[Span]:
    with world.db.database.monitor() as conn:
        return vendors_store.spans(conn, slug)


def agrees(world: World, clinic: Clinic) -> bool:
    found = [
        (s.vendor, s.model, s.software, s.studies, s.first_at, s.last_at) for s in counted(world, clinic.slug)
    ]
    return sorted(found) == [tuple(row) for row in world.sql(FROM_ROWS, clinic.id)]


@pytest.fixture
def north(world: World) -> Clinic:
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    return its


def test_a_study_counts_once_for_each_scanner_whatever_comes_again(world: World, north: Clinic) -> None:
    south = Clinic(world, slug="south")
    world.bind(south.id)
    first, *_ = north.many(5)
    south.many(2, profile={"vendor": "", "sequence_class": "FLAIR"})
    follower = drain(world)
    assert agrees(world, north) and agrees(world, south)
    assert [(s.vendor, s.software, s.studies) for s in counted(world, "south")] == [("?", "?", 2)]
    north.send(study=first, revision=2)
    north.send(study=first, revision=3, profile=GE)  # the scanner was named wrongly before
    north.many(3, profile=GE)
    drain(world, follower)
    assert agrees(world, north)
    assert {s.vendor: s.studies for s in counted(world, "north")} == {PROFILE["vendor"]: 5, "ge": 4}


def test_what_an_earlier_version_took_is_counted_without_a_new_study(world: World, north: Clinic) -> None:
    north.many(4)
    follower = drain(world)
    world.sql("delete from monitoring.acquisition where clinic_id = %s", north.id)
    world.sql("update monitoring.cursor set acquired = 0 where clinic_id = %s", north.id)
    assert counted(world, "north") == []
    drain(world, follower)
    assert agrees(world, north)
