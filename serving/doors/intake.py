"""The one way into the house: every door hands its objects to ``Intake``, which keeps them and then says so.

Promise P1: a receipt is returned only after the file is durable under its final name and the row is committed.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from registry.core.errors import RadfleetError
from registry.core.logs import log
from serving.doors.errors import EmptyObject, UidMismatch
from serving.doors.filestore import Filestore, Part, StoredFile, discard_all
from serving.doors.headers import Announced, InstanceFacts, file_header, read_facts
from serving.studies.studies_store import Receipt


@dataclass(frozen=True, slots=True)
class Kept:
    """One object that is durable on disk and not yet in the database."""

    facts: InstanceFacts
    stored: StoredFile


class Sender(Protocol):
    """The clinic that a sender was recognised as."""

    @property
    def id(self) -> UUID:
        """The clinic's id."""


Hint = Callable[[UUID, list[UUID]], None]  # (clinic, studies): their association was released
# (clinic, objects, source) -> one receipt an object, all in one committed transaction.
Recorder = Callable[[UUID, Sequence[Kept], str], Sequence[Receipt]]


class Arrival:
    """One object while it arrives; ``write`` its data set bytes, then hand it to ``Intake.receive``."""

    def __init__(self, part: Part, announced: Announced) -> None:
        self._part = part
        self.announced = announced
        self._start = 0

    def begin(self) -> None:
        """Write the file header of our own."""
        header = file_header(self.announced)
        self._part.write_header(header)
        self._start = len(header)

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes as they came. Raises TooLarge, DiskLow, StoreFailed."""
        self._part.write(piece)

    def discard(self) -> None:
        """Forget the object."""
        self._part.discard()

    @property
    def part(self) -> Part:
        """The file under way."""
        return self._part

    def facts(self) -> InstanceFacts:
        """Read and check the whole object; raises the named errors of ``headers.read_facts``."""
        if self._part.size == self._start:
            raise EmptyObject
        return read_facts(self._part.fd, self._start, self.announced)


class Intake:
    """Receives objects for clinics. One a process; safe to use from many threads."""

    def __init__(self, store: Filestore, record: Recorder) -> None:
        self.store = store
        self._record = record

    def open(self, clinic_id: UUID, announced: Announced, shard: str = "") -> Arrival:
        """Begin one object. Raises DiskLow, StoreUnhealthy, StoreFailed."""
        arrival = Arrival(self.store.create(clinic_id, shard), announced)
        arrival.begin()
        return arrival

    def receive(
        self, clinic_id: UUID, arrivals: Sequence[Arrival], source: str, *, study: str = ""
    ) -> list[Receipt | RadfleetError]:
        """Keep the objects of one message: check each, make all durable, commit all, and only then return.

        One result an object, in order: its receipt, or the named error for which it alone was refused. With
        ``study``, an object of another StudyInstanceUID is refused.
        Raises (for all of them) DiskLow, StoreFailed, DatabaseAway: nothing of the message is acknowledged.
        """
        results: list[Receipt | RadfleetError | None] = [None] * len(arrivals)
        whole: list[tuple[int, Arrival, InstanceFacts]] = []
        for i, arrival in enumerate(arrivals):
            try:
                facts = arrival.facts()
                if study and facts.StudyInstanceUID != study:
                    raise UidMismatch
                whole.append((i, arrival, facts))
            except RadfleetError as error:
                arrival.discard()
                results[i] = error
            except BaseException:
                discard_all(a.part for a in arrivals)
                raise
        if whole:
            stored = self.store.publish([arrival.part for _, arrival, _ in whole])
            kept = [Kept(facts, file) for (_, _, facts), file in zip(whole, stored, strict=True)]
            # When the commit's outcome is unknown the file stays: a row may name it. The sweep decides later.
            receipts = self._record(clinic_id, kept, source)
            for (i, _, _), item, receipt in zip(whole, kept, receipts, strict=True):
                results[i] = receipt
                if receipt.outcome == "duplicate":
                    self.store.remove(item.stored.path)
        return [r for r in results if r is not None]


def answer_for(error: BaseException) -> RadfleetError:
    """The named error by which a door answers any exception; an unnamed one is logged by type only."""
    if isinstance(error, RadfleetError):
        return error
    log().error("door.bug", error_type=type(error).__name__)
    return RadfleetError("the door met an error that has no name yet")


class ReleaseHints:
    """Collects the studies of one association, so that its release may shorten their wait."""

    def __init__(self) -> None:
        self._studies: set[UUID] = set()
        self._lock = threading.Lock()

    def add(self, study_id: UUID) -> None:
        """A receipt named this study."""
        with self._lock:
            self._studies.add(study_id)

    def __contains__(self, study_id: UUID) -> bool:
        with self._lock:
            return study_id in self._studies

    def take(self) -> list[UUID]:
        """The studies so far; empties the collection."""
        with self._lock:
            studies, self._studies = sorted(self._studies), set()
        return studies
