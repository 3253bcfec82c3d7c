"""The lock and the record of one running installation: who supervises it, what runs, since when."""

import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from registry.processes import Identity, alive, boot_id, identify


class State(StrEnum):
    """What a part is doing."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    SILENT = "silent"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    FAILED = "failed"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One row of ``radfleet status``; ``memory_mb`` is the proportional set size of its process tree."""

    part: str
    state: State
    pid: int | None = None
    since: datetime | None = None
    restarts: int = 0
    memory_mb: float | None = None
    address: str = ""
    note: str = ""


@dataclass(slots=True)
class Record:
    """What the supervisor writes for others; ``processes`` are (pid, ticks, stop signal) of all it started."""

    supervisor: Identity
    boot: str = field(default_factory=boot_id)
    stopping: bool = False
    parts: list[dict[str, Any]] = field(default_factory=list)
    processes: list[tuple[int, int, int]] = field(default_factory=list)

    def victims(self) -> list[tuple[Identity, signal.Signals]]:
        """The recorded processes that still run, when the machine has not been restarted since."""
        if self.boot != boot_id():
            return []
        known = [(Identity(pid, ticks), signal.Signals(number)) for pid, ticks, number in self.processes]
        return [pair for pair in known if alive(pair[0])]


class UpLock:
    """The advisory lock of an installation: held as long as its supervisor lives, whatever kills it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "up.lock"
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock and write who holds it; False where another process has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        for _ in range(20):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A look at the lock by `status` holds it for an instant: try again before giving up.
                os.close(fd)
                if self.holder() is not None:
                    return False
                time.sleep(0.05)
                continue
            if not self._still_there(fd):  # the last holder removed the file while we opened it
                os.close(fd)
                continue
            me = identify(os.getpid())
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(asdict(me) if me else {}).encode(), 0)
            self._fd = fd
            return True
        return False

    def _still_there(self, fd: int) -> bool:
        try:
            return os.fstat(fd).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file, then the lock: nobody can take a lock on a file that is about to vanish.

        Another's file stays: the folder may have been emptied and taken by a new supervisor meanwhile.
        """
        if self._fd is not None:
            if self._still_there(self._fd):
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def holder(self) -> Identity | None:
        """The supervisor that holds the lock now; a reused pid is not taken for it."""
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                facts = json.loads(os.pread(fd, 200, 0))
                who = Identity(int(facts["pid"]), int(facts["ticks"]))
            except (ValueError, KeyError):
                return None
            return who if alive(who) else None
        finally:
            os.close(fd)
        return None


def record_path(root: Path) -> Path:
    """The file of the record."""
    return root / "run" / "state.json"


def write(root: Path, record: Record) -> None:
    """Replace the record in one step, so that a reader never sees half of it."""
    path = record_path(root)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)))
    fresh.replace(path)


def read(root: Path) -> Record | None:
    """The last record written, or None."""
    try:
        facts = json.loads(record_path(root).read_text())
        facts["supervisor"] = Identity(**facts["supervisor"])
        return Record(**facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
