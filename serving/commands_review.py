"""Commands of reviews: what experts say of answers."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, database, short, tell

if TYPE_CHECKING:
    from registry.core.db import Database
    from registry.core.errors import RadfleetError
    from serving.reviews.reviews_store import Review

review = typer.Typer(help="What experts say of answers: accept, edit or reject.", no_args_is_help=True)

Study = Annotated[str, typer.Argument(help="The study's id, or its first letters.", metavar="STUDY")]
OfClinic = Annotated[str | None, typer.Option("--clinic", help="Only studies of this clinic.")]
Task = Annotated[str | None, typer.Option(help="Which answer, where a study has several.")]


@review.command("add")
def review_add(
    study: Study,
    decision: Annotated[str, typer.Option(help="accept, edit or reject.", show_default=False)],
    mask: Annotated[
        Path | None, typer.Option(help="The reader's mask: DICOM SEG or NIfTI on the study's grid.")
    ] = None,
    blinded: Annotated[
        bool, typer.Option("--blinded", help="The reader drew the mask before seeing ours.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="Minutes that the reader spent.")] = None,
    note: Annotated[str, typer.Option(help="What is wrong with the mask; nothing of the patient.")] = "",
    task: Task = None,
    clinic: OfClinic = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Record a review of the newest answer to a study; with a mask, its Dice against the delivered one."""
    from registry import accounts
    from serving.reviews import reviews

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.REVIEW, as_)
    clinic_id, study_id = _study(db, study, clinic)
    said = reviews.Said(decision, by, mask, blinded, minutes, note, task)
    made = reviews.add(settings(), db, clinic_id, study_id, said)
    undo = f"radfleet review withdraw {made.id} --reason TEXT"
    if as_json:
        show([_row(made) | {"undo": undo}], as_json=True)
        return
    tell("none", _line(made), undo)


@review.command("list")
def review_list(
    study: Annotated[str | None, typer.Option(help="Only of this study.")] = None,
    clinic: OfClinic = None,
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Show those that count no longer, too.")
    ] = False,
    limit: Limit = ROWS,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """List reviews, the newest first; who may still have to read a study blind is not shown what others said."""
    from registry import accounts, clinics
    from serving.reviews import reviews

    db = database(settings())
    study_id = _study(db, study, clinic)[1] if study else None
    with db.system() as conn:
        its = clinics.by_slug(conn, clinic).id if clinic else None
        rows = reviews.page(conn, its, study_id, asks=accounts.named(as_), withdrawn=withdrawn, limit=limit)
    show([_row(row) for row in rows], as_json=as_json, empty="no review yet: radfleet review add")
    if any(row.hidden for row in rows):
        talk("hidden: to be read blind; shown to you when you have entered your own reading")


@review.command("next")
def review_next(clinic: OfClinic = None, limit: Limit = 10, as_: As = None, as_json: AsJson = False) -> None:
    """Say which studies to read next and why: drawn ones first, which alone are evidence of harm."""
    from registry import accounts, clinics
    from serving.reviews import worklist

    db = database(settings())
    with db.system() as conn:
        reader = accounts.actor(conn, accounts.Act.REVIEW, as_)
        if clinic:
            clinics.by_slug(conn, clinic)
        rows = worklist.due(conn, clinic, reader, limit)
    if as_json:
        show([asdict(row) for row in rows], as_json=True)
        return
    table = [
        {"clinic": row.clinic, "study": row.study_id, "task": row.task, "why": row.why,
         "our mask": "draw first, it is not shown" if row.blinded else "radfleet review mask"}
        for row in rows
    ]  # fmt: skip
    show(table, as_json=False, empty="nothing is due: no study was drawn that nobody has read")
    if rows:
        talk(f"next: {rows[0].command}")


@review.command("import")
def review_import(
    table: Annotated[
        Path, typer.Argument(help="CSV with a header; see --help of review add.", metavar="FILE")
    ],
    clinic: Annotated[str, typer.Option(help="The clinic whose studies these are.", show_default=False)],
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Record many reviews (columns study, decision, reader, mask, blinded, minutes, note, task, version).

    Good lines are recorded, bad ones are named with their line number; exit 6 when a line was refused.
    """
    from registry import accounts, clinics
    from registry.core.errors import FAMILIES
    from serving.reviews import importing

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.REVIEW, as_)
        clinic_id = clinics.by_slug(conn, clinic).id

    def reader(name: str) -> str:
        with db.system() as conn:
            return accounts.actor(conn, accounts.Act.REVIEW, name)

    lines = importing.load(settings(), db, clinic_id, table, by, reader=reader)
    bad = [line for line in lines if line.error]
    rows = [
        {"line": line.number, "study": line.study, "review": line.review.id if line.review else None,
         "dice": line.review.dice if line.review else None, **_error(line.error)}
        for line in (lines if as_json else bad)
    ]  # fmt: skip
    show(rows, as_json=as_json, empty="no line was refused")
    talk(f"{len(lines) - len(bad)} of {len(lines)} reviews recorded, {len(bad)} refused")
    raise typer.Exit(FAMILIES["unmet"].exit if bad else 0)


@review.command("narrative")
def review_narrative(
    table: Annotated[
        Path, typer.Argument(help="CSV: study or StudyInstanceUID, and report or says.", metavar="FILE")
    ],
    clinic: Annotated[str, typer.Option(help="The clinic whose reports these are.", show_default=False)],
    task: Annotated[str, typer.Option(help="Which answers they are compared with: ms-lesion.")] = "ms-lesion",
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Record what the clinic's own reports say, read from text by rules; the text is kept nowhere, no verdict takes it.

    Good lines are recorded, bad ones are named with their line number; exit 6 when a line was refused.
    """
    from registry import accounts, clinics
    from registry.core.errors import FAMILIES
    from serving.reviews import narratives

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.REVIEW, as_)
        clinic_id = clinics.by_slug(conn, clinic).id
    lines = narratives.load(db, clinic_id, table, task, by)
    bad = [line for line in lines if line.error]
    rows = [
        {"line": line.number, "study": line.study, "says": line.says, "recorded": line.recorded,
         **_error(line.error)}
        for line in (lines if as_json else bad)
    ]  # fmt: skip
    show(rows, as_json=as_json, empty="no line was refused")
    new, clear = (
        sum(line.recorded for line in lines),
        sum(line.says in ("present", "absent") for line in lines),
    )
    talk(f"{new} of {len(lines)} reports recorded, {len(lines) - new - len(bad)} known already, {len(bad)} refused; "
         f"{clear} say clearly whether there are lesions")  # fmt: skip
    raise typer.Exit(FAMILIES["unmet"].exit if bad else 0)


@review.command("withdraw")
def review_withdraw(
    review_id: Annotated[
        str, typer.Argument(help="The review's id, or its first letters.", metavar="REVIEW")
    ],
    reason: Reason,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Let a review count no longer; it stays in the record."""
    from registry import accounts
    from serving.reviews import reviews, reviews_store
    from serving.reviews.errors import ReviewUnknown

    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.REVIEW, as_)
        found = reviews_store.find(conn, review_id)
    if len(found) != 1:
        raise ReviewUnknown
    gone = reviews.withdraw(db, *found[0], by=by, reason=reason)
    if as_json:
        show([_row(gone)], as_json=True)
        return
    tell(_line(gone), "withdrawn", "none: add the review again with radfleet review add")


@review.command("mask")
def review_mask(
    study: Study,
    out: Annotated[Path, typer.Option(help="The file to write, ending in .nii.gz.", show_default=False)],
    task: Task = None,
    clinic: OfClinic = None,
) -> None:
    """Write the delivered mask as NIfTI: the file to correct and to give back to review add. Raises StillBlind."""
    from serving.reviews import masks, reviews
    from serving.reviews.errors import ReviewUnfit

    if not out.name.endswith(".nii.gz") or not out.parent.is_dir():
        raise ReviewUnfit("--out names a file in a folder that exists, ending in .nii.gz")
    db = database(settings())
    clinic_id, study_id = _study(db, study, clinic)
    of, labels, grid = reviews.delivered(settings(), db, clinic_id, study_id, task)
    out.write_bytes(masks.encode(labels, grid, str(study_id)))
    names = ", ".join(f"{value} {label['name']}" for value, label in of.labels.items())
    talk(f"written: {out} ({of.model} {short(of.digest)}; labels: {names})")


def _study(db: "Database", prefix: str, clinic: str | None) -> tuple[UUID, UUID]:
    """(clinic, study) of an id; a study of another clinic than ``clinic`` is as unknown as one that is not there."""
    from registry import clinics
    from serving.studies import studies_store
    from serving.studies.errors import StudyUnknown

    with db.system() as conn:
        its = clinics.by_slug(conn, clinic).id if clinic else None
        found = studies_store.find(conn, prefix)
    if len(found) != 1 or (its is not None and found[0][0] != its):
        raise StudyUnknown
    return found[0][0], found[0][1]


def _row(it: "Review") -> dict[str, Any]:
    return asdict(it) | {"digest": short(it.digest)}


def _line(it: "Review") -> str:
    dice = "no mask" if it.dice is None else f"Dice {it.dice:.3f}"
    said = "hidden: to be read blind" if it.hidden else f"{it.decision}, {dice}"
    return f"review {it.id} ({said}{', blinded' if it.blinded else ''}, {it.clinic} {it.task})"


def _error(error: "RadfleetError | None") -> dict[str, Any]:
    """Why a line of a table was refused; the same columns where it was not."""
    return {
        "code": error.code if error else None, "what": error.what if error else None,
        "cure": error.cure_text if error else None,
    }  # fmt: skip
