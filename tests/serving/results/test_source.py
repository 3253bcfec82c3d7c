"""Source headers: identity verbatim, geometry tidy, incomplete sources refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from serving.imaging.volume import Volume
from serving.results import source
from serving.results.errors import GridMismatch, SourceIncomplete, SourceUnreadable
from tests.kit import sources as kit


def written(folder: Path, headers: list[Dataset], syntax: str | None = None) -> list[Path]:
    paths = []
    for number, header in enumerate(headers):
        if syntax:
            header.file_meta.TransferSyntaxUID = syntax
        dcmwrite(folder / f"{number}.dcm", header, implicit_vr=bool(syntax) or None, little_endian=True)
        paths.append(folder / f"{number}.dcm")
    return paths


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_headers_come_in_the_order_of_the_volume(tmp_path: Path, syntax: str | None) -> None:
    slices = kit.classic()
    order = list(range(11, -1, -1))
    volume = kit.volume(slices, order=order)
    found = source.read(volume, written(tmp_path, slices, syntax))
    assert [str(c.SOPInstanceUID) for c in found.carriers] == [str(slices[k].SOPInstanceUID) for k in order]
    assert not found.enhanced
    copy = Dataset()
    source.copy_identity(found.original, copy)
    for keyword in source.IDENTITY:
        assert copy.get(keyword) == slices[0].get(keyword), keyword


def test_identity_is_copied_byte_for_byte_even_where_it_breaks_the_rules(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    slices = kit.classic()
    with disable_value_validation():
        for header in slices:
            header.add_new(0x00100040, "CS", "FEMALE person")
            header.add_new(0x00100020, "LO", "trailing  ")
    (tmp_path / "in").mkdir()
    found = source.read(kit.volume(slices), written(tmp_path / "in", slices))
    result = Dataset()
    source.copy_identity(found.original, result)
    buffer = io.BytesIO()
    dcmwrite(buffer, result, implicit_vr=False, little_endian=True)
    assert b"FEMALE person" in buffer.getvalue()
    assert b"trailing  " in buffer.getvalue()
    assert "FEMALE" not in caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "M\xfcller^\xc4nne".encode("latin-1") in buffer.getvalue()


def test_empty_and_broken_sequences_are_left_out_and_good_ones_stay() -> None:
    original, good, broken = kit.classic()[0], Dataset(), Dataset()
    good.CodeValue, good.CodingSchemeDesignator, good.CodeMeaning = "24590-2", "LN", "MR Brain"
    with disable_value_validation():
        broken.CodeValue = "longer than sixteen characters"
    original.ProcedureCodeSequence = [good]
    original.RequestingServiceCodeSequence = [broken]
    original.ReferencedStudySequence = []
    result = Dataset()
    source.copy_identity(original, result)
    assert result.ProcedureCodeSequence[0].CodeValue == "24590-2"
    assert "RequestingServiceCodeSequence" not in result
    assert "ReferencedStudySequence" not in result


def test_carriers_hold_no_identity() -> None:
    slices = kit.classic()
    found = source.from_headers(kit.volume(slices), slices)
    text = str(found.carriers[0])
    for value in ("CANARY", "nne", "House", "A-99", "19700102"):
        assert value not in text


def test_long_decimal_strings_are_shortened() -> None:
    slices = kit.classic()
    for header in slices:
        header["ImageOrientationPatient"]._value = header.ImageOrientationPatient.__class__(
            float, [1.0, 0.0, 0.0, 0.0, 0.96592582628906831, 0.25881904510252074]
        )
    found = source.from_headers(kit.volume(slices), slices)
    assert all(len(str(value)) <= 16 for value in found.carriers[0].ImageOrientationPatient)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "SeriesInstanceUID"])
def test_a_source_without_what_a_result_needs_is_refused_by_name(keyword: str) -> None:
    slices = kit.classic()
    volume = kit.volume(slices)
    for header in slices:
        delattr(header, keyword)
    with pytest.raises(SourceIncomplete, match=keyword):
        source.from_headers(volume, slices)


def test_missing_and_broken_headers_are_refused(tmp_path: Path) -> None:
    slices = kit.classic()
    volume, paths = kit.volume(slices), written(tmp_path, slices)
    with pytest.raises(SourceUnreadable, match="1 of 12"):
        source.read(volume, paths[1:])
    paths[0].unlink()
    with pytest.raises(SourceUnreadable):
        source.read(volume, paths)


def test_a_nifti_volume_has_no_source() -> None:
    volume = Volume(voxels=np.zeros((3, 3, 3), np.float32), affine=np.eye(4))
    with pytest.raises(SourceIncomplete):
        source.read(volume, [])


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(GridMismatch):
        source.stored_planes(np.zeros((3, 3, 3), np.uint8), kit.volume(kit.classic()))


def test_enhanced_orientation_moves_to_the_shared_groups() -> None:
    header = kit.enhanced(shared=False)
    found = source.from_headers(kit.volume([header]), [header])
    assert found.enhanced
    shared = found.carriers[0].SharedFunctionalGroupsSequence[0]
    assert [float(x) for x in shared.PlaneOrientationSequence[0].ImageOrientationPatient] == kit.ORIENTATION
    assert "PlaneOrientationSequence" not in header.SharedFunctionalGroupsSequence[0]


def test_a_mosaic_cannot_carry_a_segmentation() -> None:
    slices = kit.classic()
    with pytest.raises(SourceIncomplete, match="mosaic"):
        source.from_headers(kit.volume(slices, order=[0, 0, 0]), slices)
