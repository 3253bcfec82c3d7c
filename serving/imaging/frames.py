"""One record for each stored image plane of a series: where it lies, when it was taken, how to decode it.

Classic MR has one plane a file, enhanced MR many, a Siemens mosaic or a UIH grid several tiles in one.
All become the same record, so ordering, checks and decoding are written once.
"""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.imaging import geometry, limits
from serving.imaging.errors import BadValues, Malformed, NoGeometry, TooLarge
from serving.imaging.scan import Header, Values

_NOT_MAGNITUDE = frozenset(
    {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "B0", "B0 MAP", "FIELD MAP", "VELOCITY"}
)


@dataclass(frozen=True, slots=True)
class Plane:
    """One image plane. Lengths in mm, LPS; ``tile`` counts the tiles of a mosaic, else -1."""

    header: Header
    frame: int
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    tile: int
    across: int
    contrast: tuple[float, ...]
    moment: tuple[float, ...]


def planes(header: Header) -> list[Plane]:
    """The planes of one file. Raises NoGeometry, TooLarge, BadValues or Malformed."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    count = max(header.integer("NumberOfFrames", 1), 1)
    if rows > limits.MAX_ROWS or columns > limits.MAX_COLUMNS or count > limits.MAX_FRAMES:
        raise TooLarge("Rows, Columns or NumberOfFrames is larger than 4096.")
    if rows * columns * count > limits.MAX_VOXELS:
        raise TooLarge("A file holds more than 2^28 pixels.")
    if rows < 1 or columns < 1:
        raise Malformed("Rows or Columns is missing or zero.")
    tiles = _tiles(header)
    if tiles > 1 and count == 1:
        return _mosaic(header, tiles, rows, columns)
    if count > 1 and header.frames and len(header.frames) != count:
        raise Malformed("NumberOfFrames contradicts the per-frame functional groups.")
    if count > 1 and not header.frames:
        raise NoGeometry("A multi-frame file has no per-frame positions.")
    groups: Sequence[Values | None] = header.frames or [None]
    return [_plane(header, n, group, rows, columns) for n, group in enumerate(groups)]


def _plane(header: Header, n: int, group: Values | None, rows: int, columns: int) -> Plane:
    position = header.numbers("ImagePositionPatient", group)
    orientation = header.numbers("ImageOrientationPatient", group)
    spacing = header.numbers("PixelSpacing", group)
    _check_geometry(position, orientation, spacing)
    slope = header.number("RescaleSlope", group)
    intercept = header.number("RescaleIntercept", group)
    slope = 1.0 if slope is None or slope == 0 else slope
    intercept = intercept or 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise BadValues("RescaleSlope or RescaleIntercept is not a finite number.")
    return Plane(
        header, n, (position[0], position[1], position[2]), tuple(orientation), (spacing[0], spacing[1]),
        rows, columns, slope, intercept, -1, 1, _contrast(header, group), _moment(header, group, n),
    )  # fmt: skip


def _check_geometry(position: list[float], orientation: list[float], spacing: list[float]) -> None:
    if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2:
        raise NoGeometry()
    if not all(map(math.isfinite, (*position, *orientation, *spacing))) or min(spacing) <= 0:
        raise NoGeometry("A position, orientation or pixel spacing is not a usable number.")
    a, b, c, d, e, f = orientation
    if abs(a * a + b * b + c * c - 1) > 0.02 or abs(d * d + e * e + f * f - 1) > 0.02:
        raise NoGeometry("ImageOrientationPatient does not hold two unit vectors.")
    if abs(a * d + b * e + c * f) > 0.01:
        raise NoGeometry("ImageOrientationPatient does not hold two perpendicular vectors.")


def b_value(header: Header, group: Values | None = None) -> float:
    """Diffusion b-value in s/mm2, 0 where none is stated (GE adds 1e9 to mark the table it used)."""
    for name in ("DiffusionBValue", "SiemensBValue", "GeBValue"):
        value = header.number(name, group)
        if value is not None and math.isfinite(value):
            return abs(value) % 1e5
    return 0.0


def echo_time(header: Header, group: Values | None = None) -> float | None:
    """Echo time in ms, classic or enhanced."""
    value = header.number("EffectiveEchoTime", group)
    return value if value is not None else header.number("EchoTime", group)


def _contrast(header: Header, group: Values | None) -> tuple[float, ...]:
    """What separates volumes by kind: magnitude first, then low b-value, then short echo."""
    kind = header.texts("FrameType", group) or header.texts("ImageType", group)
    words = {word.upper() for word in (*kind[2:], header.text("ComplexImageComponent", group))}
    return (1.0 if words & _NOT_MAGNITUDE else 0.0, b_value(header, group), echo_time(header, group) or 0.0)


def _moment(header: Header, group: Values | None, n: int) -> tuple[float, ...]:
    """What separates volumes by time."""
    index = header.number("TemporalPositionIndex", group)
    if index is None:
        index = header.number("TemporalPositionIdentifier")
    return (
        index or 0.0,
        header.number("AcquisitionNumber") or 0.0,
        header.number("InstanceNumber") or 0.0,
        n,
    )


def _tiles(header: Header) -> int:
    """How many slices a mosaic or grid file holds; 0 for a plain image."""
    if header.vframes:
        return len(header.vframes)
    if "MOSAIC" not in header.texts("ImageType"):
        return 0
    return header.integer("SiemensTiles") or int((_csa(header, b"NumberOfImagesInMosaic") or [0.0])[0])


def _csa(header: Header, name: bytes) -> list[float]:
    """The numbers of one entry of the Siemens CSA image header (SV10 layout: 84-byte entry heads)."""
    raw = header.raw("SiemensCsaImage")
    at = raw.find(name + b"\0")
    if not raw.startswith(b"SV10") or at < 0 or at + 84 > len(raw):
        return []
    (items,) = struct.unpack_from("<i", raw, at + 76)
    values, at = [], at + 84
    for _ in range(min(max(items, 0), 64)):
        if at + 16 > len(raw):
            break
        (size,) = struct.unpack_from("<i", raw, at + 4)
        text = raw[at + 16 : at + 16 + max(size, 0)].split(b"\0")[0].strip()
        if re.fullmatch(rb"[-+0-9.eE]+", text):
            values.append(float(text))
        at += 16 + (max(size, 0) + 3) // 4 * 4
    return values


def _mosaic(header: Header, tiles: int, rows: int, columns: int) -> list[Plane]:
    """The tiles of a Siemens mosaic or UIH grid as planes of their own."""
    across = math.ceil(math.sqrt(tiles)) if not header.vframes else _grid_columns(tiles, rows, columns)
    down = math.ceil(tiles / across) if header.vframes else across
    base = _plane(header, 0, None, rows, columns) if not header.vframes else None
    if base is None:
        tops = [_plane(header, n, group, rows, columns) for n, group in enumerate(header.vframes)]
        places = [top.position for top in tops]
        base = tops[0]
    else:
        places = _mosaic_places(header, base, tiles, across)
    return [
        Plane(
            header, 0, place, base.orientation, base.spacing, rows // down, columns // across,
            base.slope, base.intercept, tile, across, base.contrast, base.moment,
        )
        for tile, place in enumerate(places)
    ]  # fmt: skip


def _grid_columns(tiles: int, rows: int, columns: int) -> int:
    """Columns of a UIH grid: the smallest count whose tiles are square, else the square root."""
    for across in range(1, tiles + 1):
        down = math.ceil(tiles / across)
        if columns % across == 0 and rows % down == 0 and columns // across == rows // down:
            return across
    return math.ceil(math.sqrt(tiles))


def _mosaic_places(header: Header, base: Plane, tiles: int, across: int) -> list[tuple[float, float, float]]:
    """Tile positions: the file's own position is that of the whole mosaic seen as one big slice."""
    orientation: NDArray[np.float64] = np.array(base.orientation)
    along = geometry.normal(orientation)
    stated = _csa(header, b"SliceNormalVector")[:3]
    if len(stated) == 3 and float(along @ np.array(stated)) < 0:
        along = -along  # tiles run against row x column; dcm2niix keeps their order, and so do we
    step = header.number("SpacingBetweenSlices") or header.number("SliceThickness")
    if not step:
        raise NoGeometry("A mosaic states no distance between slices.")
    columns, rows = base.columns * (1 - 1 / across) / 2, base.rows * (1 - 1 / across) / 2
    first = np.array(base.position) + orientation[:3] * base.spacing[1] * columns
    first = first + orientation[3:] * base.spacing[0] * rows
    spots = first + np.outer(np.arange(tiles), along * step)
    return [(float(p[0]), float(p[1]), float(p[2])) for p in spots]
