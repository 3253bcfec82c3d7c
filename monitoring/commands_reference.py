"""`radfleet monitor reference`: against what a clinic's streams are judged, since when, and who said so."""

from typing import Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, short

_SHOWN = (
    "task",
    "sequence",
    "model",
    "epoch",
    "holds",
    "cause",
    "fresh",
    "reference_rows",
    "by_whom",
    "at",
    "reason",
)
OfTask = Annotated[str | None, typer.Option("--task", help="Only streams of this task.", show_default=False)]
OfSequence = Annotated[
    str | None, typer.Option("--sequence", help="Only streams of this sequence.", show_default=False)
]


def reference(
    clinic: Annotated[str, typer.Argument(metavar="CLINIC")],
    task: OfTask = None,
    sequence: OfSequence = None,
    new: Annotated[
        bool,
        typer.Option("--new", help="What comes now is normal: the next 50 studies say so. Needs --reason."),
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.", show_default=False)] = "",
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """List a clinic's references, old ones too; with --new, begin another one for the streams that are named."""
    from monitoring import flags_store
    from monitoring.errors import ClinicUnwatched
    from monitoring.streams import streams_store
    from registry.core.db import database

    db = database(settings())
    with db.monitor() as conn:
        clinic_id = flags_store.clinic_id(conn, clinic)
        rows = streams_store.references(conn, clinic_id, task, sequence) if clinic_id else []
    if clinic_id is None or not rows:
        raise ClinicUnwatched(f"no such stream of {clinic} is watched")
    if new:
        _begin(db, clinic_id, [row for row in rows if row["holds"]], reason, as_)
        with db.monitor() as conn:
            rows = streams_store.references(conn, clinic_id, task, sequence)
        talk("old references stay on record; an open flag stays open until somebody resolves it")
    shown = [
        {name: row[name] for name in _SHOWN} | {"model": row["model"] or short(row["digest"])} for row in rows
    ]
    show(rows if as_json else shown, as_json=as_json)


def _begin(db: Any, clinic_id: Any, rows: list[dict[str, Any]], reason: str, as_: str | None) -> None:
    """Who decides is looked up first; then all of them begin in one transaction."""
    from monitoring.errors import ReasonLacking
    from monitoring.streams import epochs
    from registry import accounts

    if not reason.strip():
        raise ReasonLacking
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.FLAG, as_)
    with db.monitor(write=True) as conn:
        for row in rows:
            epochs.begin(conn, clinic_id, row["stream_id"], fresh=True, by=by, reason=reason)
