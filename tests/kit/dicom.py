"""Small synthetic MR instances: whole, valid, of nobody. 64 x 64 pixels unless asked otherwise."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, generate_uid

# Planted where patient data stands: any log, metric, error or URL that holds it is a leak.
CANARY_NAME = "Kanarie^Piet"
CANARY_ID = "KANARIE-4711"


def uid() -> str:
    """A fresh UID under the UUID root."""
    return str(generate_uid(prefix=None))


def mr_instance(*, number: int = 1, size: int = 64, seed: int = 0, **values: Any) -> Dataset:
    """One axial MR slice; ``values`` are DICOM keywords that replace or, when None, remove an element."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID = uid()
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260102", "030405", "S1"
    ds.AccessionNumber = "ACC-1"
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "MR", "Nobody Imaging", "Phantom 3000"
    ds.DeviceSerialNumber, ds.SoftwareVersions, ds.StationName = "SN-1", "1.0", "MR1"
    ds.SeriesDescription, ds.ProtocolName = "FLAIR axial", "FLAIR"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = CANARY_NAME, CANARY_ID, "19700101", "O"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "SK", "", "2D"
    ds.MagneticFieldStrength, ds.SliceThickness, ds.SpacingBetweenSlices = "3", "3", "3"
    ds.EchoTime, ds.RepetitionTime, ds.InversionTime, ds.EchoTrainLength = "120", "9000", "2500", "16"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid(), uid(), uid()
    ds.SeriesNumber, ds.InstanceNumber = "2", str(number)
    ds.ImagePositionPatient = [-32.0, -32.0, 3.0 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = size
    ds.PixelSpacing = [1.0, 1.0]
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    rng = np.random.default_rng(seed * 1000 + number)
    ds.PixelData = rng.integers(0, 1000, (size, size), dtype=np.uint16).tobytes()
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def mr_series(slices: int = 5, **values: Any) -> list[Dataset]:
    """Slices of one series of one study."""
    same = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), "FrameOfReferenceUID": uid(), **values}
    return [mr_instance(number=i + 1, **same) for i in range(slices)]


def encoded(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set alone, as it travels in a C-STORE."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = transfer_syntax != "1.2.840.10008.1.2.2"
    buffer.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def part10(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a DICOM file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MRImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", uid())
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def write_series(folder: Path, series: list[Dataset]) -> list[Path]:
    """Write a series as files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, ds in enumerate(series):
        paths.append(folder / f"IM{i:04d}.dcm")
        paths[-1].write_bytes(part10(ds))
    return paths


def heard(ask: Callable[[], Any]) -> Any:
    """An association with the door's answer to it, accepted or rejected; ``ask`` requests one.

    pynetdicom 3.0.4 as requestor reports an abort where the rejection came, and the connection ended, before its second
    thread looked (2 of 332 under load; a plain socket heard 3,377 rejections of 3,377): then it is asked again.
    """
    for _ in range(5):
        assoc = ask()
        if assoc.acceptor.primitive is not None:
            return assoc
    raise AssertionError("five associations ended without an answer")
