"""Reads columns of a table of feature rows: CSV or TSV by its header line, packed by gzip or not."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from email.utils import parsedate_to_datetime
from math import isnan
from pathlib import Path
from typing import Any

from monitoring.errors import (
    ColumnNotNumeric,
    ColumnUnknown,
    OrderUnusable,
    TableDamaged,
    TableEmpty,
    TableMissing,
)

MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})
_GZIP = b"\x1f\x8b"
_SEPARATORS = ("\t", ",", ";")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text. No error of it shows a cell: a cell may hold anything, a name too."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self, column: str) -> list[str]:
        """One column. Raises ColumnUnknown."""
        if self.header.count(column) != 1:
            many = "more than one column is" if column in self.header else "no column is"
            raise ColumnUnknown(f"{many} called {column}", why=f"The columns are {', '.join(self.header)}.")
        at = self.header.index(column)
        return [row[at].strip() for row in self.rows]

    def numbers(self, column: str) -> list[float]:
        """One column, missing values as NaN. Raises ColumnUnknown, ColumnNotNumeric."""
        found = []
        for row, cell in enumerate(self.text(column)):
            try:
                found.append(float("nan") if cell.lower() in MISSING else float(cell))
            except ValueError:
                raise ColumnNotNumeric(f"row {row} of column {column} is not a number") from None
        return found

    def sorted_by(self, column: str) -> "Table":
        """The rows in the order of one column; equal ones keep theirs. Raises ColumnUnknown, OrderUnusable."""
        keys = _moments(self.text(column))
        if keys is None:
            raise OrderUnusable(f"column {column} gives the rows no order")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return Table(self.header, tuple(self.rows[i] for i in order))


def read(path: Path) -> Table:
    """The table at ``path``. Raises TableMissing, TableDamaged, TableEmpty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableMissing(f"no table can be read at {path}") from error
    try:
        packed = path.suffix == ".gz" or data.startswith(_GZIP)
        text = (gzip.decompress(data) if packed else data).decode("utf-8-sig")
    except (EOFError, OSError, zlib.error) as error:
        raise TableDamaged(f"{path} is cut or its gzip is broken") from error
    except UnicodeDecodeError as error:
        raise TableDamaged(f"{path} is not UTF-8 text") from error
    return _parse(text)


def _parse(text: str) -> Table:
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    try:
        lines = [
            tuple(line) for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if line
        ]
    except csv.Error as error:
        raise TableDamaged("the table breaks the rules of CSV") from error
    if len(lines) < 2:
        raise TableEmpty("the table has no row below its header" if lines else "the table is empty")
    header, *rows = lines
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise TableDamaged(f"row {number} has {len(row)} cells and the header {len(header)}")
    return Table(tuple(name.strip() for name in header), tuple(rows))


def _moments(cells: Sequence[str]) -> list[Any] | None:
    """All cells as numbers, else all as dates or times, never a mixture: as text 10 would come before 9."""
    readers: tuple[Callable[[str], Any], ...] = (
        _number, datetime.fromisoformat, time.fromisoformat, parsedate_to_datetime,
    )  # fmt: skip
    for reader in readers:
        try:
            moments = [reader(cell) for cell in cells]
            sorted(moments)  # with and without a time zone do not compare
        except (ValueError, TypeError, OverflowError):
            continue
        return moments
    return None


def _number(cell: str) -> float:
    value = float(cell)
    if isnan(value):
        raise ValueError
    return value
