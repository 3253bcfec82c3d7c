"""An outside ledger of acknowledgements: sends with dcmtk, writes down each success, and later asks where it is.

It knows nothing of the product: an acknowledgement is a line of storescu, an object is its SOPInstanceUID and the
sha256 of its last bytes (its pixels, which dcmtk never rewrites). Lines are synced before the next object is sent.
"""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PIXEL_BYTES = 64 * 64 * 2
_SENDING = re.compile(r"Sending file: (?P<path>.+)$")
_SUCCESS = re.compile(r"Received Store Response \(Success\)")
_UID = re.compile(rb"\x08\x00\x18\x00UI..(?P<uid>[0-9.]+)")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One object that a receiver said to have."""

    uid: str
    tail: str  # sha256 of the pixels, hex


@dataclass(frozen=True, slots=True)
class Balance:
    """What the receiver has against what it said: all three must be 0."""

    acknowledged: int
    lost: int
    changed: int
    duplicate: int


def entry(path: Path) -> Acknowledged:
    """The ledger's view of a file of ours."""
    raw = path.read_bytes()
    found = _UID.search(raw)
    assert found is not None, "a synthetic instance has its SOPInstanceUID in explicit little endian"
    return Acknowledged(found["uid"].decode(), hashlib.sha256(raw[-PIXEL_BYTES:]).hexdigest())


class Ledger:
    """Append-only lines ``uid tail``; each is on the disk before ``write`` returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, item: Acknowledged) -> None:
        """Write one acknowledgement down."""
        os.write(self._file, f"{item.uid} {item.tail}\n".encode())
        os.fdatasync(self._file)


def read(path: Path) -> list[Acknowledged]:
    """Every acknowledgement so far; a line that was cut by a crash of ours does not count."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Acknowledged(*line.split()) for line in lines]


def send_all(folder: Path, port: int, calling: str, called: str, ledger: Ledger, *, give_up_s: float) -> int:
    """Send every file until each is acknowledged, again and again where it was not; returns how many never were."""
    waiting = sorted(folder.iterdir())
    end = time.monotonic() + give_up_s
    while waiting and time.monotonic() < end:
        done = _send_once(waiting, port, calling, called, ledger)
        waiting = [path for path in waiting if path not in done]
        if waiting:
            time.sleep(0.2)
    return len(waiting)


def _send_once(files: list[Path], port: int, calling: str, called: str, ledger: Ledger) -> set[Path]:
    command = ["storescu", "-v", "-R", "-to", "5", "-td", "20", "-ta", "10", "-aet", calling, "-aec", called]
    process = subprocess.Popen(
        [*command, "127.0.0.1", str(port), *map(str, files)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "TCP_NODELAY": "1"},
    )  # fmt: skip
    sending, done = None, set[Path]()
    with process:
        for line in process.stdout or ():
            if (found := _SENDING.search(line)) is not None:
                sending = Path(found["path"].strip())
            elif _SUCCESS.search(line) and sending is not None:
                ledger.write(entry(sending))
                done.add(sending)
                sending = None
    return done


def balance(said: Iterable[Acknowledged], rows: Iterable[tuple[str, Path]]) -> Balance:
    """Compare what was acknowledged with (SOPInstanceUID, file) of every instance row of the receiver."""
    promised = {item.uid: item for item in said}
    kept = list(rows)
    times = Counter(uid for uid, _ in kept)
    lost = changed = 0
    files = dict(kept)
    for uid, item in promised.items():
        if uid not in files or not files[uid].is_file():
            lost += 1
        elif hashlib.sha256(files[uid].read_bytes()[-PIXEL_BYTES:]).hexdigest() != item.tail:
            changed += 1
    return Balance(len(promised), lost, changed, sum(n - 1 for n in times.values()))


def main() -> None:
    """``python -m tests.chaos.ledger FOLDER PORT CALLING CALLED LEDGER SECONDS``: a sender as its own process."""
    folder, port, calling, called, path, seconds = sys.argv[1:]
    left = send_all(Path(folder), int(port), calling, called, Ledger(Path(path)), give_up_s=float(seconds))
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
