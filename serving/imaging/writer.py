"""Writes a Volume as classic MR DICOM slices with given headers, marked as simulated.

For the demo, the benches and the tests: a public NIfTI scan travels the whole study line as DICOM. What
``read_series`` and dcm2niix make of the slices is the grid that was written, and the same numbers.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.imaging import geometry
from serving.imaging.series import MR_IMAGE
from serving.imaging.volume import Volume

SIMULATED = "Pixels from a research image; the acquisition headers are SIMULATED."

# Type 1 and 2 attributes of the MR Image IOD (PS3.3 A.4.3) that a caller may leave out.
_DEFAULTS: Mapping[str, Any] = {
    "SOPClassUID": MR_IMAGE,
    "Modality": "MR",
    "ImageType": ["DERIVED", "PRIMARY", "M", "SIMULATED"],
    "PatientName": "",
    "PatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "Manufacturer": "",
    "SeriesNumber": 1,
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "ScanningSequence": "RM",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "EchoTime": None,
    "RepetitionTime": None,
    "EchoTrainLength": None,
    "BodyPartExamined": "BRAIN",
    "DerivationDescription": SIMULATED,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
}


def write_dicom(volume: Volume, folder: Path, header: Mapping[str, Any]) -> list[Path]:
    """Write one slice a file along k; returns the paths in slice order.

    ``header`` maps DICOM keywords to values (UIDs, Manufacturer, EchoTime in ms, ...); UIDs left out are
    made. SeriesDescription always ends in "SIMULATED". Whole numbers in the int16 range are stored as
    they are, others with a RescaleSlope. The files read back as ``dicom_order(volume)``: the volume
    itself where its voxel order is one that dcm2niix gives, else with j mirrored. MRAcquisitionType is
    2D or 3D accordingly unless given; 3D given for a 2D grid reads back in nearest RAS order.
    """
    volume = dicom_order(volume)
    folder.mkdir(parents=True, exist_ok=True)
    stored, slope, intercept = _stored(volume.voxels)
    dataset = _dataset(volume, header)
    if (slope, intercept) != (1.0, 0.0):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.9g}", f"{intercept:.9g}"
        dataset.RescaleType = "US"
    paths = []
    for k in range(volume.shape[2]):
        _place(dataset, volume, k)
        dataset.PixelData = np.ascontiguousarray(stored[:, ::-1, k].T).astype("<i2").tobytes()
        paths.append(folder / f"IM{k + 1:04d}.dcm")
        _save(dataset, paths[-1])
    return paths


def _stored(voxels: NDArray[np.float32]) -> tuple[NDArray[np.int16], float, float]:
    """int16 values with the slope and intercept that give the voxels back."""
    low, high = float(voxels.min()), float(voxels.max())
    if low >= -32768 and high <= 32767 and bool(np.all(voxels == np.rint(voxels))):
        return voxels.astype(np.int16), 1.0, 0.0
    slope = max((high - low) / 60000.0, 1e-12)
    intercept = (high + low) / 2
    return np.rint((voxels - intercept) / slope).astype(np.int16), slope, intercept


def _dataset(volume: Volume, header: Mapping[str, Any]) -> Any:
    """What all slices share."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    dataset = Dataset()
    uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    settings = {**_DEFAULTS, **uids, **header}
    settings.setdefault("MRAcquisitionType", _acquisition_type(volume))
    description = str(settings.get("SeriesDescription", "")).strip()
    settings["SeriesDescription"] = f"{description[:53]} SIMULATED".strip()
    for name, value in settings.items():
        setattr(dataset, name, value)
    edges = volume.spacing
    dataset.Rows, dataset.Columns = volume.shape[1], volume.shape[0]
    dataset.PixelSpacing = [_decimal(edges[1]), _decimal(edges[0])]
    if "SliceThickness" not in header:
        dataset.SliceThickness = _decimal(edges[2])
    dataset.SpacingBetweenSlices = _decimal(edges[2])
    row, column, _ = _directions(volume.affine)
    dataset.ImageOrientationPatient = [_decimal(x) for x in (*row, *column)]
    return dataset


def dicom_order(volume: Volume) -> Volume:
    """The same scan in a voxel order that DICOM slices read back in.

    A grid that is left-handed in RAS (2D series: rows flipped) or in nearest RAS order (3D) stays as it
    is; any other has its j axis mirrored. Nothing moves in the world.
    """
    if np.linalg.det(volume.affine[:3, :3]) < 0:
        return volume
    if geometry.nearest_ras(volume.affine, volume.shape) == geometry.PLAIN:
        return volume
    affine = geometry.reorder(volume.affine, volume.shape, geometry.ROWS_FLIPPED)
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, ::-1, :]), affine=affine)


def _acquisition_type(volume: Volume) -> str:
    """2D for a left-handed grid (rows flipped gives it back), 3D for one in nearest RAS order."""
    return "2D" if np.linalg.det(volume.affine[:3, :3]) < 0 else "3D"


def _directions(affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Unit vectors in LPS of growing column, growing row (rows run against j) and growing k."""
    lps = geometry.LPS_TO_RAS @ affine
    unit = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    return unit[:, 0], -unit[:, 1], unit[:, 2]


def _place(dataset: Any, volume: Volume, k: int) -> None:
    """Position and identity of slice k."""
    from pydicom.uid import generate_uid

    corner = geometry.LPS_TO_RAS @ volume.affine @ np.array([0.0, volume.shape[1] - 1.0, float(k), 1.0])
    row, column, _ = _directions(volume.affine)
    dataset.ImagePositionPatient = [_decimal(x) for x in corner[:3]]
    dataset.SliceLocation = _decimal(float(corner[:3] @ np.cross(row, column)))
    dataset.InstanceNumber = k + 1
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(dataset.SeriesInstanceUID), str(k)])


def _decimal(value: float) -> str:
    """A DS string: at most 16 characters."""
    for digits in range(12, 4, -1):
        text = f"{float(value) + 0.0:.{digits}g}"
        if len(text) <= 16:
            return text
    return text


def _save(dataset: Any, path: Path) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True, little_endian=True, implicit_vr=False)
