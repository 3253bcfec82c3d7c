"""Rows of accounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Account:
    """A person or service that may change things, with one role."""

    name: str
    role: str
    active: bool
    created_at: datetime


ANY = "select exists (select from registry.account)"


def any_exists(conn: Conn) -> bool:
    """Whether the first account has been added."""
    row = conn.execute(ANY).fetchone()
    return bool(row and row[0])


BY_NAME = "select name, role, active, created_at from registry.account where name = %(name)s"


def by_name(conn: Conn, name: str) -> Account | None:
    """The account of this name."""
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(BY_NAME, {"name": name}).fetchone()


ADD = """
insert into registry.account(name, role) values (%(name)s, %(role)s)
on conflict (name) do nothing returning name, role, active, created_at"""


def add(conn: Conn, name: str, role: str) -> Account | None:
    """Add an account; None where the name is taken."""
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(ADD, {"name": name, "role": role}).fetchone()


PAGE = """
select name, role, active, created_at from registry.account where name > %(after)s order by name limit %(limit)s"""


def page(conn: Conn, after: str, limit: int) -> Sequence[Account]:
    """Accounts in the order of their names, after the given one."""
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(PAGE, {"after": after, "limit": limit}).fetchall()


# Counted in the same statement that changes: two admins who disable each other at one moment wait for the lock.
SWITCH = """
update registry.account set active = %(active)s where name = %(name)s and (
  %(active)s or role <> 'admin'
  or exists (select from registry.account o where o.role = 'admin' and o.active and o.name <> %(name)s))
returning 1"""
LOCK = "select name from registry.account where role = 'admin' order by name for update"


def switch(conn: Conn, name: str, *, active: bool) -> bool:
    """Enable or disable an account; False where that would leave no active admin, or there is no such account."""
    conn.execute(LOCK)
    return conn.execute(SWITCH, {"name": name, "active": active}).fetchone() is not None
