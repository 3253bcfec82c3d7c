"""What tests of both senders share."""

import time

import pytest
from pynetdicom.dimse import DIMSEServiceProvider


@pytest.fixture
def unpaused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that is slow to wait for its answer, and whose association's thread was not caught by the pause."""
    send = DIMSEServiceProvider.send_msg

    def send_msg(self: DIMSEServiceProvider, primitive: object, context_id: int) -> None:
        send(self, primitive, context_id)
        if self.assoc.is_requestor:
            self.assoc._reactor_checkpoint.set()
            time.sleep(0.1)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_msg)
    monkeypatch.setattr(DIMSEServiceProvider, "dimse_timeout", 2.0, raising=False)
