"""Kills parts of one installation with SIGKILL, by a plan that a seed makes; never a process of anybody else."""

import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from registry import installation

# Of 200: the parts that take half a minute to come back are killed rarely, the others all the time.
QUICK: Mapping[str, int] = {
    "door dicom": 38, "door http": 20, "work": 40, "deliver": 22, "sweep": 20, "monitor": 9, "web": 8, "metrics": 7,
    "engine": 8, "postgres": 14, "replica": 8, "ray head": 3, "mlflow": 3,
}  # fmt: skip
PART = {"door dicom": "dicom", "door http": "http"}
LATER = 7
DOWN_S_MAX = 180.0


def plan(counts: Mapping[str, int], rng: random.Random) -> deque[str]:
    """The order of the kills. Ray's head dies far apart: between two of its deaths something must be answered."""
    light = [name for name, count in counts.items() for _ in range(count) if name != "ray head"]
    rng.shuffle(light)
    heads = counts.get("ray head", 0)
    for number in range(heads):
        light.insert(round((number + 0.7) * (len(light) + 1) / (heads + 0.4)), "ray head")
    return deque(light)


@dataclass(slots=True)
class Killer:
    """One run of kills over the descendants of ``supervisor`` (a pid); ``pause_s`` is the range between kills."""

    root: Path
    supervisor: int
    rng: random.Random
    pause_s: tuple[float, float]
    done: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def run(self, counts: Mapping[str, int], each: Callable[[str, int], None]) -> None:
        """Kill by the plan; ``each`` hears (name, pid). A part that is still down is tried again later."""
        left, since = plan(counts, self.rng), time.monotonic()
        while left:
            name = left.popleft()
            pid = self._kill(name)
            if pid is None:
                left.insert(min(LATER, len(left)), name)
                if time.monotonic() - since > DOWN_S_MAX:
                    self.skipped[name] += 1
                    left.remove(name)
                    since = time.monotonic()
                time.sleep(0.2)
                continue
            since = time.monotonic()
            self.done[name] += 1
            each(name, pid)
            time.sleep(self.rng.uniform(*self.pause_s))

    def _kill(self, name: str) -> int | None:
        """Kill one process of that name; None where none is up. Only descendants of our supervisor are touched."""
        try:
            ours = {child.pid: child for child in psutil.Process(self.supervisor).children(recursive=True)}
        except psutil.NoSuchProcess as error:
            raise SystemExit("the supervisor itself has ended") from error
        pids = [pid for pid in self._candidates(name, ours) if pid in ours]
        if not pids:
            return None
        pid = self.rng.choice(sorted(pids))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return pid

    def _candidates(self, name: str, ours: Mapping[int, psutil.Process]) -> list[int]:
        if name == "replica":
            return [pid for pid, child in ours.items() if "ServeReplica" in _words(child)]
        record = installation.read(self.root)
        ready = {row["part"]: row["pid"] for row in record.parts if row["state"] == "ready"} if record else {}
        if name == "ray head":
            servers = [pid for pid, child in ours.items() if "gcs_server" in _words(child)[:200]]
            return [*servers, ready["ray"]] if "ray" in ready and servers else []
        if name == "work":
            return [pid for part, pid in ready.items() if part.startswith("work")]
        part = PART.get(name, name)
        return [ready[part]] if part in ready else []


def _words(child: psutil.Process) -> str:
    try:
        return " ".join(child.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""
