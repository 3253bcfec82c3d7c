"""The two receivers of bench-intake, each started fresh, durable, on loopback and a port of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Without it dcmtk and Orthanc wait 40 ms an instance for a delayed acknowledgement, and every figure is nonsense.
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
CALLING_AE = "BENCH"
_RADFLEET = [sys.executable, "-m", "registry.cli"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where the senders send; ``count`` asks the receiver how many instances it holds."""

    name: str
    port: int
    called_ae: str
    count: Callable[[], int]


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(argv: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(receiver: Receiver, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    echo = ["echoscu", "-aet", CALLING_AE, "-aec", receiver.called_ae, "127.0.0.1", str(receiver.port)]
    while subprocess.run(echo, env=ENVIRONMENT, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{receiver.name} did not come up:\n{log.read_text()[-2000:]}")
        time.sleep(0.3)


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    """Orthanc that answers only when the file is fsynced (SyncStorageArea, its default, written out)."""
    folder.mkdir(parents=True)
    port, http = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "store"), "IndexDirectory": str(folder / "store"), "SyncStorageArea": True,
        "StorageCompression": False, "DicomPort": port, "DicomAet": "ORTHANC", "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True, "DicomThreadsCount": 4, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "Plugins": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))

    def count() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/statistics", timeout=30) as answer:
            return int(json.load(answer)["CountInstances"])

    receiver, log = Receiver("orthanc", port, "ORTHANC", count), folder / "log"
    with _running(["Orthanc", str(folder / "orthanc.json")], log, ENVIRONMENT) as process:
        _wait(receiver, process, log)
        yield receiver


@contextmanager
def radfleet(folder: Path) -> Iterator[Receiver]:
    """The real DICOM door on a real, durable embedded PostgreSQL, under the real supervisor."""
    folder.mkdir(parents=True)
    ports = {"RADFLEET_POSTGRES_PORT": free_port(), "RADFLEET_DICOM_PORT": free_port()}
    env = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("RADFLEET_")}
    env |= {
        "RADFLEET_ACTOR": "bench",
        "RADFLEET_HOME": str(folder / "home"),
        **{name: str(port) for name, port in ports.items()},
    }

    def call(*verb: str) -> str:
        done = subprocess.run(
            [*_RADFLEET, *verb], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise SystemExit(f"radfleet {' '.join(verb)}: {done.stderr}")
        return done.stdout

    def count() -> int:
        return sum(
            int(line["instances"]) for line in json.loads(call("study", "list", "--json", "--limit", "200"))
        )

    only = [word for part in ("postgres", "migrate", "dicom") for word in ("--only", part)]
    receiver, log = Receiver("radfleet", ports["RADFLEET_DICOM_PORT"], "RADFLEET", count), folder / "log"
    with _running([*_RADFLEET, "up", *only], log, env) as process:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", receiver.port), 1).close()
                break
            except OSError:
                time.sleep(0.3)
        call("clinic", "add", "bench")
        call("clinic", "peer", "add", "bench", "--calling", CALLING_AE)
        _wait(receiver, process, log)
        yield receiver
