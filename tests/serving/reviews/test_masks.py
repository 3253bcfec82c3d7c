"""Masks as programs write them: our own SEG back bit by bit, foreign ones by their codes, damaged ones by name."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from serving.imaging.geometry import Axes
from serving.results import seg, source
from serving.results.errors import ObjectMissing
from serving.reviews import masks
from serving.reviews.errors import (
    KeptMaskDamaged,
    LabelsForeign,
    MaskElsewhere,
    MaskForeign,
    MaskUnreadable,
)
from serving.reviews.lattice import Grid, onto
from tests.kit import sources as kit
from tests.kit.answered import a_mask, nifti

UID = f"{kit.ROOT}.1"
TURNED = Axes((2, 0, 1), (True, False, True))
CASES = {
    "classic": (kit.classic, {}),
    "turned 3D": (kit.classic, {"axes": TURNED}),
    "backwards": (kit.classic, {"order": range(11, -1, -1)}),
    "enhanced": (lambda: [kit.enhanced()], {}),
    "enhanced, groups in frames": (lambda: [kit.enhanced(shared=False)], {"axes": TURNED}),
}
TWO = {"2": kit.LABELS["1"], "5": kit.BRAIN["1"]}


class Files:
    """A delivered SEG and its images as files."""

    def __init__(
        self, folder: Path, case: str = "classic", labels: dict = kit.LABELS, empty: bool = False
    ) -> None:
        make, options = CASES[case]
        images = make()
        self.volume = kit.volume(images, **options)
        self.mask = a_mask(self.volume) * (0 if empty else 1)
        if len(labels) > 1:
            self.mask = np.where(self.mask == 1, 2, 0).astype(np.uint8)
            self.mask[:2] = 5
        self.labels = labels
        self.seg = folder / "seg.dcm"
        self.seg.write_bytes(
            seg.build(
                kit.answer(), self.volume, self.mask, labels, source.from_headers(self.volume, images)
            ).data
        )
        self.images = []
        for k, ds in enumerate(images):
            ds.save_as(path := folder / f"{k}.dcm", enforce_file_format=True)
            self.images.append(path)
        self.folder = folder

    def delivered(self) -> tuple[np.ndarray, Grid]:
        return masks.delivered(self.seg, self.images, self.labels)

    def corrected(self, path: Path, study_id: str = "s") -> np.ndarray:
        _, grid = self.delivered()
        return masks.corrected(path, grid, self.labels, study_uid=UID, study_id=study_id)[0]

    def changed(self, change) -> Path:
        """The SEG with one thing changed, as a file."""
        ds = dcmread(self.seg)
        change(ds)
        ds.save_as(path := self.folder / "changed.dcm")
        return path


@pytest.mark.parametrize("empty", [False, True], ids=["lesions", "no lesion"])
@pytest.mark.parametrize("case", CASES)
def test_the_delivered_mask_comes_back_on_the_volumes_own_grid(
    case: str, empty: bool, tmp_path: Path
) -> None:
    files = Files(tmp_path, case, empty=empty)
    labels, grid = files.delivered()
    its = Grid(files.volume.shape, files.volume.affine)
    assert np.array_equal(onto(labels, grid.affine, its), files.mask)
    assert sorted(masks.referenced(files.seg)) == sorted({f.SOPInstanceUID for f in files.volume.frames})


def test_several_labels_come_back_by_code_in_any_order_of_segments(tmp_path: Path) -> None:
    files = Files(tmp_path, labels=TWO)
    ours, _ = files.delivered()
    assert set(np.unique(ours)) == {0, 2, 5}

    def swap(ds: Dataset) -> None:
        for segment in ds.SegmentSequence:
            segment.SegmentNumber = 3 - segment.SegmentNumber
        for group in ds.PerFrameFunctionalGroupsSequence:
            its = group.SegmentIdentificationSequence[0]
            its.ReferencedSegmentNumber = 3 - its.ReferencedSegmentNumber

    assert np.array_equal(files.corrected(files.changed(swap)), ours)


@pytest.mark.parametrize("case", CASES)
def test_a_nifti_in_the_volumes_order_lands_on_the_delivered_mask(case: str, tmp_path: Path) -> None:
    files = Files(tmp_path, case)
    ours, _ = files.delivered()
    path = nifti(tmp_path / "m.nii.gz", files.mask, files.volume.affine)
    assert np.array_equal(files.corrected(path), ours)
    as_float = nifti(tmp_path / "f.nii", files.mask.astype(np.float32), files.volume.affine)
    assert np.array_equal(files.corrected(as_float), ours)


def _other_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.3.4"


def _moved(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        where = group.PlanePositionSequence[0]
        where.ImagePositionPatient = [
            float(where.ImagePositionPatient[0]) + 0.6,
            *where.ImagePositionPatient[1:],
        ]


def _beyond(ds: Dataset) -> None:
    where = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    where.ImagePositionPatient = [float(x) for x in kit.ORIGIN - kit.GAP * kit.NORMAL]


def _coarser(ds: Dataset) -> None:
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [1.8, 2.2]


def _fractional(ds: Dataset) -> None:
    ds.SegmentationType = "FRACTIONAL"


def _no_seg(ds: Dataset) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kit.MR


def _cut(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-4]


def _no_place(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_other_study, MaskForeign), (_moved, MaskElsewhere), (_beyond, MaskElsewhere), (_coarser, MaskElsewhere),
        (_fractional, MaskUnreadable), (_no_seg, MaskUnreadable), (_cut, MaskUnreadable), (_no_place, MaskUnreadable),
    ],
)  # fmt: skip
def test_a_seg_that_is_not_of_this_grid_is_refused(change, error: type[Exception], tmp_path: Path) -> None:
    files = Files(tmp_path)
    with pytest.raises(error) as caught:
        files.corrected(files.changed(change))
    assert "CANARY" not in repr(caught.value)


def test_a_larger_mask_is_refused_before_its_pixels_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)

    def larger(ds: Dataset) -> None:
        ds.Rows, ds.Columns = 4000, 4000

    path = files.changed(larger)
    grid = files.delivered()[1]
    monkeypatch.setattr(Dataset, "pixel_array", property(lambda self: pytest.fail("unpacked")))
    with pytest.raises(MaskElsewhere):
        masks.corrected(path, grid, files.labels, study_uid=UID, study_id="s")


def test_a_segment_of_another_type_is_refused_where_there_are_several(tmp_path: Path) -> None:
    files = Files(tmp_path, labels=TWO)

    def other(ds: Dataset) -> None:
        ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "1"

    with pytest.raises(LabelsForeign):
        files.corrected(files.changed(other))


def test_niftis_that_are_refused(tmp_path: Path) -> None:
    files = Files(tmp_path)
    affine = files.volume.affine
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2]
    cases = [
        (files.mask, moved, "", MaskElsewhere),
        (files.mask[:-1], affine, "", MaskElsewhere),
        (files.mask * 3, affine, "", LabelsForeign),
        (files.mask * 0.5, affine, "", LabelsForeign),
        (files.mask[..., None].repeat(2, 3), affine, "", MaskElsewhere),
        (files.mask, affine, "radfleet other", MaskForeign),
        (np.where(files.mask, np.nan, 0), affine, "", LabelsForeign),
    ]
    for number, (labels, where, descrip, error) in enumerate(cases):
        path = nifti(tmp_path / f"{number}.nii.gz", labels, where, descrip)
        with pytest.raises(error):
            files.corrected(path)
    mine = nifti(tmp_path / "mine.nii.gz", files.mask, affine, "radfleet s")
    assert files.corrected(mine).any()
    whole = mine.read_bytes()
    for name, data in (
        ("text.nii.gz", b"hello"),
        ("half.nii.gz", whole[: len(whole) // 2]),
        ("empty.nii", b""),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MaskUnreadable):
            files.corrected(tmp_path / name)
    with pytest.raises(MaskUnreadable):
        files.corrected(tmp_path / "nowhere.nii.gz")


def test_kept_bytes_are_the_same_twice_name_nobody_and_notice_damage(tmp_path: Path) -> None:
    import hashlib

    labels, grid = Files(tmp_path).delivered()
    data = masks.encode(labels, grid)
    assert data == masks.encode(labels, grid)
    assert b"CANARY" not in gzip.decompress(data)
    back, affine = masks.decode(data, hashlib.sha256(data).digest())
    assert np.array_equal(back, labels)
    assert np.allclose(affine, grid.affine, atol=1e-4)
    with pytest.raises(KeptMaskDamaged):
        masks.decode(data + b"x", hashlib.sha256(data).digest())


def test_a_lost_delivered_mask_is_missing_by_name(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing):
        masks.referenced(tmp_path / "gone.dcm")
    with pytest.raises(ObjectMissing):
        masks.delivered(tmp_path / "gone.dcm", [], kit.LABELS)
