"""The outside ledger: what the product acknowledged, written by the sender, append-only and synced line by line."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One acknowledged instance; ``sha256`` is of the data set as it travelled."""

    clinic: str
    study: str
    instance: str
    sha256: str
    tries: int


class Ledger:
    """The file of one sender. A line is on the disk before the next instance is sent."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, entry: Entry) -> None:
        """Write one acknowledgement and sync it."""
        os.write(self._fd, json.dumps(asdict(entry)).encode() + b"\n")
        os.fsync(self._fd)


def entries(folder: Path) -> Iterator[Entry]:
    """Every acknowledgement of every sender."""
    for path in sorted(folder.glob("*.ledger")):
        for line in path.read_text().splitlines():
            yield Entry(**json.loads(line))
