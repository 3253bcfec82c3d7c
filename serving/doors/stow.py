"""Takes the parts of one STOW-RS request and says of each what became of it (PS3.18 10.5)."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from registry.core.errors import RadfleetError
from serving.doors.errors import EmptyObject, NotDicom, TransferSyntaxRefused, UnsupportedMedia
from serving.doors.filestore import new_shard
from serving.doors.headers import META_BYTES_MAX, Announced, split_file_header
from serving.doors.intake import Arrival, Intake, answer_for
from serving.studies.studies_store import Receipt

# Objects that share one fsync of their folder and one commit; it also bounds the open files of a request.
GROUP = 16
_TRANSFER_SYNTAX_REASON = 0xC122  # PS3.18 I.2.2: referenced transfer syntax not supported
_COERCED_WARNING = 0xB000


@dataclass(slots=True)
class _Item:
    """One part: what it announced, its bytes on the way, and its end."""

    announced: Announced | None = None
    arrival: Arrival | None = None
    result: Receipt | RadfleetError | None = None


@dataclass(slots=True)
class StowRequest:
    """The sink of one request's parts. ``study`` is the StudyInstanceUID of the address, or empty."""

    intake: Intake
    clinic_id: UUID
    study: str = ""
    _items: list[_Item] = field(default_factory=list)
    _waiting: list[_Item] = field(default_factory=list)
    _head: bytearray = field(default_factory=bytearray)
    _shard: str = field(default_factory=new_shard)

    def begin(self, headers: Mapping[str, str]) -> None:
        """A part starts."""
        item = _Item()
        kind = headers.get("content-type", "application/dicom").partition(";")[0].strip().lower()
        if kind != "application/dicom":
            item.result = UnsupportedMedia()
        self._items.append(item)
        self._head = bytearray()

    def data(self, piece: memoryview) -> None:
        """The next bytes of the part; an error is kept for the answer and the rest of the part is dropped."""
        item = self._items[-1]
        if item.result is not None:
            return
        try:
            if item.arrival is not None:
                item.arrival.write(piece)
            else:
                self._head += piece
                self._open(item)
        except Exception as error:  # noqa: BLE001 - one bad part must not take the others with it
            self._fail(item, error)

    def _open(self, item: _Item) -> None:
        split = split_file_header(bytes(self._head))
        if split is None:
            if len(self._head) > META_BYTES_MAX:
                raise NotDicom
            return
        item.announced, start = split
        item.arrival = self.intake.open(self.clinic_id, item.announced, self._shard)
        with memoryview(self._head) as view, view[start:] as rest:
            item.arrival.write(rest)
        self._head = bytearray()

    def end(self) -> None:
        """The part is whole; every GROUP of them is made durable and committed at once."""
        item = self._items[-1]
        if item.arrival is None and item.result is None:
            item.result = NotDicom() if self._head else EmptyObject()
        if item.result is None:
            self._waiting.append(item)
        if len(self._waiting) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Receive what waits. A failure of all of them is kept as each one's answer."""
        waiting, self._waiting = self._waiting, []
        arrivals = [item.arrival for item in waiting if item.arrival is not None]
        if not arrivals:
            return
        try:
            results = self.intake.receive(self.clinic_id, arrivals, "stow", study=self.study)
        except Exception as error:  # noqa: BLE001 - named for the answer; nothing of the group is acknowledged
            for item in waiting:
                item.result = answer_for(error)
            return
        for item, result in zip(waiting, results, strict=True):
            item.result = result

    def discard(self) -> None:
        """The request ended early: remove what was not received; what was received stays."""
        for item in self._items:
            if item.result is None and item.arrival is not None:
                with suppress(RadfleetError):
                    item.arrival.discard()

    def _fail(self, item: _Item, error: Exception) -> None:
        item.result = answer_for(error)
        if item.arrival is not None:
            item.arrival.discard()

    def receipts(self) -> list[Receipt]:
        """What was received."""
        return [item.result for item in self._items if isinstance(item.result, Receipt)]

    def errors(self) -> list[RadfleetError]:
        """Why the others were not."""
        return [item.result for item in self._items if isinstance(item.result, RadfleetError)]

    def answer(self) -> tuple[int, dict[str, Any]]:
        """HTTP status and DICOM JSON: 200 all stored, 202 some or with a warning, 409 none."""
        stored, failed, other = list[Any](), list[Any](), list[Any]()
        warned = False
        for item in self._items:
            reference = _reference(item.announced)
            if isinstance(item.result, Receipt):
                if item.result.outcome == "conflict":
                    warned = True
                    reference["00081196"] = _us(_COERCED_WARNING)
                    reference["00000902"] = _lo("kept as another version of this SOPInstanceUID")
                stored.append(reference)
            elif item.result is not None:
                reference["00081197"] = _us(_reason(item.result))
                reference["00000902"] = _lo(item.result.comment())
                (failed if item.announced else other).append(reference)
        sequences = {"00081199": stored, "00081198": failed, "0008119A": other}
        body = {tag: {"vr": "SQ", "Value": rows} for tag, rows in sequences.items() if rows}
        if not stored:
            return 409, body
        return (202 if failed or other or warned else 200), body


def _reason(error: RadfleetError) -> int:
    return _TRANSFER_SYNTAX_REASON if isinstance(error, TransferSyntaxRefused) else error.answer.dimse


def _reference(announced: Announced | None) -> dict[str, Any]:
    if announced is None:
        return {}
    return {
        "00081150": {"vr": "UI", "Value": [announced.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [announced.SOPInstanceUID]},
    }


def _us(value: int) -> dict[str, Any]:
    return {"vr": "US", "Value": [value]}


def _lo(text: str) -> dict[str, Any]:
    return {"vr": "LO", "Value": [text[:64]]}
