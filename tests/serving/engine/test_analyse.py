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


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    affine = np.diag([-4.0, 4.2, 5.0, 1.0])
    affine[:3, 3] = (60, -60, -60)
    # A head in air: three shells as bright as skin, gray matter and white matter.
    away = np.linalg.norm(np.indices((32, 34, 30)) - np.array([16, 17, 15])[:, None, None, None], axis=0)
    head = np.select([away < 6, away < 10, away < 13], [300.0, 200.0, 100.0], 0.0) + rng.normal(
        0, 5, away.shape
    )
    nibabel.save(nibabel.Nifti1Image(np.abs(head).astype(np.float32), affine), tmp_path / "in.nii.gz")
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
