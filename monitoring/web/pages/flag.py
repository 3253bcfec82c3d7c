"""Flags: which to look at, and of one flag what moved, since when, on what evidence, and what to do next."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from monitoring import flags, flags_store
from monitoring.errors import FlagUnknown
from monitoring.evidence import freeze
from monitoring.onboarding import deviating
from monitoring.streams.groups import WORDS, said
from monitoring.web import views_store, words
from monitoring.web.desk import Told, Visit
from monitoring.web.errors import FormInvalid, PageUnknown
from monitoring.web.pages import evidence
from monitoring.web.render import Page
from registry.accounts import Act
from registry.core.db import Conn


def many(visit: Visit) -> Page:
    """Open flags first; with ``?past=1`` the resolved ones too."""
    past = visit.query.get("past") == "1"
    with visit.reading() as conn:
        rows = flags_store.flags(conn, None, resolved=past, limit=200)
    waiting = [row for row in rows if row["state"] == "open"]
    seen = [row for row in rows if row["state"] in ("acknowledged", "muted")]
    if waiting:
        oldest = waiting[-1]["clinic"]
        heading = f"Look at {words.count(len(waiting), 'open flag')}: begin with {oldest}, the oldest."
    elif seen:
        heading = f"Nobody needs to look now: {words.count(len(seen), 'flag')} seen and not resolved."
    else:
        heading = "No flag is open."
    return Page("flags.html", "/flags", heading, {"flags": rows, "past": past})


def one(visit: Visit) -> Page:
    """One flag. Raises FlagUnknown, for a flag of another clinic too."""
    with visit.reading() as conn:
        flag = flags.show(conn, visit.number("id"))
        its = flag["features"]
        rows = views_store.feature(conn, flag["stream_id"], flag["epoch"], its[0]["name"]) if its else []
        events = flags_store.events(conn, flag["clinic_id"], flag["id"])
        group = flag["cause"].get("group")
        others = views_store.elsewhere(conn, flag["clinic"], flag["task"], group) if group else []
        known = views_store.evidence(conn, flag["stream_id"])
        fit = deviating.beside(conn, flag)
        report = None if visit.who.clinic_id else views_store.report(conn, flag["id"])
    may = visit.may(Act.FLAG) and flag["state"] != "resolved"
    facts: dict[str, Any] = {
        "flag": flag, "odds": evidence.lines(known), "evidence": known,
        "cause": cause(flag["cause"]), "elsewhere": others, "studies": rows[-20:][::-1],
        "report": report, "may": may, "conformance": deviating.told(fit),
        "events": [{"at": e.at, "actor": e.actor, "type": e.type, "body": json.loads(e.body)}
                   for e in reversed(events)],
        "whole": flags.record_is_whole(events),
        "moved": {"feature": its[0].get("words", its[0]["name"]) if its else None,
                  "values": [row["value"] for row in rows],
                  "reference": [r["value"] for r in rows if r["outcome"] == "reference" and r["value"] is not None],
                  "change": changed(rows, flag["since_seq"])},
    }  # fmt: skip
    first, _, rest = flag["sentence"].partition(". ")
    return Page("flag.html", "/flags", f"{first.removesuffix('.')}.", facts | {"rest": rest})


def changed(rows: list[dict[str, Any]], since_seq: int | None) -> int | None:
    """The index of the first study of the change among those that are drawn; None where it lies before them."""
    at = next((n for n, row in enumerate(rows) if since_seq is not None and row["seq"] >= since_seq), None)
    return at or None


def cause(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A flag's cause in words: what of the scanner changed, then what the scanner is."""
    moved = [
        (WORDS.get(part, part), " → ".join(said(part, at) for at in pair))
        for part, pair in known.get("changed", {}).items()
    ]
    same = [
        (word, said(part, str(known[part])))
        for part, word in WORDS.items()
        if known.get(part) not in (None, "?")
    ]
    return [*moved, *(pair for pair in same if pair[0] not in dict(moved))]


def report(visit: Visit) -> bytes:
    """The report that was frozen for this flag, as HTML. Raises PageUnknown, ReportDamaged."""
    visit.fleet_only()
    with visit.reading() as conn:
        its = views_store.report(conn, visit.number("id"))
        if its is None:
            raise PageUnknown("no report was frozen for this flag")
        return freeze.html(conn, its["clinic_id"], its["digest"])


def acknowledge(visit: Visit, form: Mapping[str, str]) -> Told:
    """Somebody looks after it."""
    reason, notify = form.get("reason", ""), visit.desk.settings.channels()
    number = visit.number("id")
    return _change(visit, lambda conn, by: flags.acknowledge(conn, number, by=by, reason=reason, notify=notify),
                   "resolve it, below; the record keeps both")  # fmt: skip


def mute(visit: Visit, form: Mapping[str, str]) -> Told:
    """Tell nobody about it for some hours."""
    hours, reason, number = form.get("hours", ""), form.get("reason", ""), visit.number("id")
    if not hours.isdecimal() or len(hours) > 6:
        raise FormInvalid("the hours are no whole number")
    return _change(
        visit,
        lambda conn, by: flags.mute(conn, number, int(hours), by=by, reason=reason),
        "mute it for 1 hour: it speaks again then",
    )


def resolve(visit: Visit, form: Mapping[str, str]) -> Told:
    """End it; the stream is watched again from nothing."""
    reason, number, fresh = form.get("reason", ""), visit.number("id"), "fresh" in form
    notify = visit.desk.settings.channels()

    def work(conn: Conn, by: str) -> dict[str, Any]:
        return flags.resolve(conn, number, by=by, reason=reason, notify=notify, new_reference=fresh)

    return _change(visit, work, "none: a resolved flag is a record, and what happens later raises its own")


def _change(visit: Visit, work: Callable[[Conn, str], dict[str, Any]], undo: str) -> Told:
    """Who decides is looked up first; then flag, record and epoch change in one transaction."""
    number = visit.number("id")
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.FLAG)
    with visit.desk.db.monitor(write=True) as conn:
        before = flags_store.flag(conn, number)
        if before is None:
            raise FlagUnknown
        after = work(conn, by)
    said = {"before": before["state"], "after": after["state"], "undo": undo, "note": ""}
    return f"/flags/{number}", said
