"""Ten simulated people of the demo's third clinic: generated heads with known lesions, as its new scanner shows them,
and the clinic's past, when they came again and again.

The anatomies are label maps and the lesions those of real masks (serving/training/scenes); nobody's scan is in them.
They are the anatomies and lesions of the very heads that a fine-tune replays and is judged on, drawn and scanned anew,
and the new scanner and SLICE_MM were settled by trying until a fine-tune passed: they show the line, no cure.
"""

import json
import sys
from pathlib import Path

import numpy as np

from serving.demo.past import NEW, scan, write_past

COHORT, AFTER = 9, 1  # people who are reviewed; who come after the promotion
TURN, SLICE_MM, SEED = 7, 5, 20261127


def write_people(folder: Path, cast: dict[str, str]) -> None:
    """Write each one's FLAIR as DICOM to ``folder``/cohort/NN (the last: after/NN), the lesions as NN.nii.gz beside.

    What was measured of them before is written to ``folder``/past.csv.
    """
    import nibabel

    from serving.demo.head import header
    from serving.imaging.series import read_series
    from serving.imaging.volume import Volume
    from serving.imaging.writer import write_dicom
    from serving.training import scenes

    affine, heads = np.diag([1.0, 1.0, SLICE_MM, 1.0]), []
    for number, (_, flair) in zip(range(COHORT + AFTER), scenes.whole(TURN), strict=False):
        seen = scenes.thick(np.where(flair.image > -1, flair.image + 1, 0), SLICE_MM)
        heads.append(seen)
        place = folder / ("cohort" if number < COHORT else "after") / f"{number:02d}"
        about = header(cast) | {"PatientID": f"SIM-{number:02d}", "PatientName": "West^Nobody"}
        shown = Volume(scan(seen, NEW, np.random.default_rng((SEED, number))), affine)
        paths = write_dicom(shown, place, about | {"SeriesDescription": "FLAIR, generated head"})
        back = read_series(paths)
        lesion = (scenes.thick(flair.lesion.astype(np.float32), SLICE_MM) > 0.5).astype(np.uint8)
        if not np.allclose(back.affine, affine):  # the order in which DICOM gives it back
            lesion = lesion[:, ::-1]
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(lesion), back.affine), f"{place}.nii.gz")
    write_past(heads, affine, folder / "past.csv")


if __name__ == "__main__":
    write_people(Path(sys.argv[1]), json.loads(sys.argv[2]))
