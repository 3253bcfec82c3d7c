"""Commands about what answers and what was decided: bindings, holds, versions, events, audit."""

import json
from typing import Annotated, Any

import typer

from registry.core.output import show
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, short, tell

binding = typer.Typer(help="Which version answers a clinic's task.", no_args_is_help=True)
hold = typer.Typer(
    help="Stop delivery for a clinic, a scanner, a version or its answers at a clinic.", no_args_is_help=True
)
model = typer.Typer(help="Model versions.", no_args_is_help=True)
event = typer.Typer(help="What was decided, by whom, when.", no_args_is_help=True)
audit = typer.Typer(help="Whether the record of decisions is whole.", no_args_is_help=True)

Clinic = Annotated[str, typer.Argument(help="The clinic's short name.", metavar="CLINIC")]
Task = Annotated[str, typer.Argument(help="Such as ms-lesion.")]
Scope = Annotated[str, typer.Option(help="'*', profile:NAME or serial:NUMBER.")]
Expected = Annotated[
    int | None,
    typer.Option(
        help="Refuse unless this is the present sequence number (0: nothing bound).", show_default=False
    ),
]
OfClinic = Annotated[str | None, typer.Option("--clinic", help="Only of this clinic.", show_default=False)]


@binding.command("set")
def binding_set(
    clinic: Clinic,
    task: Task,
    version: Annotated[str, typer.Argument(help="name@version, or the beginning of its digest.")],
    reason: Reason,
    scope: Scope = "*",
    expected_seq: Expected = None,
    as_: As = None,
) -> None:
    """Bind a first version, or one that answered before; the next study gets it. Others need a promotion."""
    from registry import accounts, bindings, clinics, versions
    from registry.core.db import database
    from registry.promotions import moves

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.BINDING, as_)
        digest = versions.by_name(conn, version).digest
        its = clinics.by_slug(conn, clinic)
        moves.check_alone(conn, its, task, digest, scope)
        change = bindings.set(conn, its, task, digest, scope, expected_seq, by=by, reason=reason)
    _tell_change(change)


@binding.command("end")
def binding_end(
    clinic: Clinic,
    task: Task,
    reason: Reason,
    scope: Scope = "*",
    expected_seq: Expected = None,
    as_: As = None,
) -> None:
    """Unbind one scope; wider scopes answer from now on, or none."""
    from registry import accounts, bindings, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.BINDING, as_)
        its = clinics.by_slug(conn, clinic)
        change = bindings.end(conn, its, task, scope, expected_seq, by=by, reason=reason)
    _tell_change(change)


@binding.command("show")
def binding_show(
    clinic: Clinic, task: str | None = None, limit: Limit = ROWS, as_json: AsJson = False
) -> None:
    """Show what is bound now; seq is what --expected-seq wants."""
    from registry import bindings, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = bindings.show(conn, clinics.by_slug(conn, clinic), task, limit=limit)
    show(
        [_binding(b, as_json) for b in rows],
        as_json=as_json,
        empty=f"nothing bound: radfleet binding set {clinic}",
    )


@binding.command("history")
def binding_history(
    clinic: Clinic, task: str | None = None, limit: Limit = ROWS, as_json: AsJson = False
) -> None:
    """Show every validity range, the latest first."""
    from registry import bindings, clinics
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = bindings.history(conn, clinics.by_slug(conn, clinic), task, limit=limit)
    table = [_binding(b, as_json) | {"until": b.until, "reason": b.reason} for b in rows]
    show(table, as_json=as_json, empty=f"nothing was ever bound: radfleet binding set {clinic}")


Target = Annotated[
    str,
    typer.Argument(
        help="CLINIC, CLINIC/SCANNER-ID, name@version, or CLINIC/name@version.",
        metavar="TARGET",
        show_default=False,
    ),
]


@hold.command("place")
def hold_place(
    kind: Annotated[str, typer.Argument(help="clinic, scanner, version or answers.")],
    target: Target,
    reason: Reason,
    as_: As = None,
) -> None:
    """Stop delivery of results for a clinic, a scanner or a version."""
    from registry import accounts, holds_store
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.HOLD, as_)
        which, clinic_id, key = _aim(conn, kind, target)
        holds_store.place(conn, which, clinic_id, key, by=by, reason=reason)
    tell("delivering", "held", f"radfleet hold release {kind} {target} --reason TEXT")


@hold.command("release")
def hold_release(
    kind: Annotated[str, typer.Argument(help="clinic, scanner, version or answers.")],
    target: Target,
    reason: Reason,
    as_: As = None,
) -> None:
    """Let delivery go on."""
    from registry import accounts, holds_store
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.HOLD, as_)
        which, _, key = _aim(conn, kind, target)
        holds_store.release(conn, which, key, by=by, reason=reason)
    tell("held", "delivering", f"radfleet hold place {kind} {target} --reason TEXT")


@hold.command("list")
def hold_list(
    clinic: OfClinic = None,
    released: Annotated[bool, typer.Option("--all", help="Released ones too.")] = False,
    limit: Limit = ROWS,
    as_json: AsJson = False,
) -> None:
    """List holds."""
    from registry import clinics, holds_store
    from registry.core.db import database

    with database(settings()).system() as conn:
        its = clinics.by_slug(conn, clinic).id if clinic else None
        rows = holds_store.list(conn, clinic_id=its, released=released, limit=limit)
    table = [
        {
            "kind": h.kind, "target": h.target, "reason": h.reason, "by": h.placed_by, "since": h.placed_at,
            "released": h.released_at,
        }
        for h in rows
    ]  # fmt: skip
    show(table, as_json=as_json, empty="no hold")


@model.command("list")
def model_list(
    task: Annotated[str | None, typer.Option(help="Only of this task.", show_default=False)] = None,
    limit: Limit = ROWS,
    as_json: AsJson = False,
) -> None:
    """List model versions, the newest first."""
    from registry import versions
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = versions.list(conn, task, limit=limit)
    table = [
        {
            "model": v.label, "task": v.task, "runtime": v.runtime_class,
            "digest": v.digest if as_json else short(v.digest), "signed_by": v.signed_by or None,
            "registered": v.created_at,
        }
        for v in rows
    ]  # fmt: skip
    show(table, as_json=as_json, empty="no version yet: radfleet model register PATH")


@model.command("show")
def model_show(version: str, as_json: AsJson = False) -> None:
    """Show one version with its card; VERSION is name@version or the beginning of its digest."""
    from registry import versions
    from registry.core.db import database

    with database(settings()).system() as conn:
        v = versions.show(conn, version)
    label = f"{v.mlflow_name} {v.mlflow_version}" if v.mlflow_name else None
    facts: dict[str, Any] = {
        "model": v.label, "task": v.task, "digest": v.digest, "runtime": v.runtime_class, "mlflow": label,
        "signed_by": v.signed_by or None, "by": v.created_by, "registered": v.created_at,
    }  # fmt: skip
    if as_json:
        show([facts | {"card": v.card, "document": v.model}], as_json=True)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<11} {'-' if value is None else value}")
    typer.echo(json.dumps(v.card, indent=2, ensure_ascii=False))


@event.command("list")
def event_list(
    clinic: OfClinic = None,
    chain: Annotated[str | None, typer.Option(help="fleet, models or clinic:ID.", show_default=False)] = None,
    before: Annotated[int | None, typer.Option(help="Only below this number, with one chain.")] = None,
    limit: Limit = ROWS,
    as_json: AsJson = False,
) -> None:
    """List decisions, the latest first."""
    from registry import clinics, events
    from registry.core.db import database

    with database(settings()).system() as conn:
        name = events.of_clinic(clinics.by_slug(conn, clinic).id) if clinic else chain
        rows = events.list(conn, name, limit=limit, before=before)
    table = [
        {
            "chain": e.chain, "seq": e.seq, "at": e.at, "actor": e.actor, "type": e.type,
            "body": json.loads(e.body) if as_json else e.body,
        }
        for e in rows
    ]  # fmt: skip
    show(table, as_json=as_json, empty="no event")


@audit.command("verify")
def audit_verify(
    chain: Annotated[
        str | None, typer.Argument(help="One chain; all without it.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every hash of the record; exits with 6 where a chain is broken. Keep the heads elsewhere."""
    from registry import audit as it
    from registry.core.db import database
    from registry.errors import ChainBroken

    with database(settings()).system() as conn:
        states = it.verify(conn, chain)
    table = [
        {"chain": s.chain, "events": s.events, "whole": s.whole, "fault": s.fault or None, "head": s.head}
        for s in states
    ]
    show(table, as_json=as_json, empty="no chain yet")
    broken = [s for s in states if not s.whole]
    if broken:
        raise ChainBroken(f"{len(broken)} of {len(states)} chains are broken")


def _tell_change(change: Any) -> None:
    before, after = (
        f"{short(b.digest)} (seq {b.seq}, scope {b.scope})" if b else "none"
        for b in (change.before, change.after)
    )
    tell(before, after, change.undo)


def _binding(b: Any, whole: bool) -> dict[str, Any]:
    return {
        "task": b.task, "scope": b.scope, "seq": b.seq, "model": b.model,
        "digest": b.digest if whole else short(b.digest), "since": b.since, "by": b.bound_by,
    }  # fmt: skip


def _aim(conn: Any, kind: str, target: str) -> tuple[Any, Any, str]:
    """The hold's kind, its clinic and its key, from what a person wrote."""
    from uuid import UUID

    from registry import clinics, holds_store, scanners_store, versions
    from registry.errors import HoldInvalid, ScannerUnknown

    if kind not in tuple(holds_store.Kind):
        raise HoldInvalid
    which = holds_store.Kind(kind)
    if which is holds_store.Kind.VERSION:
        return which, None, versions.by_name(conn, target).digest
    slug, _, scanner = target.partition("/")
    its = clinics.by_slug(conn, slug)
    if which is holds_store.Kind.CLINIC:
        return which, its.id, str(its.id)
    if which is holds_store.Kind.ANSWERS:
        return which, its.id, holds_store.answers(its.id, versions.by_name(conn, scanner).digest)
    try:
        found = scanners_store.by_id(conn, its.id, UUID(scanner))
    except ValueError:
        found = None
    if found is None:
        raise ScannerUnknown
    return which, its.id, str(found.id)
