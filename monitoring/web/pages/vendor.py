"""Scanners of the fleet: what changed at which clinics, since when, and who else uses the same."""

from dataclasses import asdict

from monitoring.vendors import changes, vendors_store
from monitoring.web import words
from monitoring.web.desk import Visit
from monitoring.web.render import Page


def show(visit: Visit) -> Page:
    """The vendor view. Raises PageUnknown for a clinic's session: it names other clinics."""
    visit.fleet_only()
    with visit.reading() as conn:
        spans = vendors_store.spans(conn, None)
    events, table = changes.events(spans), changes.table(spans)
    told = [{"sentence": changes.sentence(event), **asdict(event)} for event in events]
    if told:
        first = str(told[0]["sentence"])
        heading = f"Look first where the newest change was: {first}."
    elif table:
        heading = f"Nothing to do: {words.count(len(table), 'software release')} seen, and none changed."
    else:
        heading = "No study was answered yet, so no scanner is known."
    return Page("vendors.html", "/vendors", heading, {"events": told, "scanners": table})
