"""The DICOM door on real sockets: what is kept, what is refused and with which status."""

import errno
import os
import socket
import struct
import subprocess
import time
from io import BytesIO

import pytest
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import MRImageStorage, Verification

from registry.core.db import DatabaseAway
from serving.doors.elements import EXPLICIT_LE
from serving.doors.errors import SenderUnknown
from serving.requestor import HANDLERS
from tests.kit.dicom import CANARY_ID, CANARY_NAME, encoded, heard, mr_instance, mr_series, uid, write_series
from tests.serving.doors.conftest import CALLED, CALLING

DEFLATED = "1.2.840.10008.1.2.1.99"


def associate(house, calling=CALLING, called=CALLED, classes=(MRImageStorage,), syntaxes=(EXPLICIT_LE,)):
    ae = AE(ae_title=calling)
    for sop_class in classes:
        ae.add_requested_context(sop_class, list(syntaxes))
    ae.add_requested_context(Verification)
    return ae.associate("127.0.0.1", house.port, ae_title=called, evt_handlers=HANDLERS)


@pytest.fixture
def peer(dicom):
    assoc = associate(dicom)
    assert assoc.is_established
    yield assoc
    assoc.release()


def send(assoc, data, sop_instance, sop_class=MRImageStorage):
    """C-STORE with a command and a data set of our choice; returns (status, comment)."""
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_instance
    request.Priority = 2
    request.DataSet = BytesIO(data)
    context = assoc._get_valid_context(MRImageStorage, EXPLICIT_LE, "scu")
    assoc.dimse.send_msg(request, context.context_id)
    if not data:  # pynetdicom sends no fragment at all then; an honest sender sends an empty last one
        empty = P_DATA()
        empty.presentation_data_value_list.append((context.context_id, b"\x02"))
        assoc.dul.send_pdu(empty)
    _, answer = assoc.dimse.get_msg(block=True)
    return answer.Status, str(answer.ErrorComment or "")


def test_echo_and_store_keep_the_very_bytes(dicom, peer):
    assert peer.send_c_echo().Status == 0
    ds = mr_instance()
    data = encoded(ds)
    assert send(peer, data, ds.SOPInstanceUID) == (0, "")
    ((key, item, source),) = dicom.ledger.rows
    assert key == (dicom.clinic.id, ds.SOPInstanceUID)
    assert source == "c-store"
    assert item.facts.PatientID == CANARY_ID
    (path,) = dicom.files()
    assert path.read_bytes().endswith(data)
    assert path == dicom.store.root / item.stored.path
    from pydicom import dcmread

    assert dcmread(path).PatientName == CANARY_NAME


def test_an_object_of_many_pdus_and_of_another_syntax(dicom):
    ds = mr_instance(size=700)
    assoc = associate(dicom, syntaxes=("1.2.840.10008.1.2",))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    assert assoc.send_c_store(ds).Status == 0
    assoc.release()
    ((_, item, _),) = dicom.ledger.rows
    assert item.facts.transfer_syntax == "1.2.840.10008.1.2"
    assert item.stored.size > 980_000


def test_a_sender_quicker_than_the_second_thread_is_heard(dicom, monkeypatch):
    """Its first full PDU comes before pynetdicom's own thread has noted that the association is accepted."""
    from pynetdicom.acse import ACSE

    accept = ACSE.send_accept

    def slowly(acse):
        accept(acse)
        time.sleep(0.5)

    monkeypatch.setattr(ACSE, "send_accept", slowly)
    ds = mr_instance(size=700)
    assoc = associate(dicom)
    assert send(assoc, encoded(ds), ds.SOPInstanceUID) == (0, "")
    assoc.release()


def test_the_same_bytes_again_are_a_duplicate_and_leave_one_file(dicom, peer):
    ds = mr_instance()
    for _ in range(3):
        assert send(peer, encoded(ds), ds.SOPInstanceUID)[0] == 0
    assert len(dicom.ledger.rows) == len(dicom.files()) == 1


def test_other_bytes_under_one_uid_are_both_kept(dicom, peer):
    first, second = mr_instance(seed=1), mr_instance(seed=2)
    second.SOPInstanceUID = first.SOPInstanceUID
    assert send(peer, encoded(first), first.SOPInstanceUID)[0] == 0
    assert send(peer, encoded(second), first.SOPInstanceUID)[0] == 0
    assert len(dicom.ledger.rows) == len(dicom.files()) == 2


def bad_objects():
    ds = mr_instance()
    data = encoded(ds)
    evil = encoded(mr_instance(SOPInstanceUID="1.2.3.4"))
    yield "0 bytes", b"", ds.SOPInstanceUID, 0xC000
    yield "not dicom", b"%PDF-1.7 not a data set at all" * 20, ds.SOPInstanceUID, 0xC000
    yield "truncated", data[:-100], ds.SOPInstanceUID, 0xC000
    yield "path as uid", evil, "../../x", 0xC000
    yield "letters as uid", evil, "A" * 64, 0xC000
    yield "mismatch", data, "1.2.3", 0xA900
    yield "no study", encoded(mr_instance(SOPInstanceUID="1.2.3", StudyInstanceUID=None)), "1.2.3", 0xC000


@pytest.mark.parametrize(("data", "name", "status"), [pytest.param(*b[1:], id=b[0]) for b in bad_objects()])
def test_bad_objects_are_refused_by_name_and_the_next_good_one_is_kept(dicom, peer, data, name, status):
    got, comment = send(peer, data, name)
    assert got == status
    assert comment.startswith("doors.")
    assert name not in comment and CANARY_ID not in comment
    assert dicom.files() == []
    good = mr_instance()
    assert send(peer, encoded(good), good.SOPInstanceUID)[0] == 0


def test_a_full_disk_says_a700_and_heals(dicom, peer, monkeypatch):
    ds = mr_instance()

    def full(fd):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        status, comment = send(peer, encoded(ds), ds.SOPInstanceUID)
    assert (status, comment.split(":")[0]) == (0xA700, "doors.disk_low")
    assert dicom.files() == [] and dicom.ledger.rows == []
    assert send(peer, encoded(ds), ds.SOPInstanceUID)[0] == 0


def test_a_database_that_is_away_says_a700_and_heals(dicom, peer):
    def away():
        raise DatabaseAway

    ds = mr_instance()
    dicom.ledger.before = away
    status, comment = send(peer, encoded(ds), ds.SOPInstanceUID)
    assert (status, comment.split(":")[0]) == (0xA700, "core.database_away")
    dicom.ledger.before = None
    assert send(peer, encoded(ds), ds.SOPInstanceUID)[0] == 0
    assert len(dicom.ledger.rows) == 1
    assert len(dicom.files()) == 2  # the first stays for the sweep: the outcome of a lost commit is unknown


def test_an_unnamed_error_is_a_named_answer_too(dicom, peer):
    def bug():
        raise ZeroDivisionError(CANARY_ID)

    dicom.ledger.before = bug
    ds = mr_instance()
    status, comment = send(peer, encoded(ds), ds.SOPInstanceUID)
    assert status == 0x0110
    assert CANARY_ID not in comment


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", CALLED), (CALLING, "OTHER")])
def test_strangers_are_rejected_alike(dicom, calling, called):
    assoc = heard(lambda: associate(dicom, calling=calling, called=called))
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)


def test_a_door_that_cannot_ask_lets_nobody_in(house):
    from serving.doors.scp import DicomDoor

    def away(*_):
        raise DatabaseAway

    door = DicomDoor(house.intake, away)
    house.port = door.start("127.0.0.1", 0)
    try:
        answer = associate(house).acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)
    finally:
        door.stop(0.1)


def test_an_association_without_a_clinic_stores_nothing(house):
    from serving.doors.scp import DicomDoor

    door = DicomDoor(house.intake, lambda *_: None)
    house.port = door.start("127.0.0.1", 0)
    try:
        assoc, ds = associate(house), mr_instance()
        assert send(assoc, encoded(ds), ds.SOPInstanceUID) == (
            0x0124,
            "doors.sender_unknown: " + SenderUnknown().what,
        )
        assoc.release()
        assert house.files() == []
    finally:
        door.stop(0.1)


def test_low_disk_rejects_for_the_time_being(dicom):
    dicom.store._free_bytes_min, dicom.store._checked = 1 << 62, float("-inf")
    answer = heard(lambda: associate(dicom)).acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


def test_deflated_is_not_negotiated(dicom):
    assoc = associate(dicom, syntaxes=(DEFLATED,))
    assert [str(c.abstract_syntax) for c in assoc.accepted_contexts] == [str(Verification)]
    assoc.release()


def test_an_aborted_object_leaves_nothing_and_what_was_answered_stays(dicom):
    assoc = associate(dicom)
    ds, half = mr_instance(), mr_instance(size=512)
    assert send(assoc, encoded(ds), ds.SOPInstanceUID)[0] == 0
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    request = C_STORE()
    request.MessageID, request.Priority = 2, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, half.SOPInstanceUID
    request.DataSet = BytesIO(encoded(half))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pieces = list(message.encode_msg(assoc.accepted_contexts[0].context_id, 16384))
    for piece in pieces[: len(pieces) // 2]:
        assoc.dul.send_pdu(piece)
    deadline = time.monotonic() + 5
    while len(dicom.files()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(dicom.files()) == 2
    assoc.abort()
    while len(dicom.files()) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(dicom.files()) == len(dicom.ledger.rows) == 1


def connection(house):
    return socket.create_connection(("127.0.0.1", house.port), timeout=5)


def closed(sock):
    try:
        return sock.recv(1024) == b"" or sock.recv(1024) == b""
    except ConnectionError:
        return True


def test_a_huge_associate_request_is_cut_off_before_it_is_kept(dicom):
    with connection(dicom) as sock:
        sock.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0))
        assert closed(sock)
    assert associate(dicom).is_established


def test_a_huge_data_pdu_is_cut_off(dicom):
    assoc = associate(dicom)
    assoc.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 0x7FFFFFFF))
    deadline = time.monotonic() + 5
    while assoc.is_established and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not assoc.is_established


def test_an_object_over_the_cap_is_refused_while_it_comes(dicom, peer, monkeypatch):
    real = dicom.store.create
    monkeypatch.setattr(dicom.store, "create", lambda clinic, shard="": real(clinic, shard, 20_000))
    big = mr_instance(size=512)
    status, comment = send(peer, encoded(big), big.SOPInstanceUID)
    assert (status, comment.split(":")[0]) == (0xC000, "doors.too_large")
    assert dicom.files() == []


def test_a_sender_that_does_not_wait_for_answers_is_slowed_and_not_gathered(dicom):
    assoc = associate(dicom)
    parts = []
    dicom.ledger.before = lambda: parts.append(sum(p.suffix == ".part" for p in dicom.files()))
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    for _ in range(20):
        ds = mr_instance()
        request = C_STORE()
        request.MessageID, request.Priority = 2, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MRImageStorage, ds.SOPInstanceUID
        request.DataSet = BytesIO(encoded(ds))
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        for piece in message.encode_msg(assoc.accepted_contexts[0].context_id, 131072):
            assert isinstance(piece, P_DATA)
            assoc.dul.send_pdu(piece)
    deadline = time.monotonic() + 20
    while len(dicom.ledger.rows) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(dicom.ledger.rows) == len(dicom.files()) == 20
    assert parts == [0] * 20
    assoc.abort()


@pytest.mark.tool("dcmsend", "echoscu")
def test_dcmtk_sends_a_series(dicom, tmp_path):
    series = mr_series(12, size=128)
    write_series(tmp_path / "in", series)
    where = ["-aet", CALLING, "-aec", CALLED, "127.0.0.1", str(dicom.port)]
    subprocess.run(["echoscu", *where], check=True, timeout=30)
    done = subprocess.run(
        ["dcmsend", "+sd", "+r", *where, str(tmp_path / "in")], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {row[0][1] for row in dicom.ledger.rows} == {str(ds.SOPInstanceUID) for ds in series}


@pytest.mark.tool("storescu")
def test_storescu_is_not_slowed_by_delayed_acknowledgement(dicom, tmp_path):
    write_series(tmp_path / "in", mr_series(40))
    where = ["-aet", CALLING, "-aec", CALLED, "127.0.0.1", str(dicom.port)]
    start = time.monotonic()
    subprocess.run(
        ["storescu", "+sd", *where, str(tmp_path / "in")], check=True, timeout=60, env={"TCP_NODELAY": "1"}
    )
    assert len(dicom.ledger.rows) == 40
    assert (time.monotonic() - start) / 40 < 0.5


@pytest.mark.tool("storescu")
def test_a_stranger_is_refused_by_dcmtk_s_account_too(dicom, tmp_path):
    write_series(tmp_path / "in", mr_series(1))
    done = subprocess.run(
        ["storescu", "+sd", "-aet", "STRANGER", "-aec", CALLED, "127.0.0.1", str(dicom.port), str(tmp_path / "in")],
        timeout=30, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stderr


def test_logs_hold_no_patient(dicom, peer, caplog, capfd):
    bad = mr_instance(StudyInstanceUID=None)
    send(peer, encoded(bad), bad.SOPInstanceUID)
    send(peer, b"\xff" * 100, uid())
    text = caplog.text + "".join(capfd.readouterr())
    assert CANARY_ID not in text and "Kanarie" not in text and str(bad.SOPInstanceUID) not in text
