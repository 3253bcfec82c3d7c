"""Promise P1, the file's half: nothing under a final name that is not whole and synced."""

import errno
import hashlib
import os
import time
from uuid import uuid4

import pytest

from serving.doors.errors import DiskLow, StoreFailed, StoreUnhealthy, TooLarge
from serving.doors.filestore import Filestore

CLINIC = uuid4()


@pytest.fixture
def store(tmp_path):
    return Filestore(tmp_path / "store", free_bytes_min=0)


def files(store):
    return sorted(p for p in store.root.rglob("*") if p.is_file())


def keep(store, data=b"data", header=b"head"):
    part = store.create(CLINIC)
    part.write_header(header)
    part.write(data)
    return store.publish([part])[0]


def test_a_published_file_has_its_bytes_its_digest_and_a_name_of_no_ones_making(store):
    stored = keep(store, b"abc" * 1000)
    path = store.root / stored.path
    assert path.read_bytes() == b"head" + b"abc" * 1000
    assert stored.sha256 == hashlib.sha256(b"abc" * 1000).digest()
    assert stored.digest == "sha256:" + stored.sha256.hex()
    assert stored.size == 3004
    clinic, owner, shard, name = stored.path.split("/")
    assert (clinic, owner, len(shard), len(name)) == ("clinic", str(CLINIC), 2, 36)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_order_is_write_sync_rename_sync_of_the_folder(store, monkeypatch):
    calls = []
    for name in ("write", "fdatasync", "rename", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1])
    keep(store)
    tail = calls[calls.index("write") :]
    assert tail == ["write", "write", "fdatasync", "rename", "fsync"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fdatasync", "rename"])
def test_a_full_disk_leaves_nothing_and_is_named(store, monkeypatch, code, call):
    part = store.create(CLINIC)

    def fail(*a, **k):
        raise OSError(code, "full")

    with monkeypatch.context() as patch, pytest.raises(DiskLow):
        patch.setattr(os, call, fail)
        part.write(b"data")
        store.publish([part])
    assert files(store) == []
    assert store.healthy


def test_after_a_failed_sync_nothing_more_is_promised(store, monkeypatch):
    part = store.create(CLINIC)
    part.write(b"data")
    with monkeypatch.context() as patch, pytest.raises(StoreFailed):
        patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "io")))
        store.publish([part])
    assert files(store) == []
    with pytest.raises(StoreUnhealthy):
        store.create(CLINIC)


def test_one_failure_of_a_group_removes_the_whole_group(store, monkeypatch):
    parts = [store.create(CLINIC, shard="ab") for _ in range(3)]
    for part in parts:
        part.write(b"x")
    real, seen = os.rename, []

    def third_fails(*a, **k):
        seen.append(a)
        if len(seen) == 3:
            raise OSError(errno.EACCES, "no")
        return real(*a, **k)

    with monkeypatch.context() as patch, pytest.raises(StoreFailed):
        patch.setattr(os, "rename", third_fails)
        store.publish(parts)
    assert files(store) == []


def test_too_large_is_refused_while_writing_and_leaves_nothing(store):
    part = store.create(CLINIC, size_max=10)
    part.write(b"12345")
    with pytest.raises(TooLarge):
        part.write(b"678901")
    assert files(store) == []


def test_low_space_refuses_before_a_byte_is_written(tmp_path):
    store = Filestore(tmp_path / "s", free_bytes_min=1 << 62)
    with pytest.raises(DiskLow):
        store.create(CLINIC)


def test_an_abandoned_part_is_removed(store):
    with store.create(CLINIC) as part:
        part.write(b"half")
    assert files(store) == []


def test_the_sweep_removes_old_files_without_a_row_and_nothing_else(store):
    kept, orphan, young = keep(store), keep(store), keep(store)
    half = store.create(CLINIC)
    half.write(b"half")
    other = store.root / "clinic" / str(CLINIC) / "results" / "x.dcm"
    other.parent.mkdir()
    other.write_bytes(b"not ours")
    old = time.time() - 7200
    for path in (kept.path, orphan.path):
        os.utime(store.root / path, (old, old))
    os.utime(other, (old, old))
    os.utime(half.fd, (old, old))
    asked = []

    def known(clinic_id, paths):
        asked.append(clinic_id)
        return {kept.path} & set(paths)

    assert store.sweep(known) == 2
    assert files(store) == sorted([store.root / kept.path, store.root / young.path, other])
    assert set(asked) == {CLINIC}
