"""Real vendors' series: a delivered mask and a reader's NIfTI meet on the very voxels, oblique, enhanced or turned."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from registry.core.errors import RadfleetError
from serving.imaging.series import read_stacks
from serving.imaging.volume import Volume
from serving.results import seg, source
from serving.reviews import masks
from serving.reviews.lattice import Grid, onto
from tests.conformance.objects import mask_of, series_of
from tests.kit import sources as kit
from tests.kit.answered import nifti

# How many volumes of each can carry a segmentation.
ARCHIVES = {
    "siemens_prisma_xa30_enhanced_t1_tfl": 1,
    "philips_elition_r571_mprage_classic_every4th": 1,
    "siemens_prisma_e11_t1_fl2d_sag_HFS": 1,
    "ge_head_fm_cv12_3mm_first60": 1,
    "philips_elition_r571_pcasl_enhanced": 1,
    "uih_umr770_t1_gre_sag_every12th": 1,
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_a_mask_meets_its_images(archive: str, radfleet_data: Path, tmp_path: Path) -> None:
    met = 0
    for paths in series_of(radfleet_data / "dicom" / "archives" / f"{archive}.tar.xz", tmp_path / "in"):
        try:
            written = [(v, *_written(v, paths, tmp_path)) for v in read_stacks(paths)[:2]]
        except RadfleetError:  # what cannot be read or written has its own tests
            continue
        for volume, mask, data in written:
            _meets(volume, mask, data, paths, tmp_path)
            met += 1
    assert met >= ARCHIVES[archive]


def _written(volume: Volume, paths: list[Path], folder: Path) -> tuple[np.ndarray, bytes]:
    mask, _ = mask_of(volume)
    return mask, seg.build(kit.answer(), volume, mask, kit.LABELS, source.read(volume, paths)).data


def _meets(volume: Volume, mask: np.ndarray, data: bytes, paths: list[Path], folder: Path) -> None:
    (where := folder / "seg.dcm").write_bytes(data)
    named = set(masks.referenced(where))
    headers = {path: dcmread(path, stop_before_pixels=True, force=True) for path in paths}
    images = [path for path, header in headers.items() if str(header.SOPInstanceUID) in named]
    delivered, grid = masks.delivered(where, images, kit.LABELS)
    assert np.array_equal(onto(delivered, grid.affine, Grid(volume.shape, volume.affine)), mask)
    study = str(headers[images[0]].StudyInstanceUID)
    for drawn in (where, nifti(folder / "m.nii.gz", mask, volume.affine)):
        back, _ = masks.corrected(drawn, grid, kit.LABELS, study_uid=study, study_id="s")
        assert np.array_equal(back, delivered)
