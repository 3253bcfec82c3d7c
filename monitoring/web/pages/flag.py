"""Flags: which to look at, and of one flag what moved, since when, on what evidence, and what to do next."""

from typing import Any

from monitoring.web import charts, flags_store, words
from monitoring.web.desk import Visit
from monitoring.web.errors import PageUnknown
from monitoring.web.render import Page
from registry.accounts import Act


def many(visit: Visit) -> Page:
    """Open flags first; with ``?past=1`` the resolved ones too."""
    past = visit.query.get("past") == "1"
    with visit.reading() as conn:
        rows = flags_store.flags(conn, past=past)
    waiting = [row for row in rows if row["state"] == "open"]
    seen = [row for row in rows if row["state"] in ("acknowledged", "muted")]
    if waiting:
        heading = f"Look at {words.count(len(waiting), 'open flag')}: begin with {waiting[-1]['clinic']}, the oldest."
    elif seen:
        heading = f"Nobody needs to look now: {words.count(len(seen), 'flag')} seen and not resolved."
    else:
        heading = "No flag is open."
    return Page("flags.html", "/flags", heading, {"flags": rows, "past": past})


def one(visit: Visit) -> Page:
    """One flag. Raises PageUnknown."""
    with visit.reading() as conn:
        flag = flags_store.flag(conn, visit.number("id"))
        if flag is None:
            raise PageUnknown("there is no such flag")
        names = [feature["name"] for feature in flag["features"]]
        rows = flags_store.feature(conn, flag["stream_id"], flag["epoch"], names[0]) if names else []
        events = flags_store.events(conn, flag["id"])
        group = str(flag["cause"].get("group", "")) if isinstance(flag["cause"], dict) else ""
        others = flags_store.elsewhere(conn, flag["clinic"], flag["task"], group) if group else []
    facts: dict[str, Any] = {
        "flag": flag, "events": events, "elsewhere": others, "studies": rows[-20:][::-1],
        "moved": {"feature": names[0] if names else None, "values": [row["value"] for row in rows],
                  "reference": [r["value"] for r in rows if r["outcome"] == "reference" and r["value"] is not None],
                  "change": changed(rows, flag["since_seq"])},
        "may": {"flag": visit.may(Act.HOLD)},
    }  # fmt: skip
    return Page("flag.html", "/flags", flag["sentence"], facts)


def changed(rows: list[dict[str, Any]], since_seq: int | None) -> int | None:
    """The index of the first study of the change among those that are drawn; None where it lies before them."""
    at = next((n for n, row in enumerate(rows) if since_seq is not None and row["seq"] >= since_seq), None)
    return at or None


def picture(facts: dict[str, Any]) -> charts.Series | None:
    """The chart of what moved."""
    moved = facts["moved"]
    return charts.series(moved["values"], moved["reference"], moved["change"], moved["feature"] or "")
