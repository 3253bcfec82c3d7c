"""`radfleet monitor next`: the work list of one person."""

from typing import Annotated

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, Limit


def next_(
    clinic: Annotated[str | None, typer.Option(help="Only this clinic's.", show_default=False)] = None,
    limit: Limit = 20,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Say what to do first and why: flags, silence, studies to read, onboarding, the most urgent first."""
    from monitoring.worklist import gather, ranking
    from registry import accounts, clinics
    from registry.core.db import database

    db = database(settings())
    with db.system() as conn:
        me = accounts.actor(conn, accounts.Act.REVIEW, as_)
        if clinic:
            clinics.by_slug(conn, clinic)
    with db.monitor() as conn:
        items = gather.watched(conn, me, clinic)
    found = ranking.ranked([*items, *gather.onboardings(db, me, clinic)])
    rows = [it.plain() for it in found[:limit]]
    if as_json:
        show(rows, as_json=True)
        return
    names = ("urgency", "clinic", "do", "why", "since")
    show([{name: row[name] for name in names} for row in rows], as_json=False,
         empty="nothing to do: no flag, no study to read, no onboarding waits for anybody")  # fmt: skip
    if found:
        talk(f"first: {found[0].command}")
    if len(found) > limit:
        talk(f"{len(found) - limit} less urgent ones are not shown: --limit")
