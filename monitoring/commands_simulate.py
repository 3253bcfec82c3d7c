"""`radfleet monitor simulate` and `when`: what a change looks like and how soon one would know, simulated."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.core.output import show
from registry.verbs import AsJson

if TYPE_CHECKING:
    from monitoring.streams.when import Spread

Seed = Annotated[int, typer.Option(help="The same seed gives the same numbers.")]


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the tables; it is made.", show_default=False)],
    days: Annotated[int, typer.Option(help="Days a clinic.", min=20, max=2000)] = 90,
    per_day: Annotated[int, typer.Option(help="Studies a day.", min=1, max=200)] = 10,
    event_day: Annotated[int, typer.Option(help="The day of the event.", min=1)] = 30,
    seed: Seed = 1,
    measured: Annotated[
        Path | None,
        typer.Option(help="Draw studies from this table of measured ones.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write tables of a simulated fleet, a clinic for each kind of event, for `monitor replay`, and the truth."""
    from monitoring.errors import SimulationUnfit
    from monitoring.streams import measured as measurements
    from monitoring.streams import simulate as simulation

    if event_day >= days:
        raise SimulationUnfit(f"an event on day {event_day} of {days} is never seen")
    table = measurements.read(measured) if measured else None
    length = {"days": days, "per_day": per_day, "event_day": event_day, "seed": seed}
    try:
        out.mkdir(parents=True, exist_ok=True)
        truths = measurements.fleet(out, table, **length) if table else simulation.fleet(out, **length)
    except OSError as error:
        raise SimulationUnfit(f"nothing can be written into {out}") from error
    if as_json:
        show([asdict(one) for one in truths], as_json=True)
        return
    show(
        [{"clinic": one.clinic, "what is simulated": one.says, "from row": one.row} for one in truths],
        as_json=False,
    )
    columns = ",".join(table.names if table else simulation.SCALES)
    typer.echo(f"simulated, with the truth in {out / 'truth.json'}. Watch one with:")
    typer.echo(f"radfleet monitor replay {out / truths[0].table} --columns {columns} --reference 100 --group scanner "
               f"--order acquired --per-day {per_day}")  # fmt: skip


def when(
    shift: Annotated[float, typer.Option(help="How far features move, in their sd.")] = 1.0,
    moved: Annotated[int, typer.Option(help="How many of them.", min=1)] = 5,
    features: Annotated[int, typer.Option(help="How many are watched.", min=1, max=100)] = 20,
    reference: Annotated[int, typer.Option(help="Reference studies.", min=50, max=400)] = 50,
    per_day: Annotated[float, typer.Option(help="Studies a day.")] = 10,
    budget: Annotated[float, typer.Option(help="False flags a year that are allowed.")] = 1,
    dice: Annotated[
        float | None, typer.Option(help="Mean Dice after the change: also ask for harm.", show_default=False)
    ] = None,
    contract: Annotated[float, typer.Option(help="Dice that the contract allows.")] = 0.75,
    minutes: Annotated[float, typer.Option(help="Reading minutes a review.", min=0)] = 6,
    streams: Annotated[int, typer.Option(help="Simulated streams.", min=10, max=2000)] = 60,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Say when a change would be known: studies, days, labels and reading time, from simulated streams."""
    from monitoring.detect.replay import threshold
    from monitoring.errors import SimulationUnfit
    from monitoring.streams.when import Question, answer

    threshold(per_day, budget)
    if moved > features:
        raise SimulationUnfit(f"{moved} of {features} features cannot move")
    if not 0.05 <= contract <= 0.95 or (dice is not None and not 0.05 <= dice <= 0.95):
        raise SimulationUnfit("a mean Dice below .05 or above .95 is not simulated")
    asked = Question(
        shift, moved, features, reference, per_day, budget, dice=dice, contract=contract, minutes=minutes
    )
    found = answer(asked, n=streams, seed=seed)
    if as_json:
        show([{"simulated": True, "question": asdict(asked), "seed": seed, **asdict(found)}], as_json=True)
        return
    typer.echo(f"Simulated: {shift:g} sd on {moved} of {features} features, {per_day:g} studies a day, "
               f"{found.n} streams, {found.early} flagged before the change.")  # fmt: skip
    asked_of = {
        "drift flagged: studies": found.drift_studies, "drift flagged: days": found.drift_days,
        "harm proven: studies": found.harm_studies, "harm proven: days": found.harm_days,
        "harm proven: labels": found.labels, "harm proven: reading minutes": found.minutes,
    }  # fmt: skip
    show([_line(name, its) for name, its in asked_of.items() if its is not None], as_json=False)


def _line(name: str, its: "Spread") -> dict[str, Any]:
    def said(x: float | None) -> str:
        return "-" if x is None else f"{x:.3g}"

    return {"what": name, "found": f"{its.found:.0%}", "median": said(its.median),
            "quartiles": f"{said(its.low)} to {said(its.high)}", "90 %": said(its.most)}  # fmt: skip
