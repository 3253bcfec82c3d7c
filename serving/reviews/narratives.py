"""Clinics' reports out of a table: what each says is kept, its text never (promise P9).

A text is read by rules and forgotten within one call; no error, log line or row holds any of it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from registry.core.db import Database
from registry.core.errors import RadfleetError
from serving.reviews import importing, narratives_store
from serving.reviews.errors import NarrativesUnreadable, NarrativeTaskUnfit, NarrativeTwice, NarrativeUnfit
from serving.reviews.narrative import RULES, Says, says
from serving.reviews.narratives_store import Statement
from serving.studies import studies_store
from serving.studies.errors import StudyUnknown

TASKS = ("ms-lesion",)  # those for which "are there lesions?" is a question
CODED = "coded"
KNOWN = ("study", "StudyInstanceUID", "report", "says")
TEXT_MAX = 20_000
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one line; ``recorded`` is False where the same was said last time."""

    number: int
    study: str
    says: str | None = None
    recorded: bool = False
    error: RadfleetError | None = None


def load(db: Database, clinic_id: UUID, table: Path, task: str, by: str) -> list[Line]:
    """Record what the reports of a CSV file say of one clinic's studies; the lines in their order.

    Columns: study (our id) or StudyInstanceUID, and report (the text) or says (present or absent, coded by the
    clinic). A study of another clinic is unknown here. Raises NarrativeTaskUnfit and
    NarrativesUnreadable: then nothing was recorded.
    """
    if task not in TASKS:
        raise NarrativeTaskUnfit
    found: list[Line] = []
    seen: set[UUID] = set()
    for number, row in importing.rows(table, _check, NarrativesUnreadable):
        try:
            found.append(_line(db, clinic_id, number, row, task, by, seen))
        except RadfleetError as error:
            found.append(Line(number, importing.study_of(row), error=error))
    return found


def _check(names: list[str]) -> None:
    """Whether a header can be one. Raises NarrativesUnreadable."""
    for some in (KNOWN[:2], KNOWN[2:]):
        if not {*some} & {*names}:
            raise NarrativesUnreadable(f"this table has no column {' or '.join(some)}")
    if unknown := [name for name in names if name not in KNOWN]:
        raise NarrativesUnreadable(f"{len(unknown)} columns of this table are none of {', '.join(KNOWN)}")


def _line(
    db: Database, clinic_id: UUID, number: int, row: Mapping[str, str], task: str, by: str, seen: set[UUID]
) -> Line:
    study_id, uid = _which(row)
    kept = _said(row)
    with db.tenant(clinic_id) as conn:
        found = narratives_store.study(conn, clinic_id, study_id, uid)
        if found is None:
            raise StudyUnknown
        its, revision = found
        if its in seen:
            raise NarrativeTwice
        seen.add(its)
        text = row.get("report", "")
        if text:
            # The study in front: equal texts of two studies must not look equal.
            digest = hashlib.sha256(its.bytes + text.encode()).digest()
            kept = Statement(kept.says, kept.rules, digest)
        recorded = narratives_store.add(conn, clinic_id, its, task, kept, by)
        if recorded:
            # Not what it says: the trace is open to the next reader, who may still have to read blind.
            detail = {"task": task, "rules": kept.rules}
            studies_store.add_step(conn, clinic_id, its, revision, "report_stated", detail)
    return Line(number, str(its), kept.says, recorded)


def _which(row: Mapping[str, str]) -> tuple[UUID | None, str | None]:
    """Our id or the UID of a line's study. Raises NarrativeUnfit, StudyUnknown."""
    name, uid = row.get("study", ""), row.get("StudyInstanceUID", "")
    if bool(name) == bool(uid):
        raise NarrativeUnfit(f"{'both' if name else 'neither'} of study and StudyInstanceUID are filled")
    if uid:
        if not _UID.fullmatch(uid):
            raise StudyUnknown
        return None, uid
    try:
        return UUID(name), None
    except ValueError:
        raise StudyUnknown from None


def _said(row: Mapping[str, str]) -> Statement:
    """What a line says, without the digest of its text. Raises NarrativeUnfit."""
    text, coded = row.get("report", ""), row.get("says", "").lower()
    if bool(text) == bool(coded):
        raise NarrativeUnfit(f"{'both' if text else 'neither'} of report and says are filled")
    if len(text) > TEXT_MAX:
        raise NarrativeUnfit(f"a report has at most {TEXT_MAX} letters")
    if text:
        return Statement(says(text).value, RULES, None)
    if coded not in (Says.PRESENT, Says.ABSENT):
        raise NarrativeUnfit("says is present or absent")
    return Statement(coded, CODED, None)
