"""Health of the platform: is anything stuck, away, held or given up?"""

from dataclasses import asdict

from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.render import Page
from registry import holds_store, supervisor
from registry.installation import State


def show(visit: Visit) -> Page:
    """Parts of this machine, what is stuck, the queue, open holds."""
    with visit.deciding() as conn:
        holds = [asdict(hold) for hold in holds_store.list(conn)]
    with visit.reading() as conn:
        stuck, queue = views_store.stuck(conn), views_store.queue(conn)
    parts = [asdict(part) for part in supervisor.status(visit.desk.settings)]
    ill = [part for part in parts if part["state"] not in (State.READY, State.DONE, State.DOWN)]
    dead = sum(row["jobs"] for row in queue if row["state"] == "dead")
    told = [
        words.count(len(stuck), "study is", "studies are") + " stuck" if stuck else "",
        words.count(len(ill), "part is", "parts are") + " not well" if ill else "",
        words.count(dead, "job was", "jobs were") + " given up" if dead else "",
        words.count(len(holds), "hold stops", "holds stop") + " delivery" if holds else "",
    ]
    found = [text for text in told if text]
    heading = (
        f"See to it: {words.listed(found)}."
        if found
        else "Nothing to do: nothing is stuck, held or given up."
    )
    supervised = any(part["pid"] for part in parts)
    facts = {"parts": parts, "supervised": supervised, "stuck": stuck, "queue": queue, "holds": holds}
    return Page("health.html", "/health", heading, facts)
