"""Calls each destination of a clinic and keeps what it found: the echo outwards of an onboarding."""

import time
from dataclasses import dataclass

from registry.clinics_store import Clinic
from registry.core.db import Database
from registry.core.errors import RadfleetError
from serving.results import echoes_store
from serving.results.deliver import Destination, echo
from serving.results.errors import DestinationUnknown


@dataclass(frozen=True, slots=True)
class Echo:
    """What one call found; ``code`` and ``why`` are empty where the destination answered."""

    destination: str
    kind: str
    ok: bool
    code: str
    why: str
    milliseconds: float


def check(db: Database, clinic: Clinic) -> list[Echo]:
    """Call every active destination, one after the other, without an open transaction. Raises DestinationUnknown."""
    with db.system() as conn:
        destinations = echoes_store.active(conn, clinic.id)
    if not destinations:
        raise DestinationUnknown("this clinic has no active destination")
    found = []
    for its in destinations:
        began, error = time.monotonic(), None
        try:
            echo(Destination(its["kind"], its["host"], its["port"], its["ae_title"], its["url"]))
        except RadfleetError as failed:
            error = failed
        ms = round((time.monotonic() - began) * 1000, 1)
        with db.system() as conn:
            echoes_store.add(conn, clinic.id, its, error.code if error else None, ms)
        found.append(
            Echo(
                its["name"],
                its["kind"],
                error is None,
                error.code if error else "",
                error.what if error else "",
                ms,
            )
        )
    return found
