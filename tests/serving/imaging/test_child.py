"""One study, one child: what comes out, how every failure is named, and that limits hold."""

import errno
import os
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from serving.imaging import child, errors
from serving.imaging.child import prepare, read_choices
from serving.imaging.limits import DEFAULT_LIMITS
from serving.imaging.volume import load_volume
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head

ANY = {"Modality": "MR", "contrast": ["any"]}
Archive = Callable[[str], list[Path]]


def test_a_flair_becomes_a_volume(tmp_path: Path) -> None:
    volume = head()
    paths = write_dicom(volume, tmp_path / "in", FLAIR)
    done = prepare(paths, {"Modality": "MR", "contrast": ["FLAIR"], "slices_min": 10}, tmp_path / "out")
    loaded = load_volume(done.volume_dir)
    assert np.array_equal(loaded.voxels, volume.voxels)
    assert np.abs(loaded.affine - volume.affine).max() < 1e-3
    assert len(loaded.frames) == 40
    assert done.profile["vendor"] == "siemens" and done.profile["sequence_class"] == "FLAIR"
    assert [c["code"] for c in done.choices] == ["chosen"]
    assert done.choices == read_choices(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ge_pioneer", errors.MissingSlice),
        ("ge_signa_hdxt", errors.NotAHead),
        ("philips_achieva", errors.FieldMapOrEpiOnly),
        ("ge_mr750", errors.FieldMapOrEpiOnly),
        ("siemens_terrax", errors.FieldMapOrEpiOnly),
        ("uih_umr770", errors.FieldMapOrEpiOnly),
    ],
)
def test_refused_archives(
    archive: Archive, tmp_path: Path, name: str, kind: type[errors.ImagingError]
) -> None:
    with pytest.raises(kind) as caught:
        prepare(archive(name), ANY, tmp_path)
    assert caught.value.cure_text
    assert read_choices(tmp_path)


@pytest.mark.parametrize("name", ["siemens_prisma_e11", "siemens_prisma_xa30"])
def test_real_heads_are_heads(archive: Archive, tmp_path: Path, name: str) -> None:
    done = prepare(archive(name), ANY, tmp_path)
    assert done.profile["sequence_class"] == "T1"


def test_the_model_wants_another_contrast(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(errors.NoEligibleSeries) as caught:
        prepare(archive("siemens_prisma_e11"), {"contrast": ["FLAIR"]}, tmp_path)
    assert "T1" in str(caught.value)


def test_a_phantom_is_passed_over_for_the_head(tmp_path: Path) -> None:
    ball = head()
    ball.voxels[:] = np.where(ball.voxels > 100, 600, 0)
    smooth = write_dicom(
        ball, tmp_path / "a", {**FLAIR, "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.1"}
    )
    real = write_dicom(
        head(), tmp_path / "b", {**FLAIR, "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.9"}
    )
    done = prepare(smooth + real, ANY, tmp_path / "out")
    codes = {c["SeriesInstanceUID"]: c["code"] for c in done.choices}
    assert codes == {"1.2.1": "imaging.not_a_head", "1.2.9": "chosen"}


def test_two_patients_in_one_study(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    dataset = pydicom.dcmread(paths[3])
    dataset.PatientID = "TEST-2"
    dataset.save_as(paths[3])
    with pytest.raises(errors.MixedPatients) as caught:
        prepare(paths, ANY, tmp_path / "out")
    assert "TEST" not in caught.value.lines()


def test_shoulder_by_its_header(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", {**FLAIR, "BodyPartExamined": "SHOULDER"})
    with pytest.raises(errors.NotAHead):
        prepare(paths, ANY, tmp_path / "out")


def test_only_other_objects(archive: Archive, tmp_path: Path) -> None:
    reports = [
        p for p in archive("siemens_terrax") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "SR"
    ]
    with pytest.raises(errors.NotMr):
        prepare(reports, ANY, tmp_path)


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(errors.NotDicom):
        prepare([tmp_path / "empty"], ANY, tmp_path / "out")
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    done = prepare([*paths, tmp_path / "empty"], ANY, tmp_path / "out")
    assert "imaging.not_dicom" in done.warnings[0]


def test_jpeg_2000_bomb(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    size = struct.pack(">HHIIIIIIII", 47, 0, 20000, 20000, 0, 0, 20000, 20000, 0, 0) + b"\0\1\x0f\1\1"
    dataset = pydicom.dcmread(paths[0])
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + size + b"\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(paths[0])
    began = time.monotonic()
    with pytest.raises(errors.FrameSizeMismatch):
        prepare(paths, ANY, tmp_path / "out")
    assert time.monotonic() - began < 20


def test_deflate_bomb(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path / "in", FLAIR)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(50_000_000)
    dataset.save_as(path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(errors.TransferSyntaxRefused):
        prepare([path], ANY, tmp_path / "out")


def test_memory_limit_becomes_too_large(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    tight = replace(DEFAULT_LIMITS, memory_bytes=60 << 20)
    with pytest.raises((errors.TooLarge, errors.Malformed)):
        prepare(paths, ANY, tmp_path / "out", tight)


def test_wall_clock_kills_the_child(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    with pytest.raises(errors.TooLarge):
        prepare(paths, ANY, tmp_path / "out", replace(DEFAULT_LIMITS, wall_seconds=0.02))


def test_file_size_limit_becomes_too_large(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    with pytest.raises(errors.TooLarge):
        prepare(paths, ANY, tmp_path / "out", replace(DEFAULT_LIMITS, file_bytes=100_000))


def test_a_crash_is_malformed_and_a_stale_result_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    prepare(paths, ANY, tmp_path / "out")
    monkeypatch.setattr(child, "_run", lambda request, seconds: -11)
    with pytest.raises(errors.Malformed):
        prepare(paths, ANY, tmp_path / "out")


def test_a_child_never_outlives_its_wall_clock(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    with pytest.raises(errors.TooLarge):
        prepare(paths, ANY, tmp_path / "out", replace(DEFAULT_LIMITS, wall_seconds=0.05))
    left = [p for p in Path("/proc").glob("[0-9]*") if _is_ours(p)]
    assert left == []


def _is_ours(process: Path) -> bool:
    try:
        line = (process / "cmdline").read_bytes()
        status = (process / "status").read_text()
    except OSError:
        return False
    return b"serving.imaging.child" in line and f"PPid:\t{os.getpid()}\n" in status


def test_a_study_that_changes_nothing_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path / "in", FLAIR)
    for name in ("one", "two"):
        prepare(paths if name == "one" else paths[::-1], ANY, tmp_path / name)
    for file in ("volume.npy", "geometry.json", "prepared.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    shutil.rmtree(tmp_path / "one")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), errors.TooLarge),
        (RecursionError(), errors.Malformed),
        (OSError(errno.ENOSPC, "full"), errors.NoSpace),
        (OSError(errno.EFBIG, "big"), errors.TooLarge),
        (OSError(errno.EIO, "broken"), errors.Malformed),
        (ValueError("a name of a person"), errors.Malformed),
    ],
)
def test_what_ends_a_child_has_a_name(error: Exception, kind: type[Exception]) -> None:
    found = child.named(error)
    assert type(found) is kind
    assert "person" not in found.lines()
