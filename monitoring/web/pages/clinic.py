"""One clinic: what it needs, how each of its streams stands, what is bound, what came in, what happened."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from monitoring import flags_store
from monitoring.evidence import freeze, reports_store
from monitoring.qa import (
    concordance,
    concordance_store,
    daily,
    estimated_store,
    peers,
    peers_store,
    qa_store,
)
from monitoring.vendors import changes, vendors_store
from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.errors import PageUnknown
from monitoring.web.pages import evidence, fleet
from monitoring.web.render import Page
from registry import clinics, holds_store
from registry.core.db import Conn
from registry.onboarding import readiness

DAYS, REPORTS, HAPPENED = daily.DAYS, 6, 20
_HEADING = {
    "fine_tune": "{}: give it a fine-tuned version.",
    "recalibrate": "{}: recalibrate the version that answers it.",
    "hold": "{}: hold its results until somebody has looked.",
    "flagged": "{}: look at its open flag.",
    "silent": "{}: call them, nothing has come for too long.",
    "watch": "{}: keep an eye on it.",
    "no_verdict": "{}: no verdict has been given yet.",
    "not_enough_data": "{}: wait, there is not enough data for a verdict.",
    "no_study_yet": "{}: send the first study.",
    "nothing_bound": "{}: bind a version, nothing answers here.",
    "healthy": "{}: nothing to do, it is confirmed healthy.",
}


def show(visit: Visit) -> Page:
    """The page. Raises ClinicUnknown, for a clinic of somebody else too."""
    with visit.reading() as conn:
        its = clinics.by_slug(conn, visit.args["clinic"])
        slug = its.slug
        (about,) = views_store.clinics(conn, [slug])
        streams, bound = views_store.streams(conn, [slug]), views_store.bound(conn, [slug])
        flags = flags_store.flags(conn, slug, resolved=False, limit=50)
        (row,) = fleet.ranked([about], streams, bound, flags)
        sparks = views_store.sparks(conn, [s["stream_id"] for s in streams if s["stream_id"]])
        known = {
            s["stream_id"]: views_store.evidence(conn, s["stream_id"]) for s in streams if s["stream_id"]
        }
        estimates = estimated_store.latest(conn, slug)
        studies = views_store.studies(conn, slug, limit=12)
        past = _happened(conn, slug)
        closures = views_store.closures(conn, slug)
        same = concordance.concordance(
            concordance_store.rows(conn, slug, qa_store.now(conn) - timedelta(days=DAYS))
        )
    for stream in streams:
        stream["statistics"] = sparks.get(stream["stream_id"], [])
        stream["need"] = fleet.need(stream)
        stream["estimated"] = estimates.get(stream["stream_id"])
        stream["odds"] = evidence.lines(known.get(stream["stream_id"]))
    facts: dict[str, Any] = {
        "clinic": about, "need": row["need"], "why": row["why"], "streams": streams, "flags": flags, "bound": bound,
        "studies": studies, "timeline": past, "steps": [], "holds": [], "qa": [], "days": DAYS, "reports": [],
        "closures": closures, "concordance": [asdict(one) for one in same if one.n >= concordance.SHOWN],
    }  # fmt: skip
    if not visit.who.clinic_id:
        with visit.reading() as conn:
            facts["qa"] = _quality(conn, slug)
            facts["reports"] = [asdict(one) for one in reports_store.reports(conn, slug, None, REPORTS)]
        with visit.deciding() as conn:
            facts["steps"] = [asdict(step) for step in readiness.check(conn, its)]
            here = {row["digest"] for row in bound}
            holds = holds_store.list(conn, clinic_id=its.id)
            facts["holds"] = [asdict(hold) for hold in holds if hold.clinic_id or hold.target in here]
    heading = _HEADING[row["need"]].format(about["name"])
    today = [one["last_day"] for one in closures if one["today"]]
    if row["need"] == "healthy" and today:
        heading = f"{about['name']}: nothing to do, it is closed until {words.day(max(today))}."
    if its.state == "suspended":
        heading = f"{about['name']} is suspended: activate it when it may send again."
    elif facts["holds"]:
        stop = words.count(len(facts["holds"]), "hold stops", "holds stop")
        heading = f"{about['name']}: {stop} delivery, release what is over."
    return Page("clinic.html", "/", heading, facts)


def _happened(conn: Conn, slug: str) -> list[dict[str, Any]]:
    """What was bound and flagged, and what changed at its scanners, the latest first."""
    seen = changes.moments(changes.events(vendors_store.spans(conn, slug)))
    found = views_store.timeline(conn, slug, HAPPENED) + [row | {"who": "", "reason": ""} for row in seen]
    return sorted(found, key=lambda row: row["at"], reverse=True)[:HAPPENED]


def _quality(conn: Conn, slug: str) -> list[dict[str, Any]]:
    """QA metrics of the last 90 days by version, and where they stand among clinics with the same one."""
    cuts, stand = daily.cuts(conn, slug), peers.standings(peers_store.beside(conn, slug))
    places = [stand.get((slug, cut.task or "", cut.model or ""), {}) for cut in cuts]
    return [
        asdict(cut) | {"peers": {name: asdict(one) for name, one in its.items()}}
        for cut, its in zip(cuts, places, strict=True)
    ]


def report(visit: Visit) -> bytes:
    """A report of this clinic by Evidently, exactly as it was frozen. Raises PageUnknown."""
    visit.fleet_only()
    begin = visit.args["digest"]
    with visit.reading() as conn:
        its = clinics.by_slug(conn, visit.args["clinic"])
        found = [
            one.digest for one in reports_store.reports(conn, its.slug, None, 500)
            if one.digest.removeprefix("sha256:").startswith(begin)
        ]  # fmt: skip
        if len(begin) < 12 or len(found) != 1:
            raise PageUnknown
        return freeze.html(conn, its.id, found[0])
