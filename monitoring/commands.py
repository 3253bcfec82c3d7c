"""Monitoring's part of the command line: the replay of a table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.errors import FAMILIES
from registry.core.output import show
from registry.verbs import AsJson

if TYPE_CHECKING:
    from monitoring.detect.replay import Replay

monitor = typer.Typer(help="Whether a clinic's feature rows drift.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Add monitoring's commands to the root."""
    app.add_typer(monitor, name="monitor")


@monitor.command("replay")
def replay(
    table: Annotated[Path, typer.Argument(help="CSV or TSV, packed by gzip or not.", metavar="TABLE")],
    columns: Annotated[str, typer.Option(help="Numeric columns to watch: a,b,c.", show_default=False)],
    reference: Annotated[int, typer.Option(help="So many first rows are normal.", show_default=False)],
    group: Annotated[
        str | None, typer.Option(help="Column that tells scanners apart.", show_default=False)
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Column of numbers or times to sort by.", show_default=False)
    ] = None,
    per_day: Annotated[float, typer.Option(help="Studies a day.")] = 10,
    budget: Annotated[float, typer.Option(help="False flags a year that are allowed.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run the drift detector over a table of feature rows; exit 6 when it flags."""
    from monitoring.detect import replay as replays
    from monitoring.detect import table as tables

    h = replays.threshold(per_day, budget)
    read = tables.read(table)
    rows = read if order is None else read.sorted_by(order)
    names = [name.strip() for name in columns.split(",")]
    done = replays.replay(rows, names, reference, group=group, h=h)
    if as_json:
        typer.echo(json.dumps(_document(done), indent=2))
    else:
        typer.echo(_sentence(done))
        show(_rows(done), as_json=False)
    raise typer.Exit(FAMILIES["unmet"].exit if done.flag or done.new_groups else 0)


def _document(done: "Replay") -> dict[str, Any]:
    return {
        "n": done.rows,
        "reference": done.reference,
        "ranked": done.ranked,
        "statistic": done.state.statistic,
        "threshold": done.state.threshold,
        "flags": [asdict(done.flag)] if done.flag else [],
        "acquisition_changed": [{"row": g.first_seen, "group": g.name} for g in done.new_groups],
        "groups": [asdict(group) for group in done.groups],
        "missing": done.missing,
    }


def _sentence(done: "Replay") -> str:
    seen = f"{done.ranked} of {done.rows - done.reference} rows after the reference were ranked"
    if (flag := done.flag) is None:
        now = done.state.statistic
        said = f"Quiet: {seen}, the statistic stands at {now:.1f} and flags at {done.state.threshold:g}."
    else:
        said = (
            f"Flagged at row {flag.row}: {', '.join(flag.features)} moved, since about row {flag.since_row} "
            f"(statistic {flag.statistic:.1f}, threshold {flag.threshold:g}, {seen})."
        )
    new = [f" The acquisition changed at row {g.first_seen}: {g.name} is new." for g in done.new_groups]
    return said + "".join(new)


def _rows(done: "Replay") -> list[dict[str, Any]]:
    """What moved, strongest first, and where values were missing: a column without values is quiet too."""
    moved = dict(done.flag.direction) if done.flag else {}
    moved |= dict.fromkeys(done.flag.also_moving if done.flag else (), "perhaps")
    names = [*moved, *(name for name in done.missing if name not in moved)]
    return [
        {"column": c, "moved": moved.get(c), "missing after the reference": done.missing[c]} for c in names
    ]
