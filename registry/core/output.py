"""How the command line speaks: tables for people, JSON for programs, talk on stderr."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, title: str = "", empty: str = "none") -> None:
    """Print rows as an aligned table, or as a JSON list of the same keys."""
    if as_json:
        typer.echo(json.dumps([dict(r) for r in rows], default=_plain, indent=2))
        return
    if not rows:
        typer.echo(empty)
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for key in rows[0]:
        table.add_column(str(key), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(v) for v in row.values()))
    # Into a pipe or file a table keeps its lines whole; on a terminal it takes the width there is.
    console = Console()
    (console if console.is_terminal else Console(width=240)).print(table)


def talk(text: str) -> None:
    """Say something beside the answer."""
    typer.echo(text, err=True)


def ago(then: datetime) -> str:
    """How long ago, in the largest fitting unit."""
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z ({ago(value)})"
        case list() | tuple():
            return ", ".join(str(v) for v in value)
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
