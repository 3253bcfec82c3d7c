"""`radfleet model finetune`: a clinic's own version, made from its reviewed studies."""

from typing import Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, tell


def finetune(
    clinic: Annotated[str | None, typer.Option(help="The clinic's short name.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="Such as ms-lesion.", show_default=False)] = None,
    flag: Annotated[
        int | None,
        typer.Option(
            help="Clinic, task and tier as this flag's verdict says: recalibrate is T1 alone; then a promotion is "
            "requested.",
            show_default=False,
        ),
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="Only T1 (rescale) or T2 (train the last blocks); else T1, then T2.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=10, max=5000, help="T2's steps, else as its recipe says: fewer are quicker and cure less."
        ),
    ] = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune what answers a clinic on its reviewed studies; register the first tier that passes the gates."""
    from registry import accounts
    from registry.core.db import database
    from serving.training import finetune as cure
    from serving.training import wanted
    from serving.training.errors import CureUnclear, TierUnknown

    if (flag is None) != (clinic is not None and task is not None):
        raise CureUnclear
    if tier not in (None, *cure.TIERS):
        raise TierUnknown(f"{tier} is not one of {', '.join(cure.TIERS)}")
    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.MODEL, as_)
        ask = wanted.by_flag(conn, flag) if flag is not None else None
    if ask:
        clinic, task, tiers = ask.clinic, ask.task, (tier,) if tier else ask.tiers
    else:
        tiers = (tier,) if tier else cure.TIERS
    assert clinic and task
    made = cure.finetune(settings(), db, clinic, task, tiers, steps, by=by, say=talk)
    model = made.package.model
    name = f"{model['name']}@{model['version']}"
    next_ = f"radfleet promotion request {clinic} {task} {name} --reason TEXT"
    if ask:
        with db.system() as conn:
            next_ = wanted.propose(conn, ask, made.package.digest, by=by)
    if as_json:
        show([_facts(made) | {"version": name, "next": next_}], as_json=True)
        return
    tell(model["parent"], f"{name} ({made.package.digest}, {made.tier})", "none: a version is never removed")
    talk(f"nothing answers differently yet; next: {next_}")


def _facts(made: Any) -> dict[str, Any]:
    return {
        "digest": made.package.digest, "parent": made.package.model["parent"], "tier": made.tier,
        "cohort": made.cohort.digest, "people_train": made.cohort.people("train"),
        "people_evaluation": made.cohort.people("evaluation"), **made.report,
    }  # fmt: skip
