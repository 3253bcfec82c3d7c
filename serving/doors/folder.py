"""The local door: takes the DICOM objects of a file, folder or archive into the same intake as every other door."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.settings import Settings
from serving.doors.archive import Candidate, candidates, count
from serving.doors.errors import EmptyObject, NotDicom
from serving.doors.filestore import Filestore
from serving.doors.headers import META_BYTES_MAX, Announced, quiet, split_file_header
from serving.doors.intake import Arrival, Hint, Intake

_READ = 1 << 18
_GROUP = 16

Progress = Callable[[int, int], None]  # (files done, files known; 0 where unknown)


@dataclass(slots=True)
class Report:
    """What became of the files of one path. ``reasons`` counts what was passed over or refused, by error code."""

    received: int = 0
    duplicates: int = 0
    conflicts: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    studies: set[UUID] = field(default_factory=set)

    def row(self) -> dict[str, object]:
        """One line for a table or JSON."""
        return {
            "received": self.received,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "not DICOM": self.skipped,
            "failed": self.failed,
            "reasons": ", ".join(f"{code} x{n}" for code, n in sorted(self.reasons.items())),
            "studies": ", ".join(sorted(map(str, self.studies))),
        }

    def refuse(self, error: RadfleetError) -> None:
        """Count one file that was not taken; what is simply no DICOM file is skipped, not failed."""
        self.reasons[error.code] += 1
        if isinstance(error, NotDicom | EmptyObject):
            self.skipped += 1
        else:
            self.failed += 1


def read_head(candidate: Candidate) -> tuple[Announced, bytes]:
    """Group 2 of a candidate and the data set bytes read so far. DICOMDIR is no instance.

    Raises NotDicom, EmptyObject, BadUid, MissingElement, TransferSyntaxRefused.
    """
    head = bytearray()
    while True:
        piece = candidate.stream.read(_READ)
        head += piece
        split = split_file_header(bytes(head))
        if split is not None:
            announced, start = split
            if announced.SOPClassUID == "1.2.840.10008.1.3.10":
                raise NotDicom(why="A DICOMDIR lists files; the files themselves are read.")
            return announced, bytes(head[start:])
        if not piece or len(head) > 2 * META_BYTES_MAX:
            raise NotDicom if head else EmptyObject


def take(intake: Intake, clinic_id: UUID, path: Path, progress: Progress | None = None) -> Report:
    """Receive every DICOM object of ``path`` for one clinic; files that are none are skipped and counted.

    Raises SourceMissing, ArchiveRefused, DiskLow, StoreFailed, DatabaseAway: what was received before stays.
    """
    report, waiting, done, total = Report(), list[Arrival](), 0, count(path)
    try:
        for candidate in candidates(path):
            try:
                waiting.append(_arrive(intake, clinic_id, candidate))
            except RadfleetError as error:
                if error.answer.retry or error.code == "doors.archive_refused":
                    raise
                report.refuse(error)
            if len(waiting) >= _GROUP:
                _receive(intake, clinic_id, waiting, report)
            done += 1
            if progress:
                progress(done, total)
        _receive(intake, clinic_id, waiting, report)
    finally:
        for arrival in waiting:
            arrival.discard()
    return report


def _arrive(intake: Intake, clinic_id: UUID, candidate: Candidate) -> Arrival:
    announced, rest = read_head(candidate)
    arrival = intake.open(clinic_id, announced)
    try:
        arrival.write(rest)
        while piece := candidate.stream.read(_READ):
            arrival.write(piece)
    except BaseException:
        arrival.discard()
        raise
    return arrival


def _receive(intake: Intake, clinic_id: UUID, waiting: list[Arrival], report: Report) -> None:
    arrivals = waiting.copy()
    waiting.clear()
    if not arrivals:
        return
    for result in intake.receive(clinic_id, arrivals, "submit"):
        if isinstance(result, RadfleetError):
            report.refuse(result)
            continue
        report.studies.add(result.study_id)
        report.received += result.outcome == "new"
        report.duplicates += result.outcome == "duplicate"
        report.conflicts += result.outcome == "conflict"


def submit(
    settings: Settings, database: Database, path: Path, clinic: str, *, progress: Progress | None = None
) -> Report:
    """``radfleet study submit``: take a path in for the clinic of this short name, then hint that it is complete."""
    from registry import clinics
    from serving.doors.record import DatabaseRecorder, hint_release

    quiet()
    with database.system() as conn:
        its = clinics.by_slug(conn, clinic)
    intake = Intake(Filestore(settings.store_dir), DatabaseRecorder(database, settings))
    hint: Hint = hint_release(database)
    report = take(intake, its.id, path, progress)
    if report.studies:
        hint(its.id, sorted(report.studies))
    return report
