"""Numbered plain-SQL migrations, each applied once, under a lock, with its checksum kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import psycopg

from registry.core.errors import Conflict

FOLDER = Path(__file__).parent.parent / "migrations"
# Any fixed number: two migrating processes must meet on the same lock.
LOCK = 7_237_533


class MigrationChanged(Conflict):
    """A migration that was applied differs from the file of the same name."""

    code = "core.migration_changed"
    cure = "Restore the file as it was released, and put the change into a new numbered migration."


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, its text and the sha256 of the text."""

    name: str
    sql: str
    sha256: str


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations in their order."""
    texts = [(path.name, path.read_text()) for path in sorted(folder.glob("[0-9]*.sql"))]
    return [Migration(name, sql, hashlib.sha256(sql.encode()).hexdigest()) for name, sql in texts]


def migration_key() -> str:
    """One word that changes when any migration changes; names the template database of the tests."""
    return hashlib.sha256("".join(m.sha256 for m in migrations()).encode()).hexdigest()[:12]


def migrate(conn: psycopg.Connection) -> list[str]:
    """Apply what is missing, each migration in a transaction of its own. Returns the names applied.

    Raises MigrationChanged when an applied file was edited afterwards.
    """
    conn.autocommit = True
    conn.execute("select pg_advisory_lock(%s)", (LOCK,))
    try:
        conn.execute(
            "create table if not exists public.radfleet_migration("
            "name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        applied: dict[str, str] = dict(
            conn.execute("select name, sha256 from public.radfleet_migration").fetchall()
        )
        done = []
        for m in migrations():
            if m.name in applied:
                if applied[m.name] != m.sha256:
                    raise MigrationChanged(f"migration {m.name} was changed after it was applied")
                continue
            with conn.transaction():
                conn.execute(m.sql.encode())
                conn.execute(
                    "insert into public.radfleet_migration(name, sha256) values (%s, %s)", (m.name, m.sha256)
                )
            done.append(m.name)
        return done
    finally:
        conn.execute("select pg_advisory_unlock(%s)", (LOCK,))
