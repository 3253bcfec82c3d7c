"""A scanner that does not give up: sends small studies by C-STORE until each instance is acknowledged.

Run as ``python -m tests.chaos.sender PORT SLUG STUDIES PAUSE_S SLICES_FOLDER LEDGER``. It uses pynetdicom alone and
none of the product's code, so that a fault of the product cannot hide itself in its own ledger.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode

from tests.chaos.ledger import Entry, Ledger

WAIT_S = 0.3
GIVE_UP_S = 300.0


def study(slices: list[Dataset]) -> list[Dataset]:
    """The slices as a study of their own: new UIDs and a person of its own."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    uids = {name: generate_uid(prefix=None) for name in names}
    for ds in slices:
        for name, value in uids.items():
            setattr(ds, name, value)
        ds.PatientID = uids["StudyInstanceUID"][-12:]
        ds.SOPInstanceUID = generate_uid(prefix=None)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return slices


class Scanner:
    """One sender; its association is made again whenever it breaks."""

    def __init__(self, port: int, title: str) -> None:
        self._port = port
        self._ae = AE(ae_title=title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = 20
        self._ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        self._assoc: Any = None

    def store(self, ds: Dataset) -> int:
        """Send until the answer is success; how many tries it took."""
        end, tries = time.monotonic() + GIVE_UP_S, 0
        while time.monotonic() < end:
            tries += 1
            if self._once(ds):
                return tries
            self.release()
            time.sleep(WAIT_S)
        raise SystemExit(f"no acknowledgement within {GIVE_UP_S:.0f} s")

    def _once(self, ds: Dataset) -> bool:
        try:
            if self._assoc is None or not self._assoc.is_established:
                self._assoc = self._ae.associate("127.0.0.1", self._port, ae_title="RADFLEET")
            if not self._assoc.is_established:
                return False
            answer = self._assoc.send_c_store(ds)
        except (RuntimeError, ValueError, OSError):
            return False
        return "Status" in answer and int(answer.Status) == 0

    def release(self) -> None:
        """End the association, however it stands."""
        if self._assoc is not None:
            if self._assoc.is_established:
                self._assoc.release()
            self._assoc = None


def main() -> None:
    """Send the studies, one association each."""
    port, slug, count, pause_s, folder, path = sys.argv[1:7]
    slices = [dcmread(file) for file in sorted(Path(folder).glob("*.dcm"))]
    ledger, scanner = Ledger(Path(path)), Scanner(int(port), slug.upper())
    for _ in range(int(count)):
        for ds in study(slices):
            sent = encode(ds, is_implicit_vr=False, is_little_endian=True) or b""
            tries = scanner.store(ds)
            digest = hashlib.sha256(sent).hexdigest()
            ledger.add(Entry(slug, str(ds.StudyInstanceUID), str(ds.SOPInstanceUID), digest, tries))
        scanner.release()
        time.sleep(float(pause_s))


if __name__ == "__main__":
    main()
