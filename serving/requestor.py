"""What both of our senders (``doors.scu``, ``results.deliver``) mend of an association that pynetdicom 3.0.4 makes."""

import socket
from contextlib import suppress
from typing import Any

from pynetdicom import evt


def _ready(event: evt.Event) -> None:
    # With Nagle's algorithm each object waits 40 ms for a delayed acknowledgement; pynetdicom leaves it on.
    with suppress(AttributeError, OSError):
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _keep_answers(event.assoc.dimse)


def _keep_answers(dimse: Any) -> None:
    """Leave every message to whoever waits for one.

    The association's own thread looks for requests of the peer without waiting. The flag by which it is paused is read
    before it looks, so a pause may come too late: on a busy machine it took 2 of 1,000 answers from ``doors.scu``,
    which then seemed never to have come. ``send_c_store`` pauses with more care; the gap is smaller, not closed.
    """
    take = dimse.get_msg

    def get_msg(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    dimse.get_msg = get_msg


HANDLERS = [(evt.EVT_CONN_OPEN, _ready)]
