"""Login roles and databases of a fresh cluster, created idempotently by the superuser."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

# BYPASSRLS stands on the backup role alone: pg_dump refuses tables whose rows it may not all see.
ROLES: dict[str, str] = {
    "radfleet_owner": "",
    "radfleet_app": "",
    "radfleet_system": "",
    "radfleet_monitor": "",
    "radfleet_backup": "bypassrls",
    "mlflow": "",
}
DATABASES: dict[str, str] = {"radfleet": "radfleet_owner", "mlflow": "mlflow"}
_OWN = "login nosuperuser nocreatedb nocreaterole noreplication"


def ensure(dsn: str, passwords: Mapping[str, str], databases: Mapping[str, str] | None = None) -> None:
    """Create or correct every login role and database; ``dsn`` is the superuser's, on any database.

    ``passwords`` by role; ``databases`` name -> owner, the installation's own two by default.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        known = {row[0] for row in conn.execute("select rolname from pg_roles")}
        for role, extra in ROLES.items():
            verb = sql.SQL("alter" if role in known else "create")
            right = sql.SQL(f"{_OWN} {extra or 'nobypassrls'}")  # fixed text of this file
            conn.execute(
                sql.SQL("{} role {} with {} password {}").format(
                    verb, sql.Identifier(role), right, sql.Literal(passwords[role])
                )
            )
        for name, owner in (DATABASES if databases is None else databases).items():
            create_database(conn, name, owner)


def create_database(conn: psycopg.Connection, name: str, owner: str, template: str = "template0") -> bool:
    """Create a database that only its owner and Radfleet's roles may enter; False where it exists."""
    if conn.execute("select 1 from pg_database where datname = %s", (name,)).fetchone():
        return False
    what, who = sql.Identifier(name), sql.Identifier(owner)
    made = sql.SQL("create database {} owner {} template {}")
    conn.execute(made.format(what, who, sql.Identifier(template)))
    conn.execute(sql.SQL("revoke all on database {} from public").format(what))
    if owner == "radfleet_owner":
        roles = sql.SQL(", ").join(sql.Identifier(r) for r in ROLES if r.startswith("radfleet_"))
        conn.execute(sql.SQL("grant connect on database {} to {}").format(what, roles))
    return True


def drop_database(conn: psycopg.Connection, name: str) -> None:
    """Remove a database and end who is connected to it."""
    conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
