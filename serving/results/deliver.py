"""Transport of result objects to an archive: C-STORE and STOW-RS, and what each answer means.

Nothing here knows the database. A sent object returns; everything else raises one of three errors, whose
class says what to do: DestinationAway and DestinationBusy mean again later, DestinationRefused means never.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification

from serving.requestor import HANDLERS
from serving.results.errors import DestinationAway, DestinationBusy, DestinationRefused, ObjectMissing

# pynetdicom prints identifiers of requests and responses by default.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

CALLING_AE = "RADFLEET"
PDU_BYTES = 131_072
CONNECT_S = 5.0
ACSE_S = 10.0
DIMSE_S = 60.0
# 0000 stored; 0111 the archive has this very instance already, which is what was wanted.
_STORED = frozenset({0x0000, 0x0111})
_LATER_HTTP = frozenset({401, 403, 404, 408, 425, 429})

Send = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to send: ``kind`` is ``cstore`` (host, port, ae_title) or ``stow`` (url, the DICOMweb root)."""

    kind: str
    host: str = ""
    port: int = 0
    ae_title: str = ""
    url: str = ""


def echo(destination: Destination) -> None:
    """Ask whether a destination is there: C-ECHO (PS3.4 A.4), or the capabilities of a DICOMweb root (PS3.18 8.9).

    Raises DestinationAway, DestinationRefused, DestinationBusy.
    """
    if destination.kind == "stow":
        _echo_http(destination)
        return
    entity = AE(ae_title=CALLING_AE)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ACSE_S
    entity.connection_timeout = CONNECT_S
    entity.add_requested_context(Verification)
    association = entity.associate(
        destination.host, destination.port, ae_title=destination.ae_title, evt_handlers=HANDLERS
    )
    if not association.is_established:
        raise _refusal(association, "the archive accepts no C-ECHO")
    try:
        status = association.send_c_echo()
        if "Status" not in status:
            raise DestinationAway("the archive did not answer in time")
        judge(int(status.Status))
    finally:
        association.release()


def _echo_http(destination: Destination) -> None:
    try:
        with httpx.Client(timeout=httpx.Timeout(ACSE_S, connect=CONNECT_S)) as client:
            status = client.options(_studies(destination.url)).status_code
    except (httpx.TransportError, httpx.InvalidURL):
        raise DestinationAway("the archive does not answer") from None
    # A server that knows no OPTIONS answers 405: it is there, and it took our credentials or needs none.
    if status in (401, 403, 404) or status >= 500:
        raise DestinationBusy(f"the archive answered HTTP {status}")


@contextmanager
def courier(destination: Destination, paths: Sequence[Path]) -> Iterator[Send]:
    """One connection over which the files ``paths`` may be sent one by one.

    The yielded function raises DestinationBusy, DestinationRefused or ObjectMissing for one object, and
    DestinationAway (also raised on entry) when the connection itself is of no more use.
    """
    if destination.kind == "stow":
        with httpx.Client(timeout=httpx.Timeout(DIMSE_S, connect=CONNECT_S)) as client:
            yield lambda path: _post(client, destination, path)
        return
    association = _associate(destination, paths)
    try:
        yield lambda path: _store(association, path)
    finally:
        if association.is_established:
            association.release()


def judge(status: int) -> None:
    """Return for a C-STORE status that means stored; otherwise raise (PS3.4 B.2.3, PS3.7 C).

    Bxxx are warnings: the archive has the object, perhaps with coerced attributes.
    """
    if status in _STORED or 0xB000 <= status <= 0xBFFF:
        return
    said = f"status {status:04X}"
    if 0xA700 <= status <= 0xA7FF or status == 0x0110:
        raise DestinationBusy(f"the archive answered {said}")
    raise DestinationRefused(f"the archive answered {said}")


def _associate(destination: Destination, paths: Sequence[Path]) -> Any:
    entity = AE(ae_title=CALLING_AE)
    entity.maximum_pdu_size = PDU_BYTES
    entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = ACSE_S, DIMSE_S, DIMSE_S
    entity.connection_timeout = CONNECT_S
    for sop_class in sorted({_class_of(path) for path in paths} - {""}):
        # Two contexts, not one with two syntaxes: the archive then accepts each by itself and we know which.
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
        entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
    if not entity.requested_contexts:
        raise ObjectMissing("none of the objects of this delivery is in the store")
    association = entity.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        max_pdu=PDU_BYTES,
        evt_handlers=HANDLERS,
    )
    if association.is_established:
        return association
    raise _refusal(association, "the archive accepts none of the SOP classes offered")


def _refusal(association: Any, nothing: str) -> DestinationAway | DestinationRefused:
    """Why no association was made; ``nothing`` is said where the archive accepts none of what was offered."""
    if association.is_rejected:
        return DestinationAway(
            "the archive rejected the association", why="It may not know our AE title yet."
        )
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        return DestinationRefused(nothing)
    return DestinationAway("the archive does not answer")


def _class_of(path: Path) -> str:
    """The SOP class of a file; empty where it is none: a damaged object must not keep back those beside it."""
    try:
        return str(read_file_meta_info(path).MediaStorageSOPClassUID)
    except Exception:  # noqa: BLE001 - whatever a damaged file provokes has one name, when its own turn comes
        return ""


def _store(association: Any, path: Path) -> None:
    if not association.is_established:
        raise DestinationAway("the archive closed the association")
    if not path.is_file():
        raise ObjectMissing("a result object is not in the store")
    try:
        result = dcmread(path)
    except Exception as error:  # noqa: BLE001 - as above
        raise ObjectMissing(f"a result object cannot be read ({type(error).__name__})") from None
    try:
        status = association.send_c_store(result)
    except ValueError:
        # The library's only ValueError here: no accepted presentation context for this SOP class.
        raise DestinationRefused("the archive does not accept this SOP class") from None
    except RuntimeError:
        raise DestinationAway("the archive closed the association") from None
    if "Status" not in status:
        raise DestinationAway("the archive did not answer in time")
    judge(int(status.Status))


def _post(client: httpx.Client, destination: Destination, path: Path) -> None:
    """STOW-RS of one instance (PS3.18 10.5), in a body of one part."""
    if not path.is_file():
        raise ObjectMissing("a result object is not in the store")
    boundary = "radfleet-result-object"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    try:
        answer = client.post(
            _studies(destination.url),
            content=head + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )
    except (httpx.TransportError, httpx.InvalidURL):
        raise DestinationAway("the archive does not answer") from None
    judge_http(answer.status_code, answer.content)


def _studies(url: str) -> str:
    root = url.rstrip("/")
    return root if root.endswith("/studies") else f"{root}/studies"


def judge_http(status: int, body: bytes) -> None:
    """Return where the instance was stored; otherwise raise.

    200 is success; 202 and 409 carry a FailedSOPSequence whose FailureReason uses C-STORE's codes.
    """
    reasons = _failures(body)
    if status in (200, 202) or (status == 409 and reasons):
        for reason in reasons:
            judge(reason)
        return
    if status in _LATER_HTTP or status >= 500:
        raise DestinationBusy(f"the archive answered HTTP {status}")
    raise DestinationRefused(f"the archive answered HTTP {status}")


def _failures(body: bytes) -> list[int]:
    """FailureReason (0008,1197) of each item of FailedSOPSequence (0008,1198) in DICOM JSON."""
    try:
        answer = json.loads(body)
        document = answer[0] if isinstance(answer, list) else answer
        items = document.get("00081198", {}).get("Value", [])
        return [int(item["00081197"]["Value"][0]) for item in items]
    except (ValueError, AttributeError, LookupError, TypeError):
        # An answer in XML or without a body: its HTTP status says all that we can know.
        return []
