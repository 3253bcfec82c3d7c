"""DICOM series to volumes: the grid and the numbers of dcm2niix, or a refusal by name."""

import csv
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from serving.imaging import errors
from serving.imaging.series import read_series, read_stacks
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head

Archive = Callable[[str], list[Path]]


def reference(tests_data: Path, name: str) -> list[dict[str, str]]:
    with (tests_data / "dicom" / "geometry.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in rows if row["archive"].startswith(name) and row["made_by"].startswith("Debian")]


@pytest.mark.parametrize(
    "name",
    [
        "siemens_prisma_e11", "siemens_prisma_xa30", "philips_achieva", "siemens_trio_vb12",
        "uih_umr770_dti", "siemens_terrax", "ge_signa_hdxt",
    ],
)  # fmt: skip
def test_grid_of_dcm2niix(archive: Archive, tests_data: Path, name: str) -> None:
    paths = [
        path for path in archive(name) if pydicom.dcmread(path, stop_before_pixels=True).Modality == "MR"
    ]
    volume = read_series(paths)
    row = reference(tests_data, name)[0]
    assert volume.shape == tuple(int(n) for n in row["shape"].split("x"))[:3]
    assert np.abs(volume.affine - np.array(json.loads(row["affine_row_major"]))).max() < 1e-3
    assert volume.voxels.dtype == np.float32


@pytest.mark.parametrize("name", ["siemens_prisma_e11", "siemens_prisma_xa30", "ge_signa_hdxt", "ge_pioneer"])
def test_voxels_of_dcm2niix(archive: Archive, tests_data: Path, name: str) -> None:
    (stack,) = read_stacks(archive(name))
    row = reference(tests_data, name)[0]
    stored = stack.voxels.astype(np.dtype(row["dtype"]).newbyteorder("<"))
    digest = hashlib.sha256(np.ascontiguousarray(stored.T).tobytes()).hexdigest()
    assert digest == row["sha256_of_little_endian_voxels"]


@pytest.mark.tool("dcm2niix")
def test_first_time_point_equals_dcm2niix(archive: Archive, tmp_path: Path) -> None:
    import nibabel

    paths = archive("uih_umr770_dti")
    subprocess.run(
        ["dcm2niix", "-z", "n", "-b", "n", "-o", tmp_path, paths[0].parent], check=True, capture_output=True
    )
    (made,) = tmp_path.glob("*.nii")
    theirs = nibabel.load(made)
    ours = read_series(paths)
    assert np.array_equal(np.asarray(theirs.dataobj)[..., 0], ours.voxels)
    assert "several volumes" in ours.warnings[0]


def test_frames_lead_back_to_the_stored_pixels(archive: Archive) -> None:
    for name in ("siemens_prisma_e11", "siemens_prisma_xa30"):
        paths = archive(name)
        volume = read_series(paths)
        planes = volume.to_frames(volume.voxels)
        assert len(planes) == len(volume.frames)
        files = {}
        for path in paths:
            dataset = pydicom.dcmread(path)
            files[dataset.SOPInstanceUID] = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        for plane, frame in zip(planes, volume.frames, strict=True):
            assert np.array_equal(plane, files[frame.SOPInstanceUID][frame.FrameNumber - 1])


def test_rows_are_flipped_in_2d_and_the_slice_axis_moves_in_3d(archive: Archive) -> None:
    flat = read_series(archive("siemens_prisma_e11"))
    turned = read_series(archive("siemens_prisma_xa30"))
    assert flat.rows_flipped and flat.slice_axis == 2
    assert not turned.rows_flipped and turned.slice_axis == 0


def test_rescale_is_applied_plane_by_plane(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    plain = read_series(paths)
    for path in paths[:3]:
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = "2.5", "-7"
        dataset.save_as(path)
    scaled = read_series(paths)
    assert np.allclose(scaled.voxels[..., :3], plain.voxels[..., :3] * 2.5 - 7)
    assert np.array_equal(scaled.voxels[..., 3:], plain.voxels[..., 3:])


def test_first_volume_of_a_time_series_cut_short(archive: Archive) -> None:
    volume = read_series(archive("ge_mr750"))
    assert volume.shape == (64, 64, 15)
    assert volume.warnings


def test_missing_slice(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(errors.MissingSlice):
        read_series(archive("ge_pioneer"))
    paths = write_dicom(head(), tmp_path, FLAIR)
    with pytest.raises(errors.MissingSlice):
        read_series(paths[:10] + paths[11:])


def test_every_second_slice_is_regular(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    volume = read_series(paths[::2])
    assert volume.spacing[2] == pytest.approx(8.0)


def test_two_slices(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    with pytest.raises(errors.TooFewSlices):
        read_series(paths[:2])


def test_two_images_at_one_place(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    dataset = pydicom.dcmread(paths[4])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.save_as(tmp_path / "more.dcm")
    with pytest.raises(errors.DuplicatePosition):
        read_series([*paths, tmp_path / "more.dcm"])


def test_one_echo_never_stands_in_for_another(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    echoes = list(paths)
    for number in (1, 2):
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.EchoTime = 120.0 + 40 * number
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
                f"1.2.{number}.{int(path.stem[-4:]) + 1}"
            )
            echoes.append(tmp_path / f"{number}-{path.name}")
            dataset.save_as(echoes[-1])
    assert np.array_equal(read_series(echoes).voxels, read_series(paths).voxels)
    with pytest.raises(errors.MissingSlice):
        read_series([path for path in echoes if path != paths[4]])


def test_the_same_image_twice_is_used_once(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    shutil.copy(paths[4], tmp_path / "again.dcm")
    volume = read_series([*paths, tmp_path / "again.dcm"])
    assert volume.shape == head().shape
    assert "more than once" in volume.warnings[0]


def test_mixed_orientation(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    for path in paths[:5]:
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.save_as(path)
    with pytest.raises(errors.MixedOrientation):
        read_series(paths)
    assert len(read_stacks(paths)) == 2


def test_slices_shifted_sideways(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    for n, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        x, y, z = (float(p) for p in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x + 2.0 * n, y, z]
        dataset.save_as(path)
    with pytest.raises(errors.SlicesNotAligned):
        read_series(paths)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_no_geometry(tmp_path: Path, tag: str) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    for path in paths:
        dataset = pydicom.dcmread(path)
        delattr(dataset, tag)
        dataset.save_as(path)
    with pytest.raises(errors.NoGeometry):
        read_series(paths)


def test_constant_pixels(tmp_path: Path) -> None:
    volume = head()
    volume.voxels[:] = 7
    with pytest.raises(errors.ConstantPixels):
        read_series(write_dicom(volume, tmp_path, FLAIR))


def test_rescale_that_is_not_a_number(tmp_path: Path) -> None:
    paths = write_dicom(head(), tmp_path, FLAIR)
    data = bytearray(paths[3].read_bytes())
    dataset = pydicom.dcmread(paths[3])
    dataset.RescaleSlope, dataset.RescaleIntercept = "1.25", "0"
    dataset.save_as(paths[3])
    data = paths[3].read_bytes()
    paths[3].write_bytes(data.replace(b"1.25", b"nan ", 1))
    with pytest.raises(errors.BadValues):
        read_series(paths)


def test_ct_is_not_mr(tmp_path: Path) -> None:
    paths = write_dicom(
        head(), tmp_path, {**FLAIR, "Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    )
    with pytest.raises(errors.NotMr):
        read_series(paths)
