"""The header scanner agrees with pydicom and survives hostile files."""

import struct
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from serving.imaging import errors
from serving.imaging.scan import scan
from serving.imaging.tags import TAGS
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head


def test_agrees_with_pydicom_on_every_kept_tag(archive: Callable[[str], list[Path]]) -> None:
    for name in ("siemens_prisma_e11", "siemens_trio", "ge_signa", "uih_umr770", "siemens_terrax"):
        for path in archive(name)[:3]:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            header = scan(path)
            for keyword, tag in TAGS.items():
                element = dataset.get(tag.tag)
                if element is None or tag.vr in (b"OB", b"UN") or element.VM == 0:
                    continue
                if tag.vr in (b"DS", b"IS", b"US", b"FD", b"UL"):
                    values = element.value if element.VM > 1 else [element.value]
                    assert header.numbers(keyword) == pytest.approx([float(v) for v in values]), keyword
                elif element.VM == 1:
                    assert header.text(keyword) == str(element.value).strip(), keyword


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_plain_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    from serving.imaging.series import read_series

    paths = write_dicom(head(), tmp_path, FLAIR)
    plain = read_series(paths)
    for path in paths:
        dataset = pydicom.dcmread(path)
        big = syntax == ExplicitVRBigEndian
        if big:
            import numpy as np

            dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, implicit_vr=not big, little_endian=not big, force_encoding=True)
    other = read_series(paths)
    assert (other.voxels == plain.voxels).all()
    assert other.affine == pytest.approx(plain.affine)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\0" * 128 + b"DICX" + b"\0" * 100, b"\0" * 128 + b"DICM"]
)
def test_not_dicom(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(errors.NotDicom):
        scan(path)


def test_deflated_is_refused_unread(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    with pytest.raises(errors.TransferSyntaxRefused):
        scan(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_truncated_header(tmp_path: Path, share: float) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    data = path.read_bytes()
    pixels = data.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[: int(200 + share * (pixels - 200))])
    try:
        header = scan(path)
    except (errors.Malformed, errors.NotDicom):
        return
    assert header.pixels_at < 0


def nested(depth: int) -> bytes:
    """Sequences in sequences, all of undefined length."""
    open_one = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    open_one += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return open_one * depth


def test_nested_deeper_than_python_recurses(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x10\x00")
    path.write_bytes(data[:at] + nested(20000))
    with pytest.raises(errors.Malformed):
        scan(path)


def test_a_length_beyond_the_file(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x10\x00")
    path.write_bytes(data[:at] + struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFF0) + data[at:])
    with pytest.raises(errors.Malformed):
        scan(path)


def test_many_empty_elements_stay_cheap(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    data = path.read_bytes()
    at = data.index(b"\x10\x00\x10\x00")
    path.write_bytes(data[:at] + struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 200_000 + data[at:])
    assert scan(path).text("PatientID") == "TEST-1"
