"""DICOM SR of the findings: template TID 1500, one volumetric group (TID 1411) a label, tied to the SEG.

The shape follows IHE AI Results. Codes are those of DICOM PS3.16 and its free SNOMED CT subset; where none
was found (no LOINC code for a brain or lesion volume), SNOMED "Volume" with the segment's own coded type
says it, and nothing was invented.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from serving.results import uids
from serving.results.answer import PRODUCT, WARNING, Answer
from serving.results.objects import ResultObject, ascii_text, built, finish
from serving.results.seg import equipment, segment_numbers, series_description, tracking_id
from serving.results.source import Source

KIND = "sr"
SERIES_NUMBER = 8802

VOLUME = Code("118565006", "SCT", "Volume")
LESION_COUNT = Code("246206008", "SCT", "Number of lesions")
MILLILITRE = Code("ml", "UCUM", "ml")
NO_UNITS = Code("1", "UCUM", "no units")
SOURCE = Code("260753009", "SCT", "Source")
COMMENT = Code("121106", "DCM", "Comment")
# LOINC 24590-2, in DICOM's own examples of TID 1500 for head MR.
PROCEDURE = Code("24590-2", "LN", "MR Brain")


def build(
    answer: Answer,
    findings: Mapping[str, Any],
    seg: ResultObject,
    source: Source,
    predecessors: Sequence[Dataset] = (),
) -> ResultObject:
    """The Comprehensive 3D SR of ``findings`` (the v1 document), referring to ``seg``'s segments.

    ``predecessors`` are headers (class, instance, series and study UID) of the reports of an earlier revision
    that this one replaces. Unverified and preliminary: no person has looked. Raises ObjectInvalid.
    """
    # The doorway: highdicom costs a second to import, so only the writing of results pays for it.
    from highdicom.sr import Comprehensive3DSR

    segmentation = dcmread(DicomBytesIO(seg.data), stop_before_pixels=True)
    with built(KIND):
        evidence = [*source.carriers, _evidence(segmentation, source)]
        result = Comprehensive3DSR(
            evidence=evidence,
            content=_content(answer, findings, segmentation, source),
            series_instance_uid=answer.uid("sr.series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=answer.uid(KIND),
            instance_number=1,
            manufacturer=PRODUCT,
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=list(predecessors) or None,
            series_description=series_description(answer, "SR"),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            contributing_equipment=[equipment(answer)],
        )
    return finish(KIND, result, answer, source)


def _evidence(segmentation: Dataset, source: Source) -> Dataset:
    """The SEG's references without its patient, which the source's carriers leave blank as well."""
    slim = Dataset()
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "Rows",
        "Columns",
    ):
        setattr(slim, keyword, segmentation[keyword].value)
    slim.PatientID = source.carriers[0].PatientID
    return slim


def _content(answer: Answer, findings: Mapping[str, Any], segmentation: Dataset, source: Source) -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=uids.device(answer.digest),
            name=ascii_text(answer.algorithm),
            manufacturer_name=PRODUCT,
            model_name=ascii_text(answer.model),
            serial_number=answer.digest.removeprefix("sha256:"),
        ),
    )
    numbers = segment_numbers_of(findings)
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURE,
        imaging_measurements=[
            _group(answer, finding, numbers[finding["label"]], segmentation, source)
            for finding in findings["findings"]
        ],
    )
    # Before "Imaging Measurements", as the order of TID 1500 asks.
    report[0].ContentSequence.insert(-1, _image_library(source))
    for text in comments(findings):
        report[0].ContentSequence.append(_comment(text))
    return report


def _image_library(source: Source) -> Any:
    """TID 1600: every source image once, with what they share said once for the group.

    The library's own builder repeats position and orientation for each image: for 200 slices that is 0.8 MB.
    """
    from highdicom.sr import (
        CodeContentItem,
        ContainerContentItem,
        ContentSequence,
        ImageContentItem,
        RelationshipTypeValues,
        UIDRefContentItem,
    )
    from pydicom.sr.codedict import codes

    contains, context = RelationshipTypeValues.CONTAINS, RelationshipTypeValues.HAS_ACQ_CONTEXT
    group = ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=contains)
    group.ContentSequence = ContentSequence(
        [
            CodeContentItem(codes.DCM.Modality, codes.cid29.MagneticResonance, context),
            UIDRefContentItem(
                codes.DCM.FrameOfReferenceUID, str(source.original.FrameOfReferenceUID), context
            ),
            *(
                ImageContentItem(
                    name=SOURCE,
                    referenced_sop_class_uid=str(image.SOPClassUID),
                    referenced_sop_instance_uid=str(image.SOPInstanceUID),
                    relationship_type=contains,
                )
                for image in source.carriers
            ),
        ]
    )
    library = ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type=contains)
    library.ContentSequence = ContentSequence([group])
    return library


def segment_numbers_of(findings: Mapping[str, Any]) -> dict[int, int]:
    """Label value -> segment number of the SEG that belongs to these findings."""
    return segment_numbers({str(finding["label"]): finding for finding in findings["findings"]})


def comments(findings: Mapping[str, Any]) -> list[str]:
    """The sentences that stand at the end of the report, in this order."""
    return [
        WARNING,
        f"Answered by {findings['model']['name']} {findings['model']['version']}, {findings['model']['digest']}.",
        *(f"Warning: {text}" for text in findings["warnings"]),
        "Not assessed: " + "; ".join(findings["not_assessed"]) + ".",
    ]


def _group(
    answer: Answer, finding: Mapping[str, Any], number: int, segmentation: Dataset, source: Source
) -> Any:
    from highdicom.sr import (
        AlgorithmIdentification,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=answer.uid(f"tracking.{finding['label']}"), identifier=tracking_id(answer, finding["label"])
        ),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(str(source.original.SeriesInstanceUID)),
        ),
        finding_category=Code(*finding["category"]),
        finding_type=Code(*finding["type"]),
        algorithm_id=AlgorithmIdentification(
            name=ascii_text(answer.model),
            version=ascii_text(answer.version),
            parameters=[answer.digest, *([finding["rule"]] if finding["rule"] else [])],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=PRODUCT,
        ),
        measurements=_measurements(finding),
    )
    if finding["reason"]:
        group[0].ContentSequence.append(_comment(f"Not reported: {finding['reason']}"))
    return group


def _measurements(finding: Mapping[str, Any]) -> list[Any] | None:
    """Volume and count, where they are given: an absent measurement is safer in viewers than an empty one."""
    from highdicom.sr import Measurement

    given = []
    if finding["volume_ml"] is not None:
        given.append(Measurement(name=VOLUME, value=float(finding["volume_ml"]), unit=MILLILITRE))
    if finding["count"] is not None:
        given.append(Measurement(name=LESION_COUNT, value=int(finding["count"]), unit=NO_UNITS))
    return given or None


def _comment(text: str) -> Any:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    return TextContentItem(
        name=COMMENT, value=ascii_text(text), relationship_type=RelationshipTypeValues.CONTAINS
    )
