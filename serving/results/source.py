"""The source images' headers: whose study a result belongs to, and the planes on which it lies.

Identity is copied verbatim, byte for byte, because an archive files a result by it; a corrected spelling
would be another patient. Everything else is taken as geometry and references only.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import format_number_as_ds

from serving.imaging.volume import Volume
from serving.results.errors import GridMismatch, SourceIncomplete, SourceUnreadable
from serving.results.values import first_unlawful

# Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study modules, PS3.3 C.7.1-2.
_IDENTITY_TEXT = """
    SpecificCharacterSet PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence
    TypeOfPatientID PatientBirthDate PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
    PatientAlternativeCalendar PatientSex ReferencedPatientPhotoSequence QualityControlSubject
    ReferencedPatientSequence PatientBirthTime OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
    EthnicGroup PatientComments PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
    PatientBreedCodeSequence BreedRegistrationSequence StrainDescription StrainNomenclature StrainCodeSequence
    ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientIdentityRemoved
    DeidentificationMethod DeidentificationMethodCodeSequence SourcePatientGroupIdentificationSequence
    GroupOfPatientsIdentificationSequence ClinicalTrialSponsorName ClinicalTrialProtocolID
    ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSubjectID
    ClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolEthicsCommitteeApprovalNumber StudyInstanceUID StudyDate StudyTime
    ReferringPhysicianName ReferringPhysicianIdentificationSequence ConsultingPhysicianName
    ConsultingPhysicianIdentificationSequence StudyID AccessionNumber IssuerOfAccessionNumberSequence
    StudyDescription PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
    PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence ReferencedStudySequence
    ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription
    AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight PatientBodyMassIndex MeasuredAPDimension
    MeasuredLateralDimension PatientSizeCodeSequence MedicalAlerts Allergies SmokingStatus PregnancyStatus
    LastMenstrualDate PatientState Occupation AdditionalPatientHistory AdmissionID IssuerOfAdmissionIDSequence
    ReasonForVisit ReasonForVisitCodeSequence ServiceEpisodeID ServiceEpisodeDescription
    IssuerOfServiceEpisodeIDSequence PatientSexNeutered ClinicalTrialTimePointID
    ClinicalTrialTimePointDescription ConsentForClinicalTrialUseSequence
"""
IDENTITY = tuple(_IDENTITY_TEXT.split())
VERBATIM = frozenset(tag_for_keyword(keyword) or 0 for keyword in IDENTITY)
# Type 2 of those modules: the attribute must stand in a result even where the source lacks it, then empty.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip
# Type 1 of what a result refers to.
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True)
class Source:
    """Headers of one series without pixel data.

    ``carriers`` hold geometry and references with identity left blank (classic: one a slice in the order of
    the volume's frames; enhanced: one in all). ``original`` is the first header as it was read. ``frames`` gives
    for each stored plane the 1-based number of its frame in its instance.
    """

    original: Dataset
    carriers: tuple[Dataset, ...]
    frames: tuple[int, ...]

    @property
    def enhanced(self) -> bool:
        """True where one multi-frame instance holds the whole series."""
        return "PerFrameFunctionalGroupsSequence" in self.original

    @property
    def references(self) -> frozenset[str]:
        """Every UID of the source that a result names."""
        uids = {str(getattr(self.original, keyword)) for keyword in _NEEDED}
        return frozenset(uids | {str(carrier.SOPInstanceUID) for carrier in self.carriers})


def read(volume: Volume, paths: Iterable[Path]) -> Source:
    """Read the headers of the instances from which ``volume`` was made.

    ``paths`` may hold further instances; only those in ``volume.frames`` are used. Raises SourceUnreadable,
    SourceIncomplete.
    """
    wanted = {frame.SOPInstanceUID for frame in volume.frames}
    if not wanted:
        raise SourceIncomplete("this volume did not come from DICOM, so no DICOM result can be made")
    headers: dict[str, Dataset] = {}
    for path in paths:
        header = _header(path)
        name = str(header.get("SOPInstanceUID", ""))
        if name in wanted:
            headers[name] = header
    if len(headers) != len(wanted):
        raise SourceUnreadable(f"{len(wanted) - len(headers)} of {len(wanted)} source instances are missing")
    return from_headers(volume, headers.values())


def from_headers(volume: Volume, headers: Iterable[Dataset]) -> Source:
    """As ``read``, of headers already in memory (left unchanged). Raises SourceIncomplete."""
    # pydicom's warnings print the offending value, and values of patients may stand in no log.
    with disable_value_validation():
        return _from_headers(volume, headers)


def _from_headers(volume: Volume, headers: Iterable[Dataset]) -> Source:
    by_uid = {str(header.SOPInstanceUID): header for header in headers}
    for header in by_uid.values():
        for keyword in _NEEDED:
            if not header.get(keyword):
                raise SourceIncomplete(f"the source images carry no {keyword}")
    names = list(dict.fromkeys(frame.SOPInstanceUID for frame in volume.frames))
    original = by_uid[names[0]]
    numbers = tuple(frame.FrameNumber for frame in volume.frames)
    if "PerFrameFunctionalGroupsSequence" in original:
        if len(names) > 1:
            raise SourceIncomplete("the volume spans more than one enhanced instance")
        return Source(original, (_enhanced(original, numbers),), numbers)
    if len(names) != len(numbers):
        raise SourceIncomplete("several planes share one single-frame instance, as in a mosaic")
    return Source(original, tuple(_carrier(by_uid[name]) for name in names), numbers)


def copy_identity(original: Dataset, result: Dataset) -> None:
    """Put the source's patient and study modules into ``result`` verbatim, and nothing else of the source.

    A sequence of theirs that is empty or holds a broken value is left out; a simple attribute goes back right or wrong.
    """
    with disable_value_validation():
        _copy_identity(original, result)
    # Tells the writer that raw bytes are in its own encoding already, so that it does not decode them again.
    result.set_original_encoding(False, True, original.original_character_set)


def _copy_identity(original: Dataset, result: Dataset) -> None:
    for keyword in IDENTITY:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        if tag in result:
            del result[tag]
        element = original.get_item(tag)
        if element is not None and dictionary_VR(tag) == "SQ":
            # Sequences are all optional. An empty one, or one with a broken code, names nothing, and archives
            # refuse the object for it.
            items = original[tag].value
            if items and all(first_unlawful(item) is None for item in items):
                result[tag] = deepcopy(original[tag])
        elif isinstance(element, RawDataElement):
            result[tag] = _explicit(element, original)
        elif element is not None:
            result[tag] = deepcopy(element)
        elif keyword in _TYPE_2:
            setattr(result, keyword, None)


def stored_planes(mask: npt.NDArray[np.uint8], volume: Volume) -> npt.NDArray[np.uint8]:
    """``mask`` [I,J,K] as the planes that the source stores: [frames, rows, columns]. Raises GridMismatch."""
    if mask.shape != volume.shape or mask.shape[volume.slice_axis] != len(volume.frames):
        raise GridMismatch("the mask and its volume differ in shape or in number of source frames")
    return np.ascontiguousarray(volume.to_frames(mask), dtype=np.uint8)


def _header(path: Path) -> Dataset:
    try:
        with disable_value_validation():
            return dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # noqa: BLE001 - whatever a broken header raises has one cure; its text may hold values
        raise SourceUnreadable(f"a source header cannot be read ({type(error).__name__})") from None


def _explicit(element: RawDataElement, original: Dataset) -> DataElement | RawDataElement:
    vr = element.VR or dictionary_VR(element.tag)
    if vr == "UN" or not element.is_little_endian:
        return original[element.tag]
    # The bytes stay as they were received: decoding and encoding again could change a broken character set.
    return element._replace(VR=vr, is_implicit_VR=False)


def _carrier(header: Dataset) -> Dataset:
    """A copy in which nothing personal is left that the writing library would judge, or print in an error."""
    carrier = Dataset()
    for tag in header.keys():  # noqa: SIM118 - iterating a Dataset would decode identity that must stay raw
        if tag not in VERBATIM and tag.group not in (0x0002, 0x7FE0) and not tag.is_private:
            carrier.add(deepcopy(header[tag]))
    carrier.StudyInstanceUID = header.StudyInstanceUID
    for keyword in _TYPE_2:
        setattr(carrier, keyword, None)
    _shorten_numbers(carrier)
    return carrier


def _shorten_numbers(dataset: Dataset) -> None:
    """Bring decimal strings that a scanner wrote too long to the 16 characters that DICOM allows."""
    for element in dataset.iterall():
        if element.VR == "DS" and element.value is not None:
            values = element.value if element.VM > 1 else [element.value]
            if any(len(str(value)) > 16 for value in values):
                short = [format_number_as_ds(float(value)) for value in values]
                element.value = short if element.VM > 1 else short[0]


def _enhanced(header: Dataset, numbers: Sequence[int]) -> Dataset:
    """Carrier of an enhanced instance with the volume's frames only, in the volume's order.

    An instance may hold several volumes at the same places (echoes, directions), which the segmentation
    library refuses. Orientation and pixel measures are put into the shared groups, where it asks for them:
    some vendors repeat them in each frame, which is as lawful.
    """
    carrier = _carrier(header)
    groups = carrier.PerFrameFunctionalGroupsSequence
    carrier.PerFrameFunctionalGroupsSequence = DicomSequence([groups[number - 1] for number in numbers])
    carrier.NumberOfFrames = len(numbers)
    if "SharedFunctionalGroupsSequence" not in carrier:
        carrier.SharedFunctionalGroupsSequence = DicomSequence([Dataset()])
    shared = carrier.SharedFunctionalGroupsSequence[0]
    first = carrier.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword in shared:
            continue
        if keyword not in first:
            raise SourceIncomplete(f"the source images carry no {keyword}")
        setattr(shared, keyword, DicomSequence(deepcopy(list(first[keyword].value))))
    return carrier
