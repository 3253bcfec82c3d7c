"""Many reviews out of one table: each good line is recorded, each bad one is named with its number and its cure.

Lines are recorded in the order of their studies, so that the order of lines in the file changes no evidence.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from uuid import UUID

from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.settings import LIMITS, Settings
from serving.reviews import reviews
from serving.reviews.errors import ImportUnreadable, ReviewUnfit, VersionForeign
from serving.reviews.reviews import Said
from serving.reviews.reviews_store import Review
from serving.studies.errors import StudyUnknown

NEEDED = ("study", "decision")
KNOWN = (*NEEDED, "reader", "mask", "blinded", "minutes", "note", "task", "version")
ROWS_MAX = 10_000
_BREAK = re.compile(r"\r\n|\r|\n")
_TRUE, _FALSE = ("1", "yes", "true"), ("", "0", "no", "false")


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one line; ``number`` as an editor shows it, the header being 1."""

    number: int
    study: str
    review: Review | None = None
    error: RadfleetError | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int
    study: UUID
    version: str
    said: Said


def load(
    settings: Settings, db: Database, clinic_id: UUID, table: Path, by: str, *, reader: Callable[[str], str]
) -> list[Line]:
    """Record the reviews of a CSV file of one clinic; the lines in their order, with what became of each.

    Columns: study, decision; reader, mask (a path beside the table), blinded, minutes, note, task, version
    (name@version) may follow. ``reader`` turns a name into that of an account, or raises. A study of another clinic is
    unknown here. Raises ImportUnreadable where the table as a whole cannot be read: then nothing was recorded.
    """
    found: list[Line] = []
    asked: list[_Asked] = []
    for number, row in rows(table, _check):
        try:
            asked.append(_asked(number, row, table.parent, by, reader))
        except RadfleetError as error:
            found.append(Line(number, study_of(row), error=error))
    for one in sorted(asked, key=lambda one: (one.study, one.number)):
        try:
            if one.version:
                _check_version(db, clinic_id, one)
            review = reviews.add(settings, db, clinic_id, one.study, one.said)
            found.append(Line(one.number, str(one.study), review))
        except RadfleetError as error:
            found.append(Line(one.number, str(one.study), error=error))
    return sorted(found, key=lambda line: line.number)


def rows(
    table: Path, check: Callable[[list[str]], None], unreadable: type[RadfleetError] = ImportUnreadable
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The lines of a CSV file with the number of the line on which each begins; ``check`` looks at the header first.

    Raises ``unreadable`` and whatever ``check`` raises: then no line was given out.
    """
    try:
        if table.stat().st_size > LIMITS.instance_bytes_max:
            raise unreadable("this table is larger than any that is taken")
        with table.open(encoding="utf-8-sig", newline="") as file:
            read = csv.DictReader(file, strict=True)
            names = [name.strip() for name in read.fieldnames or []]
            check(names)
            read.fieldnames = names
            found = []
            for row in read:
                values = [row[name] or "" for name in names]
                began = read.line_num - sum(len(_BREAK.findall(value)) for value in values)
                found.append((began, {name: v.strip() for name, v in zip(names, values, strict=True)}))
                if len(found) > ROWS_MAX:
                    raise unreadable(f"this table has more than {ROWS_MAX} lines")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(f"this table cannot be read ({type(error).__name__})") from None
    if not found:
        raise unreadable("this table has no line below its header")
    return iter(found)


def _check(names: list[str]) -> None:
    """Whether a header can be one of reviews. Raises ImportUnreadable."""
    if missing := [name for name in NEEDED if name not in names]:
        raise ImportUnreadable(f"this table has no column {' and '.join(missing)}")
    if unknown := [name for name in names if name not in KNOWN]:
        raise ImportUnreadable(f"{len(unknown)} columns of this table are none of {', '.join(KNOWN)}")


def _asked(
    number: int, row: Mapping[str, str], beside: Path, by: str, reader: Callable[[str], str]
) -> _Asked:
    try:
        study = UUID(row["study"])
    except ValueError:
        raise StudyUnknown from None
    blinded = row.get("blinded", "").lower()
    if blinded not in _TRUE + _FALSE:
        raise ReviewUnfit("blinded is yes or no")
    mask = row.get("mask", "")
    said = Said(
        row["decision"], reader(row["reader"]) if row.get("reader") else by, beside / mask if mask else None,
        blinded in _TRUE, _minutes(row.get("minutes", "")), row.get("note", ""), row.get("task") or None,
    )  # fmt: skip
    reviews.check(said)
    return _Asked(number, study, row.get("version", ""), said)


def _minutes(text: str) -> float | None:
    if not text:
        return None
    try:
        minutes = float(text)
    except ValueError:
        raise ReviewUnfit("the minutes are no number") from None
    if not isfinite(minutes):
        raise ReviewUnfit("the minutes are no finite number")
    return minutes


def _check_version(db: Database, clinic_id: UUID, one: _Asked) -> None:
    """A label of one version is none of another, whatever the study."""
    with db.tenant(clinic_id) as conn:
        of = reviews.answer_of(conn, clinic_id, one.study, one.said.task)
    if of.model != one.version and not of.digest.removeprefix("sha256:").startswith(one.version):
        raise VersionForeign(f"this study was answered by {of.model}, not by the version of this line")


def study_of(row: Mapping[str, str]) -> str:
    """The study as it may be shown again: what is no id may be a name."""
    try:
        return str(UUID(row["study"]))
    except ValueError:
        return "-"
