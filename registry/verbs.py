"""What all verbs of the command line share: their common options, and how a change is told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from registry.core.settings import LIMITS, Settings

if TYPE_CHECKING:
    from registry.core.db import Database

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(help="At most this many rows.", min=1, max=LIMITS.page_rows)]
As = Annotated[
    str | None,
    typer.Option(
        "--as", help="Who makes this change; else RADFLEET_ACTOR, else the system user.", show_default=False
    ),
]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; it stands in the record.", show_default=False)]
ROWS = 50


def database(its: Settings) -> "Database":
    """The installation's database; psycopg is loaded by the first verb that needs it, not by ``--help``."""
    from registry.core import db

    return db.database(its)


def tell(before: str, after: str, undo: str) -> None:
    """Print a change as before -> after, and the command that undoes it."""
    typer.echo(f"{before} -> {after}")
    if undo:
        typer.echo(f"undo: {undo}")


def short(digest: str) -> str:
    """A digest as people can compare it: the first 12 hex digits, which ``model show`` accepts."""
    return digest.removeprefix("sha256:")[:12]


def words(values: Sequence[str]) -> str:
    """Values separated by blanks, or a hyphen for none."""
    return " ".join(values) or "-"
