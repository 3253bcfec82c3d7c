"""The moves of a promotion: request, approve, apply, withdraw; and the rollback, which needs none of the others.

proposed -> approved -> active; withdrawn and stale are ends. Each move locks the promotion, checks, writes the row
and appends its event in the caller's (system) transaction. The database refuses the same things by itself: an
approver who proposed, an activation without approval, a way back to a version that was never bound here.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import UTC
from enum import StrEnum

from registry import accounts_store, bindings, bindings_store, clinics, events, holds_store
from registry.bindings import EVERYWHERE, Change
from registry.canonical import canonical_json, sha256_digest
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import ActorUnknown, BindingStale, ReasonMissing
from registry.promotions import evidence_store, gates, moves_store
from registry.promotions.errors import (
    GatesUnmet,
    GateUnknown,
    NowhereBack,
    PromotionNeeded,
    PromotionOpen,
    PromotionState,
    PromotionUnknown,
    RolledBack,
    SamePerson,
    VersionBound,
)
from registry.promotions.gates import Gate, Verdict
from registry.promotions.moves_store import Promotion


class State(StrEnum):
    """Where a promotion stands."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    ACTIVE = "active"
    WITHDRAWN = "withdrawn"
    STALE = "stale"


def check_alone(conn: Conn, clinic: Clinic, task: str, digest: str, scope: str = EVERYWHERE) -> None:
    """Let one person bind the first version of a scope, or one that was bound there before, without a promotion.

    Raises PromotionNeeded.
    """
    active = bindings_store.answering(conn, clinic.id, task, scope)
    rows = bindings_store.history(conn, clinic.id, task, open_only=False, limit=LIMITS.history_rows)
    known = {row.digest for row in rows if row.scope == scope} | ({active.digest} if active else set())
    if known and digest not in known:
        raise PromotionNeeded(
            f"other versions answered {task} of {clinic.slug} in scope {scope}, never {digest[7:19]}"
        )


def request(
    conn: Conn, clinic: Clinic, task: str, digest: str, scope: str = EVERYWHERE, *, by: str, reason: str
) -> Promotion:
    """Propose a version, judged against what answers there at this moment.

    Raises VersionUnknown, VersionTask, VersionElsewhere, VersionBound, PromotionOpen, ScopeInvalid, ReasonMissing.
    """
    bindings.check(scope, reason)
    version = bindings.fitting(conn, clinic, task, digest)
    active = bindings_store.answering(conn, clinic.id, task, scope)
    if active and active.digest == digest:
        raise VersionBound(f"{version.label} answers there already")
    values = {
        "clinic_id": clinic.id, "task": task, "scope": scope, "kind": "promote", "state": State.PROPOSED,
        "digest": digest, "active_digest": active.digest if active else None,
        "expected_seq": active.seq if active and active.scope == scope else 0, "restored_seq": None,
        "policy_version": evidence_store.policy_for(conn, digest), "by": by, "reason": reason,
    }  # fmt: skip
    made = moves_store.add(conn, values)
    if made is None:
        raise PromotionOpen
    _record(conn, made, "promotion.requested", by)
    return made


def judge(conn: Conn, promotion: Promotion) -> tuple[Gate, ...]:
    """The gates of a promotion by the evidence of this moment; a rollback has none."""
    if promotion.policy_version is None:
        return ()
    policy = evidence_store.policy(conn, promotion.policy_version)
    its = evidence_store.of_version(conn, promotion.digest, promotion.clinic_id)
    if promotion.active_digest is None:
        return gates.judge(policy, its, None)
    return gates.judge(
        policy, its, evidence_store.of_version(conn, promotion.active_digest, promotion.clinic_id)
    )


def approve(
    conn: Conn, id: int, *, by: str, waive: Collection[str] = (), reason: str = ""
) -> Promotion:  # fmt: skip
    """Approve what somebody else proposed, once every gate passes or is waived by name and with a reason.

    Where nothing was active nothing can be compared: there the approver's reason stands for the gates. Raises
    PromotionUnknown, PromotionState, SamePerson, ActorUnknown, GatesUnmet, GateUnknown, ReasonMissing.
    """
    it = _locked(conn, id, State.PROPOSED)
    _another_person(conn, it, by)
    judged = judge(conn, it)
    if unknown := {*waive} - {gate.name for gate in judged}:
        raise GateUnknown(f"no gate is called {', '.join(sorted(unknown))}")
    unmet = _unmet(judged)
    waived = [name for name in unmet if name in waive or it.active_digest is None]
    _must_pass(judged, waived)
    if waived and not reason.strip():
        raise ReasonMissing(f"no reason is given for {', '.join(waived)}, which does not pass")
    rows = [asdict(gate) for gate in judged]
    moves_store.approve(conn, id, by=by, approval=reason, gates=rows, waived=waived)
    return _recorded(conn, it, "promotion.approved", by)


def apply(conn: Conn, id: int, *, by: str) -> Change | None:
    """Bind an approved version by compare-and-swap on the sequence that the request saw.

    None: the binding changed since, and the promotion has ended as stale; the caller commits that, then raises
    PromotionStale. Gates that evidence has closed since the approval refuse. Raises PromotionUnknown,
    PromotionState, ActorUnknown, GatesUnmet.
    """
    it = _locked(conn, id, State.APPROVED)
    _approver_is_active(conn, it)
    clinic = clinics.by_slug(conn, it.clinic)
    bindings_store.lock(conn, it.clinic_id, it.task)
    active = bindings_store.answering(conn, it.clinic_id, it.task, it.scope)
    try:
        # A wider scope may have changed what answers here without touching this scope's sequence.
        if (active.digest if active else None) != it.active_digest:
            raise BindingStale
        judged = judge(conn, it)
        _must_pass(judged, _still_waived(it, judged))
        change = bindings.set(
            conn,
            clinic,
            it.task,
            it.digest,
            it.scope,
            it.expected_seq,
            by=by,
            reason=it.reason,
            promotion_id=id,
        )
    except BindingStale:
        moves_store.move(conn, id, State.STALE)
        _recorded(conn, it, "promotion.stale", by)
        return None
    moves_store.move(conn, id, State.ACTIVE)
    _recorded(conn, it, "promotion.applied", by)
    return replace(change, undo=_back(it)) if change.before else change


def withdraw(conn: Conn, id: int, *, by: str, reason: str) -> Promotion:
    """End an open promotion. Raises PromotionUnknown, PromotionState, ReasonMissing."""
    if not reason.strip():
        raise ReasonMissing
    it = _locked(conn, id, State.PROPOSED, State.APPROVED)
    moves_store.move(conn, id, State.WITHDRAWN)
    return _recorded(conn, it, "promotion.withdrawn", by, reason)


def rollback(
    conn: Conn, clinic: Clinic, task: str, scope: str = EVERYWHERE, expected_seq: int | None = None,
    *, by: str, reason: str,
) -> tuple[Promotion, Change]:  # fmt: skip
    """Bind the version that was bound here before the present one: no gates, no approval.

    Raises NowhereBack, RolledBack, BindingStale, ScopeInvalid, ReasonMissing.
    """
    bindings.check(scope, reason)
    # Looked at before the lock: of two at once the second finds its sequence gone, and does not go back further.
    way = moves_store.earlier(conn, clinic.id, task, scope)
    if way is None or way.earlier is None:
        raise NowhereBack
    if way.again and expected_seq is None:
        raise RolledBack
    values = {
        "clinic_id": clinic.id, "task": task, "scope": scope, "kind": "rollback", "state": State.ACTIVE,
        "digest": way.earlier, "active_digest": way.digest, "expected_seq": way.seq,
        "restored_seq": way.restored_seq, "policy_version": None, "by": by, "reason": reason,
    }  # fmt: skip
    made = moves_store.add(conn, values)
    assert made is not None
    change = bindings.set(
        conn, clinic, task, way.earlier, scope, way.seq if expected_seq is None else expected_seq,
        by=by, reason=reason, promotion_id=made.id,
    )  # fmt: skip
    _record(conn, made, "promotion.rolled_back", by)
    return made, change


def kept_back(conn: Conn, it: Promotion) -> str:
    """What to tell whoever bound a version that a hold stops here; empty where its results are delivered."""
    kind = holds_store.is_held(conn, it.clinic_id, None, it.digest)
    return (
        f"a hold on the {kind} keeps the results of {it.model} back here: radfleet hold list" if kind else ""
    )


def show(conn: Conn, id: int) -> Promotion:
    """One promotion. Raises PromotionUnknown."""
    it = moves_store.one(conn, id)
    if it is None:
        raise PromotionUnknown
    return it


def list(
    conn: Conn, clinic: Clinic | None = None, *, open_only: bool = False, limit: int = LIMITS.page_rows
) -> Sequence[Promotion]:
    """Promotions, the newest first."""
    return moves_store.page(conn, clinic.id if clinic else None, open_only=open_only, limit=limit)


def near(conn: Conn) -> tuple[set[str], set[str]]:
    """Digests that may be bound at any moment, and those of them whose promotion is approved.

    The first are those of open promotions, and those to which a rollback would lead. Needs a system transaction.
    """
    rows = moves_store.near(conn)
    return {digest for digest, _ in rows}, {digest for digest, approved in rows if approved}


def proof(it: Promotion) -> str:
    """The digest of a row, as its last event keeps it: an altered row no longer has it."""
    facts = asdict(it)
    for name in ("clinic", "model", "active_model", "answers"):  # not of this row
        del facts[name]
    facts["clinic_id"] = str(it.clinic_id)
    facts |= {name: facts[name].astimezone(UTC).isoformat() for name in ("proposed_at", "changed_at")}
    return sha256_digest(canonical_json(facts))


def _locked(conn: Conn, id: int, *states: State) -> Promotion:
    it = moves_store.locked(conn, id)
    if it is None:
        raise PromotionUnknown
    if it.state not in states:
        raise PromotionState(f"promotion {id} is {it.state}, not {' or '.join(states)}")
    return it


def _another_person(conn: Conn, it: Promotion, by: str) -> None:
    if by == it.proposed_by:
        raise SamePerson(f"{by} proposed promotion {it.id}")
    if accounts_store.by_name(conn, by) is None:
        raise ActorUnknown(
            why="An approval is an account's: without accounts nobody can tell two people apart."
        )


def _approver_is_active(conn: Conn, it: Promotion) -> None:
    account = accounts_store.by_name(conn, it.approved_by or "")
    if account is None or not account.active:
        raise ActorUnknown(
            f"who approved promotion {it.id} has no active account any more",
            cure="Withdraw it and request it again: another person approves it then.",
        )


def _still_waived(it: Promotion, judged: Sequence[Gate]) -> Collection[str]:
    """What was waived and is no worse than the approver saw: a waiver of "not enough" covers no failure."""
    then = {gate["name"]: gate["verdict"] for gate in it.gates}
    worse = {g.name for g in judged if g.verdict is Verdict.FAIL and then.get(g.name) != Verdict.FAIL}
    return {*it.waived} - worse


def _unmet(judged: Sequence[Gate]) -> Sequence[str]:
    return [gate.name for gate in judged if gate.verdict is not Verdict.PASS]


def _must_pass(judged: Sequence[Gate], waived: Collection[str]) -> None:
    closed = [gate for gate in judged if gate.name in {*_unmet(judged)} - {*waived}]
    if closed:
        raise GatesUnmet(
            f"{len(closed)} of {len(judged)} gates do not pass",
            "; ".join(f"{g.name}: {g.why}" for g in closed),
        )


def _recorded(conn: Conn, before: Promotion, kind: str, by: str, reason: str = "") -> Promotion:
    after = show(conn, before.id)
    _record(conn, after, kind, by, before.state, reason)
    return after


def _record(
    conn: Conn, it: Promotion, kind: str, by: str, before: str | None = None, reason: str = ""
) -> None:
    body: dict[str, object] = {
        "promotion": it.id, "task": it.task, "scope": it.scope, "digest": it.digest, "before": before,
        "after": it.state, "proposed_by": it.proposed_by, "approved_by": it.approved_by, "waived": it.waived,
        "reason": reason or (it.approval if it.state == State.APPROVED else it.reason), "row": proof(it),
    }  # fmt: skip
    events.append(conn, events.of_clinic(it.clinic_id), by, kind, body)


def _back(it: Promotion) -> str:
    words = ["radfleet", "promotion", "rollback", it.clinic, it.task]
    words += ["--scope", it.scope] if it.scope != EVERYWHERE else []
    return shlex.join([*words, "--reason"]) + " TEXT"
