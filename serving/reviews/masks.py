"""Reads masks: the delivered SEG, a reader's SEG or NIfTI, and the labels that are kept for fine-tuning.

Kept masks are NIfTI on the study's own stored grid: no name, no UID and no date goes with them.
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from registry.core.settings import LIMITS
from serving.imaging.geometry import normal, stored_affine
from serving.results.errors import ObjectMissing, SourceUnreadable
from serving.results.seg import segment_numbers
from serving.reviews.errors import (
    KeptMaskDamaged,
    LabelsForeign,
    MaskElsewhere,
    MaskForeign,
    MaskUnreadable,
)
from serving.reviews.lattice import Affine, Grid, Labels, onto, place

Described = Mapping[str, Mapping[str, Any]]  # labels of model.json: value -> name, category, type
_SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_OURS = "radfleet "  # a NIfTI that we wrote names its study here, so that it cannot be taken for another's


def referenced(path: Path) -> list[str]:
    """SOPInstanceUIDs of the images on which a delivered SEG lies. Raises ObjectMissing."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        return [
            str(item.ReferencedSOPInstanceUID)
            for item in header.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        ]
    except Exception as error:  # noqa: BLE001 - a broken file has one cure; the library's text may hold values
        raise ObjectMissing(f"the delivered mask cannot be read ({type(error).__name__})") from None


def delivered(path: Path, sources: Iterable[Path], labels: Described) -> tuple[Labels, Grid]:
    """The delivered mask as uint8 [columns, rows, slices] and its grid, from the SEG and the images it names.

    A SEG leaves empty planes out, so the grid is that of the images. Raises ObjectMissing, SourceUnreadable.
    """
    try:
        with disable_value_validation():
            mask = dcmread(path)
            grid = grid_of([dcmread(p, stop_before_pixels=True) for p in sources], mask)
    except OSError as error:
        raise ObjectMissing(f"a file of this study is not in the store ({type(error).__name__})") from None
    try:
        return _planes(mask, grid, {number: value for value, number in segment_numbers(labels).items()}), grid
    except Exception as error:  # noqa: BLE001 - as above
        raise ObjectMissing(f"the delivered mask cannot be read ({type(error).__name__})") from None


def grid_of(headers: Sequence[Dataset], mask: Dataset) -> Grid:
    """The grid [columns, rows, slices] of the images in the plane orientation of ``mask``. Raises SourceUnreadable."""
    try:
        wanted = _orientation(mask.SharedFunctionalGroupsSequence[0])
        planes = [p for h in headers for p in _stored(h) if np.abs(p[0] - wanted).max() < 1e-3]
        along = normal(wanted)
        ordered = sorted((float(p[1] @ along), tuple(p[1])) for p in planes)
        places = [ordered[0], *(b for a, b in pairwise(ordered) if b[0] - a[0] > 1e-3)]
        first, last = np.array(places[0][1]), np.array(places[-1][1])
        step = (last - first) / (len(places) - 1) if len(places) > 1 else along
        affine = stored_affine(wanted, planes[0][2], first, step)
        return Grid((int(headers[0].Columns), int(headers[0].Rows), len(places)), affine)
    except Exception as error:  # noqa: BLE001 - as above
        raise SourceUnreadable(f"the images have no readable grid ({type(error).__name__})") from None


def corrected(
    path: Path, grid: Grid, labels: Described, *, study_uid: str, study_id: str
) -> tuple[Labels, str]:
    """A reader's mask as uint8 [I,J,K] on ``grid``, and its kind: seg or nifti.

    Raises MaskUnreadable, MaskForeign, MaskElsewhere, LabelsForeign.
    """
    if not path.is_file() or path.stat().st_size > LIMITS.instance_bytes_max:
        raise MaskUnreadable("there is no file of a possible size at this path")
    with path.open("rb") as file:
        is_dicom = file.read(132)[128:] == b"DICM"
    if is_dicom:
        return _from_seg(path, grid, labels, study_uid), "seg"
    return _from_nifti(path, grid, labels, study_id), "nifti"


def encode(labels: Labels, grid: Grid, study_id: str = "", level: int = 9) -> bytes:
    """``labels`` [I,J,K] of ``grid`` as packed NIfTI, the same bytes each time; ``study_id`` says whose it is."""
    import nibabel

    image = nibabel.Nifti1Image(labels, grid.affine)
    if study_id:
        image.header["descrip"] = (_OURS + study_id).encode()
    return gzip.compress(image.to_bytes(), level, mtime=0)


def decode(data: bytes, sha256: bytes) -> tuple[Labels, Affine]:
    """What ``encode`` packed: labels [I,J,K] and affine to RAS mm. Raises KeptMaskDamaged."""
    import nibabel

    if hashlib.sha256(data).digest() != sha256:
        raise KeptMaskDamaged
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    return np.asarray(image.dataobj, dtype=np.uint8), np.asarray(image.affine, dtype=np.float64)


def _from_seg(path: Path, grid: Grid, labels: Described, study_uid: str) -> Labels:
    try:
        with disable_value_validation():
            mask = dcmread(path, defer_size=1 << 20)
        if mask.SOPClassUID not in _SEG or mask.SegmentationType not in ("BINARY", "LABELMAP"):
            raise MaskUnreadable("this DICOM file is no BINARY or LABELMAP segmentation")
        its_study = str(mask.StudyInstanceUID)
    except MaskUnreadable:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise MaskUnreadable(f"this DICOM file cannot be read ({type(error).__name__})") from None
    if its_study != study_uid:
        raise MaskForeign
    try:
        return _planes(mask, grid, _values(mask, labels))
    except (MaskElsewhere, LabelsForeign, MaskUnreadable):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise MaskUnreadable(f"this segmentation cannot be read ({type(error).__name__})") from None


def _values(mask: Dataset, labels: Described) -> dict[int, int]:
    """Segment number -> label value, by the coded type; one segment of one label needs no code."""
    segments = list(mask.SegmentSequence)
    if len(segments) == 1 and len(labels) == 1:
        return {int(segments[0].SegmentNumber): int(next(iter(labels)))}
    by_type = {(str(label["type"][0]), str(label["type"][1])): int(value) for value, label in labels.items()}
    found = {}
    for segment in segments:
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        value = by_type.get((str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))))
        if value is None or len(by_type) != len(labels):
            raise LabelsForeign(
                f"segment {int(segment.SegmentNumber)} has a type that is no label of this task"
            )
        found[int(segment.SegmentNumber)] = value
    return found


def _planes(mask: Dataset, grid: Grid, values: Mapping[int, int]) -> Labels:
    """The frames of a SEG on ``grid``; each must be a whole plane of it."""
    groups = list(mask.PerFrameFunctionalGroupsSequence)
    rows, columns = int(mask.Rows), int(mask.Columns)
    # Before any pixel is unpacked: no frame may be larger than a plane, nor more of them than the grid has.
    if rows * columns * len(groups) > int(np.prod(grid.shape)) * max(1, len(values)):
        raise MaskElsewhere("the mask has more or larger planes than the study's images")
    frames = mask.pixel_array.reshape(len(groups), rows, columns)
    shared = mask.SharedFunctionalGroupsSequence[0]
    labelmap = mask.SegmentationType == "LABELMAP"
    made = np.zeros(grid.shape, np.uint8)
    for frame, group in zip(frames, groups, strict=True):
        where = place((columns, rows, 1), _frame_affine(group, shared, grid), grid)
        one = (
            _mapped(frame, values)
            if labelmap
            else _binary(frame, _of("SegmentIdentificationSequence", group, shared), values)
        ).T[:, :, None]
        turned = where.turn(one)
        if sum(a == b for a, b in zip(turned.shape, grid.shape, strict=True)) < 2:
            raise MaskElsewhere("a plane of the mask covers a part of an image only")
        its_place = tuple(slice(f, f + n) for f, n in zip(where.first, turned.shape, strict=True))
        if ((made[its_place] > 0) & (turned > 0) & (made[its_place] != turned)).any():
            raise MaskUnreadable("two segments of this mask overlap")
        made[its_place] |= turned
    return made


def _binary(frame: NDArray[Any], segment: Dataset, values: Mapping[int, int]) -> Labels:
    number = int(segment.ReferencedSegmentNumber)
    if number not in values:
        raise LabelsForeign(f"a frame belongs to segment {number}, which is no label of this task")
    return np.where(frame > 0, values[number], 0).astype(np.uint8)


def _mapped(frame: NDArray[Any], values: Mapping[int, int]) -> Labels:
    if not set(np.unique(frame).tolist()) <= {0, *values}:
        raise LabelsForeign("a plane holds a value that is no segment of this mask")
    table = np.zeros(int(frame.max()) + 1, np.uint8)
    for number, value in values.items():
        if number < len(table):
            table[number] = value
    return np.asarray(table[frame], np.uint8)


def _from_nifti(path: Path, grid: Grid, labels: Described, study_id: str) -> Labels:
    import nibabel

    try:
        image = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        affine = np.asarray(image.affine, dtype=np.float64)
        written = bytes(image.header["descrip"].item()).decode("ascii", "replace")
    except Exception as error:  # noqa: BLE001 - as above
        raise MaskUnreadable(f"this file is neither DICOM nor NIfTI ({type(error).__name__})") from None
    if written.startswith(_OURS) and written.removeprefix(_OURS).strip("\0 ") != study_id:
        raise MaskForeign
    if len(shape) != 3 or sorted(shape) != sorted(grid.shape):
        raise MaskElsewhere(f"the mask has the shape {'x'.join(map(str, shape))}, the study's images another")
    if not np.isfinite(affine).all():
        raise MaskUnreadable("this NIfTI file has no finite affine")
    place(shape, affine, grid)  # before the voxels are unpacked
    try:
        voxels = np.asarray(image.dataobj)
    except Exception as error:  # noqa: BLE001 - as above
        raise MaskUnreadable(f"the voxels cannot be read ({type(error).__name__})") from None
    known = [0, *(int(value) for value in labels)]
    if not np.isin(voxels, known).all():
        raise LabelsForeign(f"the mask holds values other than {', '.join(map(str, known))}")
    return onto(voxels.astype(np.uint8), affine, grid)


def _frame_affine(group: Dataset, shared: Dataset, grid: Grid) -> Affine:
    """Affine of one frame [columns, rows, 1]; its third axis is the axis of the grid that the frame does not span."""
    spacing = np.array(_of("PixelMeasuresSequence", group, shared).PixelSpacing, float)
    position = np.array(_of("PlanePositionSequence", group, shared).ImagePositionPatient, float)
    affine = stored_affine(_orientation(group, shared), spacing, position, np.zeros(3))
    spanned = np.abs(np.linalg.solve(grid.affine[:3, :3], affine[:3, :2])).argmax(axis=0)
    rest = [axis for axis in range(3) if axis not in spanned]
    affine[:3, 2] = grid.affine[:3, rest[0]]
    return affine


def _of(sequence: str, *groups: Dataset) -> Dataset:
    """The one item of a functional group, which may stand with the frame or with what all frames share."""
    found: Dataset = next(g for g in groups if sequence in g)[sequence].value[0]
    return found


def _orientation(*groups: Dataset) -> NDArray[np.float64]:
    return np.array(_of("PlaneOrientationSequence", *groups).ImageOrientationPatient, float)


def _stored(header: Dataset) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """(orientation [6], position [3] LPS mm, spacing [2] mm) of each stored plane of one instance."""
    if "PerFrameFunctionalGroupsSequence" not in header:
        return [(
            np.array(header.ImageOrientationPatient, float),
            np.array(header.ImagePositionPatient, float),
            np.array(header.PixelSpacing, float),
        )]  # fmt: skip
    shared = header.SharedFunctionalGroupsSequence[0]
    return [
        (
            _orientation(group, shared),
            np.array(_of("PlanePositionSequence", group, shared).ImagePositionPatient, float),
            np.array(_of("PixelMeasuresSequence", group, shared).PixelSpacing, float),
        )
        for group in header.PerFrameFunctionalGroupsSequence
    ]
