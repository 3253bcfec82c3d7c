"""The DICOM door: C-STORE and C-ECHO. A success status is sent only after the object is durable (promise P1)."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import LIMITS, Settings
from registry.processes import announce_ready
from serving.doors.associations import DoorAssociation, DoorHandler, DoorServer
from serving.doors.errors import EmptyObject, SenderUnknown
from serving.doors.filestore import Filestore
from serving.doors.headers import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    TRANSFER_SYNTAXES,
    Announced,
    quiet,
)
from serving.doors.intake import Arrival, Hint, Intake, Sender, answer_for
from serving.doors.messages import StoreRequest
from serving.doors.reader import NETWORK_TIMEOUT_S, PDU_BYTES_MAX

ACSE_TIMEOUT_S = 10.0
STOP_GRACE_S = 8.0

# (result, source, reason) of A-ASSOCIATE-RJ, PS3.8 9.3.4. Strangers get one answer, whatever was wrong.
_REJECT_STRANGER = (1, 1, 3)
_REJECT_BUSY = (2, 3, 1)
_REJECT_FULL = (2, 3, 2)


FindSender = Callable[[str, str, str], Sender]  # (called AE title, calling AE title, address) -> clinic


class DicomDoor:
    """A listening Storage SCP. ``find`` raises a Forbidden or NotFound error for a stranger."""

    def __init__(self, intake: Intake, find: FindSender, hint: Hint | None = None) -> None:
        self._intake = intake
        self._find = find
        self._hint = hint
        self._releasing = threading.Lock()
        self._server: DoorServer | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port (of use with port 0)."""
        quiet()
        ae = _application_entity()
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_RELEASED, self._on_released),
        ]
        server = ae.make_server(
            (host, port), evt_handlers=handlers, server_class=DoorServer, request_handler=DoorHandler
        )
        server.door = self
        ae._servers.append(server)
        self._server = server
        # 0.1 s: how long a stop may have to wait for the accept loop.
        self._thread = threading.Thread(
            target=server.serve_forever, args=(0.1,), name="dicom-door", daemon=True
        )
        self._thread.start()
        return int(server.server_address[1])

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stop accepting, let running associations end for ``grace_s`` seconds, abort the rest."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        waited = threading.Event()
        running = server.active_associations
        for _ in range(int(grace_s / 0.1)):
            running = [a for a in running if a.is_alive()]
            if not running:
                return
            waited.wait(0.1)
        for assoc in running:
            assoc.abort()

    def _on_requested(self, event: evt.Event) -> None:
        assoc: DoorAssociation = event.assoc
        request = assoc.requestor.primitive
        try:
            self._intake.store.check_space()
            called, calling = str(request.called_ae_title).strip(), str(request.calling_ae_title).strip()
            assoc.clinic = self._find(called, calling, str(assoc.requestor.address))
        except Exception as error:  # noqa: BLE001 - a door that cannot decide must not let anybody in
            named = answer_for(error)
            log().warning("door.rejected", code=named.code)
            assoc.acse.send_reject(*_rejection(named))
            assoc.kill()

    def open(self, assoc: DoorAssociation, announced: Announced) -> Arrival:
        """Begin one object of an association. Raises DiskLow, StoreUnhealthy, StoreFailed."""
        return self._intake.open(assoc.clinic.id, announced)

    def receive(self, assoc: DoorAssociation, request: StoreRequest) -> RadfleetError | None:
        """Keep a whole object; None when it is durable and committed, else the named error to answer with."""
        try:
            if assoc.clinic is None:
                raise SenderUnknown
            if request.error is not None:
                raise request.error
            arrival = request.take()
            if arrival is None:
                raise EmptyObject
            (result,) = self._intake.receive(assoc.clinic.id, [arrival], "c-store")
            if isinstance(result, RadfleetError):
                raise result
            assoc.hints.add(result.study_id)
            assoc.sent_any = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the sender gets a status that says whether to retry
            named = answer_for(error)
            log().log(getattr(logging, named.answer.log.upper()), "door.refused", code=named.code)
            return named
        return None

    def _on_released(self, event: evt.Event) -> None:
        """Hint at the studies of which no other association may bring more; the others are left to one that may."""
        assoc: DoorAssociation = event.assoc
        if assoc.clinic is None:
            return
        with self._releasing:
            assoc.over = True
            others = [
                other for other in assoc._server.active_associations
                if other.clinic is not None and other.clinic.id == assoc.clinic.id
            ]  # fmt: skip
            studies = []
            for study in assoc.hints.take():
                if (other := next((o for o in others if o.may_bring(study)), None)) is None:
                    studies.append(study)
                else:
                    other.hints.add(study)
        if self._hint and studies:
            self._hint(assoc.clinic.id, studies)


def _application_entity() -> Any:
    ae = AE(ae_title="RADFLEET")
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.maximum_pdu_size = PDU_BYTES_MAX
    ae.maximum_associations = LIMITS.associations_max
    ae.acse_timeout = ACSE_TIMEOUT_S
    ae.dimse_timeout = ae.network_timeout = NETWORK_TIMEOUT_S
    ae.add_supported_context(Verification)
    # Every storage class: what no model can use is refused by name per study, not by a missing context.
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, list(TRANSFER_SYNTAXES))
    return ae


def _rejection(error: RadfleetError) -> tuple[int, int, int]:
    if error.family != "unavailable":
        return _REJECT_BUSY if error.family == "bug" else _REJECT_STRANGER
    return _REJECT_FULL if error.code.startswith("doors.") else _REJECT_BUSY


def serve(settings: Settings, database: Database, stop: Callable[[], bool]) -> None:
    """Run the DICOM door of an installation until ``stop`` says so."""
    from registry import clinics
    from serving.doors.record import DatabaseRecorder, hint_release

    def find(called: str, calling: str, address: str) -> Sender:
        with database.system() as conn:
            return clinics.by_ae(conn, called, calling, address)

    intake = Intake(Filestore(settings.store_dir), DatabaseRecorder(database, settings))
    door = DicomDoor(intake, find, hint_release(database))
    # pynetdicom collects garbage every few turns of its accept loop: all threads stand still while the modules'
    # objects, which live for ever, are walked through once more. Nobody has to look at them again.
    gc.collect()
    gc.freeze()
    port = door.start(settings.bind, settings.dicom_port)
    log().info("door.open", port=port)
    announce_ready()
    while not stop():
        time.sleep(0.2)
    door.stop()
