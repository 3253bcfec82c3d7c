"""SEG: bit-equal on the source's planes, valid to outside judges, the patient verbatim, the same bytes twice."""

import io
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from serving.imaging.geometry import Axes
from serving.imaging.volume import Volume
from serving.results import seg, source
from serving.results.errors import LabelUnknown, ObjectInvalid
from serving.results.objects import ResultObject, check
from tests.kit import sources as kit
from tests.kit.judges import dciodvfy_errors

TURNED = Axes((2, 0, 1), (True, False, True))
CASES = {
    "classic": ([*kit.classic()], {}),
    "not flipped": (kit.classic(), {"axes": Axes()}),
    "backwards": (kit.classic(), {"order": range(11, -1, -1)}),
    "turned 3D": (kit.classic(), {"axes": TURNED}),
    "enhanced": ([kit.enhanced()], {}),
    "enhanced, groups in frames": ([kit.enhanced(shared=False)], {"axes": TURNED}),
    "enhanced, some frames": ([kit.enhanced()], {"order": range(3, 9)}),
}


def mask_of(volume: Volume, *, empty: bool = False, labels: int = 1) -> np.ndarray:
    mask = np.zeros(volume.shape, np.uint8)
    if not empty:
        rng = np.random.default_rng(11)
        mask[2:7, 3:6, 1:5] = rng.integers(0, labels + 1, (5, 3, 4))
        mask[-1, 0, -1] = labels
    return mask


def made(sources: list[Dataset], volume: Volume, mask: np.ndarray, labels: dict = kit.LABELS) -> ResultObject:
    return seg.build(kit.answer(), volume, mask, labels, source.from_headers(volume, sources))


def read_back(result: ResultObject, sources: list[Dataset], volume: Volume) -> np.ndarray:
    """Segments as stored planes [frames, rows, columns, segments]."""
    again = highdicom.seg.segread(io.BytesIO(result.data))
    if "NumberOfFrames" in sources[0]:
        return again.get_pixels_by_source_frame(
            sources[0].SOPInstanceUID,
            [frame.FrameNumber for frame in volume.frames],
            assert_missing_frames_are_empty=True,
        )
    return again.get_pixels_by_source_instance(
        [frame.SOPInstanceUID for frame in volume.frames], assert_missing_frames_are_empty=True
    )


@pytest.mark.parametrize("empty", [False, True], ids=["lesions", "no lesion"])
@pytest.mark.parametrize("case", CASES)
def test_the_mask_comes_back_bit_equal(case: str, empty: bool) -> None:
    sources, options = CASES[case]
    volume = kit.volume(sources, **options)
    mask = mask_of(volume, empty=empty)
    result = made(sources, volume, mask)
    planes = read_back(result, sources, volume)[..., 0]
    back = volume.axes.apply(planes.transpose(2, 1, 0))
    assert np.array_equal(back, mask)
    if empty:
        assert dcmread(io.BytesIO(result.data)).NumberOfFrames == 1


@pytest.mark.parametrize("case", ["classic", "not flipped", "backwards", "turned 3D"])
def test_a_voxel_lies_where_the_volume_says(case: str) -> None:
    """The patient position of the one set voxel, from the SEG alone, equals the affine's."""
    sources, options = CASES[case]
    volume = kit.volume(sources, **options)
    mask = np.zeros(volume.shape, np.uint8)
    index = (2, 5, 3)
    mask[index] = 1
    again = dcmread(io.BytesIO(made(sources, volume, mask).data))
    (row,), (column,) = np.nonzero(again.pixel_array)
    frame = again.PerFrameFunctionalGroupsSequence[0]
    shared = again.SharedFunctionalGroupsSequence[0]
    origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    between_rows, between_columns = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    lps = origin + cosines[:3] * column * between_columns + cosines[3:] * row * between_rows
    ras = volume.affine @ [*index, 1]
    assert np.allclose(lps * [-1, -1, 1], ras[:3], atol=1e-3)


def test_several_labels_with_gaps_become_segments_without() -> None:
    sources = kit.classic()
    volume = kit.volume(sources)
    labels = {"2": kit.LABELS["1"], "5": kit.BRAIN["1"], "9": kit.BRAIN["1"]}
    mask = np.where(mask_of(volume, labels=2) == 1, 2, np.where(mask_of(volume, labels=2) == 2, 5, 0)).astype(
        np.uint8
    )
    result = made(sources, volume, mask, labels)
    planes = read_back(result, sources, volume)
    assert planes.shape[-1] == 3  # the third is described and empty
    for value, segment in ((2, 0), (5, 1), (9, 2)):
        back = volume.axes.apply(planes[..., segment].transpose(2, 1, 0))
        assert np.array_equal(back, mask == value)


def test_an_undescribed_label_is_refused() -> None:
    sources = kit.classic()
    volume = kit.volume(sources)
    with pytest.raises(LabelUnknown):
        made(sources, volume, mask_of(volume) * 3)


def test_the_same_answer_is_the_same_bytes() -> None:
    sources = kit.classic()
    volume = kit.volume(sources)
    first, second = (made(sources, volume, mask_of(volume)) for _ in range(2))
    assert first == second
    assert first.SOPInstanceUID == kit.answer().uid("seg")


def test_identity_and_version_stand_in_the_object() -> None:
    sources = kit.classic()
    volume = kit.volume(sources)
    ds = dcmread(io.BytesIO(made(sources, volume, mask_of(volume)).data))
    for keyword in source.IDENTITY:
        assert ds.get(keyword) == sources[0].get(keyword), keyword
    assert ds.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert ds.ContentQualification == "RESEARCH"
    digest = kit.DIGEST.removeprefix("sha256:")
    (segment,) = ds.SegmentSequence
    assert digest in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert segment.SegmentAlgorithmName == "ms-lesion"
    assert digest in [item.get("DeviceSerialNumber") for item in ds.ContributingEquipmentSequence]
    assert ds.DeviceSerialNumber == digest
    assert (ds.ContentDate, ds.ContentTime) == ("20261124", "093015")


@pytest.mark.tool("dciodvfy")
@pytest.mark.parametrize("empty", [False, True], ids=["lesions", "no lesion"])
@pytest.mark.parametrize("case", CASES)
def test_dciodvfy_finds_no_error(case: str, empty: bool, tmp_path: Path) -> None:
    sources, options = CASES[case]
    volume = kit.volume(sources, **options)
    (tmp_path / "seg.dcm").write_bytes(made(sources, volume, mask_of(volume, empty=empty)).data)
    assert dciodvfy_errors(tmp_path / "seg.dcm") == []


@pytest.mark.tool("dciodvfy")
def test_dciodvfy_bites(tmp_path: Path) -> None:
    sources = kit.classic()
    volume = kit.volume(sources)
    ds = dcmread(io.BytesIO(made(sources, volume, mask_of(volume)).data))
    del ds.SegmentSequence
    ds.save_as(tmp_path / "bad.dcm")
    assert dciodvfy_errors(tmp_path / "bad.dcm") != []


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "1.2.3." + "4" * 70),
        ("SeriesDescription", "x" * 65),
        ("ContentLabel", "lower case"),
    ],
)
def test_a_value_that_breaks_its_representation_is_not_let_out(keyword: str, value: str) -> None:
    ds = Dataset()
    # The doors switch pydicom's own validation off for their process, and other tests open doors in this one.
    with disable_value_validation():
        setattr(ds, keyword, value)
    with pytest.raises(ObjectInvalid, match=keyword) as caught:
        check(ds)
    assert value not in str(caught.value)
