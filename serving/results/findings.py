"""Findings JSON v1: what one model version says about one study, with what it does not say.

The published schema is ``findings.schema.json`` (JSON Schema 2020-12). Every document is checked against
it before it leaves. A number that we cannot stand behind is null and carries its reason.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt

from serving.results import lesions as rule
from serving.results.answer import PRODUCT, QUALIFICATION, WARNING, Answer
from serving.results.errors import FindingsInvalid, LabelUnknown

SCHEMA_FILE = Path(__file__).with_name("findings.schema.json")
SCHEMA_ID = "urn:radfleet:schema:findings:1"
# SNOMED CT category of anything pathological (CID 7150): such labels are counted as lesions.
ABNORMAL = "49755003"
# Contact of the brain with the image's edge. 200 mm2 is less than a cut brainstem (3-4 cm2), so a volume is
# withheld as soon as tissue is missing; lesions are withheld only when a large part of the brain is (20 cm2,
# about a sixth of the largest axial section), because the scan range ends in the brainstem by habit.
VOLUME_CUT_MM2 = 200.0
LESION_CUT_MM2 = 2000.0

NOT_ASSESSED: Mapping[str, tuple[str, ...]] = {
    "ms-lesion": (
        "spinal cord",
        "optic nerve",
        "central vein sign",
        "paramagnetic rim",
        "contrast enhancement",
        "cortical lesions",
        "change since an earlier study",
        "diagnosis or diagnostic criteria",
    ),
}
_NOT_ASSESSED_ALWAYS = ("anything outside the labels listed", "diagnosis")

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine and the imaging room hand over; arrays share one grid [I,J,K], ``affine`` to RAS mm.

    ``mask`` holds the label values of model.json, ``brain`` is non-zero inside the brain. ``labels`` is
    model.json's block. ``withheld`` names labels or numbers (``*``: all) and why they are not given.
    """

    mask: Array
    brain: Array
    affine: npt.NDArray[np.float64]
    labels: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float | None] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    choices: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    withheld: Mapping[str, str] = field(default_factory=dict)


def build(answer: Answer, measured: Measured, identifiers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The findings document.

    ``identifiers`` (StudyInstanceUID, SeriesInstanceUID) are given only where the document stays inside the
    clinic that sent the study; None leaves them out. Raises LabelUnknown, FindingsInvalid.
    """
    _known_labels(measured)
    cut = edge_contact_mm2(measured.brain, measured.affine)
    documents = [_finding(int(value), measured, cut) for value in sorted(measured.labels, key=int)]
    document: dict[str, Any] = {
        "schema": SCHEMA_ID,
        "product": {"name": PRODUCT, "version": answer.product_version},
        "qualification": {"code": QUALIFICATION, "text": WARNING},
        "study": {
            "clinic_id": str(answer.clinic_id),
            "study_id": str(answer.study_id),
            "revision": answer.revision,
            "identifiers": dict(identifiers) if identifiers else None,
        },
        "task": answer.task,
        "model": {
            "name": answer.model,
            "version": answer.version,
            "digest": answer.digest,
            "runtime": answer.runtime,
            "device": answer.device,
        },
        "binding_seq": answer.binding_seq,
        "created_at": answer.created_at.isoformat(),
        "findings": documents,
        "numbers": {name: _number(name, value, measured, cut) for name, value in measured.numbers.items()},
        "quality": measured.quality,
        "profile": measured.profile,
        "series": [_choice(choice, named=identifiers is not None) for choice in measured.choices],
        "warnings": [*measured.warnings, *_edge_warning(cut)],
        "not_assessed": list(NOT_ASSESSED.get(answer.task, _NOT_ASSESSED_ALWAYS)),
        "seconds": measured.seconds,
    }
    document = _plain(document)
    check(document)
    return document


def check(document: Mapping[str, Any]) -> None:
    """Raise FindingsInvalid, naming the field and the rule but never the value, unless the schema holds."""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "the document"
        raise FindingsInvalid(f"findings field {where} breaks the rule {error.validator}")


@cache
def schema() -> dict[str, Any]:
    """The published JSON Schema."""
    loaded: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


@cache
def _validator() -> Any:
    return jsonschema.Draft202012Validator(schema())


def edge_contact_mm2(mask: Array, affine: npt.NDArray[np.float64]) -> float:
    """Area in mm2 by which ``mask`` [I,J,K] touches the faces of its image: tissue that was cut off."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    area = 0.0
    for axis in range(3):
        face = float(np.prod(np.delete(size, axis)))
        ends = {0, mask.shape[axis] - 1}
        area += face * sum(np.count_nonzero(np.take(mask, end, axis=axis)) for end in ends)
    return area


def _known_labels(measured: Measured) -> None:
    present = {int(value) for value in np.unique(measured.mask)} - {0}
    unknown = sorted(present - {int(value) for value in measured.labels})
    if unknown:
        raise LabelUnknown(f"the mask holds label {unknown[0]}, which model.json does not describe")


def _finding(value: int, measured: Measured, cut: float) -> dict[str, Any]:
    label = measured.labels[str(value)]
    where = measured.mask == value
    abnormal = str(label["category"][0]) == ABNORMAL
    reason = _withheld(
        str(value), label["name"], measured, cut, LESION_CUT_MM2 if abnormal else VOLUME_CUT_MM2
    )
    voxel = abs(float(np.linalg.det(measured.affine[:3, :3])))
    finding: dict[str, Any] = {
        "label": value,
        "name": label["name"],
        "category": list(label["category"]),
        "type": list(label["type"]),
        "volume_ml": None if reason else round(int(np.count_nonzero(where)) * voxel / 1000, 3),
        "count": None,
        "punctate": None,
        "reason": reason,
        "rule": None,
        "lesions": None,
    }
    if abnormal:
        table = rule.lesions(where, measured.affine)
        finding["rule"] = rule.RULE
        finding["lesions"] = [_row(number, lesion) for number, lesion in enumerate(table, start=1)]
        if not reason:
            finding["count"] = sum(lesion.counted for lesion in table)
            finding["punctate"] = sum(not lesion.counted for lesion in table)
    return finding


def _row(number: int, lesion: rule.Lesion) -> dict[str, Any]:
    return {
        "number": number,
        "voxels": lesion.voxels,
        "volume_mm3": lesion.volume_mm3,
        "centroid_lps_mm": list(lesion.centroid),
        "long_axis_mm": lesion.long_axis_mm,
        "counted": lesion.counted,
    }


def _number(name: str, value: float, measured: Measured, cut: float) -> dict[str, Any]:
    limit = LESION_CUT_MM2 if name.startswith("lesion") else VOLUME_CUT_MM2
    reason = _withheld(name, name, measured, cut, limit) if name.endswith(("_ml", "_count")) else None
    return {"value": None if reason else value, "reason": reason}


def _withheld(key: str, name: str, measured: Measured, cut: float, limit: float) -> str | None:
    for asked in (key, name, "*"):
        if asked in measured.withheld:
            return measured.withheld[asked]
    if cut > limit:
        return f"The brain is cut off by the edge of the image ({cut / 100:.0f} cm2 of contact)."
    return None


def _edge_warning(cut: float) -> list[str]:
    if cut <= VOLUME_CUT_MM2:
        return []
    return [f"The brain touches the edge of the image ({cut / 100:.0f} cm2): part of it was not imaged."]


def _choice(choice: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
    """One series choice; without its UIDs in a document that may leave the clinic."""
    return {key: value for key, value in choice.items() if named or not key.endswith("UID")}


def _plain(value: Any) -> Any:
    """JSON types only: numpy numbers become Python's, and a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
