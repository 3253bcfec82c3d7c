"""Each alert fires when it must, is silent when it must, names metrics that exist and has its runbook: by promtool."""

import copy
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alerts import rules
from monitoring.metrics.measures import MEASURES
from tests.monitoring.alerts.cases import CASES, RECORDED, Case

promtool = pytest.mark.tool("promtool")
RUNBOOKS = "http://127.0.0.1:18091/runbooks"


def unit(case: Case, *, fires: bool) -> dict[str, Any]:
    """One test of promtool: the alert under its series, and no other expectation."""
    series = case.fires if fires else case.calm
    said = {
        "exp_labels": {**case.labels, "severity": case.severity},
        "exp_annotations": {"summary": case.summary, "runbook_url": f"{RUNBOOKS}/{case.alert}"},
    }
    return {
        "interval": "1m", "external_labels": {"runbooks": RUNBOOKS},
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": [said] if fires else []}],
    }  # fmt: skip


def refused(folder: Path, groups: list[dict[str, Any]], tests: Iterable[dict[str, Any]]) -> str:
    """Empty when promtool passes these tests of these rules, else what it says."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    # Without an order promtool takes one at random, and an alert may see the recorded value of a minute ago.
    order = [group["name"] for group in groups]
    document = {
        "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "group_eval_order": order, "tests": [*tests],
    }  # fmt: skip
    (folder / "tests.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def both() -> list[dict[str, Any]]:
    return [unit(case, fires=fires) for case in CASES for fires in (True, False)]


@promtool
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(rules.RULES)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@promtool
def test_every_alert_fires_and_is_silent_when_it_must(tmp_path: Path) -> None:
    recorded = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": record,
                    "eval_time": "5m",
                    "exp_samples": [] if value is None else [{"labels": record, "value": value}],
                }
            ],
        }
        for record, series, value in RECORDED
    ]
    assert refused(tmp_path, rules.groups(), [*both(), *recorded]) == ""


def test_every_alert_is_tested_and_has_its_runbook() -> None:
    names = [rule["alert"] for rule in rules.alerts()]
    assert len(names) == len(set(names))
    assert {case.alert for case in CASES} == set(names)
    assert set(rules.runbooks()) == set(names)
    for rule in rules.alerts():
        assert rule["annotations"]["runbook_url"] == "{{ $externalLabels.runbooks }}/" + rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rules.runbooks()[rule["alert"]].startswith(f"# {rule['alert']}: ")


def unknown(groups: list[dict[str, Any]]) -> list[str]:
    """Metrics and labels in rules that the collector does not have: such a rule is silent for ever."""
    found = []
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    for rule in (rule for group in groups for rule in group["rules"]):
        expression = rule["expr"]
        for name in re.findall(r"\b[a-z]+:radfleet_[a-z0-9_]+:[a-z0-9]+\b", expression):
            expression = expression.replace(name, "")
            found += [] if name in recorded else [name]
        found += [name for name in rules.metrics(expression) if name not in MEASURES]
        for name, matchers in re.findall(r"(radfleet_[a-z0-9_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"([a-z_]+)\s*[=!]", re.sub(r'"[^"]*"', '""', matchers)))
            found += [f"{name}{{{label}}}" for label in labels - set(MEASURES[name].labels)]
    return found


def test_rules_name_what_exists() -> None:
    assert unknown(rules.groups()) == []


# Mutants: a rule that cannot fire, one that fires always, a metric that nobody exports, a label that it does not have.
MUTATIONS = {
    "never fires": lambda rule: rule.update(expr=f"({rule['expr']}) and on () (vector(0) > 1)"),
    "fires always": lambda rule: rule.update(expr="vector(1)"),
    "another metric": lambda rule: rule.update(expr=rule["expr"].replace("radfleet_", "radfleet_old_")),
}


@promtool
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_alert_is_caught(name: str, tmp_path: Path) -> None:
    groups = copy.deepcopy(rules.groups())
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        MUTATIONS[name](rule)
    first = {case.alert: unit(case, fires=name != "fires always") for case in reversed(CASES)}
    caught = set(re.findall(r"alertname: (\w+)", refused(tmp_path, groups, first.values())))
    missed = {rule["alert"] for rule in rules.alerts()} - caught
    # It is about absence: any name that is absent fires it, and test_rules_name_what_exists guards the name.
    assert missed == ({"RadfleetUnmeasured"} if name == "another metric" else set())


def test_unknown_metrics_and_labels_are_caught() -> None:
    groups = json.loads(json.dumps(rules.groups()).replace("radfleet_up", "radfleet_upp"))
    assert unknown(groups) == ["radfleet_upp", "radfleet_upp"]
    text = json.dumps(rules.groups()).replace("radfleet_notices{state", "radfleet_notices{status")
    assert unknown(json.loads(text)) == ["radfleet_notices{status}"]
