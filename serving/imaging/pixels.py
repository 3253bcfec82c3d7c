"""Stored pixel values of image planes: read straight from the file, or through pydicom's decoders.

Sizes are compared before a decoder sees a byte, because a 2 KB JPEG 2000 header may ask for gigabytes.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.imaging import limits
from serving.imaging.errors import FrameSizeMismatch, ImagingError, NoDecoder, PixelsUndecodable, TooLarge
from serving.imaging.frames import Plane
from serving.imaging.scan import Header

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def decode(planes: Sequence[Plane]) -> NDArray[Any]:
    """Stored values [planes, rows, columns] of equally sized planes, in their order, without rescale.

    The type is the stored one (int16, uint16, uint8, ...). Raises PixelsUndecodable, NoDecoder,
    FrameSizeMismatch or TooLarge.
    """
    made: NDArray[Any] | None = None
    header, number = None, -1
    image: NDArray[Any] = np.empty(0)
    for n, plane in enumerate(planes):
        if plane.header is not header:
            header, number, stored = plane.header, -1, _stored(plane.header)
        if plane.frame != number:
            number, image = plane.frame, stored(plane.frame)
        part = _tile(image, plane) if plane.tile >= 0 else image
        if made is None:
            made = np.empty((len(planes), *part.shape), dtype=part.dtype)
        elif part.dtype != made.dtype:
            made = made.astype(np.result_type(made, part))
        made[n] = part
    if made is None:
        raise PixelsUndecodable("The series holds no image planes.")
    return made


def _tile(image: NDArray[Any], plane: Plane) -> NDArray[Any]:
    down, right = divmod(plane.tile, plane.across)
    top, left = down * plane.rows, right * plane.columns
    return image[top : top + plane.rows, left : left + plane.columns]


def _stored(header: Header) -> Callable[[int], NDArray[Any]]:
    """Reads one whole stored frame [rows, columns] of a file by its number; the file is opened once for all."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if header.integer("SamplesPerPixel", 1) != 1:
        raise PixelsUndecodable("Colour pixels cannot be an MR volume.")
    if header.pixels_at < 0:
        raise PixelsUndecodable("Pixel data is missing.")
    kind = _dtype(header)
    if header.syntax not in limits.NATIVE:
        return lambda frame: _clean(_compressed(header, frame, rows, columns), header)
    count = header.pixels_length // max(1, rows * columns * kind.itemsize)
    if count < 1:
        raise PixelsUndecodable("Pixel data is shorter than Rows x Columns x frames.")
    try:
        frames = np.memmap(header.path, kind, "r", header.pixels_at, (count, rows, columns))
    except ValueError:
        raise PixelsUndecodable("The file ends inside its pixel data.") from None
    plain = np.asarray(frames)

    def native(frame: int) -> NDArray[Any]:
        if frame >= count:
            raise PixelsUndecodable("Pixel data is shorter than Rows x Columns x frames.")
        return _clean(plain[frame].astype(kind.newbyteorder("="), copy=False), header)

    return native


def _dtype(header: Header) -> np.dtype[np.generic]:
    bits = header.integer("BitsAllocated")
    if bits not in (8, 16, 32):
        raise PixelsUndecodable("BitsAllocated is not 8, 16 or 32.")
    sign = "i" if header.integer("PixelRepresentation") else "u"
    return np.dtype(f"{'<' if header.little else '>'}{sign}{bits // 8}")


def _clean(image: NDArray[Any], header: Header) -> NDArray[Any]:
    """Remove overlay bits above BitsStored from unsigned pixels; signed ones are kept as they are."""
    stored = header.integer("BitsStored")
    if image.dtype.kind == "u" and 0 < stored < image.dtype.itemsize * 8:
        return np.asarray(image & np.array((1 << stored) - 1, dtype=image.dtype))
    return image


def _compressed(header: Header, frame: int, rows: int, columns: int) -> NDArray[Any]:
    """Decode one compressed frame after its own size was compared with Rows and Columns."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels import get_decoder

    with header.path.open("rb") as file:
        file.seek(header.pixels_at)
        data = file.read(header.pixels_length)
    count = max(header.integer("NumberOfFrames", 1), 1)
    try:
        streams = generate_frames(data, number_of_frames=count)
        stream = next(s for n, s in enumerate(streams) if n == frame)
        check_size(stream, header.syntax, rows, columns)
        decoder = get_decoder(header.syntax)
        if not decoder.is_available:
            raise NoDecoder()
        image, _ = decoder.as_array(
            data,
            index=frame,
            raw=True,
            rows=rows,
            columns=columns,
            number_of_frames=count,
            samples_per_pixel=1,
            bits_allocated=header.integer("BitsAllocated"),
            bits_stored=header.integer("BitsStored"),
            pixel_representation=header.integer("PixelRepresentation"),
            photometric_interpretation=header.text("PhotometricInterpretation") or "MONOCHROME2",
            pixel_keyword="PixelData",
        )
    except ImagingError:
        raise
    except MemoryError as error:
        raise TooLarge("Decoding asked for more memory than one study may use.") from error
    except Exception as error:
        raise PixelsUndecodable("A compressed picture is damaged.") from error
    if image.shape != (rows, columns):
        raise FrameSizeMismatch()
    return np.asarray(image)


def check_size(stream: bytes, syntax: str, rows: int, columns: int) -> None:
    """Compare the size inside a JPEG, JPEG-LS, JPEG 2000 or RLE stream with Rows and Columns.

    Raises FrameSizeMismatch, or PixelsUndecodable where the stream has no size at all.
    """
    if syntax in limits.RLE:
        _check_rle(stream)
        return
    found = _j2k_size(stream) if syntax in limits.JPEG_2000 else _jpeg_size(stream)
    if found is None:
        raise PixelsUndecodable("A compressed picture has no size in its header.")
    if found != (rows, columns):
        raise FrameSizeMismatch()


def _j2k_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of the SIZ marker (ISO 15444-1 A.5.1), inside a JP2 box or not."""
    at = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(stream) < at + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    return bottom - top, right - left


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of the start-of-frame marker (ISO 10918-1 B.2.2; 14495-1 C.2.2 for JPEG-LS)."""
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return rows, columns
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        at += 2 + length
    return None


def _check_rle(stream: bytes) -> None:
    """The RLE header (PS3.5 annex G.5): 1 to 15 segments with rising offsets inside the frame."""
    if len(stream) < 64:
        raise PixelsUndecodable("An RLE frame is shorter than its header.")
    count, *offsets = struct.unpack_from("<16I", stream)
    used = offsets[:count]
    if not 1 <= count <= 15 or used != sorted(used) or used[0] != 64 or used[-1] > len(stream):
        raise PixelsUndecodable("An RLE header points outside its frame.")
