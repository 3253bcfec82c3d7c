"""Records received objects in the database, and tells the orphan sweep which files have rows."""

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

import psycopg

from registry import scanners_store, secrets
from registry.core.db import Database, DatabaseAway
from registry.core.logs import log
from registry.core.settings import Settings
from registry.vendors import vendor_key
from serving.doors import paths_store
from serving.doors.errors import StudyBusy
from serving.doors.headers import InstanceFacts
from serving.doors.intake import Kept
from serving.studies import studies_store
from serving.studies.studies_store import Arrived, Receipt

_SCANNER_CACHE_S = 240.0
_SCANNER_CACHE_MAX = 10_000

# Two senders of one object at one moment: whoever comes second is told to come again, and is a duplicate then.
_BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)

ScannerKey = tuple[UUID, str, str, str, str, float | None]


@dataclass(slots=True, eq=False)
class _Message:
    """The objects of one message, until their commit."""

    kept: Sequence[Kept]
    source: str
    taken: bool = False
    receipts: list[Receipt] | None = None
    lost: bool = False
    """The connection broke: nobody knows whether it was committed."""


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to commit for a clinic, and who will be taken along next."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[_Message] = field(default_factory=list)


class DatabaseRecorder:
    """A ``Recorder``: one transaction for all messages of a clinic that wait at one moment. Safe for many threads.

    Whoever commits takes along what came while the one before was committing: nobody waits for company, and what a
    transaction costs is shared when many send. Clinics never share one.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._key = bytes.fromhex(secrets.ensure(settings, "patient-key"))
        self._scanners: dict[ScannerKey, tuple[UUID, float]] = {}
        self._turns: dict[UUID, _Turn] = {}
        self._lock = threading.Lock()

    def __call__(self, clinic_id: UUID, kept: Sequence[Kept], source: str) -> list[Receipt]:
        """Commit the objects of one message. Raises DatabaseAway, StudyBusy: nothing of it is received then."""
        mine = _Message(kept, source)
        with self._lock:
            turn = self._turns.setdefault(clinic_id, _Turn())
            turn.waiting.append(mine)
        with turn.lock:
            if not mine.taken:
                self._commit_waiting(clinic_id, turn)
        if mine.lost:
            raise DatabaseAway("the database did not say whether it committed")
        # Somebody in its company failed and all was rolled back: alone it has its own luck, or its own error.
        if mine.receipts is None:
            (mine.receipts,) = self._commit(clinic_id, [mine])
        return mine.receipts

    def _commit_waiting(self, clinic_id: UUID, turn: _Turn) -> None:
        with self._lock:
            group, turn.waiting = turn.waiting, []
        for message in group:
            message.taken = True
        try:
            for message, receipts in zip(group, self._commit(clinic_id, group), strict=True):
                message.receipts = receipts
        except (DatabaseAway, psycopg.InterfaceError):
            # Perhaps it was committed: asked again, each object would be a duplicate of itself and lose its file.
            for message in group:
                message.lost = True
        except Exception:
            if len(group) == 1:
                raise

    def _commit(self, clinic_id: UUID, group: Sequence[_Message]) -> list[list[Receipt]]:
        """One committed transaction; the receipts of each message."""
        fresh: dict[ScannerKey, UUID] = {}
        items = [(item, message.source) for message in group for item in message.kept]
        keys = [_scanner_key(clinic_id, item.facts) for item, _ in items]
        # One order of locks for everybody (scanners, then studies, each sorted): two senders cannot deadlock.
        order = sorted(range(len(items)), key=lambda i: items[i][0].facts.StudyInstanceUID)
        try:
            with self._database.tenant(clinic_id) as conn:
                for unknown in sorted({k for k in keys if k and self._cached(k) is None}, key=repr):
                    fresh[unknown] = scanners_store.upsert(conn, *unknown)
                arrived = [
                    Arrived(
                        item.facts,
                        item.stored,
                        source,
                        self._patient_key(clinic_id, item.facts.PatientID),
                        (fresh.get(key) or self._cached(key)) if key else None,
                    )
                    for (item, source), key in ((items[i], keys[i]) for i in order)
                ]
                receipts = dict(zip(order, studies_store.record_instances(conn, arrived), strict=True))
        except _BUSY:
            raise StudyBusy from None
        except psycopg.OperationalError as error:
            # A full disk or too many connections on the database's side: the sender must keep its copy and retry.
            raise DatabaseAway("the database cannot take this now") from error
        self._remember(fresh)
        found = (receipts[i] for i in range(len(items)))
        return [list(islice(found, len(message.kept))) for message in group]

    def _patient_key(self, clinic_id: UUID, patient_id: str) -> bytes | None:
        """Equality of patients without the value; None where the header names nobody."""
        if not patient_id:
            return None
        return hmac.digest(self._key, clinic_id.bytes + patient_id.encode(), hashlib.sha256)

    def _cached(self, key: ScannerKey) -> UUID | None:
        with self._lock:
            found = self._scanners.get(key)
        return found[0] if found and time.monotonic() - found[1] < _SCANNER_CACHE_S else None

    def _remember(self, fresh: dict[ScannerKey, UUID]) -> None:
        """Only after the commit: an id of a transaction that was rolled back names no row."""
        with self._lock:
            if len(self._scanners) > _SCANNER_CACHE_MAX:
                self._scanners.clear()
            self._scanners.update({key: (value, time.monotonic()) for key, value in fresh.items()})


def _scanner_key(clinic_id: UUID, facts: InstanceFacts) -> ScannerKey | None:
    """What makes a scanner; None for objects that workstations make (SR, SEG, secondary captures)."""
    if facts.Modality != "MR":
        return None
    return (
        clinic_id,
        vendor_key(facts.Manufacturer),
        facts.ManufacturerModelName,
        facts.DeviceSerialNumber,
        facts.SoftwareVersions,
        facts.MagneticFieldStrength,
    )


def hint_release(database: Database) -> Callable[[UUID, list[UUID]], None]:
    """A function that shortens the wait of studies whose association was released (a hint: PS3.4 B.4)."""

    def hint(clinic_id: UUID, studies: list[UUID]) -> None:
        try:
            with database.tenant(clinic_id) as conn:
                studies_store.hint_complete(conn, clinic_id, studies)
        except DatabaseAway:
            log().info("door.hint_lost", count=len(studies))

    return hint


def known_paths(database: Database) -> Callable[[UUID, Sequence[str]], set[str]]:
    """What ``Filestore.sweep`` asks: which of these files belong to an instance, a result or a review."""
    from serving.results import results_store
    from serving.reviews import reviews_store

    def known(clinic_id: UUID, paths: Sequence[str]) -> set[str]:
        with database.tenant(clinic_id) as conn:
            return (
                paths_store.known_instances(conn, clinic_id, paths)
                | results_store.known_objects(conn, clinic_id, list(paths))
                | reviews_store.known_masks(conn, clinic_id, paths)
            )

    return known
