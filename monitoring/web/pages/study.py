"""Studies: what came in, and of one study the picture, what was found, how it went and where it was sent."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from monitoring.web import door, views_store, words
from monitoring.web.desk import Told, Visit
from monitoring.web.errors import DoorAway, FormInvalid, PageUnknown
from monitoring.web.render import Page
from registry import explain
from registry.accounts import Act
from registry.core.db import Conn
from registry.core.errors import RadfleetError
from registry.core.settings import LIMITS
from registry.errors import CodeUnknown

STATES = ("receiving", "ready", "running", "done", "rejected", "dead", "past")
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
        readings = views_store.readings(conn, its)
    first = steps[0]["at"] if steps else None
    for step in steps:
        step["after_s"] = round((step["at"] - first).total_seconds(), 2) if first else 0.0
    failure = _failure(study["code"])
    facts = {
        "study": study, "answers": answers, "steps": steps, "deliveries": deliveries, "failure": failure,
        "readings": readings, "may_read": visit.may(Act.REVIEW),
        "mine": {row["task"] for row in readings if row["reader"] == visit.who.account},
    }  # fmt: skip
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
    """The overlay of one study as PNG, out of the HTTP door. Raises PageUnknown, DoorAway.

    The door draws it from the secondary capture, in which everything beyond a rim around the brain is black.
    """
    its, task = _id(visit), _task(visit)
    with visit.reading() as conn:
        found = views_store.picture(conn, its, task)
    if found is None:
        raise PageUnknown("this study has no picture")
    data = door.ask(visit.desk.settings, f"/pictures/{found[0]}/{found[1]}")
    if not data.startswith(b"\x89PNG"):
        raise DoorAway(why="The HTTP door answered with no picture.")
    return data


def mask(visit: Visit) -> bytes:
    """Our mask of one study as packed NIfTI, to be corrected. Raises PageUnknown, DoorAway, StillBlind by its code."""
    its, task = _id(visit), _task(visit)
    with visit.reading() as conn:
        clinic = _clinic_of(conn, its)
    return door.ask(
        visit.desk.settings, f"/masks/{clinic}/{its}/{task}", seconds=60, most=LIMITS.mask_bytes_max
    )


def read(visit: Visit, fields: Mapping[str, str], file: bytes) -> Told:
    """Enter a reading of the newest answer; ``file`` is the reader's mask, empty where there is none.

    It was read blind when the page did not show our mask and still would not: no field alone makes it so.
    """
    its, task = _id(visit), _task(visit)
    with visit.deciding() as conn:
        reader = visit.actor(conn, Act.REVIEW)
    with visit.reading() as conn:
        clinic = _clinic_of(conn, its)
        blind = fields.get("shown") == "no" and views_store.is_blind(conn, its, task)
    minutes = fields.get("minutes", "")
    if minutes and not re.fullmatch(r"\d{1,3}(\.\d{1,2})?", minutes):
        raise FormInvalid("minutes are a number")
    said = {
        "decision": fields.get("decision", ""), "reader": reader, "task": task, "blinded": blind,
        "minutes": float(minutes) if minutes else None, "note": fields.get("note", ""),
    }  # fmt: skip
    made = json.loads(
        door.ask(visit.desk.settings, f"/reviews/{clinic}/{its}", body=file, said=said, seconds=120)
    )
    dice = "no mask" if made["dice"] is None else f"Dice {made['dice']:.3f}"
    told = {
        "before": "no reading", "after": f"{made['decision']}, {dice}{', blinded' if made['blinded'] else ''}",
        "undo": f"radfleet review withdraw {made['id']} --reason TEXT",
        "note": "What is to be read next is under Work.",
    }  # fmt: skip
    return f"/studies/{its}", told


def _task(visit: Visit) -> str:
    if not _TASK.fullmatch(visit.args["task"]):
        raise PageUnknown
    return visit.args["task"]


def _clinic_of(conn: Conn, study: UUID) -> UUID:
    found = views_store.study(conn, study)
    if found is None:
        raise PageUnknown("there is no such study")
    return UUID(str(found["clinic_id"]))


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
