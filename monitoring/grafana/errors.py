"""Failures on the way to Grafana. Dashboards are code: none of them loses anything."""

from registry.core.errors import Forbidden, NotFound, Unavailable, Unmet


class GrafanaUnset(Unmet):
    """No Grafana is set."""

    code = "grafana.unset"
    why = "RADFLEET_GRAFANA_URL is empty or no http address, or there is no secret file grafana-token."
    cure = "Set RADFLEET_GRAFANA_URL, and put a service account's token into secrets/grafana-token of RADFLEET_HOME."


class GrafanaAway(Unavailable):
    """Grafana does not answer."""

    code = "grafana.away"
    why = "The connection was refused or broke, it took too long, or the server has a fault."
    cure = "Nothing is lost: run radfleet dashboard sync again when Grafana is back."


class GrafanaRefused(Forbidden):
    """Grafana refuses what it is sent."""

    code = "grafana.refused"
    why = "The token may not write there, or a file in Grafana provides the same dashboard."
    cure = "Give the token's account the role Editor, and remove provisioned dashboards of the same uid."


class DashboardUnknown(NotFound):
    """There is no such dashboard."""

    code = "grafana.dashboard_unknown"
    cure = "Give radfleet-fleet, radfleet-clinic or radfleet-qa."
