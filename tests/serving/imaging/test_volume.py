"""Volumes on disk: saved, loaded, and read from NIfTI."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from serving.imaging import errors
from serving.imaging.series import read_series
from serving.imaging.volume import Volume, load_volume, read_nifti, save_volume
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def test_saved_and_loaded(tmp_path: Path) -> None:
    volume = read_series(write_dicom(head(), tmp_path / "in", FLAIR))
    save_volume(volume, tmp_path / "out")
    loaded = load_volume(tmp_path / "out")
    assert np.array_equal(loaded.voxels, volume.voxels)
    assert np.array_equal(loaded.affine, volume.affine)
    assert (loaded.frames, loaded.axes, loaded.kind) == (volume.frames, volume.axes, "dicom")
    assert loaded.rows_flipped
    (tmp_path / "out" / "volume.npy").unlink()
    with pytest.raises(errors.Malformed):
        load_volume(tmp_path / "out")


def test_nifti(tmp_path: Path) -> None:
    volume = head()
    loaded = read_nifti(nifti(tmp_path / "a.nii.gz", volume.voxels, volume.affine))
    assert np.array_equal(loaded.voxels, volume.voxels) and loaded.kind == "nifti" and loaded.frames == ()
    four = read_nifti(nifti(tmp_path / "b.nii", np.stack([volume.voxels, volume.voxels + 1], axis=3)))
    assert np.array_equal(four.voxels, volume.voxels) and four.warnings


def test_bad_nifti(tmp_path: Path) -> None:
    good = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    hole = good.copy()
    hole[2, 2, 2] = np.nan
    for voxels, kind in (
        (hole, errors.BadValues),
        (np.ones_like(good), errors.ConstantPixels),
        (good[:, :, :2], errors.TooFewSlices),
        (good[0], errors.Malformed),
    ):
        with pytest.raises(kind):
            read_nifti(nifti(tmp_path / "bad.nii", voxels))
    path = nifti(tmp_path / "cut.nii.gz", good)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(errors.Malformed):
        read_nifti(path)
    with pytest.raises(errors.NoGeometry):
        image = nibabel.Nifti1Image(good, None)
        image.header["srow_x"] = [0, 0, 0, 0]
        image.header["sform_code"] = 1
        nibabel.save(image, tmp_path / "flat.nii")
        read_nifti(tmp_path / "flat.nii")
    with pytest.raises(errors.NoGeometry, match="meter"):
        image = nibabel.Nifti1Image(good, np.eye(4))
        image.header.set_xyzt_units("meter")
        nibabel.save(image, tmp_path / "metres.nii")
        read_nifti(tmp_path / "metres.nii")


def test_to_frames_of_a_plain_volume() -> None:
    volume = Volume(np.zeros((4, 5, 6), np.float32), np.eye(4))
    assert volume.to_frames(volume.voxels).shape == (6, 5, 4)
    assert volume.spacing == (1.0, 1.0, 1.0)
