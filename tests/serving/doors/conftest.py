"""Doors on real loopback sockets over a real store; rows in memory unless a test asks for the database."""

import threading
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from registry.core.errors import NotFound
from serving.doors.filestore import Filestore
from serving.doors.intake import Intake
from serving.doors.scp import DicomDoor
from serving.studies.studies_store import Receipt

CALLED, CALLING = "RADFLEET", "CLINIC_A"


@dataclass
class Ledger:
    """A recorder in memory with the rules of the real one: key (clinic, SOPInstanceUID), same bytes = duplicate."""

    rows: list = field(default_factory=list)
    before: object = None
    lock: object = field(default_factory=threading.Lock)

    def __call__(self, clinic_id, kept, source):
        if self.before is not None:
            self.before()
        with self.lock:
            return [self._one(clinic_id, item, source) for item in kept]

    def _one(self, clinic_id, item, source):
        key = (clinic_id, item.facts.SOPInstanceUID)
        known = [r for r in self.rows if r[0] == key]
        study = UUID(int=hash((clinic_id, item.facts.StudyInstanceUID)) & (2**128 - 1))
        for version, row in enumerate(known, 1):
            if row[1].stored.sha256 == item.stored.sha256:
                return Receipt("duplicate", study, 1, version)
        self.rows.append((key, item, source))
        return Receipt("conflict" if known else "new", study, 1, len(known) + 1)


@dataclass(frozen=True)
class Clinic:
    id: UUID
    slug: str = "a"


@dataclass
class House:
    """What a door test looks at."""

    store: Filestore
    ledger: Ledger
    intake: Intake
    clinic: Clinic
    hints: list = field(default_factory=list)
    port: int = 0

    def files(self):
        return sorted(p for p in self.store.root.rglob("*") if p.is_file())


class NobodyHere(NotFound):
    """Nobody is known by this name."""


@pytest.fixture
def house(tmp_path):
    store, ledger = Filestore(tmp_path / "store", free_bytes_min=0), Ledger()
    return House(store, ledger, Intake(store, ledger), Clinic(uuid4()))


@pytest.fixture
def dicom(house):
    def find(called, calling, address):
        if (called, calling, address) != (CALLED, CALLING, "127.0.0.1"):
            raise NobodyHere
        return house.clinic

    door = DicomDoor(house.intake, find, lambda clinic, studies: house.hints.append((clinic, studies)))
    house.port = door.start("127.0.0.1", 0)
    yield house
    door.stop(grace_s=0.2)
