"""Quality features move the way the damage goes, and are None where they cannot be measured."""

import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from serving.imaging.quality import NAMES, measure
from serving.imaging.volume import Volume, read_nifti
from tests.serving.imaging.scans import brain_of, head


def like(volume: Volume, voxels: np.ndarray) -> Volume:
    return Volume(voxels.astype(np.float32), volume.affine)


@pytest.fixture(scope="module")
def clean() -> Volume:
    return head((128, 144, 80), (1.5, 1.5, 2.0))


def test_names_and_types(clean: Volume) -> None:
    found = measure(clean, brain_of(clean))
    assert tuple(found) == NAMES
    assert all(value is None or np.isfinite(value) for value in found.values())
    assert found["snr_wm"] is not None and found["cjv"] is not None and found["cnr"] is not None


@pytest.mark.parametrize("masked", [True, False])
def test_noise(clean: Volume, masked: bool) -> None:
    rng = np.random.default_rng(0)
    brain = brain_of(clean) if masked else None
    found = []
    for amount in (0, 40, 120):
        noise = rng.normal(0, amount or 1e-9, size=clean.shape) + 1j * rng.normal(
            0, amount or 1e-9, clean.shape
        )
        found.append(measure(like(clean, np.abs(clean.voxels + noise)), brain))
    assert found[0]["snr_wm"] > found[1]["snr_wm"] > found[2]["snr_wm"]
    assert found[0]["cjv"] < found[1]["cjv"] < found[2]["cjv"]
    assert found[0]["cnr"] > found[1]["cnr"] > found[2]["cnr"]
    assert found[0]["background_sd"] < found[1]["background_sd"] < found[2]["background_sd"]


def test_zeroed_air_is_none_and_flagged(clean: Volume) -> None:
    found = measure(like(clean, np.where(clean.voxels > 90, clean.voxels, 0)), brain_of(clean))
    assert found["background_zeroed"] == 1.0
    for name in ("background_sd", "background_mean", "background_p95", "cnr", "ghost_ratio"):
        assert found[name] is None
    assert measure(clean, brain_of(clean))["background_zeroed"] == 0.0


def test_ghost(clean: Volume) -> None:
    found = []
    for share in (0.0, 0.05, 0.15):
        ghost = np.roll(clean.voxels, clean.shape[1] // 2, axis=1)
        found.append(measure(like(clean, clean.voxels + share * ghost), brain_of(clean))["ghost_ratio"])
    assert found[0] < 0.01 < found[1] < found[2]


def test_blur(clean: Volume) -> None:
    soft = measure(like(clean, ndimage.gaussian_filter(clean.voxels, 1.5)), brain_of(clean))
    sharp = measure(clean, brain_of(clean))
    assert soft["fwhm_mm"] > sharp["fwhm_mm"]
    assert soft["gradient"] < sharp["gradient"]


def test_crop(clean: Volume) -> None:
    whole = measure(clean, brain_of(clean))
    assert whole["touch_left"] == whole["touch_superior"] == whole["brain_cut"] == 0.0
    # The first axis runs from right to left, so cutting its beginning cuts the right side.
    cut = measure(Volume(clean.voxels[40:], clean.affine), brain_of(clean)[40:])
    assert cut["touch_right"] == 1.0 and cut["touch_left"] == 0.0 and cut["brain_cut"] == 1.0
    top = measure(Volume(clean.voxels[..., :45], clean.affine), brain_of(clean)[..., :45])
    assert top["touch_superior"] == 1.0
    assert top["coverage_si_mm"] < whole["coverage_si_mm"]


def test_a_bright_slice(clean: Volume) -> None:
    jumped = clean.voxels.copy()
    jumped[..., 40] *= 1.5
    assert (
        measure(like(clean, jumped), brain_of(clean))["slice_jump"]
        > 2 * measure(clean, brain_of(clean))["slice_jump"]
    )


def test_slow_shading(clean: Volume) -> None:
    ramp = np.linspace(0.6, 1.4, clean.shape[0])[:, None, None]
    assert measure(like(clean, clean.voxels * ramp))["bias_ratio"] > measure(clean)["bias_ratio"]


def test_nothing_there() -> None:
    flat = Volume(np.zeros((40, 40, 40), np.float32), np.eye(4))
    assert set(measure(flat).values()) == {None}


def test_fast_enough() -> None:
    volume = head((256, 256, 160), (0.9, 0.9, 1.1))
    brain = brain_of(volume)
    began = time.process_time()
    measure(volume, brain)
    assert time.process_time() - began < 1.0


def test_on_real_scans(radfleet_data: Path) -> None:
    for name in ("study1_FLAIR", "study1_T1W", "study2_FLAIR", "study2_T1W"):
        volume = read_nifti(radfleet_data / f"ms_lesions/longitudinal/patient01/raw/{name}.nii.gz")
        found = measure(volume)
        assert found["background_zeroed"] == 1.0 and found["cnr"] is None
        assert 5 < found["snr_wm"] < 40
