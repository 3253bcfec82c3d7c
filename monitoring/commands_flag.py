"""`radfleet flag`: the work list of what needs a person, and the decisions about it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, tell

flag = typer.Typer(help="What needs a person: raised by monitoring, ended by people.", no_args_is_help=True)
Number = Annotated[int, typer.Argument(help="The flag's number.", metavar="NUMBER")]
_SHOWN = (
    "id",
    "clinic",
    "task",
    "sequence",
    "model",
    "kind",
    "state",
    "verdict",
    "sentence",
    "since_at",
    "seen",
)
_WHOLE = (
    *_SHOWN, "features", "cause", "statistic", "threshold", "would_change", "verdict_sentence", "verdict_action",
    "opened_at", "acknowledged_by", "acknowledged_reason", "muted_until", "muted_by", "muted_reason", "resolved_by",
    "resolved_at", "resolved_reason", "promotion_id",
)  # fmt: skip


@flag.command("list")
def flag_list(
    clinic: Annotated[str | None, typer.Option(help="Only this clinic's.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Limit = ROWS,
    as_json: AsJson = False,
) -> None:
    """List flags, open ones first, the newest first."""
    from monitoring import flags_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        rows = flags_store.flags(conn, clinic, resolved=every, limit=limit)
    columns = tuple(rows[0]) if as_json and rows else _SHOWN
    show([{name: row[name] for name in columns} for row in rows], as_json=as_json, empty="no open flag")


@flag.command("show")
def flag_show(number: Number, as_json: AsJson = False) -> None:
    """Show one flag with its record, and whether the record is whole."""
    from monitoring import flags, flags_store
    from monitoring.onboarding import deviating
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        its = flags.show(conn, number)
        fit = deviating.told(deviating.beside(conn, its))
        events = flags_store.events(conn, its["clinic_id"], number)
    whole = flags.record_is_whole(events)
    record = [{"at": e.at, "by": e.actor, "what": e.type, "body": e.body} for e in events]
    if as_json:
        show([its | {"conformance": fit, "record": record, "record_is_whole": whole}], as_json=True)
        return
    for name in _WHOLE:
        typer.echo(f"{name:<20} {its[name] if its[name] not in (None, []) else '-'}")
    for sentence in fit["sentences"] if fit else ("-",):
        typer.echo(f"{'conformance':<20} {sentence}")
    typer.echo(f"{'record':<20} {'whole' if whole else 'CHANGED AFTERWARDS'}\n")
    show(record, as_json=False)


@flag.command("acknowledge")
def flag_acknowledge(number: Number, reason: Reason, as_: As = None, as_json: AsJson = False) -> None:
    """Say that you look after it; it stays open."""
    from monitoring import flags

    def change(conn: Any, by: str, notify: Sequence[str]) -> dict[str, Any]:
        return flags.acknowledge(conn, number, by=by, reason=reason, notify=notify)

    _change(number, as_, as_json, change)


@flag.command("mute")
def flag_mute(
    number: Number,
    reason: Reason,
    hours: Annotated[int, typer.Option(help="For so long, at most 720.")] = 24,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Tell nobody about it for some hours; it stays open."""
    from monitoring import flags

    _change(number, as_, as_json, lambda conn, by, _: flags.mute(conn, number, hours, by=by, reason=reason))


@flag.command("resolve")
def flag_resolve(
    number: Number,
    reason: Reason,
    new_reference: Annotated[
        bool,
        typer.Option("--new-reference", help="What came since is normal now: the next 50 studies say so."),
    ] = False,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """End it. The stream is watched again from nothing, against the old reference or, if you say so, a new one."""
    from monitoring import flags

    def change(conn: Any, by: str, notify: Sequence[str]) -> dict[str, Any]:
        return flags.resolve(conn, number, by=by, reason=reason, notify=notify, new_reference=new_reference)

    _change(number, as_, as_json, change)
    talk("there is no undo: a resolved flag is a record; what happens later raises a flag of its own")


def _change(number: int, as_: str | None, as_json: bool, change: Any) -> None:
    """Who decides is looked up first; then flag, record and epoch change in one transaction."""
    from monitoring import flags
    from registry import accounts
    from registry.core.db import database

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.FLAG, as_)
    with db.monitor(write=True) as conn:
        before = flags.show(conn, number)
        after = change(conn, by, settings().channels())
    if as_json:
        show([{"before": before["state"], "after": after["state"], "it": after}], as_json=True)
    else:
        tell(f"flag {number} ({before['state']})", f"flag {number} ({after['state']})", "")
