"""Findings v1: schema, withheld volumes, and nothing of the patient in it."""

import json

import jsonschema
import numpy as np
import pytest

from serving.results import findings
from serving.results.errors import FindingsInvalid, LabelUnknown
from tests.kit.sources import BRAIN, LABELS, answer

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def measured(**changes: object) -> findings.Measured:
    mask = np.zeros((30, 30, 20), np.uint8)
    mask[10:14, 10:14, 10:12] = 1
    mask[20, 20, 10] = 1
    brain = np.zeros_like(mask)
    brain[5:25, 5:25, 4:16] = 1
    values: dict[str, object] = {
        "mask": mask, "brain": brain, "affine": AFFINE, "labels": LABELS,
        "numbers": {"brain_ml": 9.6, "lesion_count": 2.0},
        "quality": {"snr": np.float32(12.5), "cjv": None, "odd": float("nan")}, "profile": {"field": 3.0},
        "choices": [{"SeriesInstanceUID": "1.2.3", "chosen": True, "reason": "flair", "sentence": "The FLAIR series."}],
        "warnings": ["first volume of a 4D file"], "seconds": {"inference": 1.25},
    }  # fmt: skip
    return findings.Measured(**{**values, **changes})  # type: ignore[arg-type]


def test_the_schema_is_one_and_the_document_keeps_it() -> None:
    jsonschema.Draft202012Validator.check_schema(findings.schema())
    document = findings.build(answer(), measured(), {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3"})
    jsonschema.validate(json.loads(json.dumps(document, allow_nan=False)), findings.schema())
    (lesion,) = document["findings"]
    assert (lesion["volume_ml"], lesion["count"], lesion["punctate"]) == (0.066, 1, 1)
    assert (lesion["rule"], lesion["reason"]) == ("lesions/1", None)
    assert [row["counted"] for row in lesion["lesions"]] == [True, False]
    assert document["model"]["digest"] == answer().digest
    assert document["qualification"]["code"] == "RESEARCH"
    assert document["quality"] == {"snr": 12.5, "cjv": None, "odd": None}
    assert "spinal cord" in document["not_assessed"]


def test_without_identifiers_no_uid_is_in_the_document() -> None:
    text = json.dumps(findings.build(answer(), measured()))
    assert "1.2.3" not in text
    assert "UID" not in text


def test_a_cut_brain_withholds_its_volume_but_not_the_lesions() -> None:
    low = measured()
    low.brain[5:22, 5:22, 0] = 1  # 289 mm2 at the lower edge, as where a scan ends in the brainstem
    document = findings.build(answer(), low)
    assert document["numbers"]["brain_ml"]["value"] is None
    assert "cut off" in document["numbers"]["brain_ml"]["reason"]
    assert document["findings"][0]["volume_ml"] == 0.066
    assert "edge of the image" in document["warnings"][-1]


def test_a_brain_cut_in_half_withholds_the_lesions_too() -> None:
    half = measured(brain=np.ones((30, 30, 20), np.uint8))
    document = findings.build(answer(), half)
    (lesion,) = document["findings"]
    assert (lesion["volume_ml"], lesion["count"], lesion["punctate"]) == (None, None, None)
    assert "cut off" in lesion["reason"]
    assert len(lesion["lesions"]) == 2  # what was seen is still listed


def test_a_structure_has_a_volume_and_no_count() -> None:
    document = findings.build(answer(task="brain-extraction"), measured(labels=BRAIN))
    (brain,) = document["findings"]
    assert (brain["count"], brain["rule"], brain["lesions"]) == (None, None, None)


@pytest.mark.parametrize("key", ["1", "White matter lesion", "*"])
def test_what_the_caller_withholds_is_null_with_its_reason(key: str) -> None:
    document = findings.build(answer(), measured(withheld={key: "Heavy motion."}))
    assert document["findings"][0]["volume_ml"] is None
    assert document["findings"][0]["reason"] == "Heavy motion."


def test_an_empty_mask_is_a_finding_of_nothing() -> None:
    document = findings.build(answer(), measured(mask=np.zeros((30, 30, 20), np.uint8)))
    (lesion,) = document["findings"]
    assert (lesion["volume_ml"], lesion["count"], lesion["lesions"]) == (0.0, 0, [])


def test_an_undescribed_label_is_refused() -> None:
    odd = measured()
    odd.mask[0, 0, 0] = 7
    with pytest.raises(LabelUnknown):
        findings.build(answer(), odd)


def test_a_document_off_the_schema_is_refused_without_its_value() -> None:
    document = findings.build(answer(), measured())
    document["model"]["digest"] = "SECRET^NAME"
    with pytest.raises(FindingsInvalid) as caught:
        findings.check(document)
    assert "SECRET" not in str(caught.value)
    assert "model/digest" in str(caught.value)


def test_a_null_volume_without_a_reason_breaks_the_schema() -> None:
    document = findings.build(answer(), measured())
    document["findings"][0]["volume_ml"] = None
    with pytest.raises(FindingsInvalid):
        findings.check(document)
