"""A real scan of tests/data as a clinic's scanner would send it: real voxels, simulated vendor header."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_head(nifti: Path, folder: Path, cast: Mapping[str, str]) -> Path:
    """Write the FLAIR in ``nifti`` as classic MR slices of the scanner that ``cast`` describes; the folder.

    Timing values are typical ones for FLAIR, since NIfTI keeps none; SeriesDescription says SIMULATED.
    """
    from serving.imaging.volume import read_nifti
    from serving.imaging.writer import write_dicom

    write_dicom(read_nifti(nifti), folder, header(cast))
    return folder


def header(cast: Mapping[str, str]) -> dict[str, Any]:
    """DICOM attributes of a FLAIR from the scanner of ``cast``; timing values are typical ones."""
    return {
        "Manufacturer": cast["vendor"],
        "ManufacturerModelName": cast["model"],
        "SoftwareVersions": cast["software"],
        "DeviceSerialNumber": f"DEMO-{cast['ae']}",
        "MagneticFieldStrength": 3.0,
        "PatientID": "DEMO-PERSON-1",
        "PatientName": "Demo^Person",
        "BodyPartExamined": "BRAIN",
        "ScanningSequence": ["SE", "IR"],
        "SequenceVariant": ["SK"],
        "EchoTime": 120.0,
        "RepetitionTime": 9000.0,
        "InversionTime": 2500.0,
        "FlipAngle": 120.0,
        "SeriesDescription": "FLAIR, real scan, vendor header",
    }
