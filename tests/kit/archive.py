"""A receiving archive whose answers a test chooses."""

from collections.abc import Callable

from pynetdicom import AE, evt


class Archive:
    """A C-STORE receiver whose answers are a list that runs out into success."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.received: list[str] = []
        self.before: Callable[[], None] = lambda: None
        entity = AE(ae_title="PACS")
        for sop_class in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"):
            entity.add_supported_context(sop_class)
        self.server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = self.server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.before()
        status = self.answers.pop(0) if self.answers else 0
        if status == 0:
            self.received.append(str(event.request.AffectedSOPInstanceUID))
        return status
