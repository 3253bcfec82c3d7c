"""`radfleet model finetune`: a clinic's own version, made from its reviewed studies."""

from typing import Annotated, Any

import typer

from registry.core.output import show, talk
from registry.core.settings import settings
from registry.verbs import As, AsJson, tell


def finetune(
    clinic: Annotated[str, typer.Option(help="The clinic's short name.")],
    task: Annotated[str, typer.Option(help="Such as ms-lesion.")],
    tier: Annotated[
        str | None, typer.Option(help="Only T1 (rescale) or T2 (train the last blocks); else T1, then T2.")
    ] = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune what answers a clinic on its reviewed studies; register the first tier that passes the gates."""
    from registry import accounts
    from registry.core.db import database
    from serving.training import finetune as cure
    from serving.training.errors import TierUnknown

    if tier not in (None, *cure.TIERS):
        raise TierUnknown(f"{tier} is not one of {', '.join(cure.TIERS)}")
    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.MODEL, as_)
    tiers = (tier,) if tier else cure.TIERS
    made = cure.finetune(settings(), db, clinic, task, tiers, by=by, say=talk)
    model = made.package.model
    name = f"{model['name']}@{model['version']}"
    ask = f"radfleet promotion request {clinic} {task} {name} --reason TEXT"
    if as_json:
        show([_facts(made) | {"version": name, "next": ask}], as_json=True)
        return
    tell(model["parent"], f"{name} ({made.package.digest}, {made.tier})", "none: a version is never removed")
    talk(f"nothing answers differently yet; next: {ask}")


def _facts(made: Any) -> dict[str, Any]:
    return {
        "digest": made.package.digest, "parent": made.package.model["parent"], "tier": made.tier,
        "cohort": made.cohort.digest, "people_train": made.cohort.people("train"),
        "people_evaluation": made.cohort.people("evaluation"), **made.report,
    }  # fmt: skip
