"""DICOM files of one series to volumes: group parallel planes, sort them, check the spacing, decode.

``read_series`` is strict: one volume or a named refusal. ``read_stacks`` gives every stack that dcm2niix
would write, localizers and single slices included, for comparing the two.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.imaging import geometry, limits, pixels
from serving.imaging.errors import (
    DuplicatePosition,
    MissingSlice,
    MixedOrientation,
    NoGeometry,
    NotMr,
    SlicesNotAligned,
    TooFewSlices,
    TooLarge,
)
from serving.imaging.frames import Plane, planes
from serving.imaging.geometry import Axes
from serving.imaging.scan import Header, scan
from serving.imaging.volume import SourceFrame, Volume, check_values

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.4"
SEVERAL = "several volumes in one series; the first time point or lowest b-value is used"
MR_CLASSES = frozenset({MR_IMAGE, ENHANCED_MR_IMAGE, LEGACY_ENHANCED_MR_IMAGE})


@dataclass(frozen=True, slots=True)
class Stack:
    """Parallel planes of one size, slice order ascending; ``moments`` volumes were there, the first is kept."""

    planes: tuple[Plane, ...]
    distances: NDArray[np.float64]
    moments: int
    warnings: tuple[str, ...]


def is_mr(header: Header) -> bool:
    """Whether a file is an MR image: by SOP class, and by modality."""
    return header.text("SOPClassUID") in MR_CLASSES and header.text("Modality") in ("MR", "")


def read_series(paths: Sequence[Path]) -> Volume:
    """The one volume of one series. Raises an ImagingError that names what is wrong."""
    return build(one_stack([scan(path) for path in paths]))


def read_stacks(paths: Sequence[Path]) -> list[Volume]:
    """Every stack of one series, without the checks of ``read_series``; stored values, no rescale."""
    found = stacks([scan(path) for path in paths])
    return [build(stack, strict=False, rescale=False) for stack in found]


def one_stack(headers: Sequence[Header]) -> Stack:
    """The only stack of a series, checked. Raises the named refusals."""
    found = stacks(headers)
    if len(found) > 1:
        raise MixedOrientation()
    stack = found[0]
    if len(stack.planes) < 3:
        raise TooFewSlices()
    if geometry.irregular(stack.distances):
        raise MissingSlice()
    positions = np.array([plane.position for plane in stack.planes])
    along = geometry.normal(np.array(stack.planes[0].orientation))
    if geometry.sideways_mm(positions, along) > geometry.SHIFT_TOLERANCE_MM:
        raise SlicesNotAligned()
    if SEVERAL in stack.warnings and len({plane.contrast for plane in stack.planes}) > 1:
        raise MissingSlice(why="An image of another echo, b-value or kind would stand in its place.")
    return stack


def stacks(headers: Sequence[Header]) -> list[Stack]:
    """Group the planes of a series by orientation and size, and order each group."""
    mr = [header for header in headers if is_mr(header)]
    if not mr:
        raise NotMr()
    unique: dict[str, Header] = {}
    for header in mr:
        unique.setdefault(header.text("SOPInstanceUID") or str(header.path), header)
    every = [plane for header in unique.values() for plane in planes(header)]
    if not every:
        raise NoGeometry("The series holds no image planes.")
    if sum(plane.rows * plane.columns for plane in every) > 8 * limits.MAX_VOXELS:
        raise TooLarge("A series holds more pixels than one study may.")
    groups: list[list[Plane]] = []
    for plane in every:
        for group in groups:
            if _parallel(group[0], plane):
                group.append(plane)
                break
        else:
            groups.append([plane])
    twice = ("an image arrived more than once; one copy is used",) if len(unique) < len(mr) else ()
    return [_stack(group, twice) for group in groups]


def _parallel(a: Plane, b: Plane) -> bool:
    if (a.rows, a.columns) != (b.rows, b.columns):
        return False
    if a.orientation == b.orientation and a.spacing == b.spacing:
        return True
    near = all(abs(x - y) < 1e-3 for x, y in zip(a.orientation, b.orientation, strict=True))
    return near and all(abs(x - y) < 1e-3 for x, y in zip(a.spacing, b.spacing, strict=True))


def _stack(group: list[Plane], notes: tuple[str, ...]) -> Stack:
    """Sort planes along the normal and keep the first of each place. Raises DuplicatePosition."""
    along = geometry.normal(np.array(group[0].orientation))
    if group[0].tile >= 0:
        return _tiles(group, along, notes)
    heights = np.array([plane.position for plane in group]) @ along
    places: dict[int, list[tuple[float, Plane]]] = defaultdict(list)
    order = np.argsort(heights, kind="stable")
    place, last = -1, -np.inf
    for n in order:
        # 0.02 mm: far below any slice distance, above the rounding of decimal strings.
        if heights[n] - last > 0.02:
            place, last = place + 1, heights[n]
        places[place].append((float(heights[n]), group[n]))
    counts = [len(entries) for entries in places.values()]
    _check_counts(counts)
    firsts = [min(entries, key=lambda e: (e[1].contrast, e[1].moment)) for entries in places.values()]
    distances = np.array([height for height, _ in firsts])
    if max(counts) > 1:
        notes = (*notes, SEVERAL)
    kinds = {plane.contrast for plane in group}
    moments = max(1, max(counts) // len(kinds))
    return Stack(tuple(plane for _, plane in firsts), distances, moments, notes)


def _check_counts(counts: Sequence[int]) -> None:
    """Equal counts are one or more whole volumes; one fewer somewhere is a last volume cut short."""
    low, high = min(counts), max(counts)
    if low != high and (low == 1 or high - low > 1):
        raise DuplicatePosition()


def _tiles(group: list[Plane], along: NDArray[np.float64], notes: tuple[str, ...]) -> Stack:
    """The tiles of the first mosaic of a series, in the order in which they are laid out."""
    files = {id(plane.header) for plane in group}
    first = min(group, key=lambda plane: (plane.contrast, plane.moment)).header
    kept = tuple(plane for plane in group if plane.header is first)
    if len(files) > 1:
        notes = (*notes, SEVERAL)
    return Stack(kept, np.array([plane.position for plane in kept]) @ along, len(files), notes)


def _axes(stack: Stack, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Axes:
    """dcm2niix's choice: nearest RAS for one 3D volume that is not echo-planar, else rows flipped."""
    header = stack.planes[0].header
    echo_planar = "EP" in header.texts("ScanningSequence") or header.text("EchoPlanarPulseSequence") == "YES"
    if header.text("MRAcquisitionType") != "3D" or echo_planar or shape[2] < 2 or stack.moments > 1:
        return geometry.ROWS_FLIPPED
    if geometry.irregular(stack.distances):
        return geometry.PLAIN
    return geometry.nearest_ras(affine, shape)


def build(stack: Stack, strict: bool = True, rescale: bool = True) -> Volume:
    """Decode a stack into a Volume. Raises PixelsUndecodable and its kin, BadValues, ConstantPixels."""
    first = stack.planes[0]
    count = len(stack.planes)
    if first.rows * first.columns * count > limits.MAX_VOXELS:
        raise TooLarge("The volume has more than 2^28 voxels.")
    raw = pixels.decode(stack.planes)
    step = _step(stack, strict)
    orientation, spacing = np.array(first.orientation), np.array(first.spacing)
    affine = geometry.stored_affine(orientation, spacing, np.array(first.position), step)
    shape = (first.columns, first.rows, count)
    axes = _axes(stack, affine, shape)
    voxels = _turn(raw, axes, shape)
    if rescale:
        _rescale(voxels, stack, axes.order.index(2), axes.flipped[axes.order.index(2)])
        check_values(voxels)
    frames = tuple(
        SourceFrame(p.header.text("SOPInstanceUID"), p.header.text("SOPClassUID"), p.frame + 1)
        for p in stack.planes
    )
    return Volume(
        voxels,
        geometry.reorder(affine, shape, axes),
        frames,
        first.header.text("SeriesInstanceUID"),
        "dicom",
        axes,
        stack.warnings,
    )


def _turn(raw: NDArray[Any], axes: Axes, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """[slices, rows, columns] as float32 voxels [I, J, K], laid out in memory as little as possible anew.

    Slices along k stay in file order, which is Fortran order, as in NIfTI; a turned volume is copied slice
    by slice so that each small transpose stays in the processor's cache. One transpose of the whole
    volume would take longer than reading it.
    """
    if axes.order[2] == 2:
        return np.asarray(axes.apply(raw.transpose(2, 1, 0)), dtype=np.float32, order="F")
    voxels = np.empty([shape[a] for a in axes.order], dtype=np.float32)
    stored = axes.undo(voxels)
    for n in range(shape[2]):
        stored[:, :, n] = raw[n].T
    return voxels


def _step(stack: Stack, strict: bool) -> NDArray[np.float64]:
    """The vector from slice to slice in LPS mm: along the normal, as dcm2niix takes it."""
    first = stack.planes[0]
    along = geometry.normal(np.array(first.orientation))
    if len(stack.planes) < 2:
        size = first.header.number("SpacingBetweenSlices") or first.header.number("SliceThickness") or 1.0
        return np.asarray(along * size)
    if not strict and geometry.irregular(stack.distances):
        return np.asarray(along * float(stack.distances[1] - stack.distances[0]))
    whole = stack.distances[-1] - stack.distances[0]
    return np.asarray(along * float(whole / (len(stack.planes) - 1)))


def _rescale(voxels: NDArray[np.float32], stack: Stack, axis: int, backwards: bool) -> None:
    """Apply RescaleSlope and RescaleIntercept of each plane in place."""
    slopes = np.array([plane.slope for plane in stack.planes], dtype=np.float32)
    intercepts = np.array([plane.intercept for plane in stack.planes], dtype=np.float32)
    if np.all(slopes == 1) and np.all(intercepts == 0):
        return
    if backwards:
        slopes, intercepts = slopes[::-1], intercepts[::-1]
    form = [1, 1, 1]
    form[axis] = -1
    voxels *= slopes.reshape(form)
    voxels += intercepts.reshape(form)
