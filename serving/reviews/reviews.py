"""A review from the reader's file to its row: find the answer, compare the masks, keep the corrected one.

The clinic is given by the caller and every look-up runs in its transaction, so another clinic's study is
not refused but unknown (promise P5).
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydicom import dcmread
from pydicom.config import disable_value_validation

from registry.core.db import Conn, Database
from registry.core.logs import log
from registry.core.settings import Settings
from serving.doors.filestore import Filestore
from serving.results.errors import ObjectMissing, SourceUnreadable
from serving.reviews import ladder, masks, reviews_store, worklist_store
from serving.reviews.errors import (
    KeptMaskDamaged,
    MaskNeeded,
    NotAnswered,
    NotePersonal,
    ReviewExists,
    ReviewUnfit,
    ReviewUnknown,
    StillBlind,
    TaskUnclear,
)
from serving.reviews.lattice import Affine, Grid, Labels, agreement, onto
from serving.reviews.reviews_store import Answered, Kept, Review, Scored
from serving.studies import studies_store
from serving.studies.errors import StudyUnknown

DECISIONS = ("accept", "edit", "reject")
MINUTES_MAX, NOTE_MAX = 600, 200
_PERSONAL = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "AccessionNumber",
    "OtherPatientIDs",
    "StudyInstanceUID",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a reader says. ``mask`` is a file; ``minutes`` is the time spent; ``note`` must not name the patient."""

    decision: str
    reader: str
    mask: Path | None = None
    blinded: bool = False
    minutes: float | None = None
    note: str = ""
    task: str | None = None


def check(said: Said) -> None:
    """Whether this can be a review at all. Raises ReviewUnfit, MaskNeeded."""
    if said.decision not in DECISIONS:
        raise ReviewUnfit("a decision is accept, edit or reject")
    if said.minutes is not None and not 0 < said.minutes <= MINUTES_MAX:
        raise ReviewUnfit(f"a review takes more than 0 and at most {MINUTES_MAX} minutes")
    if len(said.note) > NOTE_MAX:
        raise ReviewUnfit(f"a note has at most {NOTE_MAX} letters")
    if said.mask is None and (said.blinded or said.decision == "edit"):
        raise MaskNeeded


def add(settings: Settings, db: Database, clinic_id: UUID, study_id: UUID, said: Said) -> Review:
    """Record what a reader says of the newest answer to a study of this clinic.

    The mask is durable in the store before the row that names it is committed. Raises ReviewUnfit, MaskNeeded,
    StudyUnknown, NotAnswered, TaskUnclear, NotePersonal, ReviewExists and what ``masks.corrected`` raises.
    """
    check(said)
    with db.tenant(clinic_id) as conn:
        of = answer_of(conn, clinic_id, study_id, said.task)
        first = reviews_store.images(conn, clinic_id, study_id, None, 1)
    if said.note:
        _check_note(said.note, settings.store_dir / first[0])
    kept, scored = _read(settings, db, clinic_id, of, said)
    try:
        with db.tenant(clinic_id) as conn:
            review = reviews_store.add(
                conn, clinic_id, of, kept, decision=said.decision, blinded=said.blinded, reader=said.reader,
                minutes=said.minutes, note=said.note, scored=scored,
            )  # fmt: skip
            # Not the decision: the trace is open to the next reader, who may still have to read blind.
            detail = {"blinded": said.blinded, "task": of.task, "digest": of.digest}
            studies_store.add_step(conn, clinic_id, study_id, of.revision, "reviewed", detail)
    except ReviewExists:
        # Only after a refusal: a connection that broke may have committed. What has no row is swept away later.
        if kept:
            Filestore(settings.store_dir).remove(kept.path)
        raise
    return review


def answer_of(conn: Conn, clinic_id: UUID, study_id: UUID, task: str | None) -> Answered:
    """The newest answer to a study of this clinic. Raises StudyUnknown, NotAnswered, TaskUnclear."""
    found = reviews_store.answers(conn, clinic_id, study_id)
    if not found:
        raise NotAnswered if reviews_store.has_study(conn, clinic_id, study_id) else StudyUnknown
    fit = [answer for answer in found if task in (None, answer.task)]
    if len(fit) != 1:
        raise TaskUnclear(f"this study was answered by {', '.join(answer.task for answer in found)}")
    return fit[0]


def delivered(
    settings: Settings, db: Database, clinic_id: UUID, study_id: UUID, task: str | None = None
) -> tuple[Answered, Labels, Grid]:
    """The newest answer of a study and its mask: uint8 [columns, rows, slices] on the grid of its images.

    Raises StudyUnknown, NotAnswered, TaskUnclear, StillBlind, ObjectMissing, SourceUnreadable.
    """
    with db.tenant(clinic_id) as conn:
        of = answer_of(conn, clinic_id, study_id, task)
        if worklist_store.is_blind(conn, clinic_id, study_id, of.task):
            raise StillBlind
    return of, *_delivered(settings, db, clinic_id, of)


def corrected(settings: Settings, db: Database, clinic_id: UUID, review_id: UUID) -> tuple[Labels, Affine]:
    """The mask of a review: uint8 labels and their affine to RAS mm; ``lattice.onto`` puts them onto a volume's grid.

    Raises ReviewUnknown, ObjectMissing, KeptMaskDamaged.
    """
    with db.tenant(clinic_id) as conn:
        row = reviews_store.mask(conn, clinic_id, review_id)
    if row is None:
        raise ReviewUnknown("this clinic has no review with a mask of this id")
    return masks.decode(_bytes(settings, row[0]), row[1])


def withdraw(db: Database, clinic_id: UUID, review_id: UUID, *, by: str, reason: str) -> Review:
    """Let a review count no longer; its row and mask stay. Raises ReviewUnfit, ReviewUnknown."""
    if not reason.strip():
        raise ReviewUnfit("a withdrawal needs a reason")
    with db.tenant(clinic_id) as conn:
        review = reviews_store.withdraw(conn, clinic_id, review_id, by=by, reason=reason)
    if review is None:
        raise ReviewUnknown
    return review


def _delivered(settings: Settings, db: Database, clinic_id: UUID, of: Answered) -> tuple[Labels, Grid]:
    if of.seg_path is None:
        raise NotAnswered("this answer has no mask")
    seg = settings.store_dir / of.seg_path
    with db.tenant(clinic_id) as conn:
        paths = reviews_store.images(conn, clinic_id, of.study_id, masks.referenced(seg))
    return masks.delivered(seg, [settings.store_dir / path for path in paths], of.labels)


def _read(
    settings: Settings, db: Database, clinic_id: UUID, of: Answered, said: Said
) -> tuple[Kept | None, Scored]:
    """The reader's mask, kept and compared. Who accepts without drawing says that ours is theirs."""
    if said.mask is None and (said.decision != "accept" or of.chance_path is None or of.seg_path is None):
        return None, Scored()
    if said.mask is None:
        with contextlib.suppress(
            ObjectMissing, SourceUnreadable
        ):  # a decision is kept, whatever else is lost
            ours, grid = _delivered(settings, db, clinic_id, of)
            return None, Scored(_by_step(settings, of, ours, ours, grid))
        return None, Scored()
    ours, grid = _delivered(settings, db, clinic_id, of)
    theirs, kind = masks.corrected(
        said.mask, grid, of.labels, study_uid=of.StudyInstanceUID, study_id=str(of.study_id)
    )
    between = _between(settings, db, clinic_id, of, said.reader, theirs, grid)
    scored = Scored(_by_step(settings, of, theirs, ours, grid), between)
    return _keep(settings, clinic_id, of, ours, theirs, grid, kind), scored


def _by_step(
    settings: Settings, of: Answered, truth: Labels, ours: Labels, grid: Grid
) -> dict[str, float] | None:
    """Dice at other thresholds; None where no levels were kept, or they are lost: the review itself stands."""
    if of.chance_path is None or of.chance_sha256 is None:
        return None
    try:
        levels, affine = masks.decode(_bytes(settings, of.chance_path), of.chance_sha256)
    except (ObjectMissing, KeptMaskDamaged) as error:
        log().warning("levels lost", study_id=str(of.study_id), code=error.code)
        return None
    return ladder.dice_by_step(onto(levels, affine, grid), truth, ours, grid, of.task, of.parameters)


def _between(
    settings: Settings, db: Database, clinic_id: UUID, of: Answered, reader: str, theirs: Labels, grid: Grid
) -> float | None:
    """Dice with the first other reader's mask; None where nobody else drew one."""
    with db.tenant(clinic_id) as conn:
        row = reviews_store.first_mask(conn, clinic_id, of.result_id, reader)
    if row is None:
        return None
    labels, affine = masks.decode(_bytes(settings, row[0]), row[1])
    return agreement(onto(labels, affine, grid), theirs, [int(value) for value in of.labels], grid).dice


def _bytes(settings: Settings, path: str) -> bytes:
    try:
        return (settings.store_dir / path).read_bytes()
    except OSError as error:
        raise ObjectMissing(f"a file of this study is not in the store ({type(error).__name__})") from None


def _keep(
    settings: Settings, clinic_id: UUID, of: Answered, ours: Labels, theirs: Labels, grid: Grid, kind: str
) -> Kept:
    agreed = agreement(ours, theirs, [int(value) for value in of.labels], grid)
    store = Filestore(settings.store_dir)
    with store.create(clinic_id) as part:
        part.write(masks.encode(theirs, grid))
        (stored,) = store.publish([part])
    return Kept(
        kind, stored.path, stored.size, stored.sha256, agreed.dice, agreed.delivered_ml, agreed.corrected_ml
    )


def _check_note(note: str, instance: Path) -> None:
    """A note that names the patient is refused. A guard against slips, no proof: a nickname passes it."""
    try:
        with disable_value_validation():
            header = dcmread(instance, stop_before_pixels=True, specific_tags=[*_PERSONAL])
    except Exception as error:  # noqa: BLE001 - whatever a broken header raises has one cure; its text may hold values
        raise ObjectMissing(f"the study's first image cannot be read ({type(error).__name__})") from None
    said = _plain(note)
    words = [part for name in _PERSONAL for part in re.split(r"[\^=\\,;]+|\s+", str(header.get(name, "")))]
    date = str(header.get("PatientBirthDate", ""))
    if len(date) == 8:
        words += [date[6:] + date[4:6] + date[:4], date[4:6] + date[6:] + date[:4]]
    if any(len(_plain(word)) >= 3 and _plain(word) in said for word in words):
        raise NotePersonal


def _plain(text: str) -> str:
    """Letters and digits alone, so that 1970-01-02 and 19700102 are one."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def page(
    conn: Conn,
    clinic_id: UUID | None = None,
    study_id: UUID | None = None,
    *,
    asks: str,
    withdrawn: bool = False,
    limit: int,
) -> Sequence[Review]:
    """Reviews as the reader ``asks`` may see them, the newest first; needs a system transaction."""
    return reviews_store.page(conn, clinic_id, study_id, asks, withdrawn=withdrawn, limit=limit)
