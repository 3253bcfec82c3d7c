"""Writes build/NAME.json (figures, goals, n, seed, versions, machine), says what was missed, gives the exit code."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parent.parent.parent / "build"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure against what it has to reach. ``at_least``: False when smaller is better."""

    name: str
    value: float | None
    goal: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the goal is reached; a figure that could not be measured reaches nothing."""
        if self.value is None:
            return False
        # bool: a figure of NumPy would be written as the text "False".
        return bool(self.value >= self.goal if self.at_least else self.value <= self.goal)


def machine() -> dict[str, Any]:
    """What a reader needs to judge a figure: processor, cores, memory, load, system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def versions(packages: Sequence[str], tools: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Versions of Python packages by name and of outside tools by the command that prints theirs."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    for name, command in tools.items():
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=30, check=False)
        found[name] = ((done.stdout or done.stderr).strip().splitlines() or ["unknown"])[0]
    return found


def record(name: str, goals: Sequence[Goal], **facts: Any) -> int:
    """Write build/``name``.json and print the goals. Returns 0, or 1 when one was missed."""
    BUILD.mkdir(exist_ok=True)
    met = bool(goals) and all(goal.met for goal in goals)
    rows = [{**asdict(goal), "met": goal.met} for goal in goals]
    body = {"name": name, "at": datetime.now(UTC).isoformat(timespec="seconds"), "met": met, "goals": rows}
    path = BUILD / f"{name}.json"
    path.write_text(json.dumps({**body, **facts, "machine": machine()}, indent=1, default=str) + "\n")
    for goal in goals:
        sign, word = (">=" if goal.at_least else "<="), ("met" if goal.met else "MISSED")
        value = "none" if goal.value is None else f"{goal.value:.3g}"
        print(
            f"{word:7} {goal.name}: {value} (goal {sign} {goal.goal:g})",
            file=sys.stdout if goal.met else sys.stderr,
        )
    print(f"written: {path.relative_to(BUILD.parent)}")
    return 0 if met else 1
