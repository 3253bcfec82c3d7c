"""The embedded PostgreSQL: closed folders, passwords, crash, wrong place, and the tests' own databases."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from registry import cluster_store, postgres
from registry.errors import PostgresMissing, PostgresNotStarted, PostgresUnreachable
from registry.processes import identify
from tests.kit.db import FreshDb, free_port


def _cluster(folder: Path) -> postgres.Cluster:
    return postgres.Cluster(folder / "pg", free_port(), folder / "postgres.log", durable=False)


def _dsn(cluster: postgres.Cluster, password: str, database: str = "postgres") -> str:
    return (
        f"host=127.0.0.1 port={cluster.port} dbname={database} user={postgres.SUPERUSER} password={password}"
    )


def test_starts_below_a_closed_folder_and_asks_for_the_password(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = _cluster(closed)
    assert postgres.init(cluster, "right")
    assert not postgres.init(cluster, "right")
    process = postgres.start(cluster)
    try:
        assert postgres.ready(cluster, process.pid)
        assert not postgres.ready(cluster, process.pid + 1)
        with psycopg.connect(_dsn(cluster, "right")) as conn:
            checksums = conn.execute("show data_checksums").fetchone()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(_dsn(cluster, "wrong"))
    finally:
        postgres.stop(process)
    assert checksums == ("on",)
    assert process.returncode == 0
    assert closed.stat().st_mode & 0o777 == 0o700


def test_kill_9_loses_no_committed_row(tmp_path: Path) -> None:
    cluster = postgres.Cluster(tmp_path / "pg", free_port(), tmp_path / "postgres.log")
    postgres.init(cluster, "p")
    process = postgres.start(cluster)
    with psycopg.connect(_dsn(cluster, "p"), autocommit=True) as conn:
        conn.execute("create table kept(n int)")
        for n in range(100):
            conn.execute("insert into kept values (%s)", (n,))
        process.kill()
        process.wait()
    # The stale pid file still says "ready": only the pid tells that it is another server's.
    assert not postgres.ready(cluster, os.getpid())
    process = postgres.start(cluster)
    try:
        with psycopg.connect(_dsn(cluster, "p")) as conn:
            assert conn.execute("select count(*) from kept").fetchone() == (100,)
    finally:
        postgres.stop(process)


def test_roles_are_made_twice_without_harm_and_with_the_rights_they_need(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path)
    postgres.init(cluster, "p")
    process = postgres.start(cluster)
    try:
        words = dict.fromkeys(cluster_store.ROLES, "first")
        cluster_store.ensure(_dsn(cluster, "p"), words)
        cluster_store.ensure(_dsn(cluster, "p"), dict.fromkeys(cluster_store.ROLES, "second"))
        with psycopg.connect(_dsn(cluster, "p")) as conn:
            rows = conn.execute(
                "select rolname, rolsuper, rolbypassrls from pg_roles where rolname = any(%s)",
                (list(cluster_store.ROLES),),
            ).fetchall()
        login = f"host=127.0.0.1 port={cluster.port} user=radfleet_app"
        psycopg.connect(f"{login} password=second dbname=radfleet").close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"{login} password=first dbname=radfleet")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(f"{login} password=second dbname=mlflow")
    finally:
        postgres.stop(process)
    assert len(rows) == len(cluster_store.ROLES)
    assert not any(superuser for _, superuser, _ in rows)
    assert [name for name, _, bypass in rows if bypass] == ["radfleet_backup"]


def test_a_taken_port_is_a_named_failure(tmp_path: Path) -> None:
    cluster = _cluster(tmp_path)
    postgres.init(cluster, "p")
    first = postgres.start(cluster)
    try:
        with pytest.raises(PostgresNotStarted, match="before it was ready"):
            postgres.start(cluster)
    finally:
        postgres.stop(first)


def test_initdb_failure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "initdb", stderr=b"x\ninitdb: error: no space")

    cluster = _cluster(tmp_path)
    postgres.binaries()
    monkeypatch.setattr(postgres.subprocess, "run", broken)
    with pytest.raises(PostgresNotStarted, match="no space"):
        postgres.init(cluster, "p")


def test_missing_or_forbidden_binaries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = postgres.binaries.__wrapped__
    with monkeypatch.context() as patch:
        patch.setattr(postgres.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(PostgresMissing):
            find()
    monkeypatch.setattr(postgres, "_runs", lambda *_: False)
    monkeypatch.setattr(postgres, "_drop", lambda: None)
    with pytest.raises(PostgresUnreachable):
        find()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its rights before it starts the server")
def test_binaries_of_a_closed_folder_are_copied_to_an_open_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = postgres.binaries().parent.parent
    monkeypatch.setattr(postgres.tempfile, "tempdir", str(tmp_path))
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own folders, of which each process has one more
        if folder.name.startswith(("pytest-", "popen-")) or folder == tmp_path:
            folder.chmod(0o755)
    user = postgres._drop()
    assert user is not None
    bin_dir = postgres._copied(package, user)
    assert bin_dir.is_relative_to(tmp_path)
    assert postgres._runs(bin_dir, user)
    monkeypatch.setattr(postgres, "binaries", lambda: bin_dir)
    cluster = _cluster(tmp_path)
    postgres.init(cluster, "p")
    postgres.stop(postgres.start(cluster))
    # A folder of that name which anybody may write is not trusted.
    (bin_dir.parent.parent.parent).chmod(0o777)
    assert postgres._copied(package, user) != bin_dir


def test_a_forgetful_file_system_is_named(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    found = postgres.warnings(shm / "pg") if shm.is_dir() else ["tmpfs"]
    assert "tmpfs" in found[0]


def test_the_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys,time; from pathlib import Path; from registry import postgres as p;"
        f"c=p.Cluster(Path({str(tmp_path)!r})/'pg',{free_port()},Path({str(tmp_path)!r})/'log',durable=False);"
        "p.init(c,'x'); print(p.start(c).pid,flush=True); time.sleep(60)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(postgres.__file__).parent.parent)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _gone(pid, 10)


def _gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while identify(pid) is not None:
        assert time.monotonic() < deadline, f"pid {pid} still runs"
        time.sleep(0.05)


def test_each_test_gets_its_own_migrated_database(fresh_db: FreshDb) -> None:
    with fresh_db.connect("radfleet_owner") as conn:
        tables = conn.execute("select count(*) from pg_tables where schemaname = 'registry'").fetchone()
    assert tables is not None
    assert tables[0] > 5
    with fresh_db.database.system() as conn:
        assert conn.execute("select current_user").fetchone() == ("radfleet_system",)
