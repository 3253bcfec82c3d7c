"""The loop that empties the outbox: claim for one destination, send, mark; a dead destination is left to rest.

Safe to stop at any point: a row sent but not yet marked is sent again under the same UID.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from registry import holds_store
from registry.core.db import Database, DatabaseAway
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.queue_store import Fenced
from registry.core.settings import Settings
from serving.results import outbox_store as store
from serving.results.deliver import Destination, Send, courier
from serving.results.errors import DestinationAway, DestinationBusy, ObjectMissing

BATCH = 20
SENDERS = 4
IDLE_S = 0.5
# Circuit breaker: after this many failed connections in a row a destination rests, longer each time.
TRIPS_AFTER = 3
FIRST_REST_S = 15.0
LONGEST_REST_S = 300.0


@dataclass(slots=True)
class Breaker:
    """Which destinations are in use by a sender of this process, and which rest. Safe among threads."""

    clock: Callable[[], float] = time.monotonic
    _failures: dict[UUID, int] = field(default_factory=dict)
    _until: dict[UUID, float] = field(default_factory=dict)
    _busy: set[UUID] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def closed_to(self) -> list[UUID]:
        """Destinations to which nothing may be claimed now."""
        now = self.clock()
        with self._lock:
            return [*self._busy, *(its for its, until in self._until.items() if until > now)]

    def take(self, destination: UUID) -> None:
        """Keep other senders of this process off ``destination``."""
        with self._lock:
            self._busy.add(destination)

    def leave(self, destination: UUID, *, reached: bool | None) -> None:
        """Free ``destination``; ``reached`` says whether it answered, None that it was not tried."""
        with self._lock:
            self._busy.discard(destination)
            if reached:
                self._failures.pop(destination, None)
                self._until.pop(destination, None)
            elif reached is False:
                count = self._failures[destination] = self._failures.get(destination, 0) + 1
                if count >= TRIPS_AFTER:
                    rest = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(count - TRIPS_AFTER, 10))
                    self._until[destination] = self.clock() + rest


def loop(settings: Settings, db: Database, stop: Callable[[], bool]) -> None:
    """Send until ``stop``; a database that is away is waited for."""
    breaker = Breaker()
    senders = [
        threading.Thread(target=_send_until, args=(settings, db, breaker, number, stop), daemon=True)
        for number in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    next_sweep = 0.0
    while not stop():
        if time.monotonic() >= next_sweep:
            next_sweep = time.monotonic() + 10
            try:
                sweep(db)
            except DatabaseAway as error:
                log().warning("waiting", code=error.code)
        time.sleep(IDLE_S)
    for sender in senders:
        sender.join(timeout=10)


def sweep(db: Database) -> None:
    """Place holds that verdicts ask for, return expired leases, end what is replaced or whose destination is off."""
    with db.system() as conn:
        if held := holds_store.obey(conn):
            log().warning("held", count=held)
    with db.system() as conn:
        returned, superseded, failed = store.reap(conn), store.sweep_superseded(conn), store.expire(conn)
    if returned or superseded or failed:
        log().info("outbox swept", count=returned, state=f"failed={failed} superseded={superseded}")


def _send_until(
    settings: Settings, db: Database, breaker: Breaker, number: int, stop: Callable[[], bool]
) -> None:
    while not stop():
        try:
            sent = turn(settings, db, breaker, f"sender-{number}")
        except DatabaseAway as error:
            log().warning("waiting", code=error.code)
            sent = 0
        except Exception as error:  # noqa: BLE001 - one odd object must not end the sender; its lease runs out
            log().error("delivery failed", error_type=type(error).__name__)
            sent = 0
        if not sent:
            time.sleep(IDLE_S)


# Two senders of one process must not claim for the same destination in the same instant.
_claiming = threading.Lock()


def turn(settings: Settings, db: Database, breaker: Breaker, owner: str) -> int:
    """Claim and send one batch; returns how many rows were claimed."""
    with _claiming:
        with db.system() as conn:
            parcels = store.claim(conn, owner, batch=BATCH, resting=breaker.closed_to())
        if not parcels:
            return 0
        breaker.take(parcels[0].destination_id)
    reached: bool | None = None
    try:
        reached = _deliver(settings, db, parcels)
    finally:
        breaker.leave(parcels[0].destination_id, reached=reached)
    return len(parcels)


def _deliver(settings: Settings, db: Database, parcels: list[store.Parcel]) -> bool:
    """Send the parcels over one connection; False when the destination could not be reached."""
    first = parcels[0]
    where = Destination(first.kind, first.host, first.port, first.ae_title, first.url)
    paths = {parcel.id: settings.store_dir / parcel.path for parcel in parcels}
    left = list(parcels)
    try:
        with courier(where, list(paths.values())) as send:
            while left:
                _one(db, send, left[0], paths[left[0].id])
                left.pop(0)
    except DestinationAway as error:
        for parcel in left:
            _back(db, parcel, error)
        log().warning("destination away", clinic=str(first.clinic_id), code=error.code, count=len(left))
        return False
    except RadfleetError as error:
        # Refused as a whole before anything was sent.
        for parcel in left:
            _end(db, parcel, "failed", error)
    return True


def _one(db: Database, send: Send, parcel: store.Parcel, path: Path) -> None:
    with db.system() as conn:
        if not store.proceed(conn, parcel):
            store.retry(conn, parcel, "results.held", burn=False)
            return
    try:
        if not path.is_file() or path.stat().st_size != parcel.size:
            raise ObjectMissing("a result object is not in the store as it was written")
        send(path)
    except DestinationAway:
        raise
    except DestinationBusy as error:
        _back(db, parcel, error)
    except RadfleetError as error:
        _end(db, parcel, "failed", error)
    else:
        _end(db, parcel, "delivered", None)


def _back(db: Database, parcel: store.Parcel, error: RadfleetError) -> None:
    with db.system() as conn:
        store.retry(conn, parcel, f"{error.code}: {error.what}", burn=True)


def _end(db: Database, parcel: store.Parcel, state: str, error: RadfleetError | None) -> None:
    code = None if error is None else f"{error.code}: {error.what}"
    try:
        with db.system() as conn:
            store.finish(conn, parcel, state, code)
    except Fenced:
        # Another sender has the row by now, and what it sends carries the same UID; or it was given up as replaced.
        if error is None:
            with db.system() as conn:
                store.send_last(conn, parcel)
        return
    log().info("delivery", clinic=str(parcel.clinic_id), study_id=str(parcel.study_id), kind=parcel.object_kind,
               state=state, attempt=parcel.tries, code=error.code if error else None)  # fmt: skip
