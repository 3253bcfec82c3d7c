"""Databases for tests: one embedded PostgreSQL a session, and for each test its own clone of a migrated one."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from registry import cluster_store, postgres
from registry.core import db
from registry.core.migrate import migrate, migration_key
from registry.core.settings import Settings, settings

# Loopback only, random port, gone with the session: one password for all roles keeps the DSN a template.
PASSWORD = "test"
# Each test's clone is 1,500 files. In memory they cost a tenth of what a disk's file system asks for them.
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Server:
    """The session's PostgreSQL."""

    port: int

    def dsn(self, role: str, database: str) -> str:
        """libpq connection string of one role."""
        return f"host=127.0.0.1 port={self.port} dbname={database} user={role} password={PASSWORD} connect_timeout=5"

    def connect(self, database: str, role: str = postgres.SUPERUSER) -> "psycopg.Connection[Any]":
        """A connection in autocommit."""
        return psycopg.connect(self.dsn(role, database), autocommit=True)


@dataclass(frozen=True, slots=True)
class FreshDb:
    """A migrated, empty database of one test. ``settings`` point at it and at an empty home folder."""

    server: Server
    name: str
    settings: Settings

    def dsn(self, role: str = "radfleet_owner") -> str:
        """libpq connection string of one role to this database."""
        return self.server.dsn(role, self.name)

    def connect(self, role: str = postgres.SUPERUSER) -> "psycopg.Connection[Any]":
        """A connection in autocommit; the superuser's sees every row, for arranging and checking."""
        return self.server.connect(self.name, role)

    @property
    def database(self) -> db.Database:
        """The process-wide Database of this test's settings."""
        return db.database(self.settings)


def free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fast_folder() -> Path | None:
    """A file system in memory with room for the databases of some processes; None: the usual temporary folder."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return _MEMORY if roomy else None


@contextmanager
def running(folder: Path | None = None) -> Iterator[Server]:
    """A PostgreSQL without fsync below ``folder`` (None: the usual temporary one), with our roles; gone afterwards."""
    with tempfile.TemporaryDirectory(
        prefix="radfleet-test-", dir=folder, ignore_cleanup_errors=True
    ) as place:
        cluster = postgres.Cluster(
            Path(place) / "pg", free_port(), Path(place) / "postgres.log", durable=False
        )
        postgres.init(cluster, PASSWORD)
        process = postgres.start(cluster)
        try:
            server = Server(cluster.port)
            words = dict.fromkeys(cluster_store.ROLES, PASSWORD)
            cluster_store.ensure(server.dsn(postgres.SUPERUSER, "postgres"), words, databases={})
            yield server
        finally:
            postgres.stop(process, 5)


def migrated(server: Server, name: str) -> str:
    """A new database of this name with every migration applied; its name."""
    with server.connect("postgres") as admin:
        cluster_store.create_database(admin, name, "radfleet_owner")
    with server.connect(name, "radfleet_owner") as conn:
        migrate(conn)
    return name


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the session, in memory where there is room."""
    with running(_fast_folder()) as server:
        yield server


@pytest.fixture(scope="session")
def template_db(postgres_server: Server) -> str:
    """The name of a database with every migration applied, which ``fresh_db`` clones."""
    return migrated(postgres_server, f"template_{migration_key()}")


@pytest.fixture
def fresh_db(
    postgres_server: Server, template_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FreshDb]:
    """A database of this test's own; RADFLEET_HOME and RADFLEET_DATABASE_URL lead child processes to it too."""
    name = f"t_{tmp_path.parent.name}_{tmp_path.name}".lower().replace("-", "_")[-60:]
    with postgres_server.connect("postgres") as admin:
        cluster_store.drop_database(admin, name)
        cluster_store.create_database(admin, name, "radfleet_owner", template=template_db)
    url = postgres_server.dsn("{role}", name)
    monkeypatch.setenv("RADFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RADFLEET_DATABASE_URL", url)
    settings.cache_clear()
    fresh = FreshDb(postgres_server, name, settings())
    yield fresh
    settings.cache_clear()
    fresh.database.close()
    with postgres_server.connect("postgres") as admin:
        cluster_store.drop_database(admin, name)
