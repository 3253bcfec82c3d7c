"""Commands that show evidence: reports, QA metrics, the vendor view."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, AsJson, Limit, short

if TYPE_CHECKING:
    from monitoring.evidence.reports_store import Frozen
    from monitoring.qa.metrics import Metrics
    from monitoring.qa.peers import Standing

OfClinic = Annotated[str | None, typer.Option("--clinic", help="Only this clinic.", show_default=False)]
Clinic = Annotated[str, typer.Argument(help="The clinic.", metavar="CLINIC")]
Days = Annotated[int, typer.Option(help="Days back from now.", min=1, max=3650)]
OutFile = Annotated[Path | None, typer.Option(help="Write the HTML to this file.", show_default=False)]


def attach(monitor: typer.Typer) -> None:
    """Add these commands to ``radfleet monitor``."""
    for name, verb in (("qa", qa), ("vendors", vendors), ("reports", reports), ("report", report)):
        monitor.command(name)(verb)


def qa(
    clinic: OfClinic = None,
    by: Annotated[str, typer.Option(help="Cut by clinic, version or scanner.")] = "clinic",
    days: Days = 90,
    as_json: AsJson = False,
) -> None:
    """Show QA metrics from rows: volume, failures, turnaround, silence, reviews and their Dice, each with its n."""
    from monitoring.errors import ClinicUnwatched
    from monitoring.evidence.errors import CutUnknown
    from monitoring.qa import concordance, concordance_store, metrics, peers, peers_store, qa_store
    from registry.core.db import database

    if by not in tuple(metrics.By):
        raise CutUnknown(f"there is no cut by {by!r}")
    window = timedelta(days=days)
    with database(settings()).monitor() as conn:
        now = qa_store.now(conn)
        last = qa_store.last_studies(conn, clinic)
        outcomes = qa_store.outcomes(conn, clinic, now - window)
        reviews = qa_store.reviews(conn, clinic, now - window)
        beside = peers_store.beside(conn, clinic) if by == metrics.By.VERSION else []
        said = concordance_store.rows(conn, clinic, now - window) if by == metrics.By.VERSION else []
    if clinic and not last:
        raise ClinicUnwatched(f"there is no clinic {clinic}")
    found = metrics.metrics(outcomes, reviews, metrics.By(by), now, window, last)
    rows = [asdict(one) for one in found] if as_json else [_qa_row(one) for one in found]
    if by == metrics.By.VERSION:
        stand = peers.standings(beside)
        same = {(one.clinic, one.task, one.model): one for one in concordance.concordance(said)}
        for row, cut in zip(rows, found, strict=True):
            key = (cut.clinic, cut.task or "", cut.model or "")
            its, of_it = stand.get(key, {}), same.get(key)
            row["peers"] = {name: asdict(one) for name, one in its.items()} if as_json else _among(its)
            row["concordance"] = (asdict(of_it) if as_json else of_it.sentence) if of_it else None
    show(rows, as_json=as_json, empty=f"no study and no review in {days} days")


def vendors(clinic: OfClinic = None, as_json: AsJson = False) -> None:
    """Show manufacturer, model and software by clinic: what changed, since when, and who shares it."""
    from monitoring.vendors.view import view
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        its = view(conn, clinic)
    if as_json:
        show([its], as_json=True)
        return
    for name in ("events", "protocol_events", "drift_together"):
        for row in its[name]:
            typer.echo(row["sentence"])
    show(its["scanners"], as_json=False, empty="no study was answered yet")
    if its["protocols"]:
        talk("\nprotocols of the present references")
        show([{k: v for k, v in row.items() if k != "settings"} for row in its["protocols"]], as_json=False)


def reports(clinic: OfClinic = None, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List frozen reports, the newest first."""
    from monitoring.evidence import reports_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        found = reports_store.reports(conn, clinic, None, limit)
    show([_report_row(one, as_json) for one in found], as_json=as_json, empty="no report yet")


def report(
    clinic: Clinic,
    flag: Annotated[int | None, typer.Option(help="The report of this flag.", show_default=False)] = None,
    days: Days = 30,
    out: OutFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the report of a flag, or draw the clinic's last days against what came before; frozen by digest."""
    from monitoring.evidence import freeze
    from monitoring.evidence.errors import FileUnfit, ReportAbsent
    from registry.core.db import database

    if out and (out.is_dir() or not out.parent.is_dir()):
        raise FileUnfit
    db = database(settings())
    found = freeze.of_month(db, clinic, days) if flag is None else [freeze.of_flag(db, flag)]
    if any(one.clinic != clinic for one in found):
        raise ReportAbsent(f"flag {flag} is not of {clinic}")
    show([_report_row(one, as_json) for one in found], as_json=as_json)
    if out:
        with db.monitor() as conn:
            out.write_bytes(freeze.html(conn, found[0].clinic_id, found[0].digest))
        talk(f"written: {out} ({found[0].digest})")


def _report_row(one: "Frozen", as_json: bool) -> dict[str, Any]:
    if as_json:
        return asdict(one)
    moved = [column["column"] for column in one.opinion["columns"] if column["moved"]]
    return {
        "clinic": one.clinic, "kind": one.kind, "flag": one.flag_id, "digest": short(one.digest),
        "rows": f"{one.reference_rows} before, {one.current_rows} since", "Evidently says moved": moved or "nothing",
        "at": one.at,
    }  # fmt: skip


def _qa_row(one: "Metrics") -> dict[str, Any]:
    blinded = one.dice["blinded"]
    interval = "" if blinded.low is None else f" ({blinded.low:.2f} to {blinded.high:.2f})"
    named = {"task": one.task, "model": one.model, "scanner group": one.group}
    return {
        "clinic": one.clinic, **{name: value for name, value in named.items() if value is not None},
        "studies": one.studies, "a week": one.a_week, "silent d": one.silence_days,
        "p50 s": one.turnaround_p50_s, "p95 s": one.turnaround_p95_s, "failed": _part(one.failed),
        "rejected": _part(one.rejected), "accept/edit/reject": "/".join(map(str, one.decisions.values())),
        "blinded Dice, median (95 %)": "-" if blinded.median is None else f"{blinded.median:.3f}{interval}",
        "n": blinded.n,
    }  # fmt: skip


def _among(stands: "Mapping[str, Standing]") -> str:
    """Of how many others each figure is better than how many percent."""
    return ", ".join(f"{name} {its.percentile:.0f} % of {its.others}" for name, its in stands.items()) or "-"


def _part(its: Any) -> str:
    return f"{its.count}/{its.n}"
