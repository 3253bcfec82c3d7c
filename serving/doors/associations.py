"""Bounded associations on top of pynetdicom: size guards, no delay, and data sets that go straight to the disk.

pynetdicom 3.0.4 gathers whatever a peer claims in memory before anybody asked who it is, leaves Nagle's delay on,
queues five connections and polls; the classes here replace exactly those spots and nothing else.
"""

import select
import socket
import struct
import threading
import time
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Protocol

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import LIMITS
from serving.doors.errors import Malformed, SenderUnknown, UidMismatch
from serving.doors.headers import Announced, announce
from serving.doors.intake import Arrival, ReleaseHints, answer_for

PDU_BYTES_MAX = 131_072
ASSOCIATE_BYTES_MAX = 65_536
COMMAND_BYTES_MAX = 65_536
NETWORK_TIMEOUT_S = 60.0
_WAITING_MAX = 8  # commands other than C-STORE not yet answered on one association
_POLL_S = 0.01

# Identifiers must not reach a log: pynetdicom prints them by default.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False


class Door(Protocol):
    """What an association asks of the door it belongs to."""

    def open(self, assoc: Any, announced: Announced) -> Arrival:
        """Begin one object."""

    def receive(self, assoc: Any, sink: Any) -> RadfleetError | None:
        """Keep a whole object; None when it is durable and committed, else why not."""


class DataSetSink(BytesIO):
    """Stands where pynetdicom gathers a data set in memory, and writes it to the store instead.

    An error is kept, not raised: the rest of the object is read and dropped, and the answer names the error.
    """

    def __init__(self, message: DIMSEMessage, assoc: "DoorAssociation") -> None:
        super().__init__()
        self._message = message
        self._assoc = assoc
        self._arrival: Arrival | None = None
        self.error: RadfleetError | None = None

    def write(self, piece: Any) -> int:
        """Take the next fragment."""
        if self.error is None:
            try:
                self._take(piece)
            except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets an answer
                self.error = answer_for(error)
                self.discard()
        return len(piece)

    def _take(self, piece: bytes) -> None:
        if self._arrival is None:
            self._arrival = self._assoc.open_arrival(self._message)
        self._arrival.write(piece)

    def take(self) -> Arrival | None:
        """Hand over the written object, once."""
        arrival, self._arrival = self._arrival, None
        return arrival

    def discard(self) -> None:
        """Remove what was written."""
        arrival = self.take()
        if arrival is not None:
            arrival.discard()


class DoorMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """Gathers messages with bounds, and serves C-STORE at once in the thread that read it.

    pynetdicom would hand each message to a second thread that looks for it a thousand times a second; a C-STORE
    is answered before the next one may come, so nothing is gained by that and much of the time is lost.
    """

    message: Any

    def __init__(self, assoc: "DoorAssociation") -> None:
        super().__init__(assoc)
        self._sinks: list[DataSetSink] = []
        self._closed = False
        self._guard = threading.Lock()
        # Between pynetdicom's putting a message into its queue and our taking it, its second thread must not come.
        self._taking = threading.Lock()

    def get_msg(self, block: bool = False) -> Any:
        """The next message for pynetdicom's second thread, never one that the reader is about to serve."""
        with self._taking:
            return super().get_msg(block=False)

    def receive_primitive(self, primitive: Any) -> None:
        """One P-DATA; anything that breaks a rule ends the association."""
        try:
            if self._closed:
                return
            if self.message is None:
                if self.msg_queue.qsize() >= _WAITING_MAX:
                    raise Malformed
                self.message = DIMSEMessage()
                self.message.data_set = self._sink(self.message)
            elif self.message.encoded_command_set.tell() > COMMAND_BYTES_MAX:
                raise Malformed
            with self._taking:
                super().receive_primitive(primitive)
                context_id, request = self.peek_msg() if self.message is None else (None, None)
                if isinstance(request, C_STORE):
                    self.msg_queue.get_nowait()
            if self.message is None:
                self._serve(context_id, request)
        except Exception as error:  # noqa: BLE001 - an exception here would kill the reader thread silently
            answer_for(error)
            self.dul.event_queue.put("Evt19")

    def _serve(self, context_id: int | None, request: Any) -> None:
        """A message is whole: answer a C-STORE now, leave all else to pynetdicom."""
        if not isinstance(request, C_STORE):
            self.assoc.wake()
            return
        if not request.is_valid_request or context_id not in self.assoc._accepted_cx:
            raise Malformed
        error = self.assoc.door.receive(self.assoc, request.DataSet)
        answer = P_DATA()
        answer.presentation_data_value_list.append((context_id, b"\x03" + store_response(request, error)))
        self.dul.send_pdu(answer)

    def _sink(self, message: DIMSEMessage) -> DataSetSink:
        sink = DataSetSink(message, self.assoc)
        with self._guard:
            self._sinks.append(sink)
        return sink

    def claim(self, sink: DataSetSink) -> Arrival | None:
        """The object of a whole message, for its handler; None when the association has ended before."""
        with self._guard:
            if sink not in self._sinks:
                return None
            self._sinks.remove(sink)
            return sink.take()

    def drop(self) -> None:
        """The association has ended: remove whatever was not whole or not yet handled."""
        with self._guard:
            self._closed = True
            sinks, self._sinks = self._sinks, []
            for sink in sinks:
                sink.discard()


def store_response(request: Any, error: RadfleetError | None) -> bytes:
    """The command set of a C-STORE-RSP (PS3.7 9.3.1.2), implicit little endian as all commands are."""
    elements = [
        _element(0x0002, _uid(request.AffectedSOPClassUID)),
        _element(0x0100, struct.pack("<H", 0x8001)),
        _element(0x0120, struct.pack("<H", request.MessageID)),
        _element(0x0800, struct.pack("<H", 0x0101)),
        _element(0x0900, struct.pack("<H", error.answer.dimse if error else 0x0000)),
        _element(0x0902, _even(error.comment().encode("ascii", "replace"), b" ")) if error else b"",
        _element(0x1000, _uid(request.AffectedSOPInstanceUID)),
    ]
    body = b"".join(elements)
    return _element(0x0000, struct.pack("<L", len(body))) + body


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0x0000, number, len(value)) + value


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value


def _uid(value: object) -> bytes:
    return _even(str(value).encode("ascii", "replace"), b"\0")


class _Checkpoint(threading.Event):
    """Where pynetdicom's second thread passes on each turn: it rests here instead of turning 1000 times a second."""

    def __init__(self) -> None:
        super().__init__()
        self.bell = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Rest until something happens, at most 10 ms, then do what an Event does."""
        self.bell.wait(_POLL_S)
        self.bell.clear()
        return super().wait(timeout)


class DoorAssociation(Association):  # type: ignore[misc]
    """An association that knows its clinic. ``clinic`` stays None until its sender is recognised."""

    def __init__(self, ae: Any, door: Door) -> None:
        super().__init__(ae, "acceptor")
        self.clinic: Any = None
        self.hints = ReleaseHints()
        self.door = door
        self.dimse = DoorMessages(self)
        self._reactor_checkpoint = _Checkpoint()
        self._reactor_checkpoint.set()
        self.dul._target = self._read
        # The reader waits in BoundedSocket.ready for bytes, not here for time to pass.
        self.dul._run_loop_delay = 0.0005
        self.daemon = True
        self.dul.daemon = True

    def open_arrival(self, message: DIMSEMessage) -> Arrival:
        """Begin the object of a C-STORE. Raises the named errors of ``announce`` and of the store."""
        if self.clinic is None:
            raise SenderUnknown
        if not isinstance(message, C_STORE_RQ):
            raise Malformed
        context = self._accepted_cx.get(message.context_id)
        if context is None:
            raise Malformed
        command = message.command_set
        words = [command.get("AffectedSOPClassUID"), command.get("AffectedSOPInstanceUID")]
        sop_class, sop_instance = (w if isinstance(w, str) else "" for w in words)
        if sop_class != context.abstract_syntax:
            raise UidMismatch(why="The SOP class of the command is not that of its presentation context.")
        announced = announce(str(sop_class), str(sop_instance), str(context.transfer_syntax[0]))
        return self.door.open(self, announced)

    def wake(self) -> None:
        """A message for the second thread is there."""
        self._reactor_checkpoint.bell.set()

    def _read(self) -> None:
        """The reader thread; a peer that breaks the protocol's states ends its association and nothing else."""
        try:
            self.dul.run_reactor()
        except Exception as error:  # noqa: BLE001 - pynetdicom raises here for events that no state foresees
            log().info("door.protocol", error_type=type(error).__name__)
            self.is_aborted, self.is_established = True, False
            self._kill = self.dul._kill_thread = True
            self.dul.socket._gone()
            self.dul.socket._shutdown_socket()

    def run_reactor(self) -> None:
        """The association from its request to its end."""
        try:
            super().run_reactor()
        finally:
            self.dimse.drop()


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """Refuses PDUs that are larger than negotiated, before a byte of them is kept."""

    @property
    def ready(self) -> bool:
        """Whether bytes can be read; waits 10 ms for some when there is nothing to send."""
        if self.socket is None or not self._is_connected:
            return False
        busy = self.assoc.dul.to_provider_queue.qsize() or self.event_queue.qsize()
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            return bool(poll.poll(0 if busy else _POLL_S * 1000))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._gone()

    def _gone(self) -> None:
        """Nobody will ask for an association any more: end the thread that waits for it, and free its place."""
        if self.assoc.requestor.primitive is None:
            self.assoc.dul.to_user_queue.put(None)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes`` in large pieces; OSError when too many are claimed or they come too slowly."""
        limit = PDU_BYTES_MAX if self.assoc.is_established else ASSOCIATE_BYTES_MAX
        if nr_bytes > limit:
            self._gone()
            self._shutdown_socket()
            raise OSError("a PDU claims more bytes than this door takes")
        data = bytearray(nr_bytes)
        deadline = time.monotonic() + NETWORK_TIMEOUT_S
        with memoryview(data) as view:
            got = 0
            while got < nr_bytes:
                count = self.socket.recv_into(view[got:]) if time.monotonic() < deadline else 0
                if not count:
                    self._gone()
                    break
                got += count
        return data[:got] if got < nr_bytes else data


class DoorServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections: a long queue, no Nagle delay, a cap on connections before anybody is recognised."""

    request_queue_size = 128
    daemon_threads = True
    door: Door
    connections_max = 2 * LIMITS.associations_max

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection."""
        connection, address = super().get_request()
        # dcmtk and Orthanc leave Nagle on: without this each object waits 40 ms for a delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(NETWORK_TIMEOUT_S)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn a connection away when too many are open."""
        return len(self.active_associations) < self.connections_max


class DoorHandler(RequestHandler):  # type: ignore[misc]
    """Makes a DoorAssociation of each connection."""

    def _create_association(self) -> DoorAssociation:
        assoc = DoorAssociation(self.ae, self.server.door)
        assoc._server = self.server
        assoc.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
        assoc.set_socket(BoundedSocket(assoc, client_socket=self.request))
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = self.server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        # Not deep-copied as upstream does: negotiation only reads them, and copying 190 contexts costs 30 ms.
        assoc.acceptor.supported_contexts = self.server.contexts
        assoc.requestor.address_info = self.remote
        self._bind(assoc)
        return assoc

    def _bind(self, assoc: DoorAssociation) -> None:
        for event, handlers in self.server._handlers.items():
            if event.is_intervention:
                assoc.bind(event, *handlers)
            else:
                for function, arguments in handlers:
                    assoc.bind(event, function, arguments)
