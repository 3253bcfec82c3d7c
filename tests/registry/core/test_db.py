"""One entry to a clinic's rows; a role that row security does not bind is refused by name."""

import logging
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from registry.core import db
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


def test_a_database_that_is_away_is_said_so(caplog: pytest.LogCaptureFixture) -> None:
    database = Database(
        Settings(database_url="host=127.0.0.1 port=1 dbname={database} user={role} connect_timeout=1")
    )
    with pytest.raises(DatabaseAway), database.system():
        pass
    database.close()
    assert caplog.messages == [], "its pool does not warn of each try beside the error"
    logging.getLogger("psycopg.pool").warning("rolling back returned connection: %s", "x")
    assert len(caplog.messages) == 1, "what nobody else says is said"


def test_a_database_that_stays_away_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it starts or stops nobody is scared; what lasts is one line with what, why and cure, and one each time."""
    told: list[tuple[str, object]] = []
    line = SimpleNamespace(error=lambda text, **facts: told.append((text, facts["code"])))
    monkeypatch.setattr(db, "log", lambda: line)
    database = Database(Settings())
    now, there = [0.0], [False]

    def pool(_: str) -> Any:
        if there[0]:
            return SimpleNamespace(connection=lambda: nullcontext(threading.Event()))
        raise psycopg.OperationalError

    monkeypatch.setattr(database, "_pool", pool)
    monkeypatch.setattr(db, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def ask(at: float) -> int:
        now[0] = at
        with pytest.raises(DatabaseAway), database.system():
            pass
        return len(told)

    assert [ask(1), ask(9), ask(11), ask(12), ask(99)] == [0, 0, 1, 1, 1]
    assert told[0] == (
        f"the database does not answer. {DatabaseAway.why} {DatabaseAway.cure}",
        DatabaseAway.code,
    )
    there[0] = True
    with database.system():
        pass
    there[0] = False
    assert [ask(100), ask(109), ask(111)] == [1, 1, 2]
