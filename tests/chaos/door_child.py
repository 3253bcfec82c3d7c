"""A DICOM door as a process of its own: ``door_child.py [FAULT [PORT]]``; the fault is planted on purpose.

The faults exist to show that the judge sees them: a judge that cannot condemn is worth nothing.
"""

import sys
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from registry import clinics
from registry.core.db import database
from registry.core.settings import settings
from serving.doors.filestore import Filestore, Part
from serving.doors.intake import Intake, Kept
from serving.doors.record import DatabaseRecorder, hint_release
from serving.doors.scp import DicomDoor
from serving.studies.studies_store import Receipt

FAULTS = ("acknowledge before commit", "no sync", "no folder sync", "rename before sync")


class EarlyRecorder(DatabaseRecorder):
    """Says received, and commits a moment later."""

    def __call__(self, clinic_id: UUID, kept: Sequence[Kept], source: str) -> list[Any]:
        """Answer at once."""
        threading.Timer(0.3, lambda: super(EarlyRecorder, self).__call__(clinic_id, kept, source)).start()
        return [Receipt("new", uuid4(), 1, 1) for _ in kept]


def plant(fault: str) -> type[DatabaseRecorder]:
    """Change the door as the fault says; returns the recorder to use."""
    sync, rename = Part.sync, Part.rename
    if fault == "no sync":
        Part.sync = lambda self: None  # type: ignore[method-assign]
    if fault == "no folder sync":
        Part.sync_folder = lambda self: None  # type: ignore[method-assign]
    if fault == "rename before sync":
        Part.sync = rename  # type: ignore[method-assign]
        Part.rename = sync  # type: ignore[method-assign]
    return EarlyRecorder if fault == "acknowledge before commit" else DatabaseRecorder


def main() -> None:
    """Open the door, print its port, and serve until standard input ends."""
    its = settings()
    db = database(its)
    recorder = plant(sys.argv[1] if len(sys.argv) > 1 else "")(db, its)

    def find(called: str, calling: str, address: str) -> Any:
        with db.system() as conn:
            return clinics.by_ae(conn, called, calling, address)

    # A new connection commits its own check once; with it made beforehand each commit in the trace is a receipt's.
    with db.tenant(uuid4()):
        pass
    door = DicomDoor(Intake(Filestore(its.store_dir, free_bytes_min=0), recorder), find, hint_release(db))
    print(door.start("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), flush=True)
    sys.stdin.read()
    door.stop(1)


if __name__ == "__main__":
    main()
