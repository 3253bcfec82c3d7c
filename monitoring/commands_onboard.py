"""Commands about a new clinic: how far it is, how its scanners fit, whether its own cases accept a version."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.errors import FAMILIES
from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, Reason, tell

if TYPE_CHECKING:
    from monitoring.onboarding.standing import Standing
    from registry.clinics_store import Clinic
    from registry.core.db import Database

Slug = Annotated[str, typer.Argument(help="The clinic's short name.", metavar="CLINIC")]
CALL_S = 300
# The cure of what a call of the destinations may bring.
CALL = "radfleet destination check"


def attach(app: typer.Typer) -> None:
    """Add these commands to ``radfleet clinic``, which is registry's."""
    for group in app.registered_groups:
        if group.name == "clinic" and group.typer_instance is not None:
            for name, verb in (("onboard", onboard), ("accept", accept), ("conformance", conformance)):
                group.typer_instance.command(name)(verb)


def onboard(
    slug: Slug,
    begin: Annotated[bool, typer.Option("--begin", help="Begin: answers are kept, not delivered.")] = False,
    waive: Annotated[
        str | None, typer.Option(help="Let this step pass: conformance or silent_run.", show_default=False)
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for --begin and --waive.", show_default=False)] = "",
    silent_studies: Annotated[int, typer.Option(help="Studies of the silent run, with --begin.")] = 50,
    probation_days: Annotated[int, typer.Option(help="Days of probation, with --begin.")] = 30,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report for those who sign: .html or .pdf.", show_default=False),
    ] = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a new clinic is, call its destinations, say who has to do what; exits with 6 until all is done."""
    from monitoring.onboarding import conformance as judging
    from monitoring.onboarding import standing, steps
    from registry import accounts
    from registry.onboarding import decisions

    db, its = _clinic(slug)
    if begin or waive:
        with db.system() as conn:
            by = accounts.actor(conn, accounts.Act.CLINIC, as_)
            if begin:
                decisions.begin(
                    conn, its, by=by, reason=reason, silent_studies=silent_studies, probation_days=probation_days
                )  # fmt: skip
            if waive:
                decisions.waive(conn, its, waive, by=by, reason=reason)
        talk(f"{'begun' if begin else f'{waive} waived'} by {by}; it stands in the record and has no undo")
    with db.system() as conn:
        decisions.show(conn, its)
    judging.turn(db, its.id)
    found = standing.of(db, its)
    if any(CALL in one.cure for step in found.steps for one in step.missing) and _called(slug):
        found = standing.of(db, its)
    if report:
        _report(db, found, report)
    if as_json:
        show([found.plain()], as_json=True)
    else:
        _tell(found)
    if found.state != steps.DONE:
        raise typer.Exit(FAMILIES["unmet"].exit)


def accept(
    slug: Slug,
    task: Annotated[str, typer.Option(help="The task whose bound version is accepted.")],
    reason: Reason,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Accept a clinic's bound version by its own reviewed cases: one person proposes, another one signs."""
    from dataclasses import asdict

    from monitoring.onboarding import standing
    from registry import accounts
    from registry.onboarding import decisions

    db, its = _clinic(slug)
    found = standing.of(db, its)
    digest, proof = standing.proof(found, task)
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.CLINIC, as_)
        made = decisions.accept(conn, its, task, digest, proof, by=by, reason=reason)
    if as_json:
        show([asdict(made)], as_json=True)
        return
    if made.state == "signed":
        tell("proposed", f"signed by {made.proposed_by} and {made.signed_by}: its next results are delivered",
             f"radfleet hold place clinic {slug} --reason TEXT")  # fmt: skip
        return
    tell("none", f"proposed by {by}, with odds of {made.odds:.0f} to 1 from {made.reviews} reviews", "")
    talk("next: another person runs the same command to sign")


def conformance(slug: Slug, as_json: AsJson = False) -> None:
    """Show how each scanner fits the protocol standard, month by month, with one advice for each deviation."""
    from monitoring.onboarding import conformance as judging

    db, its = _clinic(slug)
    judging.turn(db, its.id)
    with db.monitor() as conn:
        found = judging.told(conn, its.id)
    if as_json:
        show(found, as_json=True)
        return
    show(
        [_month(row) for row in found],
        as_json=False,
        empty="no study is judged yet: the monitor judges answered ones",
    )
    for row in found:
        for its_ in row["deviations"]:
            typer.echo(f"{row['scanner']}, {row['task']}, {row['month']:%Y-%m}: {its_['code']} {its_['verdict']} in "
                       f"{its_['studies']} of {row['studies']}: {its_['advice']}")  # fmt: skip


def _clinic(slug: str) -> tuple["Database", "Clinic"]:
    from registry import clinics
    from registry.core.db import database

    db = database(settings())
    with db.system() as conn:
        return db, clinics.by_slug(conn, slug)


def _called(slug: str) -> bool:
    """Call the clinic's destinations. Serving speaks DICOM, not we: it runs as the command that people run."""
    argv = [sys.executable, "-m", "registry.cli", "destination", "check", slug, "--json"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=CALL_S, check=False)
    except subprocess.TimeoutExpired:
        talk(f"the destinations did not answer within {CALL_S} s")
        return True
    return done.returncode in (0, FAMILIES["unmet"].exit)


def _report(db: "Database", found: "Standing", path: Path) -> None:
    """Draw Evidently's opinion of the silent run where there is enough, and write the report."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from monitoring.evidence import freeze
    from monitoring.evidence.errors import ReportAbsent
    from monitoring.onboarding import report

    try:
        evidence = [asdict(one) for one in freeze.of_onboarding(db, found.clinic.slug)]
    except ReportAbsent as error:
        evidence = []
        talk(f"without Evidently: {error.what}")
    report.write(path, found, evidence, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    talk(f"written: {path}")


def _tell(found: "Standing") -> None:
    typer.echo(f"{found.clinic.slug}: {found.state.replace('_', ' ')}")
    for step in found.steps:
        word = "waived " if step.waived else "ok     " if step.done else "missing"
        typer.echo(f"{word}  {step.name.replace('_', ' ')}: {step.what}")
        if step.waived:
            typer.echo(f"         {step.waived}")
        for one in step.missing:
            typer.echo(f"         {one.who}: {one.what}; {one.cure}")


def _month(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "month": f"{row['month']:%Y-%m}", "scanner": row["scanner"], "task": row["task"],
        "sequence": row["sequence"], "studies": row["studies"], "accept": row["accepted"], "warn": row["warned"],
        "refuse": row["refused"], "header does not say": row["unknown"],
    }  # fmt: skip
