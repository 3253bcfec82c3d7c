"""Keeps received objects on disk so that an acknowledgement is never ahead of the bytes (promise P1).

Layout: ``<store>/clinic/<clinic uuid>/<2 hex>/<32 hex>.dcm``. No part of a path comes from the data.
Order: write ``.part`` (O_EXCL, relative to an open directory) -> fdatasync -> rename -> fsync(directory);
the caller commits its row and answers after that.
"""

import errno
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from registry.core.settings import LIMITS
from serving.doors.errors import DiskLow, StoreFailed, StoreUnhealthy, TooLarge

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SPACE_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One durable file. ``path`` is relative to the store, ``size`` is in bytes with the file header,
    ``sha256`` is of the data set alone (the header differs between doors), ``digest`` is its written form."""

    path: str
    size: int
    sha256: bytes
    digest: str


class Filestore:
    """The store of one installation; safe to use from many threads."""

    def __init__(self, root: Path, *, free_bytes_min: int = LIMITS.disk_free_bytes_min) -> None:
        self.root = root
        self.healthy = True
        self._free_bytes_min = free_bytes_min
        self._checked = float("-inf")
        self._low = False
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._make_durable_dir(root)

    def check_space(self) -> None:
        """Raise DiskLow or StoreUnhealthy when nothing new may be promised; the answer is cached for a second."""
        if not self.healthy:
            raise StoreUnhealthy
        now = time.monotonic()
        if now - self._checked > _SPACE_CHECK_S:
            free = os.statvfs(self.root)
            self._low, self._checked = free.f_bavail * free.f_frsize < self._free_bytes_min, now
        if self._low:
            raise DiskLow

    def create(self, clinic_id: UUID, shard: str = "", size_max: int = LIMITS.instance_bytes_max) -> "Part":
        """Open a new ``.part`` file. Parts of one request may share a ``shard`` (2 hex) to share its fsync.

        Raises DiskLow, StoreUnhealthy, StoreFailed.
        """
        self.check_space()
        relative = Path("clinic") / str(clinic_id) / (shard or new_shard())
        try:
            self._make_durable_dir(self.root / relative)
            return Part(self, relative, size_max)
        except OSError as error:
            raise self._named(error) from None

    def publish(self, parts: Sequence["Part"]) -> list[StoredFile]:
        """Make written parts durable under their final names, with one fsync a directory.

        All or none: when one fails, every part of the call is removed. Raises StoreFailed, DiskLow.
        """
        try:
            for part in parts:
                part.sync()
            for part in parts:
                part.rename()
            for part in {p.folder: p for p in parts}.values():
                part.sync_folder()
        except OSError as error:
            for part in parts:
                part.discard()
            raise self._named(error) from None
        stored = [part.stored() for part in parts]
        for part in parts:
            part.close()
        return stored

    def remove(self, path: str) -> None:
        """Unlink one stored file; a missing one is no error."""
        with suppress(FileNotFoundError):
            (self.root / path).unlink()

    def sweep(self, known: Callable[[UUID, Sequence[str]], set[str]], *, older_s: float = 3600.0) -> int:
        """Remove files without a row that are older than ``older_s``; returns how many.

        ``known(clinic_id, paths)`` says which of these paths have rows. A crash between rename and commit
        leaves such files; the age keeps a receipt that is being committed right now safe.
        """
        removed = 0
        limit = time.time() - older_s
        for clinic_id, old in self._old_files(limit):
            names = [str(p.relative_to(self.root)) for p in old]
            whole = [name for name in names if name.endswith(".dcm")]
            keep = known(clinic_id, whole) if whole else set()
            for name in names:
                if name not in keep:
                    self.remove(name)
                    removed += 1
        return removed

    def _old_files(self, limit: float) -> Iterator[tuple[UUID, list[Path]]]:
        for clinic in (self.root / "clinic").glob("*"):
            try:
                clinic_id = UUID(clinic.name)
            except ValueError:
                continue
            for folder in clinic.glob("??"):
                files = [p for p in folder.iterdir() if p.suffix in (".dcm", ".part")]
                old = [p for p in files if _older(p, limit)]
                if old:
                    yield clinic_id, old

    def _named(self, error: OSError) -> DiskLow | StoreFailed:
        if error.errno in _FULL:
            return DiskLow("the volume of the store is full")
        if error.errno == errno.EIO:
            self.healthy = False
        return StoreFailed(why=f"The operating system said {errno.errorcode.get(error.errno or 0, 'error')}.")

    def _make_durable_dir(self, path: Path) -> None:
        """mkdir -p whose new entries are synced: a file in a directory that is lost is lost too."""
        if path in self._known:
            return
        with self._lock:
            for folder in (*reversed(path.parents), path):
                if not folder.is_dir():
                    with suppress(FileExistsError):
                        folder.mkdir(mode=0o700)
                    _fsync_dir(folder.parent)
            self._known.add(path)


class Part:
    """One object while it is being written; ``write`` counts, hashes and refuses what is too large."""

    def __init__(self, store: Filestore, relative: Path, size_max: int) -> None:
        self._store = store
        self.folder = relative
        self._name = secrets.token_hex(16)
        self._on_disk = f"{self._name}.part"
        self._size_max = size_max
        self._hash = hashlib.sha256()
        self.header_bytes = 0
        self.size = 0
        self._dir = os.open(store.root / relative, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._on_disk, flags, 0o600, dir_fd=self._dir)
        except OSError:
            os.close(self._dir)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._file >= 0:
            self.discard()

    @property
    def fd(self) -> int:
        """The open file, readable, for the header reader."""
        return self._file

    def write_header(self, header: bytes) -> None:
        """Write preamble and group 2, which are ours and no part of the digest."""
        self._write(header)
        self.header_bytes = len(header)

    def write(self, data: bytes | memoryview) -> None:
        """Append data set bytes. Raises TooLarge, DiskLow, StoreFailed; the part is removed then."""
        if self.size + len(data) > self._size_max:
            self.discard()
            raise TooLarge(why=f"One object may have {self._size_max} bytes.")
        self._hash.update(data)
        self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.discard()
            raise self._store._named(error) from None
        self.size += len(data)

    def sync(self) -> None:
        """Flush the data to the disk; a failed sync is never tried again on the same file."""
        try:
            os.fdatasync(self._file)
        except OSError as error:
            if error.errno not in _FULL:
                self._store.healthy = False
            raise

    def rename(self) -> None:
        """Give the file its final name inside its open directory."""
        final = f"{self._name}.dcm"
        os.rename(self._on_disk, final, src_dir_fd=self._dir, dst_dir_fd=self._dir)
        self._on_disk = final

    def sync_folder(self) -> None:
        """Make the new name durable."""
        os.fsync(self._dir)

    def stored(self) -> StoredFile:
        """What the row will say about this file."""
        digest = self._hash.digest()
        return StoredFile(str(self.folder / self._on_disk), self.size, digest, f"sha256:{digest.hex()}")

    def discard(self) -> None:
        """Remove the file, whatever its present name."""
        if self._file < 0:
            return
        with suppress(OSError):
            os.unlink(self._on_disk, dir_fd=self._dir)
        self.close()

    def close(self) -> None:
        """Close the descriptors and leave the file."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._dir)
            self._file = self._dir = -1


def new_shard() -> str:
    """A random folder name of 2 hex digits, so that no directory grows too long."""
    return secrets.token_hex(1)


def discard_all(parts: Iterable[Part]) -> None:
    """Remove every part of a request that is refused as a whole."""
    for part in parts:
        part.discard()


def _older(path: Path, limit: float) -> bool:
    try:
        return path.lstat().st_mtime < limit
    except FileNotFoundError:
        return False


def _fsync_dir(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
