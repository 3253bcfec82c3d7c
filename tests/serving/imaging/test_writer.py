"""Volumes written as DICOM come back as the same grid and the same numbers, here and in dcm2niix."""

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from serving.imaging.geometry import Axes, nearest_ras, reorder
from serving.imaging.series import read_series
from serving.imaging.volume import Volume, read_nifti
from serving.imaging.writer import dicom_order, write_dicom
from tests.serving.imaging.scans import FLAIR, head


def tilted(volume: Volume) -> Volume:
    """The same voxels on an oblique grid."""
    a, b = np.deg2rad(12), np.deg2rad(-7)
    turn = np.eye(4)
    turn[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    return Volume(volume.voxels, turn @ volume.affine)


def check(volume: Volume, folder: Path) -> Volume:
    back = read_series(write_dicom(volume, folder, FLAIR))
    want = dicom_order(volume)
    assert np.array_equal(back.voxels, want.voxels)
    assert np.abs(back.affine - want.affine).max() < 1e-3
    return back


def test_left_handed_right_handed_and_ras(tmp_path: Path) -> None:
    plain = tilted(head())
    assert check(plain, tmp_path / "a").rows_flipped
    mirrored = Axes(flipped=(False, True, False))
    odd = Volume(
        np.ascontiguousarray(mirrored.apply(plain.voxels)), reorder(plain.affine, plain.shape, mirrored)
    )
    assert dicom_order(odd).shape == plain.shape
    check(odd, tmp_path / "b")
    axes = nearest_ras(plain.affine, plain.shape)
    ras = Volume(np.ascontiguousarray(axes.apply(plain.voxels)), reorder(plain.affine, plain.shape, axes))
    assert dicom_order(ras) is ras
    assert not check(ras, tmp_path / "c").rows_flipped


@pytest.mark.tool("dcm2niix")
def test_dcm2niix_reads_the_same(tmp_path: Path) -> None:
    volume = tilted(head())
    write_dicom(volume, tmp_path / "in", FLAIR)
    subprocess.run(
        ["dcm2niix", "-z", "n", "-b", "n", "-o", tmp_path, tmp_path / "in"], check=True, capture_output=True
    )
    (made,) = tmp_path.glob("*.nii")
    image = nibabel.load(made)
    assert np.array_equal(np.asarray(image.dataobj), volume.voxels)
    assert np.abs(image.affine - volume.affine).max() < 1e-3


def test_fractions_come_back_within_a_step(tmp_path: Path) -> None:
    volume = Volume(head().voxels / 977.0, head().affine)
    back = read_series(write_dicom(volume, tmp_path, FLAIR))
    assert np.abs(back.voxels - volume.voxels).max() < np.ptp(volume.voxels) / 50_000


def test_headers_say_simulated(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, {**FLAIR, "SeriesDescription": "x" * 80})
    dataset = pydicom.dcmread(path)
    assert dataset.SeriesDescription.endswith("SIMULATED") and len(dataset.SeriesDescription) <= 64
    assert "SIMULATED" in dataset.DerivationDescription
    assert dataset.EchoTime == 120


@pytest.mark.tool("dciodvfy")
def test_valid_mr_image(tmp_path: Path) -> None:
    (path, *_) = write_dicom(head(), tmp_path, FLAIR)
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr


def test_patient01_travels(radfleet_data: Path, tmp_path: Path) -> None:
    for study in ("study1", "study2"):
        source = radfleet_data / "ms_lesions/longitudinal/patient01/raw" / f"{study}_FLAIR.nii.gz"
        check(read_nifti(source), tmp_path / study)
