"""Commands of what a clinic was promised and how it is watched: each change is a new row with who and why."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.output import show
from registry.core.settings import settings
from registry.verbs import ROWS, As, AsJson, Limit, Reason, tell

if TYPE_CHECKING:
    from uuid import UUID

    from monitoring.judge.verdict import Contract
    from registry.core.db import Conn

contract = typer.Typer(help="The Dice that a clinic was promised.", no_args_is_help=True)
policy = typer.Typer(help="How a clinic is watched.", no_args_is_help=True)

Clinic = Annotated[str, typer.Argument(help="The clinic's short name.", metavar="CLINIC")]
OfClinic = Annotated[str | None, typer.Option("--clinic", help="Only of this clinic.", show_default=False)]
Task = Annotated[str, typer.Argument(help="Such as ms-lesion.")]
Sequence = Annotated[str, typer.Option(help="Such as FLAIR; '*' for every one.")]
Version = Annotated[
    str | None, typer.Option("--version", help="For this version alone: name@version.", show_default=False)
]


@contract.command("set")
def contract_set(
    clinic: Clinic,
    task: Task,
    reason: Reason,
    dice: Annotated[float | None, typer.Option(help="The reference Dice, D_ref.", show_default=False)] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Take D_ref from: acceptance, fleet or card.", show_default=False),
    ] = None,
    margin: Annotated[float, typer.Option(help="How far below D_ref the mean may fall.")] = 0.05,
    people: Annotated[int, typer.Option(help="How many people D_ref of --dice was measured on.")] = 1,
    sequence: Sequence = "*",
    version: Version = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Promise a clinic a mean Dice of D_ref - margin; reviews are judged against it from now on."""
    from monitoring.errors import SourceUnknown
    from monitoring.judge import contract as contracts
    from monitoring.judge import contracts_store, judging
    from monitoring.judge.verdict import Contract
    from registry import accounts
    from registry.core.db import database

    if (dice is None) == (from_ is None):
        raise SourceUnknown("a contract needs --dice or --from, and one of them alone")
    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.POLICY, as_)
        clinic_id, digest = _place(conn, clinic, version)
    with db.monitor(write=True) as conn:
        read = contracts_store.read(conn, task, sequence, digest)
        if dice is not None:
            its = Contract(dice, margin, people, by)
        else:
            its = replace(_derived(conn, clinic_id, task, digest, read, str(from_)), margin=margin)
        contracts.check(its, read, clinic_id)
        before = contracts_store.in_force(conn, clinic_id, task, sequence, digest)
        number = contracts_store.add(
            conn, clinic_id, task, sequence, digest, d_ref=its.d_ref, margin=its.margin, people=its.people, by=by,
            reason=reason,
        )  # fmt: skip
        judging.judge_again(conn, clinic_id, notify=settings().channels())
    undo = "radfleet monitor contract set with the earlier figures, which contract list keeps"
    if as_json:
        show([_facts(replace(its, version=number)) | {"undo": undo}], as_json=True)
        return
    tell(_line(before) if before else "none", _line(replace(its, version=number)), undo)


@contract.command("show")
def contract_show(
    clinic: Clinic,
    task: Task,
    sequence: Sequence = "*",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Show the contract that holds, and where its figure comes from."""
    from monitoring.errors import ContractUnknown
    from monitoring.judge import contract as contracts
    from monitoring.judge import contracts_store
    from registry import bindings_store
    from registry.bindings import EVERYWHERE
    from registry.core.db import database

    db = database(settings())
    with db.system() as conn:
        clinic_id, digest = _place(conn, clinic, version)
        bound = bindings_store.answering(conn, clinic_id, task, EVERYWHERE)
    digest = digest or (bound.digest if bound else None)
    with db.monitor() as conn:
        its = contracts_store.in_force(conn, clinic_id, task, sequence, digest)
        card = contracts_store.version(conn, digest.removeprefix("sha256:")) if digest else None
    its = its or (contracts.of_card(card["card"]) if card else None)
    if its is None:
        raise ContractUnknown(f"nothing was promised {clinic} for {task}, and no version's card has a figure")
    show([_facts(its)], as_json=as_json)


@contract.command("list")
def contract_list(clinic: OfClinic = None, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List contracts, the newest first; earlier ones stay."""
    from monitoring.judge import contracts_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        rows = contracts_store.page(conn, clinic, limit)
    show(rows, as_json=as_json, empty="no contract yet: radfleet monitor contract set")


@policy.command("set")
def policy_set(
    clinic: Clinic,
    reason: Reason,
    per_day: Annotated[float | None, typer.Option(help="Studies a day of one stream.")] = None,
    budget: Annotated[float | None, typer.Option(help="False flags a year that are allowed.")] = None,
    silent_hours: Annotated[float | None, typer.Option(help="Quiet for longer is called silent.")] = None,
    reject_max: Annotated[float | None, typer.Option(help="Accepted rate of rejected answers.")] = None,
    edit_max: Annotated[float | None, typer.Option(help="Accepted rate of edited answers.")] = None,
    failure_max: Annotated[
        float | None, typer.Option(help="Accepted rate of studies without answer.")
    ] = None,
    late_max: Annotated[float | None, typer.Option(help="Accepted rate of late answers.")] = None,
    late_minutes: Annotated[float | None, typer.Option(help="Later than this is late.")] = None,
    holds: Annotated[
        bool | None, typer.Option(help="A verdict that says hold stops delivery.", show_default=False)
    ] = None,
    as_: As = None,
    as_json: AsJson = False,
) -> None:
    """Change how a clinic is watched; what is not given stays as it is."""
    from monitoring.errors import PolicyUnfit
    from monitoring.judge import contracts_store, judging
    from monitoring.streams import streams_store
    from registry import accounts
    from registry.core.db import database

    rates = {"reject_max": reject_max, "edit_max": edit_max, "failure_max": failure_max, "late_max": late_max}
    amounts = {
        "per_day": per_day,
        "budget": budget,
        "silent_hours": silent_hours,
        "late_minutes": late_minutes,
    }
    wrong = [name for name, rate in rates.items() if rate is not None and not 0 < rate < 1]
    wrong += [name for name, amount in amounts.items() if amount is not None and not 0 < amount < 1e6]
    if wrong:
        raise PolicyUnfit(f"{', '.join('--' + name.replace('_', '-') for name in wrong)} cannot be so")
    db = database(settings())
    with db.system() as conn:
        by = accounts.actor(conn, accounts.Act.POLICY, as_)
        clinic_id, _ = _place(conn, clinic, None)
    changes: dict[str, Any] = {**rates, "per_day": per_day, "budget": budget, "holds": holds}
    changes["silent_after"] = None if silent_hours is None else timedelta(hours=silent_hours)
    changes["late_after"] = None if late_minutes is None else timedelta(minutes=late_minutes)
    with db.monitor(write=True) as conn:
        before = streams_store.policy(conn, clinic_id)
        its = replace(before, **{name: value for name, value in changes.items() if value is not None})
        number = contracts_store.add_policy(conn, clinic_id, its, by=by, reason=reason)
        judging.judge_again(conn, clinic_id, notify=settings().channels())
    undo = f"radfleet monitor policy set {clinic} with the earlier figures, which policy list keeps"
    if as_json:
        show([{"clinic": clinic, "version": number, "undo": undo}], as_json=True)
        return
    tell(f"policy {before.version}", f"policy {number}", undo)


@policy.command("list")
def policy_list(clinic: OfClinic = None, limit: Limit = ROWS, as_json: AsJson = False) -> None:
    """List how clinics are watched, the newest first; a clinic without a row has the first margins."""
    from monitoring.judge import contracts_store
    from registry.core.db import database

    with database(settings()).monitor() as conn:
        rows = contracts_store.policies(conn, clinic, limit)
    show(rows, as_json=as_json, empty="no clinic has a policy of its own: radfleet monitor policy set")


def _place(conn: "Conn", clinic: str, version: str | None) -> "tuple[UUID, str | None]":
    """(clinic, digest) by their names; needs a system transaction."""
    from registry import clinics, versions

    return clinics.by_slug(conn, clinic).id, versions.by_name(conn, version).digest if version else None


def _derived(
    conn: "Conn", clinic_id: "UUID", task: str, digest: str | None, read: Any, source: str
) -> "Contract":
    """D_ref out of reviews, or out of the card of the named version."""
    from monitoring.errors import ContractThin
    from monitoring.judge import contract as contracts
    from monitoring.judge import contracts_store

    if source != "card":
        return contracts.of_reviews(read, clinic_id, source)
    known = contracts_store.version(conn, digest.removeprefix("sha256:")) if digest else None
    its = contracts.of_card(known["card"]) if known else None
    if its is None:
        raise ContractThin(
            f"no card of {task} with a Dice", cure="Name a version that was scored: --version NAME@VERSION."
        )
    return its


def _line(its: "Contract") -> str:
    return f"contract {its.version}: mean Dice {its.d_ref - its.margin:.3f} or more ({its.d_ref:.3f} - {its.margin:g})"


def _facts(its: "Contract") -> dict[str, Any]:
    return {
        "version": its.version, "d_ref": its.d_ref, "margin": its.margin, "loss_max": round(its.loss, 4),
        "people": its.people, "source": its.source,
    }  # fmt: skip
