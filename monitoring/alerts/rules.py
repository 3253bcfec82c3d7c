"""The one rules file and its runbooks, for Prometheus, Kubernetes, pages and tests."""

import re
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RULES = FOLDER / "rules.yaml"
_METRIC = re.compile(r"\bradfleet_[a-z0-9_]+\b")


@cache
def groups() -> list[dict[str, Any]]:
    """The groups of the rules file as Prometheus reads them."""
    import yaml

    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


@cache
def runbooks() -> dict[str, str]:
    """What to do, by alert: Markdown."""
    return {path.stem: path.read_text() for path in sorted((FOLDER / "runbooks").glob("*.md"))}


def metrics(expression: str) -> set[str]:
    """The metrics of ours that a PromQL expression names."""
    return set(_METRIC.findall(expression))


def prometheus_rule() -> dict[str, Any]:
    """The same rules as an object of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "radfleet", "labels": {"app.kubernetes.io/component": "metrics"}},
        "spec": {"groups": groups()},
    }


if __name__ == "__main__":
    import sys

    import yaml

    sys.stdout.write(
        "# Made of monitoring/alerts/rules.yaml: python -m monitoring.alerts.rules > k8s/base/alerts.yaml\n"
    )
    yaml.safe_dump(prometheus_rule(), sys.stdout, sort_keys=False, width=1000)
