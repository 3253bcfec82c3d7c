"""The command of a clinic's calendar: state a closure, withdraw one, list them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, tell

if TYPE_CHECKING:
    from registry.closures.closures_store import Closure


def closed(
    slug: Annotated[str, typer.Argument(help="The clinic's short name.", metavar="CLINIC")],
    from_: Annotated[
        str | None, typer.Option("--from", help="First closed day (UTC), YYYY-MM-DD.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last closed day, itself closed.", show_default=False)
    ] = None,
    withdraw: Annotated[
        int | None, typer.Option(help="Number of a closure that was stated wrongly.", show_default=False)
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Why, in a sentence; it stands in the record.", show_default=False)
    ] = "",
    listed: Annotated[bool, typer.Option("--list", help="Show the closures and change nothing.")] = False,
    limit: Limit = ROWS,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Say on which days a clinic is closed, beforehand or afterwards: they are not counted; without days, list them."""
    from registry.closures.errors import ClosureOptions

    states = from_ is not None or to is not None
    if states + (withdraw is not None) + listed > 1 or (from_ is None) != (to is None):
        raise ClosureOptions
    if from_ is not None and to is not None:
        _state(slug, from_, to, reason, as_, as_json)
    elif withdraw is not None:
        _withdraw(slug, withdraw, reason, as_, as_json)
    else:
        _list(slug, limit, as_json)


def _state(slug: str, from_: str, to: str, reason: str, as_: str | None, as_json: bool) -> None:
    from registry import accounts, clinics
    from registry.closures import closures
    from registry.core.db import database

    first, last = closures.day(from_, "--from"), closures.day(to, "--to")
    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        its, new = closures.state(conn, clinics.by_slug(conn, slug), first, last, by=by, reason=reason)
    undo = f"radfleet clinic closed {slug} --withdraw {its.number} --reason TEXT"
    if as_json:
        show([asdict(its) | {"new": new, "undo": undo}], as_json=True)
        return
    tell("none" if new else f"{_line(its)} stands already", _line(its), undo)
    talk("the monitor counts these days again within ten minutes, where they were counted already")


def _withdraw(slug: str, number: int, reason: str, as_: str | None, as_json: bool) -> None:
    from registry import accounts, clinics
    from registry.closures import closures
    from registry.core.db import database

    with database(settings()).system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        its = closures.withdraw(conn, clinics.by_slug(conn, slug), number, by=by, reason=reason)
    undo = f"radfleet clinic closed {slug} --from {its.first_day} --to {its.last_day} --reason TEXT"
    if as_json:
        show([asdict(its) | {"undo": undo}], as_json=True)
        return
    tell(_line(its), "withdrawn: these days are counted", undo)


def _list(slug: str, limit: int, as_json: bool) -> None:
    from registry import clinics
    from registry.closures import closures
    from registry.core.db import database

    with database(settings()).system() as conn:
        rows = closures.list(conn, clinics.by_slug(conn, slug), limit=limit)
    if as_json:
        show([asdict(its) for its in rows], as_json=True)
        return
    table = [
        {"number": k.number, "from": k.first_day, "to": k.last_day, "reason": k.reason, "by": k.stated_by,
         "at": k.stated_at, "state": "stands" if k.stands else f"withdrawn by {k.withdrawn_by}"}
        for k in rows
    ]  # fmt: skip
    show(
        table,
        as_json=False,
        empty=f"no closure is stated: radfleet clinic closed {slug} --from --to --reason",
    )


def _line(its: "Closure") -> str:
    return f"closure {its.number}, {its.first_day} to {its.last_day}"
