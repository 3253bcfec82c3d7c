"""Registry's part of the command line: the installation, its health, and the groups of the modules beside it."""

from typing import Annotated

import typer

from registry.commands_clinic import account, clinic, scanner
from registry.commands_closed import closed
from registry.commands_decide import audit, binding, event, hold, model
from registry.commands_promote import policy, promotion
from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import AsJson

db = typer.Typer(help="The database: migrate, status.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Add registry's commands to the root."""
    for verb in (up, down, status, doctor, explain):
        app.command()(verb)
    groups = {
        "clinic": clinic, "scanner": scanner, "account": account, "model": model, "binding": binding,
        "promotion": promotion, "policy": policy, "hold": hold, "event": event, "audit": audit, "db": db,
    }  # fmt: skip
    clinic.command("closed")(closed)
    for name, group in groups.items():
        app.add_typer(group, name=name)


def up(
    only: Annotated[
        list[str] | None, typer.Option(help="Only this part; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Start every part of the installation and watch them until Ctrl-C or radfleet down."""
    from registry import supervisor

    supervisor.up(settings(), only or ())


def down() -> None:
    """Stop every part, from any terminal."""
    from registry import supervisor

    supervisor.down(settings())


def status(as_json: AsJson = False) -> None:
    """What each part does now; exits with 6 unless all are well."""
    from dataclasses import asdict

    from registry import supervisor
    from registry.installation import State

    rows = supervisor.status(settings())
    show([asdict(row) for row in rows], as_json=as_json)
    if any(row.state not in (State.READY, State.DONE) for row in rows):
        raise typer.Exit(6)


@db.command("migrate")
def db_migrate() -> None:
    """Bring the database to this program's schema."""
    from registry import doctor_store

    applied = doctor_store.migrate(settings())
    typer.echo("\n".join(f"applied {name}" for name in applied) or "the database is up to date")


@db.command("status")
def db_status(as_json: AsJson = False) -> None:
    """Which migrations are applied; exits with 6 while one is missing or was changed."""
    from registry import doctor_store
    from registry.errors import NotMigrated

    rows = doctor_store.migration_states(settings())
    show(
        [{"migration": row.name, "state": row.state, "applied": row.applied_at} for row in rows],
        as_json=as_json,
    )
    if any(row.state != "applied" for row in rows):
        raise NotMigrated


def doctor(as_json: AsJson = False) -> None:
    """Check this installation; every error comes with its cure. Exits with 1 when there is one."""
    from registry import doctor as it

    findings = it.examine(settings())
    if as_json:
        show([it.as_row(finding) for finding in findings], as_json=True)
    else:
        for finding in findings:
            typer.echo(it.lines(finding))
    errors = sum(finding.level is it.Level.ERROR for finding in findings)
    warnings = sum(finding.level is it.Level.WARNING for finding in findings)
    talk(f"{len(findings)} checks, {errors} errors, {warnings} warnings")
    if errors:
        raise typer.Exit(1)


def explain(
    code: Annotated[
        str | None, typer.Argument(help="As printed with the error, such as registry.no_binding.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say at length what an error code means; without a code, list all of them."""
    from registry import explain as it

    if code is None:
        rows = [{"code": c.code, "family": c.family, "what": it.headline(c)} for c in it.every_error()]
        show(rows, as_json=as_json)
    elif as_json:
        show([it.facts(it.find(code))], as_json=True)
    else:
        typer.echo(it.long_form(it.find(code)))
