"""A real Orthanc with DICOMweb on loopback, in a temporary folder, as the receiving archive."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.kit.db import free_port

# Where Debian and Orthanc's own packages put the plugin.
_PLUGINS = (
    Path("/usr/share/orthanc/plugins"),
    Path("/usr/local/share/orthanc/plugins"),
    Path("/usr/lib/orthanc"),
)


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc: DICOM port, HTTP root and DICOMweb root."""

    dicom_port: int
    http: str
    dicomweb: str

    def instance(self, sop_instance_uid: str) -> bytes | None:
        """The stored file of one instance; None where there is none."""
        found = httpx.post(f"{self.http}/tools/lookup", content=sop_instance_uid).json()
        ids = [item["ID"] for item in found if item["Type"] == "Instance"]
        return httpx.get(f"{self.http}/instances/{ids[0]}/file").content if ids else None

    def count(self) -> int:
        """How many instances are stored."""
        return len(httpx.get(f"{self.http}/instances").json())


@contextmanager
def orthanc() -> Iterator[Orthanc]:
    """Start Orthanc, wait until it answers, stop it afterwards."""
    program = shutil.which("Orthanc")
    plugins = [
        folder / "libOrthancDicomWeb.so" for folder in _PLUGINS if (folder / "libOrthancDicomWeb.so").exists()
    ]
    if program is None or not plugins:
        raise FileNotFoundError("Orthanc or its DICOMweb plugin is not installed")
    dicom, web = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="radfleet-orthanc-") as folder:
        config = {
            "Name": "PACS", "DicomAet": "PACS", "DicomPort": dicom, "HttpPort": web, "StorageDirectory": folder,
            "IndexDirectory": folder, "Plugins": [str(plugins[0])], "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomCheckCalledAet": False, "DicomAlwaysAllowStore": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        path = Path(folder) / "orthanc.json"
        path.write_text(json.dumps(config))
        # Without it dcmtk's receiver waits 40 ms an object (Nagle's algorithm and delayed acknowledgement).
        process = subprocess.Popen(
            [program, str(path)], env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            root = f"http://127.0.0.1:{web}"
            _wait(process, root)
            yield Orthanc(dicom, root, f"{root}/dicom-web")
        finally:
            process.terminate()
            process.wait(20)


def _wait(process: "subprocess.Popen[bytes]", root: str) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"Orthanc ended with status {process.returncode}")
        try:
            if httpx.get(f"{root}/system", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("Orthanc did not answer within 20 s")
