"""How far a new clinic is: its steps, what is missing and who brings it, its scanners, the acceptance."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from monitoring.evidence import reports_store
from monitoring.onboarding import standing, steps
from monitoring.onboarding.standing import Standing
from monitoring.web.desk import Told, Visit
from monitoring.web.render import Page
from registry import clinics
from registry.accounts import Act
from registry.clinics_store import Clinic
from registry.onboarding import decisions

_HEADING: Final = {
    steps.ABSENT: "{}: begin its onboarding, or leave it as it is.",
    "registered": "{}: register its sender and bind a version.",
    "connectivity": "{}: connect its scanner and its archive.",
    "conformance": "{}: let its scanners fit the protocol.",
    "silent_run": "{}: let it run silently, nothing is delivered yet.",
    "acceptance": "{}: review its own cases, then two people sign.",
    "active": "{}: wait for its first delivered result.",
    "probation": "{}: watch it, its probation is not over.",
    steps.DONE: "{}: nothing to do, its onboarding is done.",
}


def show(visit: Visit) -> Page:
    """The page of the fleet's people. Raises ClinicUnknown; PageUnknown for who sees one clinic alone."""
    its = _clinic(visit)
    found = standing.of(visit.desk.db, its)
    with visit.reading() as conn:
        reports = reports_store.reports(conn, its.slug, None, 200)
    facts = found.plain() | {
        "may": _may(visit, found), "advised": any(row["deviations"] for row in found.conformance),
        "evidence": [asdict(one) for one in reports if one.kind == "onboarding"][:5],
    }  # fmt: skip
    return Page("onboarding.html", "/", _HEADING[found.state].format(its.name), facts)


def accept(visit: Visit, fields: Mapping[str, str]) -> Told:
    """Propose or sign, as the command does."""
    its = _clinic(visit)
    found = standing.of(visit.desk.db, its)
    digest, proof = standing.proof(found, fields.get("task", ""))
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.CLINIC)
        made = decisions.accept(
            conn, its, fields["task"], digest, proof, by=by, reason=fields.get("reason", "")
        )
    signed = made.state == "signed"
    said = {
        "before": "proposed" if signed else "none", "after": f"{made.task}: {made.state}",
        "undo": f"radfleet hold place clinic {its.slug} --reason TEXT" if signed else "",
        "note": "" if signed else "Another person signs on this page.",
    }  # fmt: skip
    return f"/clinics/{its.slug}/onboarding", said


def _clinic(visit: Visit) -> Clinic:
    visit.fleet_only()
    with visit.reading() as conn:
        return clinics.by_slug(conn, visit.args["clinic"])


def _may(visit: Visit, found: Standing) -> dict[str, str]:
    """Task -> what this person can do for it now: Propose or Sign."""
    if not visit.may(Act.CLINIC) or found.state != "acceptance":
        return {}
    proposed = {(a.task, a.digest): a for a in found.acceptances}
    may = {}
    for task, trial in found.trials.items():
        its = proposed.get((task, found.bound[task]))
        if trial.word == "accepted" and its is None:
            may[task] = "Propose"
        elif its is not None and its.state == "proposed" and its.proposed_by != visit.who.account:
            may[task] = "Sign"
    return may
