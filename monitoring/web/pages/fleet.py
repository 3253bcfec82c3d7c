"""The fleet: every clinic in the order of its need, and how many need somebody."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from monitoring import flags_store
from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.render import Page

Row = dict[str, Any]
SHOWN = 100
# The need of a clinic, the greatest first. What is not known stands before what is well (promise P8).
NEED = (
    "fine_tune", "recalibrate", "hold", "flagged", "silent", "watch", "no_verdict", "not_enough_data", "no_study_yet",
    "nothing_bound", "healthy",
)  # fmt: skip
RANK = {need: place for place, need in enumerate(NEED)}
ACT = NEED[: NEED.index("watch") + 1]
_SAYS = {
    "fine_tune": "{} a fine-tuned version",
    "recalibrate": "{} recalibration",
    "hold": "{} delivery held",
    "flagged": "{} somebody to look at a flag",
    "silent": "{} a call: nothing came for too long",
    "watch": "{} an eye on it",
}


def show(visit: Visit) -> Page:
    """The page: clinics with their worst stream. All are put in order, and of those shown the rest is read."""
    with visit.reading() as conn:
        order = ordered(views_store.needs(conn))
        shown = order[:SHOWN]
        names = [row["clinic"] for row in shown]
        known = views_store.worst(conn, [row["stream_id"] for row in shown if row["stream_id"]])
        nothing: Row = {"threshold": None, "sentence": None}
        streams = [row | known.get(row["stream_id"], nothing) for row in shown if row["state"]]
        flags = flags_store.open_at(conn, names)
        rows = ranked(views_store.clinics(conn, names), streams, views_store.bound(conn, names), flags)
        count = flags_store.count_open(conn)
    for row in rows:
        row["statistic"] = known.get(row["stream_id"], {}).get("statistic") or []
    facts = {"lead": lead(order), "clinics": rows, "all": len(order), "open_flags": count}
    return Page("fleet.html", "/", heading(order), facts)


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Of each clinic the row of its worst stream, with the need; the greatest need first."""
    its: dict[str, Row] = {}
    for row in rows:
        here = {**row, "need": need(row) if row["state"] else "nothing_bound"}
        if row["clinic"] not in its or RANK[here["need"]] < RANK[its[row["clinic"]]["need"]]:
            its[row["clinic"]] = here
    return sorted(its.values(), key=by_need)


def by_need(row: Row) -> tuple[int, str]:
    """The greatest need first, then by name."""
    return RANK[row["need"]], row["name"]


def heading(rows: Sequence[Row]) -> str:
    """What to do about the fleet, in a sentence."""
    needing = [row for row in rows if row["need"] in ACT]
    if not rows:
        return "Add the first clinic: radfleet clinic add."
    if needing:
        verb = "needs" if len(needing) == 1 else "need"
        first = needing[0]["name"]
        return f"{len(needing)} of {words.count(len(rows), 'clinic')} {verb} attention: begin with {first}."
    unknown = sum(row["need"] != "healthy" for row in rows)
    if unknown:
        return f"Nothing to do now, but {words.count(unknown, 'clinic')} of {len(rows)} cannot be judged yet."
    return f"Nothing to do: {words.count(len(rows), 'clinic')}, each confirmed healthy."


def lead(rows: Sequence[Row]) -> str:
    """The needs counted, the greatest first."""
    parts = []
    for need, text in _SAYS.items():
        if n := sum(row["need"] == need for row in rows):
            parts.append(text.format(f"{n} needs" if n == 1 else f"{n} need"))
    return f"{words.listed(parts)}." if parts else ""


def ranked(
    clinics: Sequence[Row], streams: Sequence[Row], bound: Sequence[Row], flags: Sequence[Row]
) -> list[Row]:
    """One row a clinic with the need of its worst stream, sorted by need, then by name."""
    its: dict[str, list[Row]] = {}
    for stream in streams:
        its.setdefault(stream["clinic"], []).append(stream)
    versions: dict[str, list[str]] = {}
    for row in bound:
        versions.setdefault(row["clinic"], []).append(row["model"])
    open_flags: Mapping[UUID, Row] = {
        flag["stream_id"]: flag for flag in reversed(flags) if flag["state"] != "muted"
    }
    rows = []
    for clinic in clinics:
        mine = sorted(its.get(clinic["clinic"], []), key=lambda s: RANK[need(s)])
        worst = mine[0] if mine else None
        flag = open_flags.get(worst["stream_id"]) if worst else None
        rows.append(
            {
                **clinic,
                "need": need(worst) if worst else "nothing_bound",
                "why": why(worst, flag),
                "flag": flag["id"] if flag else None,
                "stream_id": worst["stream_id"] if worst else None,
                "threshold": worst["threshold"] if worst else None,
                "models": sorted(set(versions.get(clinic["clinic"], []))),
            }
        )
    return sorted(rows, key=by_need)


def need(stream: Row) -> str:
    """What a stream needs: its verdict, unless a flag stands open or nothing comes in any more."""
    verdict = stream["verdict"]
    if verdict in ("fine_tune", "recalibrate", "hold"):
        return str(verdict)
    if stream["open_flags"]:
        return "flagged"
    if stream["state"] == "silent":
        return "silent"
    if stream["state"] == "no study yet":
        return "no_study_yet"
    return str(verdict or "no_verdict")


def why(stream: Row | None, flag: Row | None) -> str:
    """The sentence beside the need."""
    if stream is None:
        return "No version is bound, so nothing is answered here."
    if flag:
        return str(flag["sentence"])
    if stream["state"] == "no study yet":
        return "No study has come yet."
    return str(stream["sentence"] or "No verdict has been given yet.")
