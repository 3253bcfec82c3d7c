"""Source series for tests of results: MR slices, classic or enhanced, and the Volume made from them."""

import datetime
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from serving.imaging.geometry import ROWS_FLIPPED, Axes
from serving.imaging.volume import SourceFrame, Volume
from serving.results.answer import Answer

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ROOT = "1.2.826.0.1.3680043.10.1338"
# A plane tilted about the x axis: an oblique affine finds mistakes that an axial one hides.
ORIENTATION = [1.0, 0.0, 0.0, 0.0, 0.9659258, 0.2588190]
NORMAL = np.cross(ORIENTATION[:3], ORIENTATION[3:])
ORIGIN = np.array([-40.0, -50.0, -20.0])
SPACING = (0.9, 1.1)  # between rows, between columns
GAP = 2.5
DIGEST = "sha256:" + "ab" * 32
LABELS = {
    "1": {
        "name": "White matter lesion",
        "category": ["49755003", "SCT", "Morphologically Abnormal Structure"],
        "type": ["52988006", "SCT", "Lesion"],
    }
}
BRAIN = {
    "1": {
        "name": "Brain",
        "category": ["123037004", "SCT", "Anatomical Structure"],
        "type": ["12738006", "SCT", "Brain"],
    }
}


def answer(**changes: object) -> Answer:
    values: dict[str, object] = {
        "clinic_id": UUID(int=1),
        "study_id": UUID(int=2),
        "revision": 1,
        "task": "ms-lesion",
        "model": "ms-lesion",
        "version": "1.0.0",
        "digest": DIGEST,
        "runtime": "openvino",
        "device": "cpu",
        "binding_seq": 7,
        "created_at": datetime.datetime(2026, 11, 24, 9, 30, 15, tzinfo=datetime.UTC),
        "product_version": "0.1.0",
    }
    return Answer(**{**values, **changes})  # type: ignore[arg-type]


def identity() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = "Müller^Änne"
    ds.PatientID = "CANARY-42"
    ds.IssuerOfPatientID = "HOSPITAL"
    ds.PatientBirthDate = "19700102"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = f"{ROOT}.1"
    ds.StudyDate, ds.StudyTime = "20261101", "101112.500"
    ds.ReferringPhysicianName = "House^Gregory"
    ds.StudyID, ds.AccessionNumber = "S1", "A-99"
    ds.StudyDescription = "Kopf MRT"
    ds.PatientAge = "056Y"
    return ds


def classic(shape: tuple[int, int, int] = (24, 20, 12)) -> list[Dataset]:
    """MR Image Storage, one instance a slice; ``shape`` is columns, rows, slices."""
    slices = []
    for k in range(shape[2]):
        ds = identity()
        _common(ds, shape, MR)
        ds.SOPInstanceUID = f"{ROOT}.3.{k + 1}"
        ds.InstanceNumber = k + 1
        ds.ImageOrientationPatient = ORIENTATION
        ds.ImagePositionPatient = [round(float(x), 6) for x in ORIGIN + k * GAP * NORMAL]
        ds.PixelSpacing = list(SPACING)
        ds.SliceThickness = 2.0
        ds.PixelData = bytes(2 * shape[0] * shape[1])
        slices.append(_meta(ds))
    return slices


def enhanced(shape: tuple[int, int, int] = (24, 20, 12), *, shared: bool = True) -> Dataset:
    """Enhanced MR with one frame a slice; ``shared`` False puts plane groups into each frame, as Philips does."""
    ds = identity()
    _common(ds, shape, ENHANCED_MR)
    ds.SOPInstanceUID = f"{ROOT}.4.1"
    ds.InstanceNumber = 1
    ds.NumberOfFrames = shape[2]
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient = ORIENTATION
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 2.0
    ds.SharedFunctionalGroupsSequence = [Dataset()]
    ds.PerFrameFunctionalGroupsSequence = []
    for k in range(shape[2]):
        frame, where = Dataset(), Dataset()
        where.ImagePositionPatient = [round(float(x), 6) for x in ORIGIN + k * GAP * NORMAL]
        frame.PlanePositionSequence = [where]
        ds.PerFrameFunctionalGroupsSequence.append(frame)
    for group in ds.SharedFunctionalGroupsSequence if shared else ds.PerFrameFunctionalGroupsSequence:
        group.PlaneOrientationSequence = [plane]
        group.PixelMeasuresSequence = [measures]
    ds.PixelData = bytes(2 * shape[0] * shape[1] * shape[2])
    return _meta(ds)


def volume(
    sources: Sequence[Dataset], *, axes: Axes = ROWS_FLIPPED, order: Sequence[int] | None = None
) -> Volume:
    """The Volume of these instances in voxel order ``axes``; ``order`` permutes the stored planes."""
    first = sources[0]
    multi = "NumberOfFrames" in first
    chosen = list(order if order is not None else range(int(first.NumberOfFrames) if multi else len(sources)))
    frames = tuple(
        SourceFrame(
            SOPInstanceUID=str(first.SOPInstanceUID if multi else sources[k].SOPInstanceUID),
            SOPClassUID=str(first.SOPClassUID),
            FrameNumber=k + 1 if multi else 1,
        )
        for k in chosen
    )
    stored = np.random.default_rng(7).normal(100, 20, (int(first.Columns), int(first.Rows), len(chosen)))
    return Volume(
        voxels=np.ascontiguousarray(axes.apply(stored.astype(np.float32))),
        affine=affine(
            stored.shape, axes, step=GAP * NORMAL * (1 if chosen[-1] >= chosen[0] else -1), k=chosen[0]
        ),
        frames=frames,
        SeriesInstanceUID=str(first.SeriesInstanceUID),
        kind="dicom",
        axes=axes,
    )


def affine(shape: Sequence[int], axes: Axes, *, step: np.ndarray, k: int = 0) -> np.ndarray:
    """Voxel index [I,J,K] to RAS mm of the sources above, whose stored shape is columns, rows, slices."""
    stored = np.eye(4)
    stored[:3, 0] = np.array(ORIENTATION[:3]) * SPACING[1]
    stored[:3, 1] = np.array(ORIENTATION[3:]) * SPACING[0]
    stored[:3, 2] = step
    stored[:3, 3] = ORIGIN + k * GAP * NORMAL
    to_stored = np.zeros((4, 4))
    to_stored[3, 3] = 1
    for voxel, (axis, flipped) in enumerate(zip(axes.order, axes.flipped, strict=True)):
        to_stored[axis, voxel] = -1 if flipped else 1
        to_stored[axis, 3] = shape[axis] - 1 if flipped else 0
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ stored @ to_stored


def _common(ds: Dataset, shape: tuple[int, int, int], sop_class: str) -> None:
    ds.SOPClassUID = sop_class
    ds.Modality = "MR"
    ds.Manufacturer = "SIEMENS"
    ds.ManufacturerModelName = "Prisma"
    ds.SoftwareVersions = "E11"
    ds.DeviceSerialNumber = "12345"
    ds.SeriesInstanceUID = f"{ROOT}.2"
    ds.SeriesNumber = 3
    ds.FrameOfReferenceUID = f"{ROOT}.5"
    ds.PositionReferenceIndicator = ""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.Columns, ds.Rows = shape[0], shape[1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.BodyPartExamined = "HEAD"


def _meta(ds: Dataset) -> Dataset:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds
