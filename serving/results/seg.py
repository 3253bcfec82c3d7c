"""DICOM SEG BINARY of a mask, on the very planes of its source images.

BINARY because every viewer reads it; LABELMAP is younger than most archives. An empty mask is a result
too: DICOM asks for one frame at least, so it is written as one all-zero frame of each segment, at the
middle plane. A segment that is empty beside others is described and has no frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from serving.imaging.volume import Volume
from serving.results.answer import PRODUCT, QUALIFICATION, Answer
from serving.results.errors import LabelUnknown
from serving.results.objects import ResultObject, ascii_text, built, code_string, finish
from serving.results.source import Source, stored_planes

KIND = "seg"
SERIES_NUMBER = 8801
# A calm palette (CIELab) that stays apart on grey images; labels beyond its end begin again.
_COLOURS = (
    (62.0, 58.0, 60.0),
    (70.0, -40.0, -20.0),
    (80.0, -5.0, 70.0),
    (60.0, 50.0, -40.0),
    (75.0, -50.0, 45.0),
)

Array = npt.NDArray[np.uint8]


def build(
    answer: Answer, volume: Volume, mask: Array, labels: Mapping[str, Mapping[str, Any]], source: Source
) -> ResultObject:
    """The SEG of ``mask`` [I,J,K] on the grid of ``volume``; segment n is the n-th label by value.

    ``labels`` is model.json's block (value -> name, category, type; codes as value, scheme, meaning). Raises
    GridMismatch, LabelUnknown, ObjectInvalid.
    """
    values = segment_numbers(labels)
    planes = _numbered(stored_planes(mask, volume), values)
    with built(KIND):
        result = _segmentation(answer, planes, labels, source)
    if source.enhanced:
        _renumber(result, source.frames)
    measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" not in measures and planes.shape[0] > 1:
        measures.SpacingBetweenSlices = round(float(np.linalg.norm(volume.affine[:3, volume.slice_axis])), 6)
    return finish(KIND, result, answer, source)


def segment_numbers(labels: Mapping[str, Mapping[str, Any]]) -> dict[int, int]:
    """Label value -> segment number: DICOM numbers segments from 1 without gaps."""
    return {value: number for number, value in enumerate(sorted(int(key) for key in labels), start=1)}


def _numbered(planes: Array, values: Mapping[int, int]) -> Array:
    table = np.zeros(256, dtype=np.uint8)
    for value, number in values.items():
        table[value] = number
    unknown = set(np.unique(planes).tolist()) - {0, *values}
    if unknown:
        raise LabelUnknown(f"the mask holds label {min(unknown)}, which model.json does not describe")
    numbered: Array = table[planes]
    return numbered


def _renumber(result: Dataset, frames: Sequence[int]) -> None:
    """Let references name the frames of the instance, of which the carrier held a part in another order."""
    for element in result.iterall():
        if element.keyword == "ReferencedFrameNumber":
            listed = element.value if element.VM > 1 else [element.value]
            numbers = [frames[int(number) - 1] for number in listed]
            element.value = numbers if element.VM > 1 else numbers[0]


def _segmentation(
    answer: Answer, planes: Array, labels: Mapping[str, Mapping[str, Any]], source: Source
) -> Dataset:
    # The doorway: highdicom costs a second to import, so only the writing of results pays for it.
    from highdicom.seg import Segmentation

    pixels = planes
    extra: dict[str, Any] = {"omit_empty_frames": True}
    if not planes.any():
        middle = planes.shape[0] // 2
        pixels = planes[middle : middle + 1]
        extra = {"plane_positions": [_position(source, middle)], "omit_empty_frames": False}
    return Segmentation(
        source_images=list(source.carriers),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(answer, labels),
        series_instance_uid=answer.uid("seg.series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=answer.uid(KIND),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=ascii_text(answer.algorithm, 64),
        software_versions=answer.product_version,
        device_serial_number=answer.digest.removeprefix("sha256:"),
        content_label=code_string(answer.task),
        content_description=ascii_text(f"{answer.algorithm} {QUALIFICATION}", 64),
        series_description=series_description(answer, "SEG"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        contributing_equipment=[equipment(answer)],
        **extra,
    )


def series_description(answer: Answer, kind: str) -> str:
    """What a reader sees in the series list, at most 64 characters."""
    return ascii_text(f"{PRODUCT} {answer.algorithm} {kind} {QUALIFICATION}", 64)


def equipment(answer: Answer) -> Any:
    """The model version as the equipment that processed the images (SOP Common, CID 7005)."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    return ContributingEquipment(
        manufacturer=PRODUCT,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=ascii_text(answer.algorithm, 64),
        software_versions=[answer.product_version, ascii_text(answer.version, 64)],
        device_serial_number=answer.digest.removeprefix("sha256:"),
        contribution_description=ascii_text(f"{answer.digest} on {answer.runtime} {answer.device}"),
    )


def _descriptions(answer: Answer, labels: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=ascii_text(answer.model, 64),
        family=codes.DCM.ArtificialIntelligence,
        version=ascii_text(answer.version, 64),
        source=PRODUCT,
        parameters={"digest": answer.digest, "runtime": answer.runtime, "device": ascii_text(answer.device)},
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=ascii_text(labels[str(value)]["name"], 64),
            segmented_property_category=Code(*labels[str(value)]["category"]),
            segmented_property_type=Code(*labels[str(value)]["type"]),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=answer.uid(f"tracking.{value}"),
            tracking_id=tracking_id(answer, value),
            display_color=CIELabColor(*_COLOURS[(number - 1) % len(_COLOURS)]),
        )
        for value, number in segment_numbers(labels).items()
    ]


def tracking_id(answer: Answer, value: int) -> str:
    """The readable name that ties a segment to its measurements in the report."""
    return ascii_text(f"{answer.task}-{value}", 64)


def _position(source: Source, k: int) -> Any:
    from highdicom import PlanePositionSequence

    if source.enhanced:
        groups = source.carriers[0].PerFrameFunctionalGroupsSequence[k]
        where = groups.PlanePositionSequence[0].ImagePositionPatient
    else:
        where = source.carriers[k].ImagePositionPatient
    return PlanePositionSequence(
        coordinate_system="PATIENT", image_position=[float(value) for value in where]
    )
