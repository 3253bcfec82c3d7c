"""``radfleet up|down|status``: order, healing after kill -9, nothing left behind, a second up, named refusals."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from registry import installation, supervisor
from registry.core.settings import Settings, from_environment
from registry.errors import NotStopped, PartUnknown, PortTaken, UpElsewhere
from registry.installation import PartStatus, State, UpLock
from registry.parts import Part, parts
from registry.processes import descendants, identify
from tests.kit.db import free_port

REPO = Path(__file__).parent.parent.parent


def _until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


def _row(settings: Settings, name: str) -> PartStatus:
    return next(row for row in supervisor.status(settings) if row.part == name)


@contextmanager
def _up(home: Path, *argv: str, env: dict[str, str] | None = None) -> Iterator["subprocess.Popen[str]"]:
    home.mkdir(exist_ok=True)
    said = (home / "said.txt").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", *argv],
        stdout=said,
        stderr=said,
        cwd=REPO,
        env=os.environ | (env or {}),
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.wait(60)
        said.close()


@contextmanager
def _scene(home: Path, scene: str) -> Iterator[tuple["subprocess.Popen[str]", Settings]]:
    with _up(home, "tests.kit.up", str(home), scene) as process:
        yield process, Settings(home=home)


def _said(home: Path) -> str:
    return (home / "said.txt").read_text()


def test_parts_start_in_order_heal_and_stop_without_a_trace(tmp_path: Path) -> None:
    with _scene(tmp_path, "chain") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        assert _row(settings, "once").state == State.DONE
        base, top, joined = (_row(settings, name).pid for name in ("base", "top", "joined"))
        assert base and top and joined
        assert (_row(settings, "base").memory_mb or 0) > 1
        assert _row(settings, "supervisor").pid == process.pid
        os.kill(top, signal.SIGKILL)
        _until(lambda: _row(settings, "top").pid not in (None, top) and supervisor.wait_ready(settings, 1))
        assert _row(settings, "top").restarts == 1
        assert _row(settings, "base").pid == base
        os.kill(base, signal.SIGKILL)
        _until(lambda: _row(settings, "base").pid not in (None, base) and supervisor.wait_ready(settings, 1))
        # What was joined to the dead part begins anew; what only needed it at the start goes on.
        assert _row(settings, "joined").pid != joined
        pids = [who.pid for who in descendants([process.pid])[process.pid]]
        assert len(pids) == 4
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert not any(identify(pid) for pid in pids)
        assert not (tmp_path / "up.lock").exists()
        assert {row.state for row in supervisor.status(settings)} == {State.DOWN}
    said = _said(tmp_path)
    assert said.index("once done") < said.index("base ready") < said.index("top ready")
    assert "top killed by SIGKILL; again in 0.5 s" in said
    assert said.rstrip().endswith("stopped: no process is left")


def test_orphans_of_a_killed_part_are_ended_before_its_next_life(tmp_path: Path) -> None:
    with _scene(tmp_path, "family") as (_, settings):
        assert supervisor.wait_ready(settings, 20)
        log = settings.log_dir / "parent.log"
        orphan = int(log.read_text())
        first = _row(settings, "parent").pid
        assert first
        assert identify(orphan)
        os.kill(first, signal.SIGKILL)
        _until(lambda: _row(settings, "parent").pid not in (None, first))
        assert identify(orphan) is None


def test_a_stubborn_part_is_killed_after_its_time(tmp_path: Path) -> None:
    with _scene(tmp_path, "stubborn") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        pid = _row(settings, "stubborn").pid
        assert pid
        supervisor.down(settings, say=lambda _: None)
        assert identify(pid) is None
        assert process.wait(5) == 0


def test_a_killed_supervisor_leaves_nothing_that_the_next_one_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LEFTOVER_S", 1.0)
    with _scene(tmp_path, "chain") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        calm = [row.pid for row in supervisor.status(settings) if row.pid and row.part != "supervisor"]
        process.kill()
        process.wait()
        _until(lambda: not any(identify(pid) for pid in calm))
    other = tmp_path / "other"
    with _scene(other, "stubborn") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        stubborn = _row(settings, "stubborn").pid
        assert stubborn
        process.kill()
        process.wait()
        assert identify(stubborn)
        supervisor.down(settings, say=lambda _: None)
        assert identify(stubborn) is None


def test_a_second_up_follows_the_first_or_says_why_not(tmp_path: Path) -> None:
    with _scene(tmp_path, "chain") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        with pytest.raises(UpElsewhere, match="runs without dicom"):
            supervisor.attach(settings, ["dicom"], lambda _: None)
        with _scene(tmp_path, "chain") as (second, _):
            _until(lambda: "following it" in _said(tmp_path))
            second.send_signal(signal.SIGINT)
            assert second.wait(10) == 0
        assert process.poll() is None
        installation.record_path(settings.root).unlink()
        with pytest.raises(UpElsewhere, match="record"):
            supervisor.attach(settings, [], lambda _: None)
        heard: list[str] = []
        supervisor.down(settings, say=heard.append)
        assert heard[-1] == "stopped"
        supervisor.down(settings, say=heard.append)
        assert heard[-1] == "nothing is up"


def test_down_ends_a_supervisor_that_hangs(tmp_path: Path) -> None:
    with _scene(tmp_path, "chain") as (process, settings):
        assert supervisor.wait_ready(settings, 20)
        pids = [row.pid for row in supervisor.status(settings) if row.pid]
        process.send_signal(signal.SIGSTOP)
        supervisor.down(settings, say=lambda _: None, timeout_s=1)
        assert not any(identify(pid) for pid in pids)


def test_a_foreign_supervisor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with _scene(tmp_path, "chain") as (_, settings):
        assert supervisor.wait_ready(settings, 20)
        with monkeypatch.context() as patch:
            patch.setattr(supervisor.os, "kill", refuse)
            with pytest.raises(NotStopped, match="another user"):
                supervisor.down(settings, say=lambda _: None)


def test_a_part_that_must_succeed_and_does_not_ends_the_rest(tmp_path: Path) -> None:
    with _scene(tmp_path, "fails") as (process, settings):
        assert process.wait(30) == 7
    assert "up.part_failed" in _said(tmp_path)
    assert "migrate ended with 3, 3 times" in _said(tmp_path)
    assert UpLock(settings.root).holder() is None


def test_a_taken_port_names_the_port_and_the_setting(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        settings = Settings(home=tmp_path, postgres_port=port)
        with pytest.raises(PortTaken, match=f"port {port} for postgres") as caught:
            supervisor.up(settings, ["postgres"], say=lambda _: None)
    assert "RADFLEET_POSTGRES_PORT" in caught.value.cure_text
    assert not (tmp_path / "up.lock").exists()


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(PartUnknown, match="postgrse"):
        supervisor.up(Settings(home=tmp_path), ["postgrse"], say=lambda _: None)


def test_outside_servers_are_not_started(tmp_path: Path) -> None:
    ours = {part.name for part in parts(Settings(home=tmp_path))}
    assert {
        "postgres",
        "migrate",
        "ray",
        "mlflow",
        "dicom",
        "http",
        "engine",
        "work",
        "deliver",
        "sweep",
        "monitor",
        "web",
        "metrics",
    } == ours
    outside = Settings(
        home=tmp_path, database_url="host=x", mlflow_url="http://x", ray_address="x:1", workers=2
    )
    names = {part.name for part in parts(outside)}
    work = {"work-1", "work-2", "deliver", "sweep", "monitor", "metrics"}
    assert names == {"migrate", "dicom", "http", "web", "engine", *work}


def test_every_part_is_started_after_parts_that_exist(tmp_path: Path) -> None:
    seen: set[str] = set()
    found: list[Part] = parts(Settings(home=tmp_path))
    for part in found:
        assert set(part.after) | set(part.tied) <= seen, part.name
        seen.add(part.name)


def _environment(home: Path) -> dict[str, str]:
    ports = {name: str(free_port()) for name in ("POSTGRES", "MLFLOW")}
    # Ray takes the port above its own too. As our default is, it lies among those that Ray would give its workers.
    ray = next(p for p in range(10_002 + free_port() % 9_000, 19_999) if _both_free(p))
    return {f"RADFLEET_{n}_PORT": p for n, p in ports.items()} | {
        "RADFLEET_RAY_PORT": str(ray),
        "RADFLEET_HOME": str(home),
    }


def _both_free(port: int) -> bool:
    with socket.socket() as one, socket.socket() as two:
        try:
            one.bind(("", port))
            two.bind(("", port + 1))
        except OSError:
            return False
    return True


def _settings(env: dict[str, str]) -> Settings:
    return from_environment(env)


def test_postgres_heals_and_keeps_what_was_committed(tmp_path: Path) -> None:
    env = _environment(tmp_path)
    settings = _settings(env)
    with _up(tmp_path, "registry.supervisor", "up", "postgres", env=env) as process:
        assert supervisor.wait_ready(settings, 60)
        assert (settings.secrets_dir / "db-radfleet_app").stat().st_mode & 0o777 == 0o600
        with psycopg.connect(settings.dsn("radfleet_owner"), autocommit=True) as conn:
            conn.execute("create table public.kept as select generate_series(1, 1000) as n")
        first = _row(settings, "postgres").pid
        assert first
        os.kill(first, signal.SIGKILL)
        _until(lambda: _row(settings, "postgres").pid not in (None, first), 60)
        assert supervisor.wait_ready(settings, 60)
        with psycopg.connect(settings.dsn("radfleet_owner")) as conn:
            assert conn.execute("select count(*) from public.kept").fetchone() == (1000,)
        process.terminate()
        assert process.wait(60) == 0


def test_a_lock_is_let_go_without_taking_the_next_ones(tmp_path: Path) -> None:
    """The folder was emptied and taken by another supervisor while the first was still stopping."""
    first, second = UpLock(tmp_path), UpLock(tmp_path)
    assert first.acquire()
    first.path.unlink()
    assert second.acquire()
    first.release()
    assert second.holder() is not None
    second.release()
    assert second.holder() is None and not second.path.exists()


@pytest.mark.slow
def test_mlflow_and_ray_heal_together_and_leave_nothing(tmp_path: Path) -> None:
    env = _environment(tmp_path)
    settings = _settings(env)
    with _up(tmp_path, "registry.supervisor", "up", "postgres", "mlflow", "ray", env=env) as process:
        assert supervisor.wait_ready(settings, 240), _said(tmp_path)
        mlflow, ray = _row(settings, "mlflow").pid, _row(settings, "ray").pid
        assert mlflow and ray
        assert settings.secret("db-mlflow") not in Path(f"/proc/{mlflow}/cmdline").read_text()
        old = [who.pid for who in descendants([ray])[ray]]
        assert len(old) > 4
        os.kill(mlflow, signal.SIGKILL)
        os.kill(ray, signal.SIGKILL)
        for name, first in (("mlflow", mlflow), ("ray", ray)):
            _until(lambda name=name, first=first: _row(settings, name).pid not in (None, first), 60)
        assert not any(identify(pid) for pid in old)
        assert supervisor.wait_ready(settings, 240), _said(tmp_path)
        everything = [who.pid for who in descendants([process.pid])[process.pid]]
        supervisor.down(settings, say=lambda _: None)
        assert not any(identify(pid) for pid in everything)
        assert process.wait(10) == 0
