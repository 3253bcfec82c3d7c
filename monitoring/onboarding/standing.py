"""Gathers how far a clinic is, for the command line, the page and the report: one set of facts for all three."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from monitoring.judge import contract, contracts_store
from monitoring.onboarding import acceptance, conformance, conformance_store, facts_store, steps
from monitoring.onboarding.acceptance import Case, Trial
from monitoring.onboarding.steps import Facts, Step
from monitoring.streams import streams_store
from registry import clinics_store
from registry.clinics_store import Clinic
from registry.conformance.standard import load
from registry.core.db import Conn, Database
from registry.onboarding import decisions_store
from registry.onboarding.decisions_store import Onboarding
from registry.onboarding.errors import (
    OnboardingAbsent,
    ReviewsMissing,
    StepsMissing,
    TaskUnbound,
    VersionRefused,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a clinic is; ``bound``: the digest that answers each task. Without an onboarding there are no steps."""

    clinic: Clinic
    onboarding: Onboarding | None
    state: str
    steps: tuple[Step, ...]
    bound: Mapping[str, str]
    trials: Mapping[str, Trial]
    conformance: tuple[Mapping[str, Any], ...]
    acceptances: tuple[decisions_store.Acceptance, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values: what the page's twin and ``--json`` show."""
        return {
            "clinic": self.clinic.slug, "name": self.clinic.name, "state": self.state,
            "onboarding": asdict(self.onboarding) if self.onboarding else None,
            "steps": [asdict(step) | {"done": step.done} for step in self.steps],
            "trials": {task: asdict(t) | {"sentence": t.sentence} for task, t in self.trials.items()},
            "acceptances": [asdict(its) for its in self.acceptances],
            "conformance": [dict(row) for row in self.conformance],
        }  # fmt: skip


def of(db: Database, clinic: Clinic) -> Standing:
    """How far ``clinic`` is at this moment: nothing is written."""
    with db.system() as conn:
        begun = decisions_store.one(conn, clinic.id)
        has = clinics_store.readiness(conn, clinic.id)
        echoes, arrivals = facts_store.echoes(conn, clinic.id), facts_store.arrivals(conn, clinic.id)
    with db.monitor() as conn:
        bound = facts_store.bound(conn, clinic.id)
        told = tuple(conformance.told(conn, clinic.id))
        digests = {b.task: b.digest for b in bound}
        trials = {b.task: trial(conn, clinic.id, b.task, b.digest) for b in bound}
        accepted = tuple(decisions_store.acceptances(conn, clinic.id))
        if begun is None:
            return Standing(clinic, None, steps.ABSENT, (), digests, trials, told, accepted)
        standard = load()
        facts = Facts(
            clinic, begun, has, facts_store.now(conn), bound, standard.tasks, arrivals, echoes,
            conformance_store.newest(conn, clinic.id, standard.digest, begun.conform_studies), trials, accepted,
        )  # fmt: skip
        signed = [a for a in facts.signed.values() if a.signed_at]
        if signed:
            since = min(a.signed_at for a in signed if a.signed_at)
            first = facts_store.first_delivered(conn, clinic.id, list(facts.signed), since)
            facts = replace(facts, first_delivered=first)
    found = tuple(steps.steps(facts))
    return Standing(clinic, begun, steps.state(found), found, digests, trials, told, accepted)


def trial(conn: Conn, clinic_id: UUID, task: str, digest: str) -> Trial:
    """What the clinic's own cases say of a version so far; needs a monitor transaction.

    Each case is held against the contract of its own sequence, else against the version's card; without either it
    is no evidence.
    """
    card = contract.of_card(streams_store.card(conn, digest))
    cases = []
    for row in facts_store.cases(conn, clinic_id, task, digest):
        its = contracts_store.in_force(conn, clinic_id, task, row["sequence"], digest) or card
        if its is not None:
            cases.append(Case(row["seq"], row["review_id"], row["dice"], row["minutes"], its))
    return acceptance.decide(cases)


def proof(found: Standing, task: str) -> tuple[str, dict[str, Any]]:
    """The bound version of ``task`` and what its cases proved, for registry's record.

    Raises OnboardingAbsent, TaskUnbound, StepsMissing, ReviewsMissing, VersionRefused.
    """
    if found.onboarding is None:
        raise OnboardingAbsent
    its = found.trials.get(task)
    if its is None:
        raise TaskUnbound(f"nothing is bound to {found.clinic.slug} for {task}")
    if its.word is acceptance.Word.REFUSED:  # what its cases refuse, no later step makes good
        raise VersionRefused(its.sentence)
    before = found.steps[: steps.STEPS.index("acceptance")]
    if missing := [step.name for step in before if not step.done]:
        raise StepsMissing(f"not fulfilled yet: {', '.join(missing).replace('_', ' ')}")
    if its.word is acceptance.Word.UNDECIDED:
        raise ReviewsMissing(its.sentence)
    proved = {
        "reviews": its.reviews, "minutes": its.minutes, "odds": its.odds_good, "odds_against": its.odds_bad,
        "mean_dice": its.mean_dice, "contract_dice": its.bar, "reviews_digest": its.reviews_digest,
        "reviews_without_minutes": its.untold,
    }  # fmt: skip
    return found.bound[task], proved
