"""The reading side of one association: a thread that waits for bytes or for something to send, and never polls.

pynetdicom 3.0.4 turns its loop every millisecond and copies each fragment of data five times on its way. Here P-DATA
of an established association goes from one buffer straight to ``DoorMessages``; every other PDU, and every state of
the protocol, stays pynetdicom's.
"""

import os
import select
import socket
import time
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

from registry.core.logs import log

PDU_BYTES_MAX = 131_072
ASSOCIATE_BYTES_MAX = 65_536
NETWORK_TIMEOUT_S = 60.0
REST_S = 0.25  # the longest that a thread of an association sleeps through what nobody told it
_CLOSING_S = 0.01
_P_DATA = 0x04
_READY = "Sta6"  # the association is accepted and data may come, PS3.8 9.2.1


class Reader(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's upper layer with a bell instead of a clock. All of a connection's I/O happens in this thread."""

    def __init__(self, assoc: Any) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._buffer = bytearray()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        # Not at the thread's end: whoever rang later would write into a file that got the same number.
        os.close(self._bell)

    def send_pdu(self, primitive: Any) -> None:
        """Have a primitive sent, at once."""
        super().send_pdu(primitive)
        self._ring()

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self._ring()

    def stop_dul(self) -> bool:
        """End the thread where the protocol is idle; whether it was."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        self.join()
        return True

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def wait(self, connection: socket.socket | None) -> bool:
        """Whether bytes can be read; rests until there are some, or until the bell is rung."""
        if self.to_provider_queue.qsize() or self.event_queue.qsize():
            rest = 0.0
        else:
            rest = _CLOSING_S if self.state_machine.current_state == "Sta13" else REST_S
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if connection is not None:
            poll.register(connection, select.POLLIN)
        ready = dict(poll.poll(rest * 1000))
        if ready.pop(self._bell, None):
            os.eventfd_read(self._bell)
        return bool(ready)

    def run(self) -> None:
        """The thread; a peer that breaks the protocol's states ends its association and nothing else."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - pynetdicom raises here for events that no state foresees
            log().info("door.protocol", error_type=type(error).__name__)
            self.assoc.is_aborted, self.assoc.is_established = True, False
            self.assoc._kill = self._kill_thread = True
            self.socket._gone()
            self.socket._shutdown_socket()
        finally:
            self.assoc.dimse.drop()
            self.assoc.wake()

    def _run(self) -> None:
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        while not self._kill_thread:
            if self.artim_timer.expired:
                self.event_queue.put("Evt18")
            if not self._process_recv_primitive() and self._is_transport_event():
                self._idle_timer.restart()
            while self.event_queue.qsize():
                self.state_machine.do_action(self.event_queue.get_nowait())
                self.assoc.wake()

    def _read_pdu_data(self) -> None:
        """Read one PDU: P-DATA of an established association here, all else as pynetdicom does."""
        if self.state_machine.current_state != _READY:
            super()._read_pdu_data()
            return
        try:
            head = self.socket.recv(6)
            if len(head) < 6 or head[0] != _P_DATA:
                self.socket.give_back(head)
                super()._read_pdu_data()
                return
            length = self.socket.allowed(int.from_bytes(head[2:], "big"))
            if len(self._buffer) < length:
                self._buffer = bytearray(PDU_BYTES_MAX)
            with memoryview(self._buffer)[:length] as pdu:
                if self.socket.fill(pdu) < length:
                    self.event_queue.put("Evt17")
                elif not self.assoc.dimse.take(pdu):
                    self.event_queue.put("Evt19")
        except OSError:
            self.event_queue.put("Evt17")


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """Refuses PDUs that are larger than negotiated, before a byte of them is kept."""

    _ahead = b""

    @property
    def ready(self) -> bool:
        """Whether bytes can be read; waits for some when there is nothing to send."""
        try:
            return bool(self.assoc.dul.wait(self.socket if self._is_connected else None))
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

    def give_back(self, head: bytearray) -> None:
        """Let the next ``recv`` return these bytes: somebody else reads this PDU."""
        self._ahead = bytes(head)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``; OSError when too many are claimed, fewer bytes when the connection ended."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return bytearray(ahead)
        data = bytearray(self.allowed(nr_bytes))
        with memoryview(data) as view:
            got = self.fill(view)
        return data[:got] if got < nr_bytes else data

    def allowed(self, nr_bytes: int) -> int:
        """The number itself, or OSError and the end of the connection when it is larger than the door takes."""
        # Asked of the state that this thread itself moves: ``is_established`` is set by the second thread, and a quick
        # sender's first object would come before it.
        ready = self.assoc.dul.state_machine.current_state == _READY
        if nr_bytes > (PDU_BYTES_MAX if ready else ASSOCIATE_BYTES_MAX):
            self._gone()
            self._shutdown_socket()
            raise OSError("a PDU claims more bytes than this door takes")
        return nr_bytes

    def fill(self, view: memoryview) -> int:
        """Read until ``view`` is full and return how much came before the end or the time-out."""
        deadline = time.monotonic() + NETWORK_TIMEOUT_S
        got = 0
        while got < len(view):
            count = self.socket.recv_into(view[got:]) if time.monotonic() < deadline else 0
            if not count:
                self._gone()
                break
            got += count
        return got
