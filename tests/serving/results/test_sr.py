"""SR TID 1500: measurements tied to the SEG, valid to outside judges, nulls left out with their reason."""

import io
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from serving.results import findings, seg, source, sr
from serving.results.objects import ResultObject
from tests.kit import sources as kit
from tests.kit.judges import dciodvfy_errors, dsrdump


def made(
    sources: list[Dataset], *, labels: dict = kit.LABELS, withheld: dict[str, str] | None = None, empty: bool = False,
    predecessors: list[Dataset] | None = None,
) -> tuple[ResultObject, ResultObject]:  # fmt: skip
    volume = kit.volume(sources)
    origin = source.from_headers(volume, sources)
    mask = np.zeros(volume.shape, np.uint8)
    if not empty:
        mask[5:10, 5:9, 3:6] = 1
    mask_object = seg.build(kit.answer(), volume, mask, labels, origin)
    measured = findings.Measured(
        mask=mask, brain=np.zeros_like(mask), affine=volume.affine, labels=labels, withheld=withheld or {},
        warnings=["Bewegung: größer als üblich"],
    )  # fmt: skip
    document = findings.build(kit.answer(), measured)
    return sr.build(kit.answer(), document, mask_object, origin, predecessors or ()), mask_object


def group_of(report: ResultObject) -> object:
    document = highdicom.sr.srread(io.BytesIO(report.data))
    (group,) = document.content.get_volumetric_roi_measurement_groups()
    return group


@pytest.mark.parametrize(
    "sources", [kit.classic(), [kit.enhanced(shared=False)]], ids=["classic", "enhanced"]
)
def test_measurements_refer_to_the_segment(sources: list[Dataset]) -> None:
    report, mask = made(sources)
    group = group_of(report)
    numbers = {m.name.meaning: (m.value, m.unit.value) for m in group.get_measurements()}
    voxel = 0.9 * 1.1 * kit.GAP
    assert numbers["Volume"] == (pytest.approx(60 * voxel / 1000, abs=1e-3), "ml")
    assert numbers["Number of lesions"] == (1, "1")
    assert group.referenced_segment.referenced_sop_instance_uid == mask.SOPInstanceUID
    segment = highdicom.seg.segread(io.BytesIO(mask.data)).SegmentSequence[0]
    assert (group.tracking_uid, group.tracking_identifier) == (segment.TrackingUID, segment.TrackingID)


def test_a_withheld_volume_is_left_out_and_said() -> None:
    report, _ = made(kit.classic(), withheld={"*": "The brain is cut off."})
    assert list(group_of(report).get_measurements()) == []
    assert b"Not reported: The brain is cut off." in report.data


def test_the_report_is_unverified_research_and_verbatim_of_the_patient() -> None:
    sources = kit.classic()
    report, _ = made(sources)
    ds = dcmread(io.BytesIO(report.data))
    assert (ds.VerificationFlag, ds.CompletionFlag, ds.PreliminaryFlag) == (
        "UNVERIFIED",
        "COMPLETE",
        "PRELIMINARY",
    )
    assert ds.ContentQualification == "RESEARCH"
    for keyword in source.IDENTITY:
        assert ds.get(keyword) == sources[0].get(keyword), keyword
    texts = [item.TextValue for item in ds.ContentSequence if item.ValueType == "TEXT"]
    assert texts[-4] == "AI - RESEARCH - NOT FOR PRIMARY DIAGNOSIS"
    assert kit.DIGEST in texts[-3]
    assert texts[-2] == "Warning: Bewegung: groer als ublich"  # ASCII only: any character set holds it
    assert texts[-1].startswith("Not assessed: spinal cord")
    named = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert sum(len(series.ReferencedSOPSequence) for series in named) == 13  # 12 slices and the SEG


def test_a_later_revision_names_its_predecessor() -> None:
    first, _ = made(kit.classic())
    before = dcmread(io.BytesIO(first.data))
    second, _ = made(kit.classic(), predecessors=[before])
    ds = dcmread(io.BytesIO(second.data))
    (item,) = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_the_same_answer_is_the_same_bytes() -> None:
    assert made(kit.classic())[0] == made(kit.classic())[0]


@pytest.mark.tool("dciodvfy", "dsrdump")
@pytest.mark.parametrize("labels", [kit.LABELS, kit.BRAIN], ids=["lesion", "brain"])
@pytest.mark.parametrize("state", ["full", "empty", "withheld"])
@pytest.mark.parametrize("sources", [kit.classic(), [kit.enhanced()]], ids=["classic", "enhanced"])
def test_outside_judges_find_no_error(
    sources: list[Dataset], state: str, labels: dict, tmp_path: Path
) -> None:
    withheld = {"*": "Cut off."} if state == "withheld" else None
    report, _ = made(sources, labels=labels, withheld=withheld, empty=state == "empty")
    (tmp_path / "sr.dcm").write_bytes(report.data)
    assert dciodvfy_errors(tmp_path / "sr.dcm") == []
    tree = dsrdump(tmp_path / "sr.dcm")
    assert kit.DIGEST in tree
    assert ("Number of lesions" in tree) is (labels is kit.LABELS and state != "withheld")
