"""Reads from an object what its receipt needs: identity, place in the study, scanner, geometry in short."""

import logging
import math
import mmap
import re
import struct
import warnings
from dataclasses import dataclass, fields
from typing import Any

from pydicom import charset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword

from serving.doors.elements import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, walk
from serving.doors.errors import (
    BadUid,
    EmptyObject,
    Malformed,
    MissingElement,
    NotDicom,
    TransferSyntaxRefused,
    UidMismatch,
)

IMPLEMENTATION_CLASS_UID = "2.25.302137411917034822061264510385229114837"
IMPLEMENTATION_VERSION = "RADFLEET_0"
PREAMBLE_BYTES = 132
META_BYTES_MAX = 65_536
TEXT_MAX = 256

# What a door takes: everything that states its identifiers in the clear. Deflated is refused on purpose.
TRANSFER_SYNTAXES = (
    EXPLICIT_LE,
    IMPLICIT_LE,
    EXPLICIT_BE,
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.5",  # RLE
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_STRICT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """Top-level header values of one instance under their DICOM keywords; absent text is ''.

    ``nonconformant_uids`` is true when a UID component has a leading zero: stored, and flagged.
    Holds patient data: never log it.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    PatientID: str
    IssuerOfPatientID: str
    PatientName: str
    PatientBirthDate: str
    PatientSex: str
    AccessionNumber: str
    StudyID: str
    StudyDate: str
    StudyTime: str
    Modality: str
    Manufacturer: str
    ManufacturerModelName: str
    DeviceSerialNumber: str
    SoftwareVersions: str
    StationName: str
    MagneticFieldStrength: float | None
    SeriesDescription: str
    ProtocolName: str
    SeriesNumber: int | None
    InstanceNumber: int | None
    Rows: int | None
    Columns: int | None
    NumberOfFrames: int | None
    SpecificCharacterSet: str
    transfer_syntax: str
    nonconformant_uids: bool

    def __repr__(self) -> str:
        return "InstanceFacts(...)"  # a repr ends up in logs and tracebacks


@dataclass(frozen=True, slots=True)
class Announced:
    """What the sender says about an object before its bytes: the C-STORE command or group 2 of a file."""

    SOPClassUID: str
    SOPInstanceUID: str
    transfer_syntax: str


_TAGS = {
    tag_for_keyword(f.name): f.name for f in fields(InstanceFacts) if tag_for_keyword(f.name) is not None
}
_VR = {keyword: dictionary_VR(tag) for tag, keyword in _TAGS.items() if tag is not None}
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def quiet() -> None:
    """Silence pydicom and pynetdicom in this process: their warnings and log lines repeat the values they dislike.

    Process-wide and called once at a door's start; a filter around each call would not be safe among threads.
    """
    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    config.settings.reading_validation_mode = config.IGNORE
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def announce(sop_class: str, sop_instance: str, transfer_syntax: str) -> Announced:
    """Check what the sender announces. Raises BadUid, MissingElement, TransferSyntaxRefused."""
    for keyword, value in (("SOPClassUID", sop_class), ("SOPInstanceUID", sop_instance)):
        _check_uid(keyword, value)
    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise TransferSyntaxRefused
    return Announced(sop_class, sop_instance, transfer_syntax)


def file_header(announced: Announced) -> bytes:
    """Preamble (zeroed), DICM and group 2 of our own; the data set follows unchanged."""
    elements = b"".join(
        (
            _explicit(0x0001, b"OB", b"\x00\x01"),
            _explicit(0x0002, b"UI", announced.SOPClassUID.encode()),
            _explicit(0x0003, b"UI", announced.SOPInstanceUID.encode()),
            _explicit(0x0010, b"UI", announced.transfer_syntax.encode()),
            _explicit(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _explicit(0x0013, b"SH", IMPLEMENTATION_VERSION.encode()),
        )
    )
    return bytes(128) + b"DICM" + _explicit(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def split_file_header(head: bytes | memoryview) -> tuple[Announced, int] | None:
    """Read preamble and group 2 of a DICOM file: what it announces, and the offset of its data set.

    Returns None when ``head`` is too short to tell; the caller gives more, up to META_BYTES_MAX.
    Raises NotDicom, BadUid, MissingElement, TransferSyntaxRefused, Malformed.
    """
    data = memoryview(head)
    if len(data) < PREAMBLE_BYTES:
        return None
    if bytes(data[128:132]) != b"DICM":
        raise NotDicom
    at, values = PREAMBLE_BYTES, dict[int, bytes]()
    while True:
        if len(data) < at + 12:
            return None
        group, element, vr = struct.unpack_from("<HH2s", data, at)
        if group != 0x0002:
            break
        long = vr in (b"OB", b"UN", b"OW", b"UT", b"SQ")
        length = (
            struct.unpack_from("<L", data, at + 8)[0] if long else struct.unpack_from("<H", data, at + 6)[0]
        )
        at += 12 if long else 8
        if at + length > META_BYTES_MAX:
            raise NotDicom(why="Group 2 of the file is not readable.")
        if len(data) < at + length:
            return None
        values[element] = bytes(data[at : at + length])
        at += length
    texts = {
        k: _clean(v.decode("ascii", "replace")) for k, v in values.items() if k in (0x0002, 0x0003, 0x0010)
    }
    return announce(texts.get(0x0002, ""), texts.get(0x0003, ""), texts.get(0x0010, "")), at


def read_facts(fd: int, start: int, announced: Announced) -> InstanceFacts:
    """Read the header of an open file whose data set begins at ``start``, and follow it to its end.

    Raises EmptyObject, Truncated, Malformed, MissingElement, BadUid, UidMismatch.
    """
    try:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            if len(view) <= start:
                raise EmptyObject
            return facts_of(view, start, announced)
    except (ValueError, struct.error):
        raise Malformed from None


def facts_of(data: memoryview, start: int, announced: Announced) -> InstanceFacts:
    """The facts of the data set in ``data[start:]``; raises as ``read_facts`` does."""
    found, _ = walk(data, start, announced.transfer_syntax, _TAGS)
    encodings = _encodings(found.get(0x00080005, b""))
    big = announced.transfer_syntax == EXPLICIT_BE
    values: dict[str, Any] = {f.name: "" for f in fields(InstanceFacts)}
    for tag, keyword in _TAGS.items():
        values[keyword] = _value(keyword, found.get(tag, b""), encodings, big=big)
    for keyword in _IDENTIFIERS:
        _check_uid(keyword, values[keyword])
    if (values["SOPClassUID"], values["SOPInstanceUID"]) != (announced.SOPClassUID, announced.SOPInstanceUID):
        raise UidMismatch
    values["transfer_syntax"] = announced.transfer_syntax
    values["nonconformant_uids"] = not all(_STRICT_UID.fullmatch(values[k]) for k in _IDENTIFIERS)
    return InstanceFacts(**values)


def _check_uid(keyword: str, value: str) -> None:
    if not value:
        raise MissingElement(f"{keyword} is absent or empty")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise BadUid(f"{keyword} is not a DICOM UID")


def _value(keyword: str, raw: bytes, encodings: list[str], *, big: bool) -> str | int | float | None:
    vr = _VR[keyword]
    if vr == "US":
        return int(struct.unpack_from(">H" if big else "<H", raw)[0]) if len(raw) >= 2 else None
    if vr in ("IS", "DS"):
        return _number(raw.decode("ascii", "replace"), whole=vr == "IS")
    if vr in ("LO", "SH", "PN"):
        return _clean(_decode(raw, encodings))
    return _clean(raw.decode("ascii", "replace"))


def _number(text: str, *, whole: bool) -> float | int | None:
    try:
        value = float(text.split("\\")[0].strip(" \0"))
    except ValueError:
        return None
    if not math.isfinite(value) or abs(value) >= 2**31:
        return None
    return int(value) if whole else value


def _encodings(raw: bytes) -> list[str]:
    names = raw.decode("ascii", "replace").strip(" \0").split("\\")
    try:
        return list(charset.convert_encodings([name.strip() for name in names]))
    except (LookupError, ValueError):
        return ["latin-1"]


def _decode(raw: bytes, encodings: list[str]) -> str:
    try:
        return str(charset.decode_bytes(raw, encodings, {0x0D, 0x0A, 0x09, 0x0C, 0x5E, 0x3D, 0x5C}))
    except (LookupError, ValueError):
        return raw.decode("latin-1")


def _clean(text: str) -> str:
    """Without padding and control characters (a NUL cannot even be stored as text), at most 256 characters."""
    text = text.rstrip("\0")[: 4 * TEXT_MAX]
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text.strip()[:TEXT_MAX]


def _explicit(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr == b"OB":
        return struct.pack("<HH2sHL", 0x0002, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
