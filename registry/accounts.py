"""Accounts and what their roles allow: every change is recorded with the name of who made it."""

import getpass
import os
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

from registry import accounts_store, events
from registry.accounts_store import Account
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import (
    AccountExists,
    AccountInvalid,
    AccountUnknown,
    ActorUnknown,
    FirstAccount,
    LastAdmin,
    RoleUnfit,
)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,40}")


class Role(StrEnum):
    """What a person is here for."""

    VIEWER = "viewer"
    QA = "qa"
    ONCALL = "oncall"
    ML = "ml"
    ADMIN = "admin"


class Act(StrEnum):
    """The kinds of change."""

    ACCOUNT = "account"
    CLINIC = "clinic"
    KEY = "key"
    DESTINATION = "destination"
    BINDING = "binding"
    PROMOTION = "promotion"
    ROLLBACK = "rollback"
    POLICY = "policy"
    MODEL = "model"
    HOLD = "hold"
    STUDY = "study"
    REVIEW = "review"
    FLAG = "flag"


# An admin may do everything; a viewer changes nothing.
ALLOWED: Mapping[Act, frozenset[Role]] = {
    Act.ACCOUNT: frozenset(),
    Act.CLINIC: frozenset({Role.QA}),
    Act.KEY: frozenset({Role.QA}),
    Act.DESTINATION: frozenset({Role.QA}),
    Act.BINDING: frozenset({Role.ML}),
    Act.PROMOTION: frozenset({Role.ML}),
    Act.ROLLBACK: frozenset({Role.ML, Role.ONCALL}),
    Act.POLICY: frozenset({Role.QA}),  # not ml: who trains does not set the margins
    Act.MODEL: frozenset({Role.ML}),
    Act.HOLD: frozenset({Role.QA, Role.ONCALL, Role.ML}),
    Act.STUDY: frozenset({Role.QA, Role.ONCALL}),
    Act.REVIEW: frozenset({Role.QA}),  # not ml: who trains does not say how good it is
    Act.FLAG: frozenset({Role.QA, Role.ONCALL, Role.ML}),
}


def named(name: str | None = None) -> str:
    """Who asks, with or without an account: ``name``, else RADFLEET_ACTOR, else the user of the operating system."""
    return name or os.environ.get("RADFLEET_ACTOR") or _os_user()


def actor(conn: Conn, act: Act, name: str | None = None) -> str:
    """Who makes this change: ``name``, else RADFLEET_ACTOR, else the user of the operating system.

    Once an account exists it must be an active account whose role fits. Needs a system transaction. Raises
    ActorUnknown, RoleUnfit.
    """
    who = named(name)
    if not accounts_store.any_exists(conn):
        return who
    account = accounts_store.by_name(conn, who) if _NAME.fullmatch(who) else None
    if account is None or not account.active:
        raise ActorUnknown
    role = Role(account.role)
    if role is not Role.ADMIN and role not in ALLOWED[act]:
        fit = ", ".join(sorted({*ALLOWED[act], Role.ADMIN}))
        raise RoleUnfit(f"the role {role} does not allow this change ({act} needs one of: {fit})")
    return who


def add(conn: Conn, name: str, role: str, *, by: str) -> Account:
    """Add an account. Raises AccountInvalid, FirstAccount, AccountExists."""
    if not _NAME.fullmatch(name) or role not in tuple(Role):
        raise AccountInvalid
    if role != Role.ADMIN and not accounts_store.any_exists(conn):
        raise FirstAccount
    account = accounts_store.add(conn, name, role)
    if account is None:
        raise AccountExists
    events.append(conn, events.FLEET, by, "account.added", {"name": name, "role": role})
    return account


def switch(conn: Conn, name: str, *, active: bool, by: str) -> None:
    """Enable or disable an account. Raises AccountUnknown, LastAdmin."""
    if accounts_store.by_name(conn, name) is None:
        raise AccountUnknown
    if not accounts_store.switch(conn, name, active=active):
        raise LastAdmin
    events.append(conn, events.FLEET, by, "account.enabled" if active else "account.disabled", {"name": name})


def list(conn: Conn, *, limit: int = LIMITS.page_rows, after: str = "") -> Sequence[Account]:
    """Accounts in the order of their names."""
    return accounts_store.page(conn, after, limit)


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return f"uid-{os.getuid()}"
