"""One entry to a clinic's rows; a role that row security does not bind is refused by name."""

import pytest

from registry.core.db import Database, DatabaseAway, RoleTooStrong
from registry.core.settings import Settings
from tests.kit.world import World


def test_the_clinic_of_a_transaction_does_not_outlive_it(world: World) -> None:
    clinic = world.clinic()
    world.study(clinic)
    with world.db.database.tenant(clinic) as conn:
        assert conn.execute("select count(*) from serving.study").fetchone() == (1,)
    with world.db.database._transaction("radfleet_app") as conn:
        assert conn.execute("select count(*) from serving.study").fetchone() == (0,)


def test_an_owner_or_superuser_is_refused_by_name(world: World) -> None:
    url = world.db.dsn("{role}").replace("{role}", "radfleet_admin")
    database = Database(Settings(database_url=url))
    with pytest.raises(RoleTooStrong), database.system():
        pass
    database.close()


def test_a_database_that_is_away_is_said_so() -> None:
    database = Database(
        Settings(database_url="host=127.0.0.1 port=1 dbname={database} user={role} connect_timeout=1")
    )
    with pytest.raises(DatabaseAway), database.system():
        pass
    database.close()
