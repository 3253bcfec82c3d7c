"""The stage of the demo: its ports, its processes, and calls of the real command line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.core.output import talk
from registry.core.settings import Settings
from serving.demo.errors import DemoFailed

# Every port that a part may listen on, so that a new part never meets another installation's.
PORTS = tuple(name for name in Settings.model_fields if name.endswith("_port"))


@dataclass(slots=True)
class Stage:
    """One run of the demo: everything it starts, it ends."""

    home: Path
    env: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    peak_mb: float = 0.0

    @classmethod
    def build(cls, home: Path) -> "Stage":
        """A stage with ports that are free now."""
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        env = {**os.environ, "RADFLEET_HOME": str(home.absolute()), "RADFLEET_ACTOR": "demo-admin"}
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
        """Call ``radfleet ARGV``; its stdout. Raises DemoFailed on another exit code."""
        self.measure()
        done = subprocess.run(
            [sys.executable, "-m", "registry.cli", *argv],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode not in ok:
            talk(done.stdout + done.stderr)
            raise DemoFailed(f"radfleet {' '.join(argv)} ended with {done.returncode}")
        return done.stdout

    def ask(self, *argv: str) -> Any:
        """Call a reading command and parse its JSON."""
        return json.loads(self.run(*argv, "--json"))

    def wait(self, what: str, probe: Any, seconds: float) -> Any:
        """Wait until ``probe()`` is truthy; its value. Raises DemoFailed when the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = probe()
            if value:
                return value
            self.measure()
            time.sleep(0.5)
        raise DemoFailed(f"{what} did not happen within {seconds:.0f} s")

    def measure(self) -> None:
        """Keep the largest memory of all processes of the demo: proportional set size, so shared pages count once."""
        import psutil

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
        self.peak_mb = max(self.peak_mb, total / 2**20)

    def end(self) -> None:
        """End everything that was started, in reverse order, by its own id."""
        for child in reversed(self.running):
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        for child in reversed(self.running):
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free at this moment."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()
