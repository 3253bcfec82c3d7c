"""The stage of the demo: its ports, its processes, and calls of the real command line."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from registry.core.output import talk
from registry.core.settings import Settings
from serving.demo.errors import DemoFailed

# Every port that a part may listen on, so that a new part never meets another installation's.
PORTS = tuple(one.name for one in fields(Settings) if one.name.endswith("_port"))


@dataclass(slots=True)
class Stage:
    """One run of the demo: everything it starts, it ends."""

    home: Path
    env: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    peak_mb: float = 0.0
    clerk: "subprocess.Popen[str] | None" = None
    _measured: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def build(cls, home: Path) -> "Stage":
        """A stage with ports that are free now."""
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        env = {
            **os.environ,
            "RADFLEET_HOME": str(home.absolute()),
            "RADFLEET_ACTOR": "demo-admin",
            "RADFLEET_WORKERS": "2",
        }
        return cls(home, {**env, **{f"RADFLEET_{n.upper()}": str(p) for n, p in ports.items()}})

    def settings(self) -> Settings:
        """The settings that the installation of this stage runs with, for reading its database and files."""
        ports = {name: int(self.env[f"RADFLEET_{name.upper()}"]) for name in PORTS}
        return Settings(home=self.home.absolute(), **ports)  # type: ignore[arg-type]

    def port(self, name: str) -> int:
        """The port of one part, for example ``DICOM``."""
        return int(self.env[f"RADFLEET_{name}_PORT"])

    def say(self, text: str) -> None:
        """One line of the live story."""
        talk(f"[{time.monotonic() - self.began:6.1f} s] {text}")

    def start(self, *argv: str, log: str) -> subprocess.Popen[bytes]:
        """Start a process of the demo; its output goes to the demo's folder."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / log).open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", *argv],
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(child)
        return child

    def run(self, *argv: str, ok: tuple[int, ...] = (0,)) -> str:
        """Call ``radfleet ARGV`` in a fork of the clerk; its stdout. Raises DemoFailed on another exit code."""
        self.measure()
        with self._lock, NamedTemporaryFile() as out, NamedTemporaryFile() as err:
            code = self._ask_clerk(json.dumps([argv, out.name, err.name]))
            said = out.read().decode()
            if code not in ok:
                talk(said + err.read().decode())
                raise DemoFailed(f"radfleet {' '.join(argv)} ended with {code}")
        return said

    def _ask_clerk(self, line: str) -> int:
        if self.clerk is None:
            pipe = subprocess.PIPE
            argv = [sys.executable, "-m", "serving.demo.clerk"]
            self.clerk = subprocess.Popen(
                argv, env=self.env, stdin=pipe, stdout=pipe, text=True, start_new_session=True
            )
        assert self.clerk.stdin and self.clerk.stdout
        self.clerk.stdin.write(line + "\n")
        self.clerk.stdin.flush()
        return int(self.clerk.stdout.readline() or 70)

    def ask(self, *argv: str) -> Any:
        """Call a reading command and parse its JSON."""
        return json.loads(self.run(*argv, "--json"))

    def deliver_to(self, clinic: str, port: int) -> None:
        """Let a clinic's results go to the receiving PACS of this stage."""
        self.run(
            "destination", "add", clinic, "pacs", "--kind", "cstore", "--host", "127.0.0.1", "--port", str(port),
            "--ae-title", f"{clinic.upper()}_PACS",
        )  # fmt: skip

    def send(self, folder: Path, calling: str) -> None:
        """Send a folder of DICOM to the installation's door as the scanner of this AE title."""
        door = f"127.0.0.1:{self.port('DICOM')}"
        self.run("study", "send", str(folder), "--to", door, "--calling", calling, "--called", "RADFLEET")

    def wait(self, what: str, probe: Any, seconds: float) -> Any:
        """Wait until ``probe()`` is truthy; its value. Raises DemoFailed when the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = probe()
            if value:
                return value
            self.measure()
            time.sleep(1)
        raise DemoFailed(f"{what} did not happen within {seconds:.0f} s")

    def measure(self) -> None:
        """Keep the largest memory of all processes of the demo: proportional set size, so shared pages count once.

        At most every ten seconds: reading the page tables of thirty processes costs what is measured here.
        """
        import psutil

        if time.monotonic() - self._measured < 10:
            return
        total = 0
        for child in self.running:
            try:
                family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in family:
                try:
                    total += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue
        self.peak_mb, self._measured = max(self.peak_mb, total / 2**20), time.monotonic()

    def end(self) -> None:
        """End everything that was started, in reverse order, by its own id.

        By SIGTERM: who was started in the background of a shell ignores SIGINT, and so do its children.
        """
        if self.clerk is not None:
            self.clerk.communicate()  # its input ends, and so does it
        for child in reversed(self.running):
            if child.poll() is None:
                child.terminate()
        for child in reversed(self.running):
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free at this moment, each with a free one above it (Ray takes two).

    Below the range from which the kernel draws for outgoing connections: there one could be taken before it is used.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000, 2), 500):
        if all(_is_free(number) for number in (port, port + 1)):
            found.append(port)
            if len(found) == count:
                return found
    raise DemoFailed(f"{count} free ports could not be found between 20000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
