"""The parts of one installation: how each is started, when it is ready, what it needs first."""

import dataclasses
import http.client
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

import registry
from registry import cluster_store, postgres, secrets
from registry.core.settings import PREFIX, Settings
from registry.processes import READY_FILE, Launch, age_s

# Unix socket paths end at 107 bytes and Ray adds up to 65 to its folder.
_RAY_FOLDER_MAX = 40
_OBJECT_STORE_BYTES = 250_000_000
_SETTLED_S = 5.0


@dataclass(frozen=True, slots=True)
class Port:
    """An address that must be free before a part starts, and the variable that moves it."""

    host: str
    number: int
    variable: str


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process. ``probe`` is called in a thread with the pid and answers whether it works.

    ``after``: parts that must be ready first. ``tied``: parts whose death makes this one useless.
    ``watched``: the probe goes on after readiness, and long silence counts as death.
    """

    name: str
    launch: Callable[[], Launch]
    probe: Callable[[int], bool]
    after: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    once: bool = False
    watched: bool = False
    ready_s: float = 120.0
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    stop_s: float = 15.0
    address: str = ""


def environment(settings: Settings) -> dict[str, str]:
    """What every part of ours gets: these settings, the code's place and the Ray secret's file."""
    env = dict(os.environ)
    for name, value in dataclasses.asdict(settings).items():
        if value is not None:
            env[PREFIX + name.upper()] = str(value)
    env["RADFLEET_HOME"] = str(settings.root)
    code = str(Path(registry.__file__).parent.parent)
    env["PYTHONPATH"] = os.pathsep.join([code, *filter(None, [os.environ.get("PYTHONPATH")])])
    env["PYTHONUNBUFFERED"] = "1"
    env.update(ray_environment(settings))
    return env


def ray_environment(settings: Settings) -> dict[str, str]:
    """What a process needs to join our Ray cluster: the secret's file, and no report to anybody outside."""
    if not settings.ray_address:
        secrets.ensure(settings, "ray-token")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.secrets_dir / "ray-token"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def ray_folder(settings: Settings) -> Path:
    """Ray's session folder: in the installation where the path is short enough, else a temporary one."""
    inside = settings.root / "ray"
    if len(str(inside)) <= _RAY_FOLDER_MAX:
        return inside
    word = sha256(str(settings.root).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"rf-{os.getuid()}-{word}"


def answers(host: str, port: int, path: str = "", timeout_s: float = 2) -> bool:
    """True when the port accepts a connection and, with a path, answers GET with a status below 500."""
    try:
        if not path:
            socket.create_connection((host, port), timeout_s).close()
            return True
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def cluster(settings: Settings) -> postgres.Cluster:
    """The embedded PostgreSQL of these settings."""
    return postgres.Cluster(
        settings.root / "postgres", settings.postgres_port, settings.log_dir / "postgres.log"
    )


def _postgres(settings: Settings) -> Part:
    mine = cluster(settings)

    def launch() -> Launch:
        postgres.init(mine, secrets.ensure(settings, f"db-{postgres.SUPERUSER}"))
        return postgres.launch(mine)

    def probe(pid: int) -> bool:
        if not postgres.ready(mine, pid):
            return False
        words = {role: secrets.ensure(settings, f"db-{role}") for role in cluster_store.ROLES}
        cluster_store.ensure(settings.dsn(postgres.SUPERUSER, "postgres"), words)
        return True

    return Part(
        "postgres",
        launch,
        probe,
        ports=(Port("127.0.0.1", settings.postgres_port, "RADFLEET_POSTGRES_PORT"),),
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        stop_s=30,
        address=f"127.0.0.1:{settings.postgres_port}",
    )


def _mlflow_database(settings: Settings) -> str:
    facts = conninfo_to_dict(settings.dsn("mlflow", "mlflow"))
    user, word = quote(str(facts.get("user", "")), safe=""), quote(str(facts.get("password", "")), safe="")
    return f"postgresql+psycopg://{user}:{word}@{facts['host']}:{facts.get('port', 5432)}/{facts['dbname']}"


def _mlflow(settings: Settings) -> Part:
    folder, port = settings.root / "mlflow", settings.mlflow_port

    def launch() -> Launch:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = _mlflow_database(settings)
        # The one-process form (252 MB, one pid to watch) of `mlflow server` (9 processes that outlive it).
        # The underscored names are MLflow 3.17.2's own, hence the exact pin. The password is not in argv.
        env = environment(settings) | {
            "_MLFLOW_SERVER_FILE_STORE": store,
            "_MLFLOW_SERVER_REGISTRY_STORE": store,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*,localhost:*",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        }
        argv = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app", "--workers", "1"]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        return Launch(argv, env, folder)

    def probe(_pid: int) -> bool:
        # The first call creates MLflow's tables, which takes seconds and must not be made twice at once.
        first = "/api/2.0/mlflow/experiments/search?max_results=1"
        second = "/api/2.0/mlflow/registered-models/search?max_results=1"
        return answers("127.0.0.1", port, "/health") and all(
            answers("127.0.0.1", port, path, timeout_s=90) for path in (first, second)
        )

    return Part(
        "mlflow",
        launch,
        probe,
        after=("postgres",),
        ports=(Port("127.0.0.1", port, "RADFLEET_MLFLOW_PORT"),),
        watched=True,
        ready_s=240,
        address=f"http://127.0.0.1:{port}",
    )


def _ray(settings: Settings) -> Part:
    folder, port = ray_folder(settings), settings.ray_port

    def launch() -> Launch:
        secrets.ensure(settings, "ray-token")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "ray_current_cluster").unlink(missing_ok=True)
        for old in folder.glob("session_*"):
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)
        argv = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        argv += ["--port", str(port), "--node-ip-address", "127.0.0.1", "--include-dashboard=false"]
        argv += ["--ray-client-server-port", str(port + 1), "--dashboard-agent-listen-port", "0"]
        # Random ones: Ray's own range for workers, 10002 to 19999, may hold the two ports above, and then it refuses.
        argv += ["--min-worker-port", "0", "--max-worker-port", "0"]
        argv += ["--object-store-memory", str(_OBJECT_STORE_BYTES), "--temp-dir", str(folder)]
        argv += ["--num-cpus", str(max(2, os.cpu_count() or 2)), "--log-color", "false"]
        argv += ["--disable-usage-stats"]
        env = environment(settings) | {"RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "0"}
        return Launch(argv, env, folder)

    def probe(_pid: int) -> bool:
        # `ray start` writes this file last, when the raylet has registered with the head.
        return (folder / "ray_current_cluster").exists() and answers("127.0.0.1", port)

    ports = (
        Port("127.0.0.1", port, "RADFLEET_RAY_PORT"),
        Port("127.0.0.1", port + 1, "RADFLEET_RAY_PORT (one above)"),
    )
    return Part("ray", launch, probe, ports=ports, stop_s=10, address=f"127.0.0.1:{port}")


def _own(
    settings: Settings, name: str, verb: tuple[str, ...], probe: Callable[[int], bool], **facts: Any
) -> Part:
    def launch() -> Launch:
        env = environment(settings) | {READY_FILE: str(ready_file(settings, name))}
        ready_file(settings, name).unlink(missing_ok=True)
        return Launch([sys.executable, "-m", "registry.cli", *verb], env, Path.cwd())

    return Part(name, launch, probe, **facts)


def ready_file(settings: Settings, name: str) -> Path:
    """Where a part of ours writes its pid when it is ready (registry.processes.announce_ready)."""
    return settings.root / "run" / f"{name}.ready"


def _announced(settings: Settings, name: str, pid: int) -> bool:
    try:
        return int(ready_file(settings, name).read_text()) == pid
    except (OSError, ValueError):
        return False


def _settled(settings: Settings, name: str, pid: int) -> bool:
    # A part with no port of its own works when it says so or, saying nothing, when it has not died at once.
    return _announced(settings, name, pid) or age_s(pid) > _SETTLED_S


def parts(settings: Settings) -> list[Part]:
    """Every part in the order in which they start; outside servers named by a setting are left out."""
    own = partial(_own, settings)
    # Ray first: it needs nobody, takes longest, and starts while the disk is busy with a fresh cluster.
    found = [] if settings.ray_address else [_ray(settings)]
    found += [] if settings.database_url else [_postgres(settings)]
    found.append(own("migrate", ("db", "migrate"), lambda _: False, after=("postgres",), once=True))
    found += [] if settings.mlflow_url else [_mlflow(settings)]
    found += _workloads(settings)
    return found


def _server(settings: Settings, name: str, verb: tuple[str, ...], port: int, path: str = "") -> Part:
    """A part of ours that answers HTTP and is healthy while it does."""
    bind = settings.bind
    local = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind  # noqa: S104 - compared, not bound
    return _own(
        settings, name, verb,
        lambda pid: _announced(settings, name, pid) and answers(local, port, "/healthz"),
        after=("migrate",), ports=(Port(bind, port, f"RADFLEET_{name.upper()}_PORT"),), watched=True,
        address=f"http://{bind}:{port}{path}",
    )  # fmt: skip


def _workloads(settings: Settings) -> list[Part]:
    own, bind, dicom = partial(_own, settings), settings.bind, settings.dicom_port
    found = [
        own(
            "dicom",
            ("door", "dicom"),
            # No knock at the port: every connection would stand in the door's log as a broken association.
            partial(_announced, settings, "dicom"),
            after=("migrate",),
            ports=(Port(bind, dicom, "RADFLEET_DICOM_PORT"),),
            address=f"{bind}:{dicom}",
        ),
        _server(settings, "http", ("door", "http"), settings.http_port),
        _server(settings, "web", ("web",), settings.web_port),
        own(
            "engine",
            ("engine",),
            partial(_announced, settings, "engine"),
            after=("migrate", "ray"),
            tied=("ray",),
            ready_s=300,
        ),
    ]
    names = ["work"] if settings.workers == 1 else [f"work-{n + 1}" for n in range(settings.workers)]
    # A worker is not tied to Ray: its caller is a child of its own, which joins the next head.
    for name in names:
        probe = partial(_settled, settings, name)
        found.append(own(name, ("work",), probe, after=("migrate", "ray")))
    found.append(_server(settings, "metrics", ("metrics",), settings.metrics_port, "/metrics"))
    for name, verb in (("deliver", ("deliver",)), ("sweep", ("sweep",)), ("monitor", ("monitor", "follow"))):
        found.append(own(name, verb, partial(_settled, settings, name), after=("migrate",)))
    return found
