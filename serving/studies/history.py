"""A clinic's past as a table: one study a row, measured elsewhere or made up, taken over as feature rows.

A scanner needs 50 studies before it is watched. A clinic that has them already need not wait for new ones.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from registry import bindings, clinics
from registry.canonical import canonical_json
from registry.core.db import Database
from registry.core.settings import LIMITS
from serving.imaging.quality import NAMES
from serving.studies import history_store
from serving.studies.errors import HistoryUnreadable

PROFILE: Final = (
    "vendor", "model", "software", "software_major", "field_t", "coil", "protocol", "sequence_class",
)  # fmt: skip
_NUMBERS = frozenset({"field_t"})
_EMPTY = frozenset({"", "na", "n/a", "nan", "none", "null"})


@dataclass(frozen=True, slots=True)
class Past:
    """One study: when it was made (with a time zone), its acquisition profile, its quality features."""

    at: datetime
    profile: Mapping[str, Any]
    values: Mapping[str, float | None]


def read(path: Path) -> list[Past]:
    """Read a CSV, packed by gzip or not: column ``at`` (ISO 8601 with zone), then profile and feature columns.

    Rows must be in the order of time. Raises HistoryUnreadable, which names row and column and never a cell.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        raise HistoryUnreadable("the file is missing, damaged or no UTF-8 text") from None
    reader = csv.reader(io.StringIO(text))
    header = [name.strip() for name in next(reader, [])]
    unknown = sorted({name for name in header if name not in ("at", *PROFILE, *NAMES)})
    if "at" not in header or "sequence_class" not in header or len({*header}) != len(header) or unknown:
        raise HistoryUnreadable(
            f"columns that nothing is known of: {', '.join(unknown)}" if unknown
            else "the table needs the columns at and sequence_class, and each column once"
        )  # fmt: skip
    found = [_row(number, header, cells) for number, cells in enumerate(reader) if cells]
    if not 0 < len(found) <= LIMITS.history_rows:
        raise HistoryUnreadable(
            f"the table has {len(found)} rows, where 1 to {LIMITS.history_rows} are taken"
        )
    if any(later.at < earlier.at for earlier, later in pairwise(found)):
        raise HistoryUnreadable("the rows are not in the order of column at")
    return found


def _row(number: int, header: Sequence[str], cells: Sequence[str]) -> Past:
    if len(cells) != len(header):
        raise HistoryUnreadable(f"row {number} has {len(cells)} cells, the header {len(header)}")
    its = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    with suppress(ValueError):
        at = datetime.fromisoformat(its["at"])
        if at.tzinfo is not None:
            numbers = {
                name: _number(number, name, its[name]) for name in header if name in (*NAMES, *_NUMBERS)
            }
            profile: dict[str, Any] = {name: its[name] or None for name in PROFILE if name in its}
            profile |= {name: numbers.pop(name) for name in _NUMBERS if name in numbers}
            return Past(at, profile, numbers)
    raise HistoryUnreadable(f"row {number}: column at is no time with a zone")


def _number(number: int, name: str, cell: str) -> float | None:
    if cell.lower() in _EMPTY:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise HistoryUnreadable(f"row {number}: column {name} is no finite number")
    return value


def take(db: Database, clinic: str, task: str, rows: Sequence[Past], *, simulated: bool) -> int:
    """Store each row as an ended study with a feature row of the version bound now; returns how many were new.

    The same row again changes nothing: its StudyInstanceUID is derived from clinic, task and content. Raises
    ClinicUnknown, NoBinding.
    """
    with db.system() as conn:
        its = clinics.by_slug(conn, clinic)
    kind = "simulated" if simulated else "real"
    with db.tenant(its.id) as conn:
        bound = bindings.resolve(conn, its.id, task, "", "")
        return sum(
            history_store.add(
                conn, its.id, task, bound.digest, kind, _uid(its.id, task, row), row.at,
                _told(row.profile, simulated), row.values,
            )
            for row in rows
        )  # fmt: skip


def _told(profile: Mapping[str, Any], simulated: bool) -> dict[str, Any]:
    """The profile; the model of a made-up scanner says so wherever a page, a metric or a sentence names it."""
    if not simulated:
        return dict(profile)
    return {**profile, "model": f"{profile.get('model') or 'scanner'} (simulated)"}


def _uid(clinic_id: UUID, task: str, row: Past) -> str:
    content = [str(clinic_id), task, row.at.isoformat(), dict(row.profile), dict(row.values)]
    return f"2.25.{int.from_bytes(sha256(canonical_json(content)).digest()[:16])}"
