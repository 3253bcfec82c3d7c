"""Monitoring's part of the command line: how clinics stand, why, and the replay of a table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.errors import FAMILIES
from registry.core.output import show
from registry.core.settings import settings
from registry.verbs import ROWS, AsJson, Limit

if TYPE_CHECKING:
    from monitoring.detect.replay import Replay

monitor = typer.Typer(help="How clinics stand: drift, harm, silence.", no_args_is_help=True)
OfClinic = Annotated[str | None, typer.Option("--clinic", help="Only this clinic.", show_default=False)]
UNWELL = FAMILIES["unmet"].exit


def attach(app: typer.Typer) -> None:
    """Add monitoring's commands to the root."""
    from monitoring import commands_evidence, commands_onboard
    from monitoring.commands_contract import contract, policy
    from monitoring.commands_days import days
    from monitoring.commands_flag import flag
    from monitoring.commands_metrics import dashboard, metrics
    from monitoring.commands_reference import reference
    from monitoring.commands_simulate import simulate, when
    from monitoring.commands_worklist import next_

    commands_evidence.attach(monitor)
    monitor.add_typer(contract, name="contract")
    monitor.add_typer(policy, name="policy")
    commands_onboard.attach(app)
    for verb in (days, reference, simulate, when):
        monitor.command(verb.__name__)(verb)
    monitor.command("next")(next_)
    app.add_typer(monitor, name="monitor")
    app.add_typer(flag, name="flag")
    app.command()(web)
    app.command()(metrics)
    app.add_typer(dashboard, name="dashboard")


def web() -> None:
    """Serve the pages: work list, fleet, flags, promotions, studies, models, health, help."""
    from monitoring.web import app
    from registry.core import logs
    from registry.core.db import database

    its = settings()
    logs.configure("web", level=its.log_level, as_json=its.log_json)
    app.serve(its, database(its))


@monitor.command("status")
def status(clinic: OfClinic = None, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """Show every stream, those with flags first; exit 6 when one has an open flag."""
    rows = _streams(clinic, limit)
    names = ("clinic", "task", "sequence", "model", "state", "verdict", "n", "statistic", "threshold", "open_flags",
             "last_at")  # fmt: skip
    show(
        rows if as_json else [{name: row[name] for name in names} for row in rows],
        as_json=as_json, empty="nothing is watched yet: no clinic has a bound version",
    )  # fmt: skip
    raise typer.Exit(UNWELL if any(row["open_flags"] for row in rows) else 0)


@monitor.command("explain")
def explain(clinic: Annotated[str, typer.Argument(metavar="CLINIC")], as_json: AsJson = False) -> None:
    """Say how a clinic stands and why: verdict, evidence, what would change it; exit 6 when a flag is open."""
    from monitoring import flags_store
    from monitoring.errors import ClinicUnwatched
    from monitoring.qa import estimated_store
    from registry.core.db import database

    rows = _streams(clinic, ROWS)
    if not rows:
        raise ClinicUnwatched(f"nothing of {clinic} is watched")
    with database(settings()).monitor() as conn:
        found = flags_store.flags(conn, clinic, resolved=False, limit=ROWS)
        estimates = estimated_store.latest(conn, clinic)
    rows = [row | {"estimated": estimates.get(row["stream_id"])} for row in rows]
    if as_json:
        show([{"clinic": clinic, "streams": rows, "flags": found}], as_json=True)
    else:
        for row in rows:
            typer.echo("\n".join(_told(row, [f for f in found if f["stream_id"] == row["stream_id"]])) + "\n")
    raise typer.Exit(UNWELL if any(row["open_flags"] for row in rows) else 0)


@monitor.command("verify")
def verify(
    clinic: Annotated[str, typer.Argument(metavar="CLINIC")],
    mend: Annotated[
        bool, typer.Option("--mend", help="Write what the rows say where the state differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compute a clinic's streams and days again from its published rows and compare; exit 6 when one differs."""
    from monitoring import flags_store
    from monitoring.errors import ClinicUnwatched, StateDamaged
    from monitoring.judge import days
    from monitoring.streams import epochs, streams_store
    from monitoring.streams.state import to_bytes
    from registry.core.db import database

    rows: list[dict[str, Any]] = []
    with database(settings()).monitor(write=True) as conn:
        clinic_id = flags_store.clinic_id(conn, clinic)
        if clinic_id is None:
            raise ClinicUnwatched(f"there is no clinic {clinic}")
        streams_store.lock(conn, clinic_id)
        for stored in streams_store.streams(conn, clinic_id):
            again = epochs.replayed(conn, clinic_id, stored)
            try:
                same = to_bytes(epochs.loaded(conn, clinic_id, stored)) == to_bytes(again)
            except StateDamaged:
                same = False
            if mend and not same:
                epochs.save(conn, clinic_id, stored.stream_id, again)
            word = "equal" if same else "mended" if mend else "differs"
            rows.append(
                {"task": stored.task, "sequence": stored.sequence, "digest": stored.digest, "state": word}
            )
        if wrong := days.differ(conn, clinic_id):
            if mend:
                days.mend(conn, clinic_id, notify=settings().channels())
            word = "mended" if mend and not days.differ(conn, clinic_id) else "differs"
            rows.append({"task": "days", "sequence": None, "digest": None, "state": word, "days": wrong})
    show(rows, as_json=as_json, empty="no stream yet")
    raise typer.Exit(UNWELL if any(row["state"] == "differs" for row in rows) else 0)


@monitor.command("follow")
def follow() -> None:
    """Follow every clinic's feature rows: the part `monitor` of `radfleet up`."""
    import signal
    import threading

    from monitoring import notices
    from monitoring.loop import loop
    from registry.core import logs
    from registry.core.db import database
    from registry.processes import announce_ready

    its, stop = settings(), threading.Event()
    logs.configure("monitor", level=its.log_level, as_json=its.log_json)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    announce_ready()
    loop(database(its), stop.is_set, tell=notices.channels(its))


def _streams(clinic: str | None, limit: int) -> list[dict[str, Any]]:
    from monitoring import flags_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        return flags_store.stream_rows(conn, clinic, limit)


def _told(row: dict[str, Any], flags: list[dict[str, Any]]) -> list[str]:
    """One stream in sentences."""
    from monitoring.judge.verdict import size

    lines = [f"{row['task']} {row['sequence'] or ''} ({row['model']}): {row['state']}"]
    if row["stream_id"] is None:
        return [*lines, "  no study was answered by this version yet: silence is no health"]
    if row["silent"] and row["last_at"]:
        lines.append(f"  silent: no study since {row['last_at']:%Y-%m-%d %H:%M}; the verdict is of then")
    lines += [f"  {row['sentence']}", f"  do: {row['action']}", f"  would change it: {row['would_change']}"]
    for f in flags:
        lines.append(f"  flag {f['id']} ({f['state']}): {f['sentence']}")
        if since := f["cause"].get("since"):
            lines.append(f"    began {since['at'][:16]}, with 90 % between {since['low_at'][:16]} and "
                         f"{since['high_at'][:16]} (rows {since['low_seq']} to {since['high_seq']})")  # fmt: skip
    lines.append(f"  {row['n']} studies in epoch {row['epoch']}, {row['ranked']} ranked; statistic "
                 f"{size(row['statistic'])} of {row['threshold']:g}")  # fmt: skip
    if its := row["estimated"]:
        lines.append(f"  {its['sentence']}")
    for group in row["scanner_groups"]:
        lines.append(
            f"  scanner: {group['name']} ({group['n']} studies, {group['reference']} in its reference)"
        )
    return lines


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
    raise typer.Exit(UNWELL if done.flag or done.new_groups else 0)


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
        low, high = flag.since_range
        names = ", ".join(flag.features)
        what = f"{names} moved" if flag.certain else f"several may have moved, {names} most of all"
        said = (
            f"Flagged at row {flag.row}: {what}, since about row {flag.since_row} "
            f"(with 90 % between {low} and {high}; statistic {flag.statistic:.1f}, threshold {flag.threshold:g}, "
            f"{seen})."
        )
        if flag.outlying:
            said += (
                f" Perhaps only some rows: {flag.outlying[0]} of {flag.outlying[1]} since then are outlying."
            )
    new = [f" The acquisition changed at row {g.first_seen}: {g.name} is new." for g in done.new_groups]
    return said + "".join(new)


def _rows(done: "Replay") -> list[dict[str, Any]]:
    """What moved, strongest first, and where values were missing: a column without values is quiet too."""
    moved = dict(done.flag.direction) if done.flag else {}
    if (flag := done.flag) is not None:
        moved |= dict.fromkeys((*flag.also_moving, *(() if flag.certain else flag.features[:1])), "perhaps")
    names = [*moved, *(name for name in done.missing if name not in moved)]
    return [
        {"column": c, "moved": moved.get(c), "missing after the reference": done.missing[c]} for c in names
    ]
