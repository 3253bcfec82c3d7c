"""Associations on top of pynetdicom: who may open one, how many, and the pieces of which each is made.

pynetdicom 3.0.4 gathers whatever a peer claims in memory before anybody asked who it is, leaves Nagle's delay on,
queues five connections and polls; the classes here and in ``reader`` and ``messages`` replace those spots alone.
"""

import socket
import threading
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from registry.core.errors import RadfleetError
from registry.core.settings import LIMITS
from serving.doors.errors import SenderUnknown, UidMismatch
from serving.doors.headers import Announced, announce
from serving.doors.intake import Arrival, ReleaseHints
from serving.doors.messages import DoorMessages, StoreRequest
from serving.doors.reader import NETWORK_TIMEOUT_S, REST_S, BoundedSocket, Reader

# Identifiers must not reach a log: pynetdicom prints them by default.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False


class Door(Protocol):
    """What an association asks of the door it belongs to."""

    def open(self, assoc: Any, announced: Announced) -> Arrival:
        """Begin one object."""

    def receive(self, assoc: Any, request: StoreRequest) -> RadfleetError | None:
        """Keep a whole object; None when it is durable and committed, else why not."""


class _Checkpoint(threading.Event):
    """Where pynetdicom's second thread passes on each turn: it rests here instead of turning 1000 times a second."""

    def __init__(self) -> None:
        super().__init__()
        self.bell = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Rest until something happens, then do what an Event does."""
        self.bell.wait(REST_S)
        self.bell.clear()
        return super().wait(timeout)


class DoorAssociation(Association):  # type: ignore[misc]
    """An association that knows its clinic. ``clinic`` stays None until its sender is recognised."""

    def __init__(self, ae: Any, door: Door) -> None:
        super().__init__(ae, "acceptor")
        self.clinic: Any = None
        self.hints = ReleaseHints()
        self.sent_any = self.over = False
        self.door = door
        self.dul = Reader(self)
        self.dimse = DoorMessages(self)
        # Both keep their time in the upper layer, which is another one now.
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout
        self._reactor_checkpoint = _Checkpoint()
        self._reactor_checkpoint.set()
        self.daemon = True

    def open_arrival(self, request: StoreRequest) -> Arrival:
        """Begin the object of a C-STORE. Raises the named errors of ``announce`` and of the store."""
        if self.clinic is None:
            raise SenderUnknown
        context = self._accepted_cx[request.context_id]
        sop_class, sop_instance = request.text(0x0002), request.text(0x1000)
        if sop_class != context.abstract_syntax:
            raise UidMismatch(why="The SOP class of the command is not that of its presentation context.")
        return self.door.open(self, announce(sop_class, sop_instance, str(context.transfer_syntax[0])))

    def may_bring(self, study_id: UUID) -> bool:
        """Whether more of a study may still come: it brought some, it is bringing something, or it has not begun."""
        return not self.over and (self.dimse.receiving or not self.sent_any or study_id in self.hints)

    def wake(self) -> None:
        """Something for the second thread is there."""
        self._reactor_checkpoint.bell.set()


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
