"""Walks a file, folder or archive and yields each candidate once, bounded; archives are never unpacked to disk.

Everything is counted while reading and never believed from a header: entries, bytes, ratio. Links, absolute names,
``..``, encryption and archives inside archives are refused by name. No entry name ever becomes a path.
"""

import bz2
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedIOBase, RawIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from registry.core.settings import LIMITS
from serving.doors.errors import ArchiveRefused, SourceMissing

_ARCHIVE_NAMES = (
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".7z",
    ".rar",
    ".gz",
    ".xz",
    ".bz2",
)
_ARCHIVE_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"7z\xbc\xaf", b"Rar!")
# Small archives may be ratio heavy (a folder of empty text files); a bomb is large as well.
_RATIO_FREE_BYTES = 64 << 20
_LZMA_MEMORY = 256 << 20
_READ = 1 << 18
# RuntimeError is what zipfile raises for a missing password, NotImplementedError for an unknown compression.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that may be DICOM. Read ``stream`` before asking for the next one; ``size`` is what is claimed."""

    stream: IO[bytes]
    size: int


@dataclass(slots=True)
class Budget:
    """What one archive may expand to, in entries and bytes."""

    entries: int = LIMITS.archive_entries_max
    ratio: int = LIMITS.archive_ratio_max
    total: int = LIMITS.request_bytes_max
    packed: int = 0
    seen: int = 0
    unpacked: int = 0

    def entry(self) -> None:
        """One more entry. Raises ArchiveRefused."""
        self.seen += 1
        if self.seen > self.entries:
            raise ArchiveRefused("the archive has too many entries", why=f"It may have {self.entries}.")

    def count(self, size: int) -> None:
        """So many bytes more came out. Raises ArchiveRefused."""
        self.unpacked += size
        if self.unpacked > self.total:
            raise ArchiveRefused(
                "the archive unpacks to too much", why=f"It may unpack to {self.total} bytes."
            )
        if self.unpacked > _RATIO_FREE_BYTES and self.unpacked > self.ratio * max(self.packed, 1):
            raise ArchiveRefused("the archive is a bomb", why=f"It expands more than {self.ratio} times.")


def is_archive(path: Path) -> bool:
    """Whether this file is read as an archive, by its first bytes (a tar by its name)."""
    name = path.name.lower()
    with path.open("rb") as file:
        return file.read(6).startswith(_ARCHIVE_MAGIC) or name.endswith(".tar")


def candidates(path: Path, budget: Budget | None = None) -> Iterator[Candidate]:
    """Every file of a path: the file itself, a folder's files (no links followed), an archive's entries.

    Raises SourceMissing and ArchiveRefused.
    """
    if path.is_dir():
        yield from _folder(path)
    elif not path.is_file():
        raise SourceMissing
    elif is_archive(path):
        read = _zip if zipfile.is_zipfile(path) else _tar
        limits = budget or Budget()
        try:
            # Once to the end first, check sums included: nothing of an archive that is refused is received.
            for candidate in read(path, replace(limits)):
                while candidate.stream.read(_READ):
                    pass
            yield from read(path, limits)
        except _DAMAGE as error:
            raise _damaged(error) from None
    else:
        with path.open("rb") as stream:
            yield Candidate(stream, path.stat().st_size)


def count(path: Path) -> int:
    """How many files ``candidates`` will yield, where that is known beforehand; 0 for a streamed archive."""
    if path.is_dir():
        return sum(1 for _ in _files(path))
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return min(len(archive.infolist()), LIMITS.archive_entries_max)
    return 0 if path.is_file() and is_archive(path) else 1


def _damaged(error: Exception) -> ArchiveRefused:
    return ArchiveRefused(
        "the archive is damaged or of an unknown kind", why=f"Reading it met {type(error).__name__}."
    )


def _files(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if stat.S_ISREG(file.lstat().st_mode):
                yield file


def _folder(path: Path) -> Iterator[Candidate]:
    for file in _files(path):
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            yield Candidate(stream, os.fstat(fd).st_size)


def _check_name(name: str) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or ":" in name[:3]:
        raise ArchiveRefused(
            "an entry of the archive points outside it", why="Absolute names and .. are never needed."
        )
    if name.lower().endswith(_ARCHIVE_NAMES):
        raise ArchiveRefused(
            "the archive holds another archive", why="Nested archives hide how much they expand to."
        )


def _zip(path: Path, budget: Budget) -> Iterator[Candidate]:
    budget.packed = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # All names first: what is refused is refused before anything of it is received.
        for entry in entries:
            budget.entry()
            _check_name(entry.filename)
            if entry.flag_bits & 0x1:
                raise ArchiveRefused("the archive is encrypted")
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveRefused("the archive holds a link or device")
        for entry in entries:
            if not entry.is_dir():
                with archive.open(entry) as stream:
                    yield Candidate(cast(IO[bytes], _Counted(stream, budget)), entry.file_size)


def _tar(path: Path, budget: Budget) -> Iterator[Candidate]:
    with path.open("rb") as packed:
        unpacked = _Unpacked(packed, budget)
        # ignore_zeros off, streaming mode: one pass, no seek, nothing extracted.
        with tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r|") as archive:
            for member in archive:
                budget.entry()
                _check_name(member.name)
                if member.isdir():
                    continue
                if not member.isreg():
                    raise ArchiveRefused("the archive holds a link or device")
                stream = archive.extractfile(member)
                assert stream is not None
                yield Candidate(cast(IO[bytes], _Counted(stream, None)), member.size)
        while unpacked.read(_READ):  # the check sum stands behind the last entry
            pass


class _Counted(RawIOBase):
    """A stream whose bytes count against a budget, if one is given, and whose damage has our name."""

    def __init__(self, stream: IO[bytes], budget: Budget | None) -> None:
        super().__init__()
        self._stream = stream
        self._budget = budget

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            piece = self._stream.read(_READ if size < 0 or size > _READ else size)
        except _DAMAGE as error:
            raise _damaged(error) from None
        if self._budget is not None:
            self._budget.count(len(piece))
        return piece


class _Unpacked(BufferedIOBase):
    """The bytes of a compressed file, expanded in bounded steps; an uncompressed file passes through."""

    def __init__(self, packed: IO[bytes], budget: Budget) -> None:
        super().__init__()
        self._packed = packed
        self._budget = budget
        magic = packed.read(6)
        packed.seek(0)
        self._engine: Any = None
        if magic.startswith(b"\xfd7zXZ"):
            self._engine = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
        elif magic.startswith(b"BZh"):
            self._engine = bz2.BZ2Decompressor()
        elif magic.startswith(b"\x1f\x8b"):
            self._engine = _Gzip()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = _READ if size is None or size < 0 else size
        pieces: list[bytes] = []
        while wanted > 0:
            piece = self._step(min(wanted, _READ))
            if not piece:
                break
            self._budget.count(len(piece))
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _step(self, size: int) -> bytes:
        if self._engine is None:
            return self._feed(size)
        while not self._engine.eof:
            fresh = self._feed(_READ) if self._engine.needs_input else b""
            piece = bytes(self._engine.decompress(fresh, size))
            if piece:
                return piece
            if not fresh and self._engine.needs_input:
                raise EOFError
        return b""

    def _feed(self, size: int) -> bytes:
        fresh = self._packed.read(size)
        self._budget.packed += len(fresh)
        return fresh


class _Gzip:
    """zlib with the interface of the other two decompressors."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(wbits=31)
        self._rest = b""

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest

    def decompress(self, data: bytes, size: int) -> bytes:
        piece = self._engine.decompress(self._rest + data, size)
        self._rest = self._engine.unconsumed_tail
        return piece
