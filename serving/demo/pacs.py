"""A small receiving PACS for the demo: a DICOM peer of its own process that keeps what it is sent.

It stands in for a clinic's archive where none is installed; the tests use Orthanc and dcmtk as peers too.
Run as ``python -m serving.demo.pacs PORT FOLDER``; one line of JSON on stdout for each object received.
"""

import json
import sys
from pathlib import Path

from pydicom.uid import generate_uid
from pynetdicom import AE, StoragePresentationContexts, evt


def serve(port: int, folder: Path) -> None:
    """Receive until the process is ended; files are named by a running number, never by what the data says."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0

    def store(event: evt.Event) -> int:
        nonlocal count
        count += 1
        path = folder / f"{count:05d}.dcm"
        path.write_bytes(event.encoded_dataset())
        line = {
            "path": str(path),
            "calling": event.assoc.requestor.ae_title,
            "called": event.assoc.acceptor.ae_title,
            "class": str(event.request.AffectedSOPClassUID),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        return 0x0000

    peer = AE(ae_title="DEMOPACS")
    peer.implementation_class_uid = generate_uid()
    # Each context offers every common syntax; a PACS that cannot take SEG would be no PACS for this demo.
    peer.supported_contexts = StoragePresentationContexts
    for extra in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.1"):
        peer.add_supported_context(extra)
    peer.start_server(
        ("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_C_ECHO, lambda _: 0)]
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
