"""Serving's part of the command line: doors, workers, studies, destinations, packages, analyse and the demo."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, Limit, database, tell
from serving.commands_cure import finetune
from serving.commands_review import review
from serving.processes import deliver, door, engine, sweep, work

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from registry.core.db import Database

study = typer.Typer(help="Studies: send, list, show, trace, retry, analyse.", no_args_is_help=True)
destination = typer.Typer(help="Where a clinic's results go.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Add serving's commands to the root."""
    app.add_typer(study, name="study")
    app.add_typer(review, name="review")
    app.add_typer(destination, name="destination")
    app.add_typer(door, name="door")
    for verb in (work, engine, deliver, sweep, demo):
        app.command()(verb)
    for group in app.registered_groups:
        if group.name == "model" and group.typer_instance is not None:
            group.typer_instance.command("register")(register)
            group.typer_instance.command("finetune")(finetune)


@study.command("list")
def study_list(
    clinic: Annotated[str | None, typer.Option(help="Only this clinic.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only what no part moved in time; should be empty.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List studies, newest first."""
    from dataclasses import asdict

    from serving.studies import studies_store

    with database(settings()).system() as conn:
        rows: list[Any] = (
            list(studies_store.stuck(conn))
            if stuck
            else list(studies_store.list_studies(conn, clinic, state, limit))
        )
    show(
        [asdict(row) for row in rows], as_json=as_json, empty="no study is stuck" if stuck else "no study yet"
    )


def _find(prefix: str) -> tuple["Database", UUID, UUID, int, str]:
    from serving.studies import studies_store
    from serving.studies.errors import StudyUnknown

    db = database(settings())
    with db.system() as conn:
        found = studies_store.find(conn, prefix)
    if len(found) != 1:
        raise StudyUnknown(
            f"{'no study has' if not found else 'more than one study has'} an id that begins so"
        )
    return (db, *found[0])


@study.command("show")
def study_show(study_id: str, as_json: AsJson = False) -> None:
    """Show where one study stands and what was found."""
    from serving.results import outbox_store, results_store
    from serving.studies import studies_store

    db, clinic_id, its_id, revision, state = _find(study_id)
    with db.tenant(clinic_id) as conn:
        documents = results_store.findings(conn, clinic_id, its_id)
        trace = studies_store.steps(conn, clinic_id, its_id)
        objects = outbox_store.counts(conn, clinic_id, its_id)
    seconds = _to_delivered((revision, step, at) for at, revision, step, _ in trace)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "study_id": str(its_id),
                    "revision": revision,
                    "state": state,
                    "findings": documents,
                    "receive_to_delivered_s": seconds,
                    "objects": objects,
                },
                default=str,
            )
        )
        return
    sent = ", ".join(f"{count} {name}" for name, count in objects.items()) or "-"
    line = {
        "study_id": its_id,
        "revision": revision,
        "state": state,
        "objects": sent,
        "to delivered s": seconds,
    }
    show([line], as_json=False)
    rows = [
        {
            "task": d["task"], "version": f"{d['model']['name']} {d['model']['version']}",
            "digest": d["model"]["digest"][:19],
            "finding": f["name"], "ml": f["volume_ml"], "count": f["count"], "withheld because": f["reason"],
        }
        for d in documents for f in d["findings"]
    ]  # fmt: skip
    if any(results_store.BLIND in d["warnings"] for d in documents):
        talk(results_store.BLIND)
    show(rows, as_json=False, empty="no answer to show" if documents else "no answer yet")


def _to_delivered(steps: "Iterable[tuple[int, str, datetime]]") -> float | None:
    """Seconds from all images to the delivery of the newest revision that was delivered: a later one may have none."""
    times = {(revision, step): at for revision, step, at in steps}
    newest = max((revision for revision, step in times if step == "delivered"), default=0)
    arrived, delivered = times.get((newest, "complete")), times.get((newest, "delivered"))
    return (delivered - arrived).total_seconds() if arrived and delivered else None


@study.command("trace")
def study_trace(study_id: str, as_json: AsJson = False) -> None:
    """Show every step of one study with its time."""
    from serving.studies import studies_store

    db, clinic_id, its_id, _, _ = _find(study_id)
    with db.tenant(clinic_id) as conn:
        trace = studies_store.steps(conn, clinic_id, its_id)
    first = trace[0][0] if trace else None
    rows = [
        {
            "at": at.isoformat(timespec="milliseconds"),
            "after s": round((at - first).total_seconds(), 2) if first else 0.0,
            "revision": revision, "step": step, "detail": json.dumps(detail) if not as_json else detail,
        }
        for at, revision, step, detail in trace
    ]  # fmt: skip
    show(rows, as_json=as_json)


@study.command("retry")
def study_retry(study_id: str, as_: As = None) -> None:
    """Bring a dead or rejected study back to work; of one that was answered, send again what no archive took."""
    from registry import accounts
    from serving.studies import retry

    with database(settings()).system() as conn:
        accounts.actor(conn, accounts.Act.STUDY, as_)
    db, clinic_id, its_id, revision, state = _find(study_id)
    count = retry.retry(db, clinic_id, its_id, revision)
    tell(
        state,
        f"ready: {count} job(s) or object(s) of study {its_id}",
        "none needed: the study ends by itself",
    )


@study.command("send")
def study_send(
    path: Path,
    to: Annotated[str | None, typer.Option(help="C-STORE: host:port.")] = None,
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "RADFLEET_CLI",
    called: Annotated[str, typer.Option(help="The receiver's AE title.")] = "RADFLEET",
    url: Annotated[str | None, typer.Option(help="STOW-RS: base address.")] = None,
    key: Annotated[str | None, typer.Option(help="STOW-RS: the clinic's key.", envvar="RADFLEET_KEY")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a folder, file or archive as a scanner would, by C-STORE or STOW-RS."""
    from serving.doors import scu

    with typer.progressbar(length=1, label="sending", file=typer.get_text_stream("stderr")) as bar:
        report = scu.send(
            path, to=to, calling=calling, called=called, url=url, key=key, progress=_progress(bar)
        )
    show([report.row()], as_json=as_json)
    raise typer.Exit(0 if report.failed == 0 else 6)


@study.command("submit")
def study_submit(
    path: Path,
    clinic: Annotated[str, typer.Option(help="The clinic that this study belongs to.")],
    as_json: AsJson = False,
) -> None:
    """Take a folder, file or archive in through the local door."""
    from serving.doors import folder

    with typer.progressbar(length=1, label="receiving", file=typer.get_text_stream("stderr")) as bar:
        report = folder.submit(settings(), database(settings()), path, clinic, progress=_progress(bar))
    show([report.row()], as_json=as_json)
    raise typer.Exit(0 if report.failed == 0 else 6)


@study.command("backfill")
def study_backfill(
    clinic: str,
    table: Annotated[Path, typer.Argument(help="CSV, packed by gzip or not; one past study a row.")],
    task: Annotated[str, typer.Option(help="The task whose bound version is watched.")],
    simulated: Annotated[
        bool, typer.Option("--simulated", help="The rows are made up; it is said wherever they count.")
    ] = False,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Take over what a clinic's scanners measured before, so that they are watched from the first image on."""
    from registry import accounts
    from serving.studies import history

    db = database(settings())
    with db.system() as conn:
        accounts.actor(conn, accounts.Act.CLINIC, as_)
    rows = history.read(table)
    count = history.take(db, clinic, task, rows, simulated=simulated)
    kind = "simulated" if simulated else "real"
    show([{"clinic": clinic, "rows": len(rows), "new": count, "history": kind}], as_json=as_json)


def _progress(bar: Any) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        bar.length = max(total, 1)
        bar.update(done - bar.pos)

    return step


@study.command("analyse")
def study_analyse(
    path: Path,
    task: Annotated[str, typer.Option(help="For example ms-lesion.")],
    out: Annotated[Path, typer.Option(help="Folder for findings.json and mask.nii.gz.")],
    package: Annotated[
        Path | None, typer.Option(help="A package folder; default: the newest shipped one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the very same code in this process, with no server, on a DICOM folder or a NIfTI file."""
    from serving.engine import analyse

    document = analyse.analyse(path, task, out, package)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    rows = [
        {"finding": f["name"], "ml": f["volume_ml"], "count": f["count"], "withheld because": f["reason"]}
        for f in document["findings"]
    ]
    show(rows, as_json=False)
    talk(f"written: {out / 'findings.json'} and {out / 'mask.nii.gz'}")


@destination.command("add")
def destination_add(
    clinic: str,
    name: str,
    kind: Annotated[str, typer.Option(help="cstore or stow.")] = "cstore",
    host: str = "",
    port: int = 0,
    ae_title: str = "",
    url: str = "",
    objects: Annotated[str, typer.Option(help="Comma separated: seg,sr,preview.")] = "seg,sr,preview",
    as_: As = None,
) -> None:
    """Add or change one destination of a clinic."""
    from registry import accounts, clinics
    from serving.results import results_store

    with database(settings()).system() as conn:
        accounts.actor(conn, accounts.Act.DESTINATION, as_)
        its = clinics.by_slug(conn, clinic)
        results_store.add_destination(
            conn,
            its.id,
            name,
            kind,
            host=host,
            port=port,
            ae_title=ae_title,
            url=url,
            objects=objects.split(","),
        )
    tell("none", f"{clinic}/{name} ({kind})", f"radfleet destination disable {clinic} {name}")


@destination.command("list")
def destination_list(clinic: str | None = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List destinations."""
    from registry import clinics
    from serving.results import results_store

    with database(settings()).system() as conn:
        its = clinics.by_slug(conn, clinic) if clinic else None
        rows = results_store.destinations(conn, its.id if its else None, limit)
    show(rows, as_json=as_json, empty="no destination yet: radfleet destination add")


@destination.command("check")
def destination_check(clinic: str, as_json: AsJson = False) -> None:
    """Call each destination of a clinic (C-ECHO, or a DICOMweb root) and keep the answer; exit 6 when one is away."""
    from dataclasses import asdict

    from registry import clinics
    from serving.results import echo

    db = database(settings())
    with db.system() as conn:
        its = clinics.by_slug(conn, clinic)
    found = echo.check(db, its)
    show([asdict(one) for one in found], as_json=as_json)
    raise typer.Exit(0 if all(one.ok for one in found) else 6)


@destination.command("disable")
def destination_disable(clinic: str, name: str, as_: As = None) -> None:
    """Stop sending new results to one destination."""
    from registry import accounts, clinics
    from serving.results import results_store

    with database(settings()).system() as conn:
        accounts.actor(conn, accounts.Act.DESTINATION, as_)
        results_store.disable_destination(conn, clinics.by_slug(conn, clinic).id, name)
    tell("active", f"disabled: {clinic}/{name}", f"radfleet destination add {clinic} {name} with its options")


def register(packages: list[Path], as_: As = None) -> None:
    """Register package folders: verify each, store its version, and put it into MLflow once."""
    from registry import accounts
    from serving.engine import registering

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.MODEL, as_)
    for package in packages:
        done = registering.register(settings(), db, package, by)
        name = f"{done.model['name']}@{done.model['version']}"
        tell("none", f"{name} ({done.digest})", "none: a version is never removed")


def demo(
    leave: Annotated[bool, typer.Option("--exit/--stay", help="End at the last line, or stay up.")] = False,
    home: Annotated[Path, typer.Option(help="The demo's own folder; emptied first.")] = Path("build/demo"),
) -> None:
    """Play the whole study line on real components."""
    from serving.demo import play

    play.play(home, Path("build/demo.json"), leave_running=not leave)
