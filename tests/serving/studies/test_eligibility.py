"""The choice of a series: what fits, what fits best, and a reason for each of the others."""

from dataclasses import replace

import numpy as np

from serving.imaging import errors
from serving.imaging.profile import SequenceClass
from serving.imaging.volume import Volume
from serving.studies.eligibility import SeriesFacts, choose, head_refusal, refusal, study_error
from tests.serving.imaging.scans import head

FLAIR = SeriesFacts("1.1", "MR", SequenceClass.FLAIR, "BRAIN", 40, (0.7, 0.7, 4.0), 160.0, 1, False)
ACCEPTS = {
    "Modality": "MR", "contrast": ["FLAIR"], "slices_min": 10, "voxel_mm_max": 6.0, "coverage_mm_min": 100,
}  # fmt: skip


def code(facts: SeriesFacts, **accepts: object) -> str | None:
    found = refusal(facts, {**ACCEPTS, **accepts})
    return found.code if found else None


def test_what_fits() -> None:
    assert code(FLAIR) is None
    assert code(replace(FLAIR, sequence_class=SequenceClass.T1), contrast=["any"]) is None
    assert code(replace(FLAIR, sequence_class=SequenceClass.UNKNOWN), contrast=["any"]) is None
    assert refusal(FLAIR, {}) is None


def test_what_does_not() -> None:
    assert code(replace(FLAIR, modality="CT")) == "imaging.not_mr"
    assert code(replace(FLAIR, body_part="SHOULDER")) == "imaging.not_a_head"
    assert code(replace(FLAIR, sequence_class=SequenceClass.T1)) == "imaging.no_eligible_series"
    for kind in (SequenceClass.EPI, SequenceClass.DWI, SequenceClass.FIELDMAP, SequenceClass.PERFUSION):
        assert code(replace(FLAIR, sequence_class=kind), contrast=["any"]) == "imaging.field_map_or_epi_only"
    assert code(replace(FLAIR, sequence_class=SequenceClass.LOCALIZER)) == "imaging.mixed_orientation"
    assert code(replace(FLAIR, sequence_class=SequenceClass.DERIVED)) == "imaging.no_eligible_series"
    assert code(replace(FLAIR, slices=5)) == "imaging.too_few_slices"
    assert code(replace(FLAIR, spacing_mm=(0.7, 0.7, 7.0))) == "imaging.no_eligible_series"
    assert code(replace(FLAIR, coverage_mm=50.0)) == "imaging.no_eligible_series"
    assert code(replace(FLAIR, problem=errors.MissingSlice())) == "imaging.missing_slice"


def test_a_model_of_echo_planar_images_gets_them() -> None:
    assert code(replace(FLAIR, sequence_class=SequenceClass.EPI), contrast=["EPI"]) is None


def test_the_finest_series_is_chosen_and_each_other_one_has_a_reason() -> None:
    fine = replace(FLAIR, SeriesInstanceUID="1.2", spacing_mm=(1.0, 1.0, 1.0), slices=160)
    other = replace(FLAIR, SeriesInstanceUID="1.3", sequence_class=SequenceClass.T1)
    choices = choose([FLAIR, fine, other], ACCEPTS)
    assert [c.chosen for c in choices] == [False, True, False]
    assert [c.code for c in choices] == ["not_best", "chosen", "imaging.no_eligible_series"]
    assert all(c.sentence for c in choices)
    assert choose([other, fine, FLAIR], ACCEPTS)[1].chosen


def test_the_models_order_of_contrasts_comes_first() -> None:
    first = replace(
        FLAIR, SeriesInstanceUID="1.2", sequence_class=SequenceClass.T1, spacing_mm=(1.0, 1.0, 1.0)
    )
    choices = choose([first, FLAIR], {"contrast": ["FLAIR", "T1"]})
    assert choices[1].chosen


def test_the_error_of_a_study() -> None:
    epi, thin, ct = errors.FieldMapOrEpiOnly(), errors.TooFewSlices(), errors.NotMr()
    assert study_error([epi, epi, ct]) is epi
    assert study_error([ct]) is ct
    assert isinstance(study_error([]), errors.NotMr)
    mixed = study_error([epi, thin])
    assert isinstance(mixed, errors.NoEligibleSeries)
    assert "imaging.too_few_slices" in mixed.why_text


def test_heads_and_others() -> None:
    volume = head()
    assert head_refusal(volume) is None
    smooth = Volume(np.where(volume.voxels > 100, 600, 0).astype(np.float32), volume.affine)
    for other in (
        smooth,
        Volume(volume.voxels, volume.affine @ np.diag([0.4, 0.4, 0.4, 1.0])),
        Volume(volume.voxels, volume.affine @ np.diag([1.6, 1.6, 1.0, 1.0])),
        Volume(np.zeros_like(volume.voxels), volume.affine),
    ):
        assert isinstance(head_refusal(other), errors.NotAHead)
