"""What the doctor asks the database: its clock, its version, the caller's rights, the migrations applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from registry.core import migrate as migrations
from registry.core.db import Conn, DatabaseAway
from registry.core.settings import Settings


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One migration: ``applied``, ``missing`` or ``changed`` after it was applied."""

    name: str
    state: str
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Server:
    """What one login sees of its server."""

    now: datetime
    version: int
    role: str
    superuser: bool
    bypasses: bool
    owns: bool


@dataclass(frozen=True, slots=True)
class _Applied:
    name: str
    sha256: str
    applied_at: datetime


def connect(settings: Settings, role: str) -> Conn:
    """One connection of a role, outside the pools, for the caller to close. Raises DatabaseAway."""
    try:
        return psycopg.connect(settings.dsn(role), connect_timeout=5)
    except psycopg.OperationalError as error:
        raise DatabaseAway("the database does not answer") from error


SERVER = """
select clock_timestamp() as now, current_setting('server_version_num')::int as version, r.rolname::text as role,
  r.rolsuper as superuser, r.rolbypassrls as bypasses, pg_has_role(current_user, d.datdba, 'usage') as owns
from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()"""


def server(conn: Conn) -> Server:
    """The server and the rights of this login."""
    with conn.cursor(row_factory=class_row(Server)) as cursor:
        row = cursor.execute(SERVER).fetchone()
    assert row is not None
    return row


APPLIED = "select name, sha256, applied_at from public.radfleet_migration order by name"


def migration_states(settings: Settings) -> Sequence[MigrationState]:
    """Every migration of this program with its state in the database. Raises DatabaseAway."""
    with connect(settings, "radfleet_owner") as conn:
        try:
            with conn.cursor(row_factory=class_row(_Applied)) as cursor:
                rows = {row.name: row for row in cursor.execute(APPLIED)}
        except psycopg.errors.UndefinedTable:
            conn.rollback()
            rows = {}
    states = []
    for m in migrations.migrations():
        row = rows.get(m.name)
        state = "missing" if row is None else "applied" if row.sha256 == m.sha256 else "changed"
        states.append(MigrationState(m.name, state, row.applied_at if row else None))
    return states


def migrate(settings: Settings) -> Sequence[str]:
    """Apply what is missing as the owner; returns the names. Raises DatabaseAway, MigrationChanged."""
    with connect(settings, "radfleet_owner") as conn:
        return migrations.migrate(conn)
