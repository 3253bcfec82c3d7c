"""``radfleet study send``: sends the DICOM objects of a path as a scanner or a DICOMweb client would."""

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from registry.core.errors import RadfleetError
from serving.doors.archive import candidates, count
from serving.doors.errors import PeerRefused, SourceMissing
from serving.doors.folder import Progress, Report, read_head
from serving.doors.headers import Announced, file_header, quiet
from serving.requestor import HANDLERS

PDU_BYTES_MAX = 131_072
CONTEXTS_MAX = 128
STOW_GROUP = 50
_READ = 1 << 18
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object to send: what it is, and where its data set lies."""

    announced: Announced
    path: Path
    start: int

    def data(self) -> bytes:
        """The data set, unchanged."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read()


def send(
    path: Path,
    *,
    to: str | None = None,
    calling: str = "RADFLEET_CLI",
    called: str = "RADFLEET",
    url: str | None = None,
    key: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Send every DICOM object of a file, folder or archive to ``to`` (host:port, C-STORE) or ``url`` (STOW-RS).

    Raises SourceMissing, ArchiveRefused, PeerRefused. The report counts what each object was answered.
    """
    quiet()
    if (to is None) == (url is None):
        raise SourceMissing(
            "nothing says where to send to", cure="Give --to HOST:PORT or --url URL with --key KEY."
        )
    report = Report()
    with tempfile.TemporaryDirectory(prefix="radfleet-send-") as scratch:
        parcels = list(_parcels(path, Path(scratch), report))
        step = _stepper(progress, len(parcels))
        if to is not None:
            host, _, port = to.rpartition(":")
            if not port.isdigit():
                raise SourceMissing(
                    "the address is not HOST:PORT", cure="Give --to HOST:PORT, for example --to pacs:104."
                )
            _c_store(parcels, (host or "127.0.0.1", int(port)), calling, called, report, step)
        else:
            _stow(parcels, str(url), key or "", report, step)
    return report


def _stepper(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def step(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    return step


def _parcels(path: Path, scratch: Path, report: Report) -> Iterator[Parcel]:
    """Everything sendable. Files are sent from where they lie, an archive's entries from a scratch folder."""
    in_place = path.is_dir() or count(path) == 1
    for i, candidate in enumerate(candidates(path)):
        try:
            announced, rest = read_head(candidate)
            name = getattr(candidate.stream, "name", None)
            if in_place and isinstance(name, int | str):
                # os.fdopen names a stream by its descriptor: ask the kernel where that file lies.
                where = Path(f"/proc/self/fd/{name}").resolve() if isinstance(name, int) else Path(name)
                yield Parcel(announced, where, candidate.stream.tell() - len(rest))
                continue
            file = scratch / f"{i:06d}"
            with file.open("wb") as copy:
                copy.write(rest)
                while piece := candidate.stream.read(_READ):
                    copy.write(piece)
            yield Parcel(announced, file, 0)
        except RadfleetError as error:
            if error.code == "doors.archive_refused":
                raise
            report.refuse(error)


def _c_store(
    parcels: Sequence[Parcel],
    address: tuple[str, int],
    calling: str,
    called: str,
    report: Report,
    step: Callable[[int], None],
) -> None:
    """One association for up to 128 kinds of object; each kind has its own context, so nothing is converted."""
    kinds = sorted({(p.announced.SOPClassUID, p.announced.transfer_syntax) for p in parcels})
    for first in range(0, len(kinds), CONTEXTS_MAX):
        chosen = kinds[first : first + CONTEXTS_MAX]
        assoc = _associate(chosen, address, calling, called)
        contexts = {
            (str(c.abstract_syntax), str(c.transfer_syntax[0])): c.context_id for c in assoc.accepted_contexts
        }
        try:
            for number, parcel in enumerate(parcels):
                kind = (parcel.announced.SOPClassUID, parcel.announced.transfer_syntax)
                if kind not in chosen:
                    continue
                _note(report, _store_one(assoc, contexts.get(kind), parcel, number % 65_535 + 1))
                step(1)
        finally:
            if assoc.is_established:
                assoc.release()


def _associate(kinds: Sequence[tuple[str, str]], address: tuple[str, int], calling: str, called: str) -> Any:
    ae = AE(ae_title=calling)
    ae.maximum_pdu_size = PDU_BYTES_MAX
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT_S
    for sop_class, transfer_syntax in kinds:
        ae.add_requested_context(sop_class, transfer_syntax)
    host, port = address
    assoc = ae.associate(host, port, ae_title=called, evt_handlers=HANDLERS)
    if not assoc.is_established:
        raise PeerRefused(
            "the association was rejected" if assoc.is_rejected else "no association could be made"
        )
    return assoc


def _store_one(assoc: Any, context_id: int | None, parcel: Parcel, number: int) -> str:
    """Send one object as it is; returns "" or the code of what went wrong.

    pynetdicom's own send_c_store decodes and encodes again, which may change bytes.
    """
    if context_id is None:
        return "peer.context_refused"
    if not assoc.is_established:
        raise PeerRefused("the association ended while sending")
    request = C_STORE()
    request.MessageID, request.Priority = number, 2
    request.AffectedSOPClassUID = parcel.announced.SOPClassUID
    request.AffectedSOPInstanceUID = parcel.announced.SOPInstanceUID
    request.DataSet = BytesIO(parcel.data())
    assoc.dimse.send_msg(request, context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    if answer is None:
        raise PeerRefused("the peer did not answer")
    status = int(answer.Status)
    if status == 0 or status >> 12 == 0xB:
        return ""
    return str(answer.ErrorComment or f"peer.{status:04X}").split(":")[0]


def _note(report: Report, code: str) -> None:
    if code:
        report.reasons[code] += 1
        report.failed += 1
    else:
        report.received += 1


def _stow(parcels: Sequence[Parcel], url: str, key: str, report: Report, step: Callable[[int], None]) -> None:
    import httpx

    address = url.rstrip("/")
    address += (
        ""
        if address.endswith("/studies")
        else "/studies"
        if address.endswith("/dicom-web")
        else "/dicom-web/studies"
    )
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        for first in range(0, len(parcels), STOW_GROUP):
            group = parcels[first : first + STOW_GROUP]
            boundary = secrets.token_hex(16)
            headers = {
                "Authorization": f"Bearer {key}",
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            }
            try:
                answer = client.post(address, content=_body(group, boundary), headers=headers)
            except httpx.HTTPError as error:
                raise PeerRefused(why=f"The request ended with {type(error).__name__}.") from None
            _note_stow(report, answer.status_code, answer.json() if answer.content else {}, len(group))
            step(len(group))


def _body(group: Sequence[Parcel], boundary: str) -> Iterator[bytes]:
    for parcel in group:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield file_header(parcel.announced)
        with parcel.path.open("rb") as file:
            file.seek(parcel.start)
            while piece := file.read(_READ):
                yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _note_stow(report: Report, status: int, body: dict[str, Any], sent: int) -> None:
    if status not in (200, 202, 409):
        code = str(body.get("code", f"http.{status}"))
        if status in (401, 403):
            raise PeerRefused("the key was refused", why=str(body.get("title", "")))
        report.reasons[code] += sent
        report.failed += sent
        return
    report.received += len(body.get("00081199", {}).get("Value", []))
    for tag in ("00081198", "0008119A"):
        for item in body.get(tag, {}).get("Value", []):
            _note(report, str(item.get("00000902", {}).get("Value", ["peer.refused"])[0]).split(":")[0])
