"""No clinic sees another (promise P5), and the probes can tell when it does."""

import pytest

from registry import accounts
from tests.isolation import fill, pages, probes
from tests.kit.world import DIGEST_B, World


def _two(world: World) -> tuple[probes.Planted, probes.Planted]:
    world.version()
    return probes.plant(world, world.clinic("north")), probes.plant(world, world.clinic("south"))


def test_the_pool_shows_no_foreign_row(world: World) -> None:
    clinics, tally = _two(world), probes.Tally()
    probes.pool(world, world.db.database, clinics, rounds=1, tally=tally)
    assert tally.probes > 100
    assert tally.foreign == []


@pytest.mark.parametrize("table", ["serving.study", "serving.result", "registry.job"])
def test_a_table_without_row_security_is_noticed(world: World, table: str) -> None:
    clinics, tally = _two(world), probes.Tally()
    world.sql(f"alter table {table} disable row level security")
    probes.pool(world, world.db.database, clinics, rounds=1, tally=tally)
    assert any(table in name for name in tally.foreign)


@pytest.fixture
def held(world: World) -> tuple[pages.Held, pages.Held]:
    planted = _two(world)
    world.version(DIGEST_B, version="2.0.0")
    with world.db.database.system() as conn:
        accounts.add(conn, "anna", "admin", by="test")
        accounts.add(conn, "bert", "ml", by="anna")
    return pages.plant(world, "north", planted[0].clinic), pages.plant(world, "south", planted[1].clinic)


def test_the_pages_show_nothing_foreign(world: World, held: tuple[pages.Held, pages.Held]) -> None:
    tally = probes.Tally()
    with pages.site(world, held) as site:
        pages.probe(site, *held, tally, thin=True)
        assert tally.probes > 60
        assert sorted(set(tally.foreign)) == []
        with pages.reading_the_fleet():
            pages.probe(site, *held, tally, thin=True)
    assert {"page /flags/{id}", "page /studies/{study}", "page /clinics/{clinic}"} <= set(tally.foreign)


def test_every_table_has_a_row_of_the_victim(world: World, held: tuple[pages.Held, pages.Held]) -> None:
    """So a table of tomorrow's migration is probed too, and not only asked while it is empty."""
    clinic = world.sql("select id from registry.clinic where slug = 'north'")[0][0]
    assert fill.fill(world, clinic) != []
    assert fill.fill(world, clinic) == []


def test_no_clinic_set_means_no_row(world: World) -> None:
    _two(world)
    with world.db.connect("radfleet_app") as conn:
        for table in ("serving.study", "registry.job", "serving.result", "registry.clinic"):
            assert conn.execute(f"select count(*) from {table}").fetchone() == (0,)
