"""What the door reads of an object, and every broken object it refuses by name."""

import struct
import tarfile

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from serving.doors import errors
from serving.doors.elements import walk
from serving.doors.headers import InstanceFacts, announce, facts_of, file_header, split_file_header
from tests.kit.dicom import CANARY_ID, CANARY_NAME, encoded, mr_instance, part10

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def facts(ds: Dataset, syntax: str = EXPLICIT, data: bytes | None = None) -> InstanceFacts:
    raw = encoded(ds, syntax) if data is None else data
    return facts_of(memoryview(raw), 0, announce(ds.SOPClassUID, ds.SOPInstanceUID, syntax))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_facts_are_the_header_s_values(syntax):
    ds = mr_instance(number=7)
    got = facts(ds, syntax)
    assert (got.StudyInstanceUID, got.SeriesInstanceUID) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert (got.PatientName, got.PatientID) == (CANARY_NAME, CANARY_ID)
    assert (got.Rows, got.Columns, got.InstanceNumber, got.NumberOfFrames) == (64, 64, 7, None)
    assert (got.MagneticFieldStrength, got.Manufacturer) == (3.0, "Nobody Imaging")
    assert got.transfer_syntax == syntax
    assert not got.nonconformant_uids


def test_names_are_decoded_by_their_character_set_and_freed_of_control_characters():
    ds = mr_instance(SpecificCharacterSet="ISO_IR 100", PatientName="M\xfcller^J\xf6rg", StationName="a\x07b")
    assert facts(ds).PatientName == "Müller^Jörg"
    assert facts(ds).StationName == "ab"


def test_an_unknown_character_set_is_no_reason_to_refuse():
    ds = mr_instance(PatientName="Plain^Name")
    raw = encoded(ds).replace(b"ISO_IR 192", b"ISO_XX 999")
    assert facts(ds, data=raw).PatientName == "Plain^Name"


def test_no_patient_data_in_a_repr():
    text = repr(facts(mr_instance()))
    assert CANARY_ID not in text and "Kanarie" not in text


def test_leading_zeros_are_kept_and_flagged():
    assert facts(mr_instance(SeriesInstanceUID="1.2.003.4")).nonconformant_uids


@pytest.mark.parametrize("bad", ["../../x", "1.2.a", "1..2", ".1.2", "1.2.", "9" * 65, "1 2", "1.2\n3"])
def test_a_uid_that_is_none_is_refused_without_repeating_it(bad):
    with pytest.raises(errors.BadUid) as caught:
        announce("1.2.840.10008.5.1.4.1.1.4", bad, EXPLICIT)
    assert bad not in caught.value.lines()


def patched(ds: Dataset, keyword: str, raw_value: bytes) -> bytes:
    """The data set with one UID overwritten in place, padded to its old length."""
    old = str(getattr(ds, keyword)).encode()
    old += b"\0" * (len(old) % 2)
    return encoded(ds).replace(old, raw_value.ljust(len(old), b"\0"))


def test_a_nul_inside_a_uid_is_refused():
    # _clean drops it, so what is left differs from what the command announced.
    ds = mr_instance()
    with pytest.raises((errors.BadUid, errors.UidMismatch)):
        facts(ds, data=patched(ds, "SOPInstanceUID", b"1.2\x003.4"))


def test_a_path_as_study_uid_is_refused():
    ds = mr_instance()
    with pytest.raises(errors.BadUid):
        facts(ds, data=patched(ds, "StudyInstanceUID", b"../../x"))


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_a_missing_identifier_is_named(keyword):
    ds = mr_instance()
    spoken = announce(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT)
    delattr(ds, keyword)
    with pytest.raises(errors.MissingElement, match=keyword):
        facts_of(memoryview(encoded(ds)), 0, spoken)


def test_command_and_data_set_must_name_the_same_object():
    ds = mr_instance()
    other = announce(ds.SOPClassUID, "1.2.3", EXPLICIT)
    with pytest.raises(errors.UidMismatch) as caught:
        facts_of(memoryview(encoded(ds)), 0, other)
    assert caught.value.answer.dimse in (0xC000, 0xA900)


def test_every_cut_of_an_object_is_truncated_or_refused():
    ds = mr_instance(size=4)
    raw = encoded(ds)
    for cut in range(1, len(raw)):
        try:
            facts(ds, data=raw[:cut])
        except (errors.Truncated, errors.MissingElement, errors.Malformed):
            continue
        # Between two elements a cut is invisible in structure; only the absence of pixels tells, which is imaging's.
        assert walk(memoryview(raw), 0, EXPLICIT, ())[1] == len(raw)
        assert cut < raw.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 1, "cut inside the pixels went unseen"


def nested(depth: int) -> bytes:
    """A private sequence nested ``depth`` deep with undefined lengths, explicit little endian."""
    opening = struct.pack("<HH2sHL", 0x0009, 0x1010, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def test_deep_nesting_is_malformed_and_not_a_stack_overflow():
    ds = mr_instance()
    assert facts(ds, data=nested(20) + encoded(ds)).Rows == 64
    with pytest.raises(errors.Malformed):
        facts(ds, data=nested(20_000) + encoded(ds))


def test_sequences_of_both_kinds_are_passed_over():
    ds = mr_instance()
    item = Dataset()
    item.PatientID, item.StudyInstanceUID = "inner", "1.9.9"
    ds.ReferencedStudySequence = Sequence([item, item])
    for undefined in (False, True):
        ds["ReferencedStudySequence"].is_undefined_length = undefined
        for part in ds.ReferencedStudySequence:
            part.is_undefined_length_sequence_item = undefined
        for syntax in (EXPLICIT, IMPLICIT):
            assert facts(ds, syntax).PatientID == CANARY_ID


@pytest.mark.parametrize(
    "raw", [b"hello world, I am no data set", b"\xff" * 400, bytes(400), b"PK\x03\x04" * 50]
)
def test_bytes_that_are_no_data_set_are_refused_by_name(raw):
    ds = mr_instance()
    with pytest.raises((errors.Truncated, errors.Malformed, errors.MissingElement)):
        facts(ds, data=raw)


def test_a_file_header_round_trips_and_is_found_however_it_is_cut():
    ds = mr_instance()
    spoken = announce(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT)
    header = file_header(spoken)
    assert header[:128] == bytes(128)
    raw = part10(ds)
    for length in (0, 100, 131, 140, 200):
        assert split_file_header(raw[:length]) is None
    found, start = split_file_header(raw)
    assert found == spoken
    assert raw[start:] == encoded(ds)
    again, offset = split_file_header(header + encoded(ds))
    assert (again, offset) == (spoken, len(header))


def test_what_is_not_a_dicom_file_is_refused():
    for raw in (b"%PDF-1.7" + bytes(300), b"\x89PNG" + bytes(300), bytes(300)):
        with pytest.raises(errors.NotDicom):
            split_file_header(raw)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.3.4"])
def test_deflated_and_unknown_transfer_syntaxes_are_refused(syntax):
    raw = bytearray(part10(mr_instance()))
    at = raw.index(b"1.2.840.10008.1.2.1\0")
    header = file_header(announce("1.2.840.10008.5.1.4.1.1.4", "1.2.3", EXPLICIT))
    assert at and header
    with pytest.raises(errors.TransferSyntaxRefused):
        announce("1.2.840.10008.5.1.4.1.1.4", "1.2.3", syntax)


def test_real_files_of_many_vendors_are_read_or_refused_by_name(radfleet_data):
    named = (errors.NotDicom, errors.Truncated, errors.Malformed, errors.MissingElement, errors.BadUid)
    read, refused = 0, {}
    for archive in sorted((radfleet_data / "dicom" / "archives").glob("*.tar.xz")):
        with tarfile.open(archive) as tar:
            for member in [m for m in tar if m.isfile()][:6]:
                raw = tar.extractfile(member).read()
                try:
                    head = split_file_header(raw)
                    if head is None:
                        raise errors.NotDicom
                    facts_of(memoryview(raw), head[1], head[0])
                    read += 1
                except (*named, errors.TransferSyntaxRefused, errors.UidMismatch) as error:
                    refused.setdefault(error.code, []).append(f"{archive.name}:{member.name}")
    print(refused)
    assert read > 100
    assert sum(map(len, refused.values())) < read / 5
