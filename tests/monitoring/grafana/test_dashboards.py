"""The dashboards are what Grafana's schema says, and ask for what the collector has."""

import copy
import gzip
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from monitoring.alerts import rules
from monitoring.grafana import dashboards
from monitoring.metrics.measures import MEASURES
from registry.cli import main

ALL = dashboards.all_of_them()
RECORDED = {rule["record"] for group in rules.groups() for rule in group["rules"] if "record" in rule}


def refused(tests_data: Path, dashboard: dict[str, Any]) -> list[str]:
    """What Grafana's dashboard schema refuses."""
    schema = json.loads(
        gzip.decompress((tests_data / "grafana" / "dashboard.jsonschema.json.gz").read_bytes())
    )
    return [f"{e.json_path}: {e.message}" for e in jsonschema.Draft7Validator(schema).iter_errors(dashboard)]


def unknown(dashboard: dict[str, Any]) -> list[str]:
    """Metrics, recorded ones too, that nobody exports, and labels of a legend that they do not have."""
    found = []
    for expression in dashboards.queries(dashboard):
        recorded = set(re.findall(r"\b[a-z]+:radfleet_[a-z0-9_]+:[a-z0-9]+\b", expression))
        found += sorted(recorded - RECORDED)
        bare = re.sub(r"\b[a-z]+:radfleet_[a-z0-9_]+:[a-z0-9]+\b", "", expression)
        found += sorted(rules.metrics(bare) - set(MEASURES))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            has = {
                label
                for name in rules.metrics(target["expr"]) & set(MEASURES)
                for label in MEASURES[name].labels
            }
            found += sorted(legend - has)
    return found


@pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one["uid"])
def test_it_is_one_by_grafanas_schema(tests_data: Path, dashboard: dict[str, Any]) -> None:
    assert refused(tests_data, dashboard) == []
    for mutate in (
        lambda one: one["panels"][0].update(gridpos={}),
        lambda one: one["panels"][0]["gridPos"].update(w="four"),
        lambda one: one["templating"]["list"][0].update(type="prometheus"),
        lambda one: one.pop("schemaVersion"),
    ):
        broken = copy.deepcopy(dashboard)
        mutate(broken)
        assert refused(tests_data, broken) != []


@pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one["uid"])
def test_it_asks_for_what_is_exported(dashboard: dict[str, Any]) -> None:
    assert unknown(dashboard) == []
    for old, new in (("radfleet_studies_stuck", "radfleet_studies_stuk"), ("{{outcome}}", "{{outcom}}")):
        assert unknown(json.loads(json.dumps(dashboard).replace(old, new))) != []


@pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one["uid"])
def test_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        its = panel["gridPos"]
        cells = {
            (x, y) for x in range(its["x"], its["x"] + its["w"]) for y in range(its["y"], its["y"] + its["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_show_prints_one_and_names_an_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "show", "radfleet-fleet"]) == 0
    assert json.loads(capsys.readouterr().out) == dashboards.fleet()
    assert main(["dashboard", "show", "fleet"]) == 3
    assert "grafana.dashboard_unknown" in capsys.readouterr().err
