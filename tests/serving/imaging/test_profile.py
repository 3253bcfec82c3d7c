"""Acquisition profiles of real scanners, and sequence classes from physics."""

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.imaging.profile import SequenceClass, coil_class, profile, sequence_class, software_major
from serving.imaging.scan import scan
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head

Archive = Callable[[str], list[Path]]


@pytest.mark.parametrize(
    ("name", "vendor", "field", "kind", "software"),
    [
        ("siemens_prisma_e11", "siemens", 3.0, "T1", "E11"),
        ("siemens_prisma_xa30", "siemens", 3.0, "T1", "XA30"),
        ("ge_pioneer", "ge", 3.0, "T1", "MR29.1"),
        ("philips_achieva", "philips", 3.0, "FIELDMAP", "5.3"),
        ("ge_mr750", "ge", 3.0, "EPI", "DV26.0"),
        ("uih_umr770", "uih", 3.0, "EPI", "R002"),
        ("siemens_trio", "siemens", 3.0, "EPI", "B12"),
    ],
)
def test_profiles(archive: Archive, name: str, vendor: str, field: float, kind: str, software: str) -> None:
    headers = [scan(path) for path in archive(name)]
    found = profile(headers, sequence_class(headers), (1.0, 1.0, 1.0), (2, 2, 2))
    assert (found["vendor"], found["field_t"], found["sequence_class"]) == (vendor, field, kind)
    assert found["software_major"] == software
    assert found["te_ms"] and found["tr_ms"]
    assert len(str(found["protocol"])) == 16


SE, GR, IR_GR = ["SE"], ["GR"], ["GR", "IR"]


@pytest.mark.parametrize(
    ("sequence", "te", "tr", "ti", "kind"),
    [
        (["SE", "IR"], 120.0, 9000.0, 2500.0, SequenceClass.FLAIR),
        (["SE", "IR"], 392.0, 5000.0, 1800.0, SequenceClass.FLAIR),
        (["SE", "IR"], 60.0, 4000.0, 160.0, SequenceClass.STIR),
        (IR_GR, 2.9, 2300.0, 900.0, SequenceClass.T1),
        (GR, 4.6, 9.8, None, SequenceClass.T1),
        (SE, 100.0, 5000.0, None, SequenceClass.T2),
        (SE, 12.0, 550.0, None, SequenceClass.T1),
        (SE, 20.0, 3000.0, None, SequenceClass.PD),
        (GR, 20.0, 30.0, None, SequenceClass.T2STAR),
        (["EP", "SE"], 80.0, 6000.0, None, SequenceClass.EPI),
        (SE, None, 6000.0, None, SequenceClass.UNKNOWN),
    ],
)
def test_class_by_physics(
    tmp_path: Path, sequence: list[str], te: float | None, tr: float, ti: float | None, kind: SequenceClass
) -> None:
    header = {
        **FLAIR,
        "ScanningSequence": sequence,
        "EchoTime": te,
        "RepetitionTime": tr,
        "InversionTime": ti,
        "SeriesDescription": "t1 flair dwi localizer",
    }
    (path, *_) = write_dicom(head(), tmp_path, header)
    assert sequence_class([scan(path)]) is kind


@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "P", "ND"], SequenceClass.FIELDMAP),
        (["DERIVED", "SECONDARY", "MPR"], SequenceClass.DERIVED),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], SequenceClass.DWI),
        (["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"], SequenceClass.PERFUSION),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], SequenceClass.LOCALIZER),
    ],
)
def test_class_by_image_type(tmp_path: Path, image_type: list[str], kind: SequenceClass) -> None:
    (path, *_) = write_dicom(head(), tmp_path, {**FLAIR, "ImageType": image_type})
    assert sequence_class([scan(path)]) is kind


def test_localizer_by_orientations(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    assert sequence_class([scan(path)], orientations=3) is SequenceClass.LOCALIZER
    assert sequence_class([scan(path)], volumes=40) is SequenceClass.EPI


def test_one_protocol_one_name(tmp_path: Path) -> None:
    def name(**changes: object) -> object:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        headers = [scan(path) for path in write_dicom(head(), folder, {**FLAIR, **changes})[:3]]
        return profile(headers, SequenceClass.FLAIR, (1, 1, 1), (2, 2, 2))["protocol"]

    assert name() == name(PatientID="OTHER", EchoTime=120.3)
    assert name() != name(EchoTime=90.0)
    assert name() != name(ManufacturerModelName="Skyra")


def test_words() -> None:
    assert software_major(["syngo MR E11"]) == "E11"
    assert software_major(["29", "LX", "RX29.1_R02_2131.a"]) == "RX29.1"
    assert software_major([]) == ""
    assert coil_class("HeadNeck_64") == "head-neck"
    assert coil_class("32Ch Head") == "head"
    assert coil_class("x") == "unknown"
