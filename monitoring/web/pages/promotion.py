"""Promotions: what waits for whom, the gates with their numbers, and the forms that move one on."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from monitoring.web import words
from monitoring.web.desk import Told, Visit
from monitoring.web.errors import FormInvalid
from monitoring.web.render import Page
from registry import bindings, clinics
from registry.accounts import Act
from registry.bindings import Change
from registry.core.db import Conn
from registry.promotions import moves
from registry.promotions.errors import PromotionStale
from registry.promotions.moves import State
from registry.promotions.moves_store import Promotion
from registry.verbs import short


def many(visit: Visit) -> Page:
    """Open promotions first, then what became of the others."""
    with visit.deciding() as conn:
        # Asked for by themselves: what waits must not fall off a list that newer ones have filled.
        open_ones = moves.list(conn, open_only=True, limit=200)
        past = [it for it in moves.list(conn, limit=100) if it.state not in (State.PROPOSED, State.APPROVED)]
        rows = [_row(it) | {"gates": _gates(conn, it)} for it in (*open_ones, *past)]
    waiting = [row for row in rows if row["state"] == State.PROPOSED]
    approved = [row for row in rows if row["state"] == State.APPROVED]
    if approved:
        heading = f"Apply {words.count(len(approved), 'approved promotion')}: begin with number {approved[-1]['id']}."
    elif waiting:
        mine = [row for row in waiting if row["proposed_by"] == visit.who.account]
        heading = f"{words.count(len(waiting), 'promotion')} {'waits' if len(waiting) == 1 else 'wait'} for approval"
        heading += ", all by somebody other than you." if len(mine) == len(waiting) else "."
    else:
        heading = "No promotion waits for anybody."
    return Page("promotions.html", "/promotions", heading, {"promotions": rows})


def one(visit: Visit) -> Page:
    """One promotion with its gates: of an open one as they stand now, else as at the approval."""
    with visit.deciding() as conn:
        it = moves.show(conn, visit.number("id"))
        gates = _gates(conn, it)
        its = clinics.by_slug(conn, it.clinic)
        bound = next((b for b in bindings.show(conn, its, it.task) if b.scope == it.scope), None)
    unmet = [gate["name"] for gate in gates if gate["verdict"] != "pass"]
    mine = it.proposed_by == visit.who.account
    may = visit.may(Act.PROMOTION)
    facts = {
        "promotion": _row(it) | {
            "reason": it.reason, "approval": it.approval, "waived": it.waived, "policy_version": it.policy_version,
            "digest": it.digest, "active_digest": it.active_digest, "requested": it.proposed_at,
        },
        "gates": gates, "unmet": unmet, "bound": bound and asdict(bound), "mine": mine, "may": {
            "approve": may and it.state == State.PROPOSED and not mine,
            "apply": may and it.state == State.APPROVED,
            "withdraw": may and it.state in (State.PROPOSED, State.APPROVED),
            "rollback": visit.may(Act.ROLLBACK) and it.state == State.ACTIVE and it.answers,
        },
    }  # fmt: skip
    return Page("promotion.html", "/promotions", heading(it, unmet), facts)


def heading(it: Promotion, unmet: list[str]) -> str:
    """What this promotion waits for, in a sentence."""
    step = f"{it.active_model or 'nothing'} → {it.model}"
    if it.kind == "rollback":
        return f"{step}: rolled back{', and it answers now' if it.answers else ''}."
    match it.state:
        case State.PROPOSED if unmet and it.active_digest:
            verb = "does" if len(unmet) == 1 else "do"
            return (
                f"{step}: {words.count(len(unmet), 'gate')} {verb} not pass, bring evidence or withdraw it."
            )
        case State.PROPOSED:
            return (
                f"{step}: the gates pass, it waits for a second person."
                if not unmet
                else (f"{step}: nothing answers yet, so a second person decides.")
            )
        case State.APPROVED:
            return f"{step}: approved, apply it."
        case State.ACTIVE:
            return f"{step}: {'it answers now.' if it.answers else 'it was applied and has been replaced since.'}"
        case State.STALE:
            return f"{step}: the binding changed meanwhile, request it again."
        case _:
            return f"{step}: withdrawn."


def approve(visit: Visit, form: Mapping[str, str]) -> Told:
    """Approve what another person proposed."""
    waive = [name.removeprefix("waive-") for name in form if name.startswith("waive-")]
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.PROMOTION)
        id = visit.number("id")
        before = moves.show(conn, id)
        after = moves.approve(conn, id, by=by, waive=waive, reason=form.get("reason", ""))
    return _told(before, after, "withdraw it below")


def apply(visit: Visit, form: Mapping[str, str]) -> Told:
    """Bind an approved version."""
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.PROMOTION)
        change = moves.apply(conn, visit.number("id"), by=by)
        after = moves.show(conn, visit.number("id"))
    if change is None:  # raised after the commit that keeps it as stale
        raise PromotionStale
    return _changed(visit, change, after)


def withdraw(visit: Visit, form: Mapping[str, str]) -> Told:
    """End an open promotion."""
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.PROMOTION)
        before = moves.show(conn, visit.number("id"))
        after = moves.withdraw(conn, before.id, by=by, reason=form.get("reason", ""))
    return _told(before, after, "request it again: radfleet promotion request")


def rollback(visit: Visit, form: Mapping[str, str]) -> Told:
    """Bind the version that was bound before the one that this promotion brought, if that one still answers."""
    seq = form.get("seq", "")
    if not seq.isdecimal() or len(seq) > 12:
        raise FormInvalid("the form does not say which binding it means")
    with visit.deciding() as conn:
        by = visit.actor(conn, Act.ROLLBACK)
        it = moves.show(conn, visit.number("id"))
        its = clinics.by_slug(conn, it.clinic)
        # The sequence that the page showed: whoever sends an old form again rolls nothing back.
        made, change = moves.rollback(
            conn, its, it.task, it.scope, int(seq), by=by, reason=form.get("reason", "")
        )
    return _changed(visit, change, made)


def _changed(visit: Visit, change: Change, it: Promotion) -> Told:
    """The bindings before and after, and a hold that stops it."""
    pair = (change.before, change.after)
    lines = [f"{short(b.digest)} (seq {b.seq}, scope {b.scope})" if b else "none" for b in pair]
    with visit.deciding() as conn:
        note = moves.kept_back(conn, it) or ""
    said = {"before": lines[0], "after": lines[1], "undo": change.undo, "note": note}
    return f"/promotions/{it.id}", said


def _told(before: Promotion, after: Promotion, undo: str) -> Told:
    said = {"before": f"{before.state}", "after": f"{after.state}", "undo": undo, "note": ""}
    return f"/promotions/{after.id}", said


def _gates(conn: Conn, it: Promotion) -> list[dict[str, Any]]:
    if it.state in (State.PROPOSED, State.APPROVED):
        return [asdict(gate) for gate in moves.judge(conn, it)]
    return list(it.gates)


def _row(it: Promotion) -> dict[str, Any]:
    return {
        "id": it.id, "clinic": it.clinic, "task": it.task, "scope": it.scope, "kind": it.kind, "state": it.state,
        "answers": it.answers, "active": it.active_model, "candidate": it.model, "proposed_by": it.proposed_by,
        "approved_by": it.approved_by, "changed": it.changed_at,
    }  # fmt: skip
