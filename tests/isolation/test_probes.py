"""No clinic sees another (promise P5), and the probes can tell when it does."""

import pytest

from tests.isolation import probes
from tests.kit.world import World


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


def test_no_clinic_set_means_no_row(world: World) -> None:
    _two(world)
    with world.db.connect("radfleet_app") as conn:
        for table in ("serving.study", "registry.job", "serving.result", "registry.clinic"):
            assert conn.execute(f"select count(*) from {table}").fetchone() == (0,)
