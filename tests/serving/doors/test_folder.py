"""The local door: folders, single files and archives, honest and hostile."""

import io
import lzma
import os
import tarfile
import zipfile

import pytest

from serving.doors import archive, errors
from serving.doors.folder import take
from tests.kit.dicom import mr_series, part10, write_series


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "in", mr_series(20))


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in entries:
            out.writestr(name, data)
    return path


def tarred(path, entries, mode="w:xz"):
    with tarfile.open(path, mode) as out:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def run(house, path, progress=None):
    return take(house.intake, house.clinic.id, path, progress)


def test_a_folder_with_other_files_and_links_among(house, series, tmp_path):
    folder = series[0].parent
    (folder / "notes.txt").write_text("not an image " * 100)
    (folder / "empty").touch()
    (folder / "deep").mkdir()
    (folder / "deep" / "more.dcm").write_bytes(part10(mr_series(1)[0]))
    secret = tmp_path / "elsewhere.dcm"
    secret.write_bytes(part10(mr_series(1)[0]))
    (folder / "link.dcm").symlink_to(secret)
    steps = []
    report = run(house, folder, lambda done, total: steps.append((done, total)))
    assert (report.received, report.skipped, report.failed) == (21, 2, 0)
    assert dict(report.reasons) == {"doors.not_dicom": 1, "doors.empty_object": 1}
    assert len(house.ledger.rows) == len(house.files()) == 21
    assert {row[2] for row in house.ledger.rows} == {"submit"}
    assert steps[-1] == (23, 23)
    again = run(house, folder)
    assert (again.received, again.duplicates) == (0, 21)
    assert len(house.files()) == 21


def test_one_file_and_no_file(house, series, tmp_path):
    assert run(house, series[0]).received == 1
    with pytest.raises(errors.SourceMissing):
        run(house, tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archives_are_read_without_unpacking(house, series, tmp_path, kind):
    entries = [(f"a/{p.name}", p.read_bytes()) for p in series] + [("a/readme", b"hello" * 50)]
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        zipped(path, entries)
    else:
        tarred(path, entries, "w:" + kind.partition(".")[2])
    report = run(house, path)
    assert (report.received, report.skipped) == (20, 1)


def test_a_truncated_object_fails_and_the_rest_is_kept(house, series):
    series[3].write_bytes(series[3].read_bytes()[:-10])
    report = run(house, series[0].parent)
    assert (report.received, report.failed, dict(report.reasons)) == (19, 1, {"doors.truncated": 1})
    assert not [p for p in house.files() if p.suffix == ".part"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../x", "a/../../x", "..\\x", "C:\\x", "inner.zip", "a/b.tar.gz"]
)
@pytest.mark.parametrize("kind", ["zip", "tar.xz"])
def test_names_that_point_outside_and_nested_archives_are_refused(house, tmp_path, name, kind):
    path = tmp_path / f"x.{kind}"
    (zipped if kind == "zip" else tarred)(path, [(name, b"data")])
    with pytest.raises(errors.ArchiveRefused):
        run(house, path)
    assert house.files() == []


def test_links_in_archives_are_refused(house, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as out:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(info)
    with pytest.raises(errors.ArchiveRefused):
        run(house, tmp_path / "x.tar")
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    zipped(tmp_path / "x.zip", [(info, "/etc/passwd")])
    with pytest.raises(errors.ArchiveRefused):
        run(house, tmp_path / "x.zip")


def test_an_encrypted_archive_is_refused(house, tmp_path):
    path = zipped(tmp_path / "x.zip", [("a.dcm", b"data")])
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(errors.ArchiveRefused, match="encrypted"):
        run(house, path)


def test_a_zip_bomb_is_refused_while_it_unpacks(house, tmp_path):
    ds = part10(mr_series(1)[0])
    path = zipped(tmp_path / "x.zip", [("a.dcm", ds + bytes(80 << 20))])
    assert path.stat().st_size < 1 << 20
    with pytest.raises(errors.ArchiveRefused, match="bomb"):
        run(house, path)
    assert house.files() == []


def test_an_xz_bomb_is_refused_while_it_unpacks(house, tmp_path):
    path = tmp_path / "x.tar.xz"
    engine = lzma.LZMACompressor()
    info = tarfile.TarInfo("a.dcm")
    info.size = 80 << 20
    with path.open("wb") as out:
        out.write(engine.compress(info.tobuf()))
        for _ in range(80):
            out.write(engine.compress(bytes(1 << 20)))
        out.write(engine.flush())
    with pytest.raises(errors.ArchiveRefused, match="bomb"):
        run(house, path)
    assert house.files() == []


def test_too_many_entries_and_too_much_in_all(tmp_path):
    path = zipped(tmp_path / "x.zip", [(str(i), b"x") for i in range(12)])
    with pytest.raises(errors.ArchiveRefused, match="entries"):
        list(archive.candidates(path, archive.Budget(entries=10)))
    path = tarred(tmp_path / "x.tar", [("a", os.urandom(100_000))], "w:")
    with pytest.raises(errors.ArchiveRefused, match="too much"):
        list(archive.candidates(path, archive.Budget(total=50_000)))


@pytest.mark.parametrize("kind", ["zip", "tar.xz", "tar.gz"])
def test_a_damaged_archive_is_named(house, series, tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    entries = [(f"a/{p.name}", p.read_bytes()) for p in series]
    if kind == "zip":
        zipped(path, entries)
    else:
        tarred(path, entries, "w:" + kind.partition(".")[2])
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 400] = bytes(400)
    path.write_bytes(raw)
    with pytest.raises(errors.ArchiveRefused):
        run(house, path)
    path.write_bytes(raw[: len(raw) // 3])
    with pytest.raises(errors.ArchiveRefused):
        run(house, path)
    assert house.files() == []


def test_a_dicomdir_is_no_instance(house, tmp_path):
    raw = part10(mr_series(1)[0]).replace(b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0")
    (tmp_path / "DICOMDIR").write_bytes(raw)
    report = run(house, tmp_path / "DICOMDIR")
    assert (report.received, report.skipped) == (0, 1)
