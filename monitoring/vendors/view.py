"""The vendor view as its page and its command give it."""

from dataclasses import asdict
from typing import Any

from monitoring.vendors import changes, protocols, shared, vendors_store
from registry.core.db import Conn

Rows = list[dict[str, Any]]


def view(conn: Conn, clinic: str | None = None) -> dict[str, Rows]:
    """What changed, what clinics share, and who uses what: of one clinic, or of the fleet.

    events, protocol_events and drift_together have a ``sentence`` each; scanners and protocols are tables.
    """
    spans, used = vendors_store.spans(conn, clinic), vendors_store.used(conn, clinic)
    events, moved = changes.events(spans), protocols.changes(vendors_store.arrived(conn, clinic))
    together = [
        one for one in shared.shared(vendors_store.members(conn)) if clinic is None or clinic in one.clinics
    ]
    return {
        "events": [{"sentence": changes.sentence(one), **asdict(one)} for one in events],
        "protocol_events": [{"sentence": one.sentence, **asdict(one)} for one in moved],
        "drift_together": [
            {"sentence": shared.sentence(one), "event": one.event, **asdict(one)} for one in together
        ],
        "scanners": changes.table(spans),
        "protocols": protocols.table(used),
    }
