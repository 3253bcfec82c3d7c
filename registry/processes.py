"""Operating-system processes of one installation: start tied to us, identify, measure, end. Linux only."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Looked up once, before any fork: a child between fork and exec must not load libraries.
_prctl = ctypes.CDLL(None, use_errno=True).prctl
READY_FILE = "RADFLEET_READY_FILE"


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no later one of the same pid is mistaken for: pid and start time in clock ticks."""

    pid: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one process. ``fds`` are handed to the child and closed here after the start."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: Path
    user: int | None = None
    group: int | None = None
    fds: tuple[int, ...] = ()
    death_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True, slots=True)
class _Row:
    parent: int
    ticks: int
    state: str = field(default="R")


def boot_id() -> str:
    """One word that changes when the machine restarts; start times count from there."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _row(pid: int) -> _Row | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may itself hold blanks and brackets: count from the last one.
    rest = text[text.rindex(")") + 2 :].split()
    return _Row(parent=int(rest[1]), ticks=int(rest[19]), state=rest[0])


def identify(pid: int) -> Identity | None:
    """The identity of a running process, or None where there is none or only a zombie."""
    row = _row(pid)
    return None if row is None or row.state in "ZX" else Identity(pid, row.ticks)


def alive(who: Identity) -> bool:
    """True while this very process runs."""
    return identify(who.pid) == who


def age_s(pid: int) -> float:
    """Seconds since the process started; 0 where it has gone."""
    who = identify(pid)
    if who is None:
        return 0.0
    return float(Path("/proc/uptime").read_text().split()[0]) - who.ticks / os.sysconf("SC_CLK_TCK")


def descendants(roots: Iterable[int]) -> dict[int, list[Identity]]:
    """For each root pid the root and all its living descendants, from one reading of /proc."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    rows = {pid: row for pid in pids if (row := _row(pid))}
    children: dict[int, list[int]] = {}
    for pid, row in rows.items():
        children.setdefault(row.parent, []).append(pid)
    found: dict[int, list[Identity]] = {}
    for root in roots:
        todo, tree = [root], []
        while todo:
            pid = todo.pop()
            todo.extend(children.get(pid, ()))
            if pid in rows and rows[pid].state not in "ZX":
                tree.append(Identity(pid, rows[pid].ticks))
        found[root] = tree
    return found


def own_children() -> list[int]:
    """Pids of the direct children of this process, zombies included."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found.extend(int(pid) for pid in (task / "children").read_text().split())
        except OSError:  # the thread ended meanwhile
            continue
    return found


def memory_mb(tree: Iterable[Identity]) -> float:
    """Proportional set size in MB (10^6 bytes): shared pages are counted once over all processes."""
    total = 0
    for who in tree:
        try:
            lines = Path(f"/proc/{who.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies, so that none can be lost."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _tie(parent: int, death_signal: int) -> Callable[[], None]:
    def before_exec() -> None:
        # A shell that starts us in the background lets SIGINT be ignored, and exec would pass that on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return before_exec


def spawn(launch: Launch, log: Path) -> "subprocess.Popen[bytes]":
    """Start a process in its own session that gets ``death_signal`` when we die.

    Call it from the main thread: the kernel sends that signal when the starting thread ends. Raises OSError.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > 20_000_000:
        log.replace(log.with_suffix(".1"))
    drop: dict[str, Any] = (
        {} if launch.user is None else {"user": launch.user, "group": launch.group, "extra_groups": []}
    )
    with log.open("ab") as sink:
        try:
            return subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=dict(launch.env),
                cwd=launch.cwd,
                pass_fds=launch.fds,
                start_new_session=True,
                # CPython calls this after setuid, which would otherwise clear the death signal.
                preexec_fn=_tie(os.getpid(), launch.death_signal),  # noqa: PLW1509 - spawned from the main thread
                **drop,
            )
        finally:
            for fd in launch.fds:
                os.close(fd)


def send(who: Identity, number: signal.Signals) -> None:
    """Signal this very process; nothing happens where it has gone."""
    if alive(who):
        try:
            os.kill(who.pid, number)
        except ProcessLookupError:
            return


def end(victims: Iterable[tuple[Identity, signal.Signals]], seconds: float) -> int:
    """Ask each process to stop by its signal, kill what is left after ``seconds``; returns how many ran."""
    left = [(who, number) for who, number in victims if alive(who)]
    found = len(left)
    for who, number in left:
        send(who, number)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pair for pair in left if alive(pair[0])]
    for who, _ in left:
        send(who, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(alive(who) for who, _ in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def announce_ready() -> None:
    """Tell the supervisor that this part is ready to work; without a supervisor nothing happens."""
    if target := os.environ.get(READY_FILE):
        Path(target).write_text(str(os.getpid()))
