"""Commands of the promotion line: request, evidence, approve, apply, roll back; and the margins of the gates."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.commands_decide import Clinic, Expected, OfClinic, Scope, Task
from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, short, tell

promotion = typer.Typer(
    help="How a version reaches a clinic: evidence, gates, two people.", no_args_is_help=True
)
evidence = typer.Typer(help="How versions scored people.", no_args_is_help=True)
policy = typer.Typer(help="Margins of the gates.", no_args_is_help=True)
promotion.add_typer(evidence, name="evidence")

Id = Annotated[int, typer.Argument(help="The promotion's number.", metavar="ID", min=1)]


@promotion.command("request")
def promotion_request(
    clinic: Clinic,
    task: Task,
    version: Annotated[str, typer.Argument(help="name@version, or the beginning of its digest.")],
    reason: Reason,
    scope: Scope = "*",
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Propose a version for a clinic's task."""
    from registry import accounts, clinics, versions
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.PROMOTION, as_)
        digest = versions.by_name(conn, version).digest
        its = clinics.by_slug(conn, clinic)
        made = moves.request(conn, its, task, digest, scope, by=by, reason=reason)
        gates = moves.judge(conn, made)
    _tell("none", _line(made), _withdraw(made), as_json, made)
    for gate in gates:
        talk(f"gate {gate.name}: {gate.verdict}, {gate.people} people: {gate.why}")


@promotion.command("approve")
def promotion_approve(
    id: Id,
    waive: Annotated[
        list[str] | None, typer.Option(help="A gate that need not pass; may be repeated; needs --reason.")
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Why, where a gate is waived or nothing was active before.")
    ] = "",
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Approve what another person proposed; every gate must pass or be waived by name."""
    from registry import accounts
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.PROMOTION, as_)
        before = moves.show(conn, id)
        after = moves.approve(conn, id, by=by, waive=waive or (), reason=reason)
    _tell(_line(before), _line(after), _withdraw(after), as_json, after)
    talk(f"next: radfleet promotion apply {id}")


@promotion.command("apply")
def promotion_apply(id: Id, as_: As = None, as_json: AsJson = False) -> None:
    """Bind an approved version, unless the binding changed since the request; the next study gets it."""
    from registry import accounts
    from registry.core.db import database
    from registry.promotions import moves
    from registry.promotions.errors import PromotionStale

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.PROMOTION, as_)
        change = moves.apply(conn, id, by=by)
        after = moves.show(conn, id)
    if change is None:  # raised after the commit that keeps it as stale
        raise PromotionStale
    _tell_change(change, after, as_json)


@promotion.command("rollback")
def promotion_rollback(
    clinic: Clinic,
    task: Task,
    reason: Reason,
    scope: Scope = "*",
    expected_seq: Expected = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Bind the version that was bound here before the present one: at once, without gates or approval."""
    from registry import accounts, clinics
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.ROLLBACK, as_)
        its = clinics.by_slug(conn, clinic)
        made, change = moves.rollback(conn, its, task, scope, expected_seq, by=by, reason=reason)
    _tell_change(change, made, as_json)


@promotion.command("withdraw")
def promotion_withdraw(id: Id, reason: Reason, as_: As = None, as_json: AsJson = False) -> None:
    """End an open promotion."""
    from registry import accounts
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.PROMOTION, as_)
        before = moves.show(conn, id)
        after = moves.withdraw(conn, id, by=by, reason=reason)
    undo = f"radfleet promotion request {after.clinic} {after.task} {after.model} --scope '{after.scope}' --reason TEXT"
    _tell(_line(before), _line(after), undo, as_json, after)


@promotion.command("watch")
def promotion_watch(clinic: OfClinic = None, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """Say how a clinic does since the promotion that answers it; exit 0 healthy, 6 worse, 3 not enough."""
    from registry import clinics
    from registry.core.db import database
    from registry.promotions import watch

    db = database(settings())
    with db.system() as conn:
        its = clinics.by_slug(conn, clinic) if clinic else None
    found = watch.look(db, its.id if its else None, limit)
    rows = [_probation(it, as_json) for it in found]
    show(rows, as_json=as_json, empty="no promotion answers here, so there is nothing to watch")
    if not as_json:
        for it in found:
            for line in (*(f"{m.name}: {m.why}" for m in it.measures), f"to go back: {it.rollback}"):
                talk(f"promotion {it.promotion.id}: {line}")
    raise typer.Exit(watch.exit_code(found))


@promotion.command("list")
def promotion_list(
    clinic: OfClinic = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only proposed and approved ones.")] = False,
    limit: Limit = ROWS,
    as_json: AsJson = False,
) -> None:
    """List promotions and rollbacks, the newest first."""
    from registry import clinics
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        its = clinics.by_slug(conn, clinic) if clinic else None
        rows = moves.list(conn, its, open_only=open_only, limit=limit)
        table = [_row(it) | {"gates": _verdicts(_gates(conn, it))} for it in rows]
    show(table, as_json=as_json, empty="no promotion yet: radfleet promotion request")


@promotion.command("show")
def promotion_show(id: Id, as_json: AsJson = False) -> None:
    """Show one promotion with its gates: of an open one as they stand now, else as they were at the approval."""
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        it = moves.show(conn, id)
        gates = _gates(conn, it)
    facts = _row(it) | {
        "expected_seq": it.expected_seq, "policy": it.policy_version, "reason": it.reason,
        "approval": it.approval or None, "waived": it.waived, "requested": it.proposed_at,
    }  # fmt: skip
    if as_json:
        show([facts | {"digest": it.digest, "active_digest": it.active_digest, "gates": gates}], as_json=True)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<13} {value if value not in (None, []) else '-'}")
    typer.echo("")
    columns = ("name", "verdict", "people", "people_min", "mean", "lower", "bar", "worst", "why")
    show([{name: gate[name] for name in columns} for gate in gates], as_json=False, empty="gates: none")


@promotion.command("sync")
def promotion_sync(as_json: AsJson = False) -> None:
    """Point MLflow's aliases at what is bound now; radfleet up does so by itself, within seconds of a change."""
    from registry.core.db import database
    from registry.promotions import aliases

    with database(settings()).system() as conn:
        wanted = aliases.wanted(conn)
    rows = [asdict(alias) for alias in aliases.follow(settings().mlflow_uri(), wanted)]
    show(rows, as_json=as_json, empty="nothing is bound, so there is no alias")


@evidence.command("add")
def evidence_add(
    file: Annotated[Path, typer.Argument(help="JSON: version, metric, dataset, people, perhaps clinic.")],
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Record how a version scored people; the file's digest is kept, and what is recorded stays."""
    from registry import accounts
    from registry.core.db import database
    from registry.promotions.evidence import read

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.PROMOTION, as_)
        row, new = read(conn, file, by=by)
    what = f"evidence {row.id} ({row.dataset}, {len(row.people)} people, {short(row.source_digest)})"
    facts = asdict(row) | {"people": len(row.people)}
    _tell("none" if new else what, what, "", as_json, facts)
    talk("there is no undo: evidence is never changed or removed, and a person's worst score counts")


@policy.command("list")
def policy_list(limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List the margins, the newest first; a version is judged by the newest that is older than itself."""
    from registry.core.db import database
    from registry.promotions.evidence import policies

    with database(settings()).system() as conn:
        rows = [asdict(row) for row in policies(conn, limit=limit)]
    show(rows, as_json=as_json)


@policy.command("set")
def policy_set(
    reason: Reason,
    metric: Annotated[str | None, typer.Option(help="The score that is compared, such as dice.")] = None,
    clinic_people_min: Annotated[int | None, typer.Option(help="People of the clinic, at least.")] = None,
    person_loss_max: Annotated[float | None, typer.Option(help="No person worse by more.")] = None,
    global_people_min: Annotated[int | None, typer.Option(help="People of the global set, at least.")] = None,
    global_loss_max: Annotated[float | None, typer.Option(help="Mean loss there, at most.")] = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Fix margins for versions registered from now on; those that exist keep theirs."""
    from registry import accounts
    from registry.core.db import database
    from registry.promotions.evidence import MARGINS, set_policy

    given = {
        "metric": metric, "clinic_people_min": clinic_people_min, "person_loss_max": person_loss_max,
        "global_people_min": global_people_min, "global_loss_max": global_loss_max,
    }  # fmt: skip
    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.POLICY, as_)
        margins = {name: value for name, value in given.items() if value is not None}
        before, after = set_policy(conn, margins, by=by, reason=reason)
    lines = [" ".join(f"{name}={getattr(row, name)}" for name in MARGINS) for row in (before, after)]
    undo = " ".join(f"--{name.replace('_', '-')} {getattr(before, name)}" for name in MARGINS)
    undo = f"radfleet policy set {undo} --reason TEXT"
    _tell(
        f"policy {before.version} ({lines[0]})",
        f"policy {after.version} ({lines[1]})",
        undo,
        as_json,
        asdict(after),
    )


def _gates(conn: Any, it: Any) -> list[dict[str, Any]]:
    from registry.promotions import moves

    if it.state in (moves.State.PROPOSED, moves.State.APPROVED):
        return [asdict(gate) for gate in moves.judge(conn, it)]
    return list(it.gates)


def _verdicts(gates: list[dict[str, Any]]) -> str:
    return ", ".join(f"{gate['name']} {gate['verdict']} (n={gate['people']})" for gate in gates) or "-"


def _probation(it: Any, as_json: bool) -> dict[str, Any]:
    """One watched promotion; a table has the counts, JSON each measure."""
    p = it.promotion
    row = {
        "promotion": p.id, "clinic": p.clinic, "task": p.task, "scope": p.scope, "version": p.model,
        "before": p.before_model, "since": p.since, "health": it.health.value, "why": it.why,
    }  # fmt: skip
    if as_json:
        return row | {
            "measures": [asdict(m) for m in it.measures],
            "flags": it.flags,
            "rollback": it.rollback,
        }
    counts = {m.name: f"n={m.n} (before {m.n_before})" for m in it.measures}
    return row | counts


def _line(it: Any) -> str:
    return f"promotion {it.id} ({it.state}: {it.model} for {it.clinic} {it.task}, scope {it.scope})"


def _row(it: Any) -> dict[str, Any]:
    return {
        "id": it.id, "clinic": it.clinic, "task": it.task, "scope": it.scope, "kind": it.kind, "state": it.state,
        "answers": "yes" if it.answers else "no", "active": it.active_model, "candidate": it.model,
        "proposed_by": it.proposed_by, "approved_by": it.approved_by, "changed": it.changed_at,
    }  # fmt: skip


def _withdraw(it: Any) -> str:
    return f"radfleet promotion withdraw {it.id} --reason TEXT"


def _tell(before: str, after: str, undo: str, as_json: bool, facts: Any) -> None:
    if as_json:
        it = facts if isinstance(facts, dict) else _row(facts)
        show([{"before": before, "after": after, "undo": undo or None} | {"it": it}], as_json=True)
    else:
        tell(before, after, undo)


def _tell_change(change: Any, it: Any, as_json: bool) -> None:
    """The bindings before and after, and a hold that stops it."""
    from registry.core.db import database
    from registry.promotions import moves

    before, after = (
        f"{short(b.digest)} (seq {b.seq}, scope {b.scope})" if b else "none"
        for b in (change.before, change.after)
    )
    _tell(before, after, change.undo, as_json, it)
    with database(settings()).system() as conn:
        held = moves.kept_back(conn, it)
    if held:
        talk(held)
