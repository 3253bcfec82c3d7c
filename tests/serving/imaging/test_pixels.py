"""Pixels: every accepted compression decodes to the same numbers; bombs stop before a decoder runs."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from serving.imaging import errors, limits, pixels
from serving.imaging.series import read_series
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head


def rewritten(path: Path, syntax: str, frame: bytes, **changes: object) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_equals_plain(tmp_path: Path, syntax: str) -> None:
    paths = write_dicom(head(), tmp_path, {**FLAIR, "PixelRepresentation": 0})
    plain = read_series(paths)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    assert np.array_equal(read_series(paths).voxels, plain.voxels)


def test_jpeg_2000_of_a_real_scanner(tests_data: Path, archive) -> None:  # type: ignore[no-untyped-def]
    files = [p for p in archive("siemens_xa30_classic") if "6001" in p.name]
    volume = read_series(files)
    assert volume.shape == (6, 128, 128)


def test_jpeg_lossless_without_a_decoder_is_named(archive) -> None:  # type: ignore[no-untyped-def]
    from pydicom.pixels.decoders import JPEGLosslessSV1Decoder

    if JPEGLosslessSV1Decoder.is_available:
        pytest.skip("a JPEG lossless decoder is installed")
    files = [p for p in archive("siemens_xa30_classic") if p.name.startswith("5001")]
    with pytest.raises(errors.NoDecoder):
        read_series(files)


def j2k(rows: int, columns: int) -> bytes:
    """A code stream that only claims a size: SOC and SIZ markers."""
    body = struct.pack(">HHIIIIIIII", 47, 0, columns, rows, 0, 0, columns, rows, 0, 0) + b"\0\1\x0f\1\1"
    return b"\xff\x4f\xff\x51" + body + b"\xff\xd9"


def jpeg(rows: int, columns: int, marker: int) -> bytes:
    return (
        b"\xff\xd8\xff"
        + bytes([marker])
        + struct.pack(">HBHHB", 11, 12, rows, columns, 1)
        + b"\1\x11\0\xff\xd9"
    )


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEG2000Lossless, j2k(20000, 20000)),
        (JPEGLosslessSV1, jpeg(65535, 65535, 0xC3)),
        (JPEGLSLossless, jpeg(30000, 30000, 0xF7)),
    ],
)
def test_a_picture_larger_than_it_says(tmp_path: Path, syntax: str, frame: bytes) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    rewritten(paths[0], syntax, frame)
    with pytest.raises(errors.FrameSizeMismatch):
        read_series(paths)


def test_rle_that_points_outside(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    rewritten(paths[0], RLELossless, struct.pack("<16I", 2, 64, 99999, *[0] * 13) + b"\0\0")
    with pytest.raises(errors.PixelsUndecodable):
        read_series(paths)


def test_rle_bomb_ends_as_a_refusal(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    rewritten(
        paths[0], RLELossless, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0", Rows=4096, Columns=4096
    )
    with pytest.raises(errors.MixedOrientation):
        read_series(paths)
    with pytest.raises(errors.PixelsUndecodable):
        read_series_of_one(paths[0])


def read_series_of_one(path: Path) -> None:
    from serving.imaging.frames import planes
    from serving.imaging.scan import scan

    pixels.decode(planes(scan(path)))


def test_size_beyond_the_limits(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    for name, value in (("Rows", limits.MAX_ROWS + 1), ("NumberOfFrames", 2**31 - 1)):
        dataset = pydicom.dcmread(paths[0])
        setattr(dataset, name, value)
        dataset.save_as(tmp_path / "large.dcm")
        with pytest.raises(errors.TooLarge):
            read_series([tmp_path / "large.dcm"])


def test_pixel_data_cut_short_or_gone(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = dataset.PixelData[:-2000]
    dataset.save_as(paths[0])
    with pytest.raises(errors.PixelsUndecodable):
        read_series(paths)
    del dataset.PixelData
    dataset.save_as(paths[0])
    with pytest.raises(errors.PixelsUndecodable):
        read_series(paths)


def test_overlay_bits_above_bits_stored_are_removed(tmp_path: Path) -> None:
    paths = write_dicom(
        head(), tmp_path, {**FLAIR, "PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}
    )
    plain = read_series(paths)
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x8000).tobytes()
    dataset.save_as(paths[0])
    assert np.array_equal(read_series(paths).voxels, plain.voxels)
