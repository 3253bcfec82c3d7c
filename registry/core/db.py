"""The only way to the database: one pool a role, and ``tenant()`` as the one entry to a clinic's rows."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from registry.core.errors import Forbidden, Unavailable
from registry.core.logs import log
from registry.core.settings import Settings

Conn = psycopg.Connection[TupleRow]
_SESSION = (
    "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
)

# SQLSTATE classes that mean the server is going, full or unreachable; others are about one statement.
_AWAY = ("08", "57P", "53", "58")


class DatabaseAway(Unavailable):
    """PostgreSQL does not answer."""

    code = "core.database_away"
    why = "The connection was refused, broke, or no connection became free in time."
    cure = "Nothing acknowledged is lost. Run radfleet status; the supervisor restarts PostgreSQL by itself."


class RoleTooStrong(Forbidden):
    """The service is connected as a role that row-level security does not bind."""

    code = "core.role_too_strong"
    why = "A superuser, an owner or a role with BYPASSRLS would see every clinic's rows."
    cure = "Connect as radfleet_app and radfleet_system, which radfleet up creates, and start again."


def _tells_nothing_new(record: logging.LogRecord) -> bool:
    """Each try of a pool to connect is a warning of its own, while the database starts, stops or is away."""
    return not str(record.msg).startswith(("error connecting", "reconnection attempt", "discarding "))


# Who asked is answered with DatabaseAway, and what lasts is said once, by Database.
logging.getLogger("psycopg.pool").addFilter(_tells_nothing_new)
EARNEST_S = 10.0

# When each pooled connection last worked. A check costs a round trip, so one that just worked is not asked again.
_used: WeakKeyDictionary[Conn, float] = WeakKeyDictionary()
_IDLE_S = 1.0


def _check_idle(conn: Conn) -> None:
    if time.monotonic() - _used.get(conn, float("-inf")) > _IDLE_S:
        ConnectionPool.check_connection(conn)


class Database:
    """Pools of one installation. ``clinic_id`` values are UUIDs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools: dict[str, ConnectionPool[Conn]] = {}
        self._lock = threading.Lock()
        self._refused: RoleTooStrong | None = None
        self._away_since: float | None = None
        self._told = False

    def _pool(self, role: str) -> ConnectionPool[Conn]:
        with self._lock:
            if role not in self._pools:
                self._pools[role] = ConnectionPool(
                    self._settings.dsn(role),
                    min_size=0,
                    max_size=12,
                    timeout=4,
                    kwargs={"options": _SESSION},
                    check=_check_idle,
                    configure=self._check_role,
                    open=True,
                )
            return self._pools[role]

    @contextmanager
    def _transaction(self, role: str) -> Iterator[Conn]:
        try:
            with self._pool(role).connection() as conn:
                yield conn
                _used[conn] = time.monotonic()
            self._away_since, self._told = None, False
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(_AWAY):
                raise
            # The pool retries what its check refuses and reports a time-out; the refusal is the true reason.
            raise self._refused or self._away() from error

    def _away(self) -> DatabaseAway:
        """The error to raise; where the database stays away a log line says so, but not while it starts or stops."""
        error, now = DatabaseAway("the database does not answer"), time.monotonic()
        with self._lock:
            self._away_since = self._away_since or now
            lasts = now - self._away_since
            tell = lasts >= EARNEST_S and not self._told
            self._told = self._told or tell
        if tell:
            log().error(f"{error.what}. {error.why} {error.cure}", code=error.code)
        return error

    @contextmanager
    def tenant(self, clinic_id: UUID) -> Iterator[Conn]:
        """One transaction that sees and writes the rows of one clinic, commits at the end, rolls back on error.

        The setting is local to the transaction: a session-wide one would leak to the pool's next borrower.
        Raises DatabaseAway.
        """
        with self._transaction("radfleet_app") as conn:
            conn.execute("select set_config('radfleet.clinic', %s, true)", (str(clinic_id),))
            yield conn

    @contextmanager
    def system(self) -> Iterator[Conn]:
        """One transaction over the fleet's tables without patient data: look-ups of senders, queue, sweeps."""
        with self._transaction("radfleet_system") as conn:
            yield conn

    @contextmanager
    def monitor(self, *, write: bool = False) -> Iterator[Conn]:
        """One transaction over the published views; with ``write`` also over monitoring's own tables.

        Raises DatabaseAway.
        """
        with self._transaction("radfleet_monitor") as conn:
            if not write:
                conn.execute("set transaction read only")
            yield conn

    def listen(self, channel: str) -> "psycopg.Connection[Any]":
        """A connection of its own that listens on one channel; the caller closes it. Raises DatabaseAway."""
        try:
            conn = psycopg.connect(self._settings.dsn("radfleet_system"), autocommit=True)
            conn.execute(psycopg.sql.SQL("listen {}").format(psycopg.sql.Identifier(channel)))
        except psycopg.OperationalError as error:
            raise DatabaseAway("the database does not answer") from error
        return conn

    def _check_role(self, conn: Conn) -> None:
        row = conn.execute(
            "select r.rolsuper or r.rolbypassrls or pg_has_role(current_user, d.datdba, 'usage') "
            "from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()"
        ).fetchone()
        conn.commit()
        if row is None or row[0]:
            self._refused = RoleTooStrong("this database role is not bound by row-level security")
            raise self._refused

    def close(self) -> None:
        """Close every pool."""
        with self._lock:
            for pool in self._pools.values():
                pool.close(timeout=2)
            self._pools.clear()


_databases: dict[str, Database] = {}


def database(settings: Settings) -> Database:
    """The process-wide Database of these settings."""
    key = settings.dsn("radfleet_app")
    if key not in _databases:
        _databases[key] = Database(settings)
    return _databases[key]
