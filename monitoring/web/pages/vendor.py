"""Scanners of the fleet: what changed at which clinics, since when, and who else uses the same."""

from dataclasses import asdict

from monitoring.vendors import changes, protocols, shared, vendors_store
from monitoring.web import words
from monitoring.web.desk import Visit
from monitoring.web.render import Page


def show(visit: Visit) -> Page:
    """The vendor view. Raises PageUnknown for a clinic's session: it names other clinics."""
    visit.fleet_only()
    with visit.reading() as conn:
        spans, members = vendors_store.spans(conn, None), vendors_store.members(conn)
        used, arrived = vendors_store.used(conn), vendors_store.arrived(conn)
    events, table = changes.events(spans), changes.table(spans)
    told = [{"sentence": changes.sentence(event), **asdict(event)} for event in events]
    together = [
        {"sentence": shared.sentence(one), "event": one.event, **asdict(one)}
        for one in shared.shared(members)
    ]
    settings = [{"sentence": one.sentence, **asdict(one)} for one in protocols.changes(arrived)]
    if together and together[0]["event"]:
        heading = f"Look first at what clinics share: {together[0]['sentence']}."
    elif told:
        first = str(told[0]["sentence"])
        heading = f"Look first where the newest change was: {first}."
    elif table:
        heading = f"Nothing to do: {words.count(len(table), 'software release')} seen, and none changed."
    else:
        heading = "No study was answered yet, so no scanner is known."
    facts = {"events": told, "protocol_events": settings, "drift_together": together, "scanners": table,
             "protocols": protocols.table(used)}  # fmt: skip
    return Page("vendors.html", "/vendors", heading, facts)
