"""Studies: what came in, and of one study the picture, what was found, how it went and where it was sent."""

import http.client
import re
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.errors import PageUnknown, PictureAway
from monitoring.web.render import Page
from registry import explain, secrets
from registry.core.errors import RadfleetError
from registry.errors import CodeUnknown

STATES = ("receiving", "ready", "running", "done", "rejected", "dead", "past")
PICTURE_S, PICTURE_BYTES_MAX = 10, 8 << 20
_TASK = re.compile(r"[a-z0-9-]{1,64}")


def many(visit: Visit) -> Page:
    """The newest studies, by clinic or state where the address says so."""
    clinic, state = visit.query.get("clinic") or None, visit.query.get("state") or None
    before = visit.query.get("before") or None
    if state not in (None, *STATES) or (before and not _is_time(before)):
        raise PageUnknown
    with visit.reading() as conn:
        rows = views_store.studies(conn, clinic, state, before)
    bad = sum(row["state"] in ("dead", "rejected") for row in rows)
    if not rows:
        heading = (
            "No such study yet." if clinic or state else "No study has come yet: radfleet study send PATH."
        )
    elif bad:
        heading = f"See why {words.count(bad, 'study', 'studies')} of the last {len(rows)} got no answer."
    else:
        heading = f"Nothing to do: {words.count(len(rows), 'study', 'studies')}, none refused or given up."
    more = rows[-1]["first_at"].isoformat() if len(rows) == views_store.ROWS else None
    facts = {"studies": rows, "clinic": clinic, "state": state, "states": STATES, "more": more}
    return Page("studies.html", "/studies", heading, facts)


def one(visit: Visit) -> Page:
    """One study. Raises PageUnknown, for a study of another clinic too."""
    its = _id(visit)
    with visit.reading() as conn:
        study = views_store.study(conn, its)
        if study is None:
            raise PageUnknown("there is no such study")
        answers, steps = views_store.answers(conn, its), views_store.steps(conn, its)
        deliveries = views_store.deliveries(conn, its)
    first = steps[0]["at"] if steps else None
    for step in steps:
        step["after_s"] = round((step["at"] - first).total_seconds(), 2) if first else 0.0
    failure = _failure(study["code"])
    facts = {"study": study, "answers": answers, "steps": steps, "deliveries": deliveries, "failure": failure}
    silent = any(step["step"] == "answered" and step["detail"].get("silent") for step in steps)
    return Page("study.html", "/studies", heading(study, answers, deliveries, failure, silent=silent), facts)


def heading(
    study: dict[str, Any],
    answers: list[Any],
    deliveries: list[Any],
    failure: dict[str, str] | None,
    *,
    silent: bool = False,
) -> str:
    """What to do about a study, in a sentence."""
    match study["state"]:
        case "dead" | "rejected" if failure:
            return f"No answer: {failure['what']}"
        case "dead" | "rejected":
            return "No answer was given to this study."
        case "receiving":
            return "Wait: this study is still arriving."
        case "past":
            return "Nothing to do: this study is of the clinic's past, and only its measures were taken over."
        case "ready" | "running":
            return "Wait: this study is being answered."
    if lost := sum(row["state"] == "failed" for row in deliveries):
        return (
            f"Answered, and {words.count(lost, 'object')} of {len(deliveries)} given up: see what the archive said, "
            "then radfleet study retry."
        )
    if any(answer["blind"] for answer in answers):
        return "Read it blind: draw on its images first, then enter the reading."
    left = sum(row["state"] != "delivered" for row in deliveries)
    if left:
        return f"Answered; {words.count(left, 'object')} of {len(deliveries)} still to be delivered."
    if deliveries:
        return f"Nothing to do: answered by {words.count(len(answers), 'version')}, all objects delivered."
    if silent:
        return "Answered silently: nothing is delivered until two people have accepted this clinic's answers."
    return "Answered, and delivered to nobody: no destination is set for this clinic."


def picture(visit: Visit) -> bytes:
    """The overlay of one study as PNG, out of the HTTP door. Raises PageUnknown, PictureAway.

    The door draws it from the secondary capture, in which everything beyond a rim around the brain is black.
    """
    its, task = _id(visit), visit.args["task"]
    if not _TASK.fullmatch(task):
        raise PageUnknown
    with visit.reading() as conn:
        found = views_store.picture(conn, its, task)
    if found is None:
        raise PageUnknown("this study has no picture")
    settings = visit.desk.settings
    local = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104 - compared, not bound
    where = urlsplit(settings.door_url or f"http://{local}:{settings.http_port}")
    door = http.client.HTTPConnection(where.hostname or local, where.port or 80, timeout=PICTURE_S)
    try:
        word = {"Authorization": f"Bearer {secrets.ensure(settings, 'door-token')}"}
        door.request("GET", f"/pictures/{found[0]}/{found[1]}", headers=word)
        answer = door.getresponse()
        data = answer.read(PICTURE_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise PictureAway from error
    finally:
        door.close()
    if answer.status != 200 or not data.startswith(b"\x89PNG") or len(data) > PICTURE_BYTES_MAX:
        raise PictureAway(why=f"The HTTP door answered with {answer.status} and no picture.")
    return data


def _failure(code: str | None) -> dict[str, str] | None:
    if not code:
        return None
    try:
        kind: type[RadfleetError] = explain.find(code)
    except CodeUnknown:
        return {"code": code, "what": code, "why": "", "cure": ""}
    return {"code": code, "what": explain.headline(kind), "why": kind.why, "cure": kind.cure}


def _id(visit: Visit) -> UUID:
    try:
        return UUID(visit.args["study"])
    except ValueError:
        raise PageUnknown("there is no such study") from None


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
