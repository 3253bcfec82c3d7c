"""`radfleet metrics` and `radfleet dashboard`: what Prometheus reads and Grafana shows."""

import json
from typing import Annotated

import typer

from registry.core.output import show
from registry.verbs import AsJson

dashboard = typer.Typer(help="Grafana's dashboards: the fleet, one clinic.", no_args_is_help=True)


def metrics() -> None:
    """Serve /metrics, and the runbooks of the alerts: the part `metrics` of `radfleet up`."""
    from monitoring.metrics import server
    from registry.core import logs
    from registry.core.db import database
    from registry.core.settings import settings

    its = settings()
    logs.configure("metrics", level=its.log_level, as_json=its.log_json)
    server.serve(its, database(its))


@dashboard.command("sync")
def sync(as_json: AsJson = False) -> None:
    """Push the dashboards, and marks at promotions and changes of scanners, to Grafana; what is there is left alone."""
    from monitoring.grafana import dashboards, marks
    from monitoring.grafana import sync as grafana
    from monitoring.metrics import load_store
    from monitoring.vendors import changes, vendors_store
    from registry.core.db import database
    from registry.core.settings import settings

    its = settings()
    with database(its).monitor() as conn:
        found = marks.of_promotions(load_store.changes(conn, grafana.MARKS_MAX))
        found += marks.of_scanners(changes.moments(changes.events(vendors_store.spans(conn))))
    show(grafana.sync(its, dashboards.all_of_them(), found), as_json=as_json)


@dashboard.command("show")
def dashboard_show(
    uid: Annotated[
        str, typer.Argument(help="radfleet-fleet, radfleet-clinic or radfleet-qa.", metavar="UID")
    ],
    as_json: AsJson = False,
) -> None:
    """Print one dashboard, indented or in one line: JSON for a Grafana that is provisioned by files."""
    from monitoring.grafana import dashboards
    from monitoring.grafana.errors import DashboardUnknown

    found = {one["uid"]: one for one in dashboards.all_of_them()}
    if uid not in found:
        raise DashboardUnknown(f"there is no dashboard {uid}", cure=f"Give one of {', '.join(found)}.")
    typer.echo(json.dumps(found[uid], indent=None if as_json else 2))
