"""Mutated PDUs on a real socket: whatever comes, the door answers the next honest sender and leaves nothing behind."""

import random
import socket
import threading
import time

from pynetdicom import evt

from serving.requestor import HANDLERS
from tests.kit.dicom import encoded, mr_instance
from tests.serving.doors.test_scp import associate, send

CASES, SEED = 150, 11


def recorded(house):
    """Every PDU of one honest association, as sent."""
    pdus = []
    from pynetdicom import AE
    from pynetdicom.sop_class import MRImageStorage

    from tests.serving.doors.conftest import CALLED, CALLING

    ae = AE(ae_title=CALLING)
    ae.add_requested_context(MRImageStorage, "1.2.840.10008.1.2.1")
    assoc = ae.associate(
        "127.0.0.1",
        house.port,
        ae_title=CALLED,
        evt_handlers=[*HANDLERS, (evt.EVT_DATA_SENT, lambda e: pdus.append(e.data))],
    )
    ds = mr_instance(size=32)
    assert send(assoc, encoded(ds), ds.SOPInstanceUID)[0] == 0
    assoc.release()
    return pdus


def mutated(pdus, rng):
    """One fault or more: flipped bytes, lengths that lie, cuts, repeats, another order."""
    found = [bytearray(p) for p in pdus]
    for _ in range(rng.randrange(1, 4)):
        victim = rng.randrange(len(found))
        pdu = found[victim]
        kind = rng.randrange(6)
        if kind == 0 and pdu:
            for _ in range(rng.randrange(1, 20)):
                pdu[rng.randrange(len(pdu))] = rng.randrange(256)
        elif kind == 1 and len(pdu) > 6:
            pdu[2:6] = rng.choice([0, 1, 65_535, 65_537, 1 << 20, 0xFFFFFFFF]).to_bytes(4, "big")
        elif kind == 2:
            del pdu[rng.randrange(len(pdu) + 1) :]
        elif kind == 3:
            found.insert(rng.randrange(len(found)), bytearray(pdu))
        elif kind == 4:
            rng.shuffle(found)
        elif len(pdu) > 12:
            at = rng.randrange(6, min(len(pdu), 200))
            pdu[at : at + 2] = rng.randbytes(2)
    return b"".join(found)


def test_whatever_comes_the_next_honest_sender_is_served(dicom):
    rng = random.Random(SEED)
    pdus = recorded(dicom)
    honest = len(dicom.ledger.rows)
    for _ in range(CASES):
        with socket.create_connection(("127.0.0.1", dicom.port), timeout=5) as sock:
            try:
                sock.sendall(mutated(pdus, rng))
                sock.settimeout(0.02)
                while sock.recv(4096):
                    pass
            except OSError:
                pass
    assoc = associate(dicom)
    assert assoc.send_c_echo().Status == 0
    ds = mr_instance()
    assert send(assoc, encoded(ds), ds.SOPInstanceUID)[0] == 0
    assoc.release()
    limit = time.monotonic() + 10
    while time.monotonic() < limit and (
        any(p.suffix == ".part" for p in dicom.files())
        or any(t.name.startswith("AcceptorThread") for t in threading.enumerate())
    ):
        time.sleep(0.05)
    assert not [t for t in threading.enumerate() if t.name.startswith("AcceptorThread")]
    assert not [p for p in dicom.files() if p.suffix == ".part"]
    assert len(dicom.files()) == len(dicom.ledger.rows) >= honest + 1
