"""Which series of a study a model may answer, and why each other one was refused.

Three looks, cheapest first: headers (modality, sequence class, body part), geometry (slices, voxel size,
coverage), and pixels (does it look like a head). A refusal is data, not an exception: every series gets
a code and a sentence, and only a study without any eligible series becomes an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from serving.imaging import errors
from serving.imaging.geometry import spacing_of
from serving.imaging.outline import outline, shrink
from serving.imaging.profile import ANATOMICAL, SequenceClass
from serving.imaging.volume import Volume

# BodyPartExamined of other regions (PS3.16 CID 4031). Absent or head-like values prove nothing: phantoms
# say BRAIN.
_OTHER_PARTS = frozenset(
    {"ABDOMEN", "ANKLE", "ARM", "BREAST", "CHEST", "CSPINE", "ELBOW", "EXTREMITY", "FOOT", "HAND", "HEART",
     "HIP", "KNEE", "LEG", "LIVER", "LSPINE", "LUMBAR", "PELVIS", "PROSTATE", "SHOULDER", "SPINE", "THIGH",
     "THORAX", "TSPINE", "UTERUS", "WHOLEBODY", "WRIST", "PHANTOM"}
)  # fmt: skip

SMALLEST_MM, WIDEST_MM, LONGEST_MM, TALLEST_MM = 90.0, 220.0, 270.0, 330.0
SMOOTHEST, WILDEST = 0.06, 0.9


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What headers and geometry tell of one series. Lengths in mm; ``problem`` is its refusal, if any."""

    SeriesInstanceUID: str
    modality: str
    sequence_class: SequenceClass
    body_part: str
    slices: int
    spacing_mm: tuple[float, float, float]
    coverage_mm: float
    volumes: int
    three_d: bool
    problem: errors.ImagingError | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision on one series: a stable code and a sentence for people."""

    SeriesInstanceUID: str
    chosen: bool
    code: str
    sentence: str

    def record(self) -> dict[str, Any]:
        """The plain JSON form."""
        return {
            "SeriesInstanceUID": self.SeriesInstanceUID,
            "chosen": self.chosen,
            "code": self.code,
            "sentence": self.sentence,
        }


def refusal(facts: SeriesFacts, accepts: Mapping[str, Any]) -> errors.ImagingError | None:
    """Why a series does not fit ``accepts``, or None where it does.

    ``accepts`` keys: Modality, contrast (list of sequence classes, or ["any"]), slices_min, voxel_mm_max,
    coverage_mm_min. Absent keys accept anything.
    """
    wanted_modality = accepts.get("Modality", "MR")
    if facts.modality != wanted_modality:
        return errors.NotMr("This series is not an MR image series.")
    if facts.problem is not None:
        return facts.problem
    if facts.body_part.upper().replace(" ", "").replace("_", "") in _OTHER_PARTS:
        return errors.NotAHead("BodyPartExamined names another part of the body.")
    return _class_refusal(facts, accepts) or _geometry_refusal(facts, accepts)


def _class_refusal(facts: SeriesFacts, accepts: Mapping[str, Any]) -> errors.ImagingError | None:
    kind = facts.sequence_class
    wanted = [str(name).upper() for name in accepts.get("contrast", ["any"])]
    if kind.value in wanted:
        return None
    if kind in (SequenceClass.EPI, SequenceClass.FIELDMAP, SequenceClass.DWI, SequenceClass.PERFUSION):
        return errors.FieldMapOrEpiOnly(f"This series is a {kind.value} series, not an anatomical one.")
    if kind is SequenceClass.LOCALIZER:
        return errors.MixedOrientation("This series is a localizer.")
    if kind is SequenceClass.DERIVED:
        return errors.NoEligibleSeries("This series was computed from another one.")
    if "ANY" in wanted and (kind in ANATOMICAL or kind is SequenceClass.UNKNOWN):
        return None
    return errors.NoEligibleSeries(
        f"This series is {kind.value}; the model accepts {', '.join(wanted)}.",
        "The class follows from sequence family, echo, repetition and inversion time.",
    )


def _geometry_refusal(facts: SeriesFacts, accepts: Mapping[str, Any]) -> errors.ImagingError | None:
    least = int(accepts.get("slices_min", 3))
    if facts.slices < least:
        return errors.TooFewSlices(
            f"This series has {facts.slices} slices; the model needs {least}.",
            "A stack this thin does not hold the structures that the model was trained on.",
        )
    largest = accepts.get("voxel_mm_max")
    if largest is not None and max(facts.spacing_mm) > float(largest):
        return errors.NoEligibleSeries(
            f"A voxel edge of {max(facts.spacing_mm):.1f} mm exceeds {largest} mm."
        )
    coverage = accepts.get("coverage_mm_min")
    if coverage is not None and facts.coverage_mm < float(coverage):
        return errors.NoEligibleSeries(
            f"Coverage is {facts.coverage_mm:.0f} mm; the model needs {coverage} mm."
        )
    return None


def rank(facts: SeriesFacts, accepts: Mapping[str, Any]) -> tuple[float, ...]:
    """Order of preference among eligible series, smallest first.

    The model's own order of contrasts, then few volumes, then the finest largest voxel edge, then
    coverage; the UID last, so that equal series are always chosen alike.
    """
    wanted = [str(name).upper() for name in accepts.get("contrast", ["any"])]
    place = wanted.index(facts.sequence_class.value) if facts.sequence_class.value in wanted else len(wanted)
    unknown = facts.sequence_class is SequenceClass.UNKNOWN
    return (place, unknown, facts.volumes > 1, round(max(facts.spacing_mm), 2), -round(facts.coverage_mm))


def choose(series: Sequence[SeriesFacts], accepts: Mapping[str, Any]) -> list[Choice]:
    """A decision for each series, in the given order; at most one is chosen.

    The others that would have fitted say that another one fits better.
    """
    reasons = [refusal(facts, accepts) for facts in series]
    fit = [n for n, reason in enumerate(reasons) if reason is None]
    best = min(fit, key=lambda n: (rank(series[n], accepts), series[n].SeriesInstanceUID), default=None)
    made = []
    for n, facts in enumerate(series):
        reason = reasons[n]
        if n == best:
            edges = " x ".join(f"{edge:.1f}" for edge in facts.spacing_mm)
            sentence = (
                f"{facts.sequence_class.value}, {facts.slices} slices, {edges} mm: fits the model best."
            )
            made.append(Choice(facts.SeriesInstanceUID, True, "chosen", sentence))
        elif reason is None:
            sentence = "Fits, but another series of this study fits better."
            made.append(Choice(facts.SeriesInstanceUID, False, "not_best", sentence))
        else:
            made.append(Choice(facts.SeriesInstanceUID, False, reason.code, reason.what))
    return made


def study_error(reasons: Sequence[errors.ImagingError]) -> errors.ImagingError:
    """The one error of a study without an eligible series.

    If all series that are MR were refused with one code, that refusal speaks for the study.
    """
    telling = [reason for reason in reasons if not isinstance(reason, errors.NotMr)]
    if not telling:
        return reasons[0] if reasons else errors.NotMr()
    if len({reason.code for reason in telling}) == 1:
        return telling[0]
    codes = ", ".join(sorted({reason.code for reason in telling}))
    return errors.NoEligibleSeries(
        "No series of this study fits what the model accepts.", f"Refused: {codes}."
    )


def head_refusal(volume: Volume) -> errors.NotAHead | None:
    """Why a volume does not look like a human head, or None.

    Measured on a 4 mm grid: the size of the imaged object (RAS extents of its filled outline, mm), and
    the texture inside it: phantoms are smooth, fruit is bright outside and near black inside. Limits: a
    structured phantom or an animal head of human size passes; a head in a field of view under 90 mm is
    refused. Body parts of head size (a knee) are told by BodyPartExamined alone.
    """
    small, affine = shrink(volume.voxels, volume.affine)
    solid = outline(small)
    if solid is None:
        return errors.NotAHead("Nothing stands out from the background.")
    places = np.argwhere(solid) @ affine[:3, :3].T
    width, length, height = (float(n) for n in np.ptp(places, axis=0))
    if width < SMALLEST_MM or length < SMALLEST_MM:
        return errors.NotAHead("The imaged object is smaller than a head.")
    if width > WIDEST_MM or length > LONGEST_MM or height > TALLEST_MM:
        return errors.NotAHead("The imaged object is larger than a head.")
    texture, spread = _texture(small, solid, np.array(spacing_of(affine)))
    if texture < SMOOTHEST:
        return errors.NotAHead("The inside of the imaged object is as smooth as a phantom's.")
    if spread > WILDEST:
        return errors.NotAHead("The inside of the imaged object is far more uneven than a head.")
    return None


def _texture(
    small: NDArray[np.float32], solid: NDArray[np.bool_], edges: NDArray[np.float64]
) -> tuple[float, float]:
    """Fine texture (robust sd of the 6 mm high-pass over the median) and spread (sd over mean) inside."""
    depth = ndimage.distance_transform_edt(solid, sampling=edges)
    inside = depth > min(12.0, 0.4 * float(depth.max()))
    values = small[inside]
    middle = float(np.median(values))
    if values.size < 50 or middle <= 0 or values.mean() <= 0:
        return 0.0, float("inf")
    fine = (small - ndimage.gaussian_filter(small, 6.0 / edges))[inside] / middle
    robust = 1.4826 * float(np.median(np.abs(fine - np.median(fine))))
    return robust, float(values.std() / values.mean())
