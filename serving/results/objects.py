"""The last gate of a result object: one stamp, one check of every value, one encoding.

The same answer gives the same bytes: times come from the result row, and UIDs that the writing library
draws at random are derived instead.
"""

import hashlib
import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import config, dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr

from registry.core.errors import RadfleetError
from serving.results import uids
from serving.results.answer import PRODUCT, QUALIFICATION, Answer
from serving.results.errors import ObjectInvalid
from serving.results.source import VERBATIM, Source, copy_identity
from serving.results.values import first_unlawful

# DCM "Acquisition Equipment": the scanner's own entry keeps the scanner's own time.
_ACQUISITION = "109101"
IMPLEMENTATION_NAME = "RADFLEET"


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One encoded DICOM object, ready to be stored and sent. ``sha256`` is over ``data``, in hex."""

    kind: str
    SOPInstanceUID: str
    SOPClassUID: str
    data: bytes
    sha256: str


def finish(kind: str, result: Dataset, answer: Answer, source: Source) -> ResultObject:
    """Stamp ``result``, give it the source's identity, check it and encode it. Raises ObjectInvalid."""
    _stamp(result, answer)
    correct_ambiguous_vr(result, True)
    copy_identity(source.original, result)
    result.ContentQualification = QUALIFICATION
    check(result, source.references)
    buffer = io.BytesIO()
    try:
        with config.disable_value_validation():
            dcmwrite(buffer, result, enforce_file_format=True)
    except Exception as error:  # noqa: BLE001 - the library's text may hold values of the patient
        raise ObjectInvalid(f"the {kind} object cannot be encoded ({type(error).__name__})") from None
    data = buffer.getvalue()
    with config.disable_value_validation():
        back = dcmread(io.BytesIO(data), stop_before_pixels=True)
    if back.SOPInstanceUID != answer.uid(kind) or back.StudyInstanceUID != source.original.StudyInstanceUID:
        raise ObjectInvalid(f"the {kind} object does not read back as it was written")
    return ResultObject(
        kind=kind,
        SOPInstanceUID=str(back.SOPInstanceUID),
        SOPClassUID=str(back.SOPClassUID),
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
    )


@contextmanager
def built(kind: str) -> Iterator[None]:
    """Turn whatever the writing library refuses into ObjectInvalid: its own text may hold patients' values."""
    try:
        with config.disable_value_validation():
            yield
    except RadfleetError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises many kinds for a source it does not like
        raise ObjectInvalid(
            f"the {kind} object cannot be built from this source ({type(error).__name__})"
        ) from None


def check(result: Dataset, references: frozenset[str] = frozenset()) -> None:
    """Raise ObjectInvalid unless every value that we chose fits its value representation (PS3.5 6.2).

    The source's own patient and study attributes, and its UIDs (``references``), are passed over: they must
    go back as they came, right or wrong, or the archive would not find what they name.
    """
    bad = first_unlawful(result, VERBATIM, references)
    if bad is not None:
        raise ObjectInvalid(f"{bad.keyword or bad.tag} breaks the rules of VR {bad.VR}")


def ascii_text(text: str, longest: int = 1024) -> str:
    """``text`` in printable ASCII: the one character set that every SpecificCharacterSet contains."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain if letter.isprintable()).strip()[:longest]


def code_string(text: str) -> str:
    """``text`` as a CS value: upper case, digits and underscore, at most 16 characters."""
    return "".join(letter if letter.isalnum() else "_" for letter in ascii_text(text).upper())[:16]


def _stamp(result: Dataset, answer: Answer) -> None:
    date, time = answer.created_at.strftime("%Y%m%d"), answer.created_at.strftime("%H%M%S")
    for keyword in ("InstanceCreationDate", "ContentDate", "SeriesDate", "AcquisitionDate"):
        if keyword in result:
            setattr(result, keyword, date)
            setattr(result, keyword.replace("Date", "Time"), time)
    if "DateOfSecondaryCapture" in result:
        result.DateOfSecondaryCapture, result.TimeOfSecondaryCapture = date, time
    if "DimensionOrganizationSequence" in result:
        scheme = answer.uid("seg.dimensions")
        for item in [*result.DimensionOrganizationSequence, *result.DimensionIndexSequence]:
            item.DimensionOrganizationUID = scheme
    for item in result.get("ContributingEquipmentSequence", []):
        if item.PurposeOfReferenceCodeSequence[0].CodeValue != _ACQUISITION:
            item.ContributionDateTime = date + time
    result.Manufacturer = PRODUCT
    result.ManufacturerModelName = ascii_text(answer.algorithm, 64)
    result.SoftwareVersions = [answer.product_version, ascii_text(answer.version, 64)]
    # LO holds 64 characters: the digest's hex without its prefix names the version that answered.
    result.DeviceSerialNumber = answer.digest.removeprefix("sha256:")
    result.file_meta.ImplementationClassUID = uids.IMPLEMENTATION_UID
    result.file_meta.ImplementationVersionName = IMPLEMENTATION_NAME
