"""Who may change what."""

import pytest

from registry import accounts
from registry.accounts import Act
from registry.errors import (
    AccountExists,
    AccountInvalid,
    AccountUnknown,
    ActorUnknown,
    FirstAccount,
    LastAdmin,
    RoleUnfit,
)
from tests.kit.db import FreshDb


def test_before_the_first_account_the_system_user_acts(
    fresh_db: FreshDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADFLEET_ACTOR", raising=False)
    with fresh_db.database.system() as conn:
        assert accounts.actor(conn, Act.BINDING)
        monkeypatch.setenv("RADFLEET_ACTOR", "anna")
        assert accounts.actor(conn, Act.BINDING) == "anna"
        assert accounts.actor(conn, Act.BINDING, "bert") == "bert"


def test_the_first_account_is_an_admin(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        with pytest.raises(FirstAccount):
            accounts.add(conn, "anna", "ml", by="os")
        accounts.add(conn, "anna", "admin", by="os")
        accounts.add(conn, "bert", "ml", by="anna")
        with pytest.raises(AccountExists):
            accounts.add(conn, "bert", "qa", by="anna")
        assert [a.name for a in accounts.list(conn)] == ["anna", "bert"]


@pytest.mark.parametrize(("name", "role"), [("Anna", "qa"), ("", "qa"), ("anna", "root"), ("a\x00b", "qa")])
def test_what_an_account_may_not_be(fresh_db: FreshDb, name: str, role: str) -> None:
    with fresh_db.database.system() as conn, pytest.raises(AccountInvalid):
        accounts.add(conn, name, role, by="os")


def test_roles(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        for name in ("admin", "ml", "qa", "oncall", "viewer"):
            accounts.add(conn, name, name, by="os")
        able = {
            name: {act for act in Act if _may(conn, act, name)}
            for name in ("admin", "ml", "qa", "oncall", "viewer")
        }
    assert able["admin"] == set(Act)
    assert able["viewer"] == set()
    assert able["ml"] == {Act.BINDING, Act.PROMOTION, Act.ROLLBACK, Act.MODEL, Act.HOLD, Act.FLAG}
    assert able["qa"] == {
        Act.CLINIC, Act.KEY, Act.DESTINATION, Act.POLICY, Act.HOLD, Act.STUDY, Act.FLAG, Act.REVIEW
    }  # fmt: skip
    assert able["oncall"] == {Act.ROLLBACK, Act.HOLD, Act.STUDY, Act.FLAG}


def test_a_stranger_changes_nothing_once_an_account_exists(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        accounts.add(conn, "anna", "admin", by="os")
        for name in ("eve", "EVE", "e\x00"):
            with pytest.raises(ActorUnknown):
                accounts.actor(conn, Act.HOLD, name)


def test_a_disabled_account_acts_no_more_and_the_last_admin_stays(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        accounts.add(conn, "anna", "admin", by="os")
        accounts.add(conn, "bert", "qa", by="anna")
        accounts.switch(conn, "bert", active=False, by="anna")
        with pytest.raises(ActorUnknown):
            accounts.actor(conn, Act.HOLD, "bert")
        accounts.switch(conn, "bert", active=True, by="anna")
        assert accounts.actor(conn, Act.HOLD, "bert") == "bert"
        with pytest.raises(LastAdmin):
            accounts.switch(conn, "anna", active=False, by="anna")
        with pytest.raises(AccountUnknown):
            accounts.switch(conn, "nobody", active=False, by="anna")


def _may(conn: object, act: Act, name: str) -> bool:
    try:
        return accounts.actor(conn, act, name) == name  # type: ignore[arg-type]
    except RoleUnfit:
        return False
