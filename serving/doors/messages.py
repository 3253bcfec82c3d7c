"""Messages of one association: C-STORE is gathered, served and answered in the reader's thread, all else goes on.

Nothing is gathered in memory: a data set goes to the store piece by piece as it comes. pynetdicom would decode each
command with the whole of pydicom and hand the message to a second thread; a C-STORE is answered before the next one
may come, so nothing is gained by that.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from registry.core.errors import RadfleetError
from serving.doors.errors import Malformed
from serving.doors.intake import Arrival, answer_for

COMMAND_BYTES_MAX = 65_536
_WAITING_MAX = 8  # commands other than C-STORE not yet answered on one association
_C_STORE_RQ, _NO_DATA_SET = b"\x01\x00", b"\x01\x01"
_COMMAND, _LAST = 1, 2  # the two bits of a fragment's control header, PS3.8 E.2


@dataclass(slots=True)
class StoreRequest:
    """One C-STORE on its way. An error is kept, not raised: what still comes is dropped, and the answer names it."""

    context_id: int
    command: dict[int, bytes]
    arrival: Arrival | None = None
    error: RadfleetError | None = None

    def text(self, element: int) -> str:
        """A UID of the command; empty where it is absent."""
        return self.command.get(element, b"").decode("ascii", "replace").rstrip("\0 ")

    def take(self) -> Arrival | None:
        """Hand over the written object, once."""
        arrival, self.arrival = self.arrival, None
        return arrival

    def discard(self) -> None:
        """Remove what was written."""
        if (arrival := self.take()) is not None:
            arrival.discard()


class DoorMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """Gathers messages with bounds. Only the reader's thread calls it, but for pynetdicom's own queue."""

    def __init__(self, assoc: Any) -> None:
        super().__init__(assoc)
        self._command = bytearray()
        self._store: StoreRequest | None = None

    @property
    def receiving(self) -> bool:
        """Whether an object is on its way; which study it is of is known when it is whole."""
        return self._store is not None

    def get_msg(self, block: bool = False) -> Any:
        """The next message for pynetdicom's second thread, which must not stand still waiting for it."""
        return super().get_msg(block=False)

    def take(self, pdu: memoryview) -> bool:
        """The fragments of one P-DATA; False when they break a rule, which ends the association."""
        try:
            for context_id, control, piece in _fragments(pdu):
                if control & _COMMAND:
                    self._take_command(context_id, control, piece)
                elif self._store is not None:
                    self._take_data(self._store, control, piece)
                elif self.message is None:
                    raise Malformed
                elif control & _LAST:  # no service but C-STORE takes a data set: its bytes are dropped
                    self._pass_on(context_id, b"\x02")
        except Exception as error:  # noqa: BLE001 - an exception here would kill the reader thread silently
            answer_for(error)
            return False
        return True

    def _take_command(self, context_id: int, control: int, piece: memoryview) -> None:
        if self._store is not None or self.message is not None:
            raise Malformed
        if len(self._command) + len(piece) > COMMAND_BYTES_MAX:
            raise Malformed
        self._command += piece
        if not control & _LAST:
            return
        command, self._command = bytes(self._command), bytearray()
        elements = dict(_elements(command))
        if elements.get(0x0100) != _C_STORE_RQ:
            self._pass_on(context_id, b"\x03" + command)
            return
        request = StoreRequest(context_id, elements)
        complete = len(elements.get(0x0110, b"")) == 2 and request.text(0x0002) and request.text(0x1000)
        if not complete or context_id not in self.assoc._accepted_cx:
            raise Malformed
        self._store = request
        if elements.get(0x0800) == _NO_DATA_SET:
            self._serve(request)

    def _take_data(self, request: StoreRequest, control: int, piece: memoryview) -> None:
        if request.error is None and piece:
            try:
                if request.arrival is None:
                    request.arrival = self.assoc.open_arrival(request)
                request.arrival.write(piece)
            except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer
                request.error = answer_for(error)
                request.discard()
        if control & _LAST:
            self._serve(request)

    def _serve(self, request: StoreRequest) -> None:
        self._store = None
        error = self.assoc.door.receive(self.assoc, request)
        answer = store_response(request, error)
        head = struct.pack(">BBLLBB", 4, 0, len(answer) + 6, len(answer) + 2, request.context_id, 3)
        # Straight to the socket: the reader is the one thread that sends, and its state allows it.
        self.dul.socket.send(head + answer)

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        if self.msg_queue.qsize() >= _WAITING_MAX:
            raise Malformed
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, fragment))
        self.receive_primitive(primitive)
        self.assoc.wake()

    def drop(self) -> None:
        """The association has ended: remove what was not whole."""
        if self._store is not None:
            self._store.discard()


def _fragments(pdu: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(presentation context, control header, bytes) of each item of a P-DATA (PS3.8 9.3.5)."""
    at = 0
    while at < len(pdu):
        length, context_id, control = struct.unpack_from(">LBB", pdu, at)
        end = at + 4 + length
        if length < 2 or end > len(pdu):
            raise Malformed
        yield context_id, control, pdu[at + 6 : end]
        at = end


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a command set (PS3.7 6.3.1), implicit little endian as all commands are."""
    at = 0
    while at < len(command):
        group, element, length = struct.unpack_from("<HHL", command, at)
        at += 8
        if group != 0x0000 or at + length > len(command):
            raise Malformed
        yield element, command[at : at + length]
        at += length


def store_response(request: StoreRequest, error: RadfleetError | None) -> bytes:
    """The command set of a C-STORE-RSP (PS3.7 9.3.1.2)."""
    status = struct.pack("<H", error.answer.dimse if error else 0x0000)
    elements = [
        _element(0x0002, request.command[0x0002]),
        _element(0x0100, b"\x01\x80"),
        _element(0x0120, request.command[0x0110]),
        _element(0x0800, _NO_DATA_SET),
        _element(0x0900, status),
        _element(0x0902, error.comment().encode("ascii", "replace")) if error else b"",
        _element(0x1000, request.command[0x1000]),
    ]
    body = b"".join(elements)
    return _element(0x0000, struct.pack("<L", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    padding = (b" " if number == 0x0902 else b"\0") * (len(value) % 2)
    return struct.pack("<HHL", 0x0000, number, len(value + padding)) + value + padding
