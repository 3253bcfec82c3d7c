"""What people decide on a clinic's way: begin it, let a step pass, accept a version by two of them.

Each decision is written with its event in the caller's (system) transaction. That the clinic's own cases accept a
version is for monitoring to say (``proof``); the database refuses one signer and odds below 20 by itself.
"""

from collections.abc import Mapping
from typing import Any, Final

from registry import accounts_store, clinics_store, events
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.errors import ActorUnknown, ReasonMissing
from registry.onboarding import decisions_store as store
from registry.onboarding.decisions_store import Acceptance, Onboarding
from registry.onboarding.errors import (
    AcceptedAlready,
    OnboardingAbsent,
    OnboardingBegun,
    OnboardingLate,
    OnboardingMeasure,
    SameSigner,
    StepFixed,
    StepWaived,
)

WAIVABLE: Final = ("conformance", "silent_run")


def begin(
    conn: Conn, clinic: Clinic, *, by: str, reason: str, silent_studies: int = 50, probation_days: int = 30
) -> Onboarding:
    """Begin a clinic's onboarding: from now on its answers are kept and not delivered until a version is signed.

    Raises OnboardingBegun, OnboardingLate, OnboardingMeasure, ReasonMissing.
    """
    _reason(reason)
    clinics_store.lock(conn, clinic.id)
    if store.delivered(conn, clinic.id):
        raise OnboardingLate
    if not (1 <= silent_studies <= 100_000 and 1 <= probation_days <= 365):
        raise OnboardingMeasure
    if not store.begin(
        conn, clinic.id, silent_studies=silent_studies, probation_days=probation_days, by=by, reason=reason
    ):
        raise OnboardingBegun
    body = {"reason": reason, "silent_studies": silent_studies, "probation_days": probation_days}
    events.append(conn, events.of_clinic(clinic.id), by, "onboarding.begun", body)
    return show(conn, clinic)


def show(conn: Conn, clinic: Clinic) -> Onboarding:
    """How it was begun. Raises OnboardingAbsent."""
    found = store.one(conn, clinic.id)
    if found is None:
        raise OnboardingAbsent(f"no onboarding of {clinic.slug} was begun")
    return found


def waive(conn: Conn, clinic: Clinic, step: str, *, by: str, reason: str) -> None:
    """Let a step pass that is not fulfilled. Raises StepFixed, StepWaived, OnboardingAbsent, ReasonMissing."""
    _reason(reason)
    if step not in WAIVABLE:
        raise StepFixed(f"the step {step} cannot be waived")
    show(conn, clinic)
    if not store.waive(conn, clinic.id, step, by=by, reason=reason):
        raise StepWaived(f"the step {step} was waived already")
    body = {"step": step, "reason": reason}
    events.append(conn, events.of_clinic(clinic.id), by, "onboarding.waived", body)


def accept(
    conn: Conn, clinic: Clinic, task: str, digest: str, proof: Mapping[str, Any], *, by: str, reason: str
) -> Acceptance:
    """Propose an acceptance, or sign the one that another person proposed; its ``state`` says which it was.

    ``proof``: what the clinic's own cases said (reviews, minutes, odds, reviews_digest). A proposal that stood on
    other reviews is withdrawn and made anew. Raises AcceptedAlready, SameSigner, ActorUnknown, OnboardingAbsent,
    ReasonMissing.
    """
    _reason(reason)
    show(conn, clinic)
    if accounts_store.by_name(conn, by) is None:
        raise ActorUnknown(
            why="An acceptance is an account's: without accounts nobody can tell two people apart."
        )
    clinics_store.lock(conn, clinic.id)
    before = next(iter(store.acceptances(conn, clinic.id, task, digest)), None)
    if before is not None and before.state == "signed":
        raise AcceptedAlready(f"{before.model} is signed for {clinic.slug} by two people")
    if before is not None and before.evidence["reviews_digest"] != proof["reviews_digest"]:
        store.withdraw(conn, before)
        _note(conn, before, by, "acceptance.withdrawn", "its reviews changed")
        before = None
    if before is None:
        store.propose(conn, clinic.id, task, digest, proof, by=by, reason=reason)
        return _noted(conn, clinic, task, digest, by, "acceptance.proposed", reason)
    if before.proposed_by == by:
        raise SameSigner(f"{by} proposed this acceptance")
    store.sign(conn, before, by=by, reason=reason)
    return _noted(conn, clinic, task, digest, by, "acceptance.signed", reason)


def _noted(conn: Conn, clinic: Clinic, task: str, digest: str, by: str, kind: str, reason: str) -> Acceptance:
    (its,) = store.acceptances(conn, clinic.id, task, digest)
    _note(conn, its, by, kind, reason)
    return its


def _note(conn: Conn, its: Acceptance, by: str, kind: str, reason: str) -> None:
    body = {
        "task": its.task, "digest": its.digest, "reviews": its.reviews, "minutes": its.minutes, "odds": its.odds,
        "reviews_digest": its.evidence["reviews_digest"], "proposed_by": its.proposed_by,
        "signed_by": its.signed_by, "reason": reason,
    }  # fmt: skip
    events.append(conn, events.of_clinic(its.clinic_id), by, kind, body)


def _reason(reason: str) -> None:
    if not reason.strip():
        raise ReasonMissing
