"""One study with no server: a NIfTI file and a DICOM folder come back as findings and a mask on their grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from serving.engine import errors
from serving.engine.analyse import LocalEngine, analyse
from serving.engine.package import verify_package
from serving.imaging.errors import NotDicom
from serving.imaging.writer import write_dicom
from tests.serving.imaging.scans import FLAIR, head


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    """The head of the imaging tests as a NIfTI file."""
    volume = head()
    nibabel.save(nibabel.Nifti1Image(volume.voxels, volume.affine), tmp_path / "in.nii.gz")
    return tmp_path / "in.nii.gz"


def test_a_nifti_file_is_answered_on_its_own_grid(packed: Path, nifti: Path, tmp_path: Path) -> None:
    findings = analyse(nifti, "toy", tmp_path / "out", packed, threads=1)
    assert json.loads((tmp_path / "out/findings.json").read_text()) == findings
    assert findings["model"]["digest"] == verify_package(packed).digest
    assert findings["model"]["runtime"] in ("openvino", "torch")
    mask = nibabel.load(tmp_path / "out/mask.nii.gz")
    source = nibabel.load(nifti)
    assert mask.shape == source.shape
    assert np.allclose(mask.affine, source.affine)
    assert mask.get_data_dtype() == np.uint8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["findings.json", "mask.nii.gz"]


def test_a_package_answers_only_its_task_and_its_digest(packed: Path, nifti: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.PackageNone):
        analyse(nifti, "ms-lesion", tmp_path / "out", packed)
    with pytest.raises(errors.IdentityMismatch):
        LocalEngine(packed, 1).package("sha256:" + "0" * 64)
    assert not (tmp_path / "out").exists()


def test_a_dicom_folder_gives_what_its_nifti_gives(packed: Path, nifti: Path, tmp_path: Path) -> None:
    write_dicom(head(), tmp_path / "dicom", FLAIR)
    first = analyse(tmp_path / "dicom", "toy", tmp_path / "a", packed, threads=1)
    second = analyse(nifti, "toy", tmp_path / "b", packed, threads=1)
    masks = [nibabel.load(tmp_path / name / "mask.nii.gz") for name in ("a", "b")]
    assert np.array_equal(masks[0].dataobj, masks[1].dataobj)
    assert np.abs(masks[0].affine - masks[1].affine).max() < 1e-3
    assert first["findings"] == second["findings"]
    assert [series["code"] for series in first["series"]] == ["chosen"]


def test_a_folder_without_a_scan_is_refused_by_name(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("not an image")
    with pytest.raises(NotDicom):
        analyse(tmp_path / "empty", "toy", tmp_path / "out", packed)
