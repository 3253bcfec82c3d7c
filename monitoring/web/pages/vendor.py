"""Scanners of the fleet: what changed at which clinics, since when, and who else uses the same."""

from monitoring.vendors.view import view
from monitoring.web import words
from monitoring.web.desk import Visit
from monitoring.web.render import Page


def show(visit: Visit) -> Page:
    """The vendor view. Raises PageUnknown for a clinic's session: it names other clinics."""
    visit.fleet_only()
    with visit.reading() as conn:
        facts = view(conn)
    together, changed = facts["drift_together"], [*facts["events"], *facts["protocol_events"]]
    if together and together[0]["event"]:
        heading = f"Look first at what clinics share: {together[0]['sentence']}."
    elif changed:
        newest = max(changed, key=lambda one: one["since"])
        heading = f"Look first where the newest change was: {newest['sentence']}."
    elif facts["scanners"]:
        seen = words.count(len(facts["scanners"]), "software release")
        heading = f"Nothing to do: {seen} seen, and none changed."
    else:
        heading = "No study was answered yet, so no scanner is known."
    return Page("vendors.html", "/vendors", heading, facts)
