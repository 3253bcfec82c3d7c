"""The dashboards of fleet, clinic and QA team: pure, Grafana's JSON (schema v1). Each panel says what happened."""

from collections.abc import Iterator, Sequence
from typing import Any

Json = dict[str, Any]
FOLDER_UID, FOLDER_TITLE = "radfleet", "Radfleet"
TAG = "radfleet"
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH = 24
_CALM, _ALARM = "green", "red"


def all_of_them() -> list[Json]:
    """Every dashboard; ``uid`` never changes, so that links and pushes find the same one again."""
    return [fleet(), clinic(), qa()]


def fleet() -> Json:
    """All clinics together."""
    return _dashboard("radfleet-fleet", "Radfleet: fleet", [], [
        _stat("Database", "max(radfleet_up)", alarm_below=1),
        _stat("Studies stuck", "sum(radfleet_studies_stuck)", alarm_from=1),
        _stat("Open flags", "sum(radfleet_flags_open)", alarm_from=1),
        _stat("Silent clinics", "count(clinic:radfleet_silence:ratio > 1) or vector(0)", alarm_from=1),
        _stat("Failed of a day", "fleet:radfleet_studies_bad_24h:ratio", alarm_from=0.1, unit="percentunit"),
        _stat("Not delivered", "sum(radfleet_outbox_waiting) + sum(radfleet_outbox_failed)", alarm_from=100),
        _curves("Oldest study that waits, by lane", [("radfleet_queue_oldest_ready_age_seconds", "{{lane}}")], "s"),
        _curves("Jobs", [("radfleet_queue_jobs", "{{lane}} {{state}}")]),
        _curves("Last image to end", [("radfleet_study_turnaround_seconds", "quantile {{quantile}}")], "s"),
        _curves("Studies of a day", [("sum by (outcome) (radfleet_studies_ended_24h)", "{{outcome}}")]),
        _curves("Nearest to a flag: statistic / threshold", [
            ("topk(10, radfleet_stream_statistic / radfleet_stream_threshold)", "{{clinic}} {{task}} {{sequence}}")]),
        _curves("Flags by verdict", [("sum by (state, verdict) (radfleet_flag)", "{{state}} {{verdict}}")]),
        _table("What needs somebody", 'ALERTS{alertname=~"Radfleet.+", alertstate="firing"}'),
        _table("Bound now", "radfleet_clinic_binding_info"),
        _curves("Parts that work", [("radfleet_part_ready", "{{part}}"), ("radfleet_mlflow_up", "MLflow"),
                                    ("radfleet_door_ready", "HTTP door")]),
        _curves("Restarts", [("increase(radfleet_part_restarts_total[1h])", "{{part}}")]),
        _curves("Room of the store", [("radfleet_store_free_bytes", "free"),
                                      ("radfleet_store_reserve_bytes", "the doors refuse below")], "bytes"),
        _curves("Promotions", [("sum by (kind, state) (radfleet_promotions)", "{{kind}} {{state}}")]),
    ])  # fmt: skip


def clinic() -> Json:
    """One clinic, chosen above."""
    choice = {
        "type": "query", "name": "clinic", "label": "Clinic", "datasource": _SOURCE, "refresh": 2, "sort": 1,
        "query": "label_values(radfleet_clinic_info, clinic)",
    }  # fmt: skip
    its = '{clinic="$clinic"}'
    return _dashboard("radfleet-clinic", "Radfleet: clinic", [choice], [
        _stat("Studies stuck", f"radfleet_studies_stuck{its}", alarm_from=1),
        _stat("Open flags", f"radfleet_flags_open{its}", alarm_from=1),
        _stat("Last heard", f"time() - radfleet_clinic_last_heard_timestamp_seconds{its}", unit="s"),
        _stat("Silence / agreed", f"clinic:radfleet_silence:ratio{its}", alarm_from=1),
        _stat("Not delivered", f"radfleet_outbox_waiting{its} + radfleet_outbox_failed{its}", alarm_from=10),
        _stat("Wrong version", f"radfleet_identity_mismatches_total{its}", alarm_from=1),
        _curves("Drift: statistic and where it flags", [
            (f"radfleet_stream_statistic{its}", "{{task}} {{sequence}} {{digest}}"),
            (f"radfleet_stream_threshold{its}", "flags at: {{task}} {{sequence}} {{digest}}")]),
        _curves("Studies of this epoch", [(f"radfleet_stream_studies{its}", "{{task}} {{sequence}} {{digest}}")]),
        _table("State of each stream", f"radfleet_stream_state{its}"),
        _table("Verdict of each stream", f"radfleet_stream_verdict{its}"),
        _curves("Dice of reviewed cases, 30 days", [(f"radfleet_review_dice{its}", "{{task}} blinded: {{blinded}}")]),
        _curves("Cases behind it", [(f"radfleet_review_dice_cases{its}", "{{task}} blinded: {{blinded}}")]),
        _curves("Reviews, 30 days", [(f"radfleet_reviews_30d{its}", "{{decision}} blinded: {{blinded}}")]),
        _curves("Answers of a day by version", [(f"radfleet_answers_24h{its}", "{{task}} {{digest}}")]),
        _curves("Studies of a day", [(f"radfleet_studies_ended_24h{its}", "{{outcome}}")]),
        _curves("Studies without an end", [(f"radfleet_studies_open{its}", "{{state}}")]),
        _curves("Delivery: oldest object that waits", [(f"radfleet_outbox_oldest_age_seconds{its}", "age")], "s"),
        _table("Bound now", f"radfleet_clinic_binding_info{its}"),
    ])  # fmt: skip


def qa() -> Json:
    """Which clinic needs a judgement, what readers said, and whether monitoring itself works."""
    wait = "topk(10, radfleet_reports_oldest_wait_seconds)"
    return _dashboard("radfleet-qa", "Radfleet: QA", [], [
        _stat("Open flags", "sum(radfleet_flags_open)", alarm_from=1),
        _stat("Harm", 'sum(radfleet_flag{verdict=~"hold|recalibrate|fine_tune"}) or vector(0)', alarm_from=1),
        _stat("Silent clinics", "count(clinic:radfleet_silence:ratio > 1) or vector(0)", alarm_from=1),
        _stat("Rows not followed", "max(radfleet_features_oldest_unread_age_seconds)", alarm_from=900, unit="s"),
        _stat("Reports that wait", "sum(radfleet_reports_waiting)", alarm_from=1),
        _stat("Studies stuck", "sum(radfleet_studies_stuck)", alarm_from=1),
        _stat("Not surely told", 'sum(radfleet_notices{state=~"unsure|given_up"})', alarm_from=1),
        _table("Flags that need somebody", "radfleet_flag > 0"),
        _table("Verdict of each stream", "radfleet_stream_verdict"),
        _curves("Nearest to a flag: statistic / threshold", [
            ("topk(10, max by (clinic) (radfleet_stream_statistic / radfleet_stream_threshold))", "{{clinic}}")]),
        _curves("Lowest Dice of blinded readings, 30 days", [
            ('bottomk(10, radfleet_review_dice{blinded="yes"})', "{{clinic}} {{task}}")]),
        _curves("Cases behind it", [('sum by (task) (radfleet_review_dice_cases{blinded="yes"})', "{{task}}")]),
        _curves("Reviews of 30 days", [
            ("sum by (decision, blinded) (radfleet_reviews_30d)", "{{decision}} blinded: {{blinded}}")]),
        _curves("Studies of a day", [("sum by (outcome) (radfleet_studies_ended_24h)", "{{outcome}}")]),
        _curves("Most rejected or dead of a day", [
            ('topk(10, sum by (clinic) (radfleet_studies_ended_24h{outcome!="done"}))', "{{clinic}}")]),
        _curves("Longest silence / agreed", [
            ("topk(10, (time() - radfleet_clinic_last_heard_timestamp_seconds) / radfleet_clinic_silent_after_seconds)",
             "{{clinic}}")]),
        _curves("How long flags wait for their report", [(wait, "{{clinic}}")], "s"),
        _curves("Promotions that wait", [
            ("topk(10, radfleet_promotion_oldest_age_seconds)", "{{clinic}} {{state}}")], "s"),
    ])  # fmt: skip


def queries(dashboard: Json) -> Iterator[str]:
    """Every PromQL expression of a dashboard."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def _dashboard(uid: str, title: str, choices: Sequence[Json], panels: Sequence[Json]) -> Json:
    source = {"type": "datasource", "name": "source", "label": "Prometheus", "query": "prometheus"}
    changes = {
        "name": "Promotions, rollbacks and changes of scanners", "enable": True, "iconColor": "purple",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "target": {"type": "tags", "tags": [TAG], "limit": 100, "matchAny": False},
    }  # fmt: skip
    return {
        "uid": uid, "title": title, "tags": [TAG], "timezone": "utc", "editable": False, "schemaVersion": 41,
        "refresh": "1m", "time": {"from": "now-7d", "to": "now"}, "graphTooltip": 1,
        "templating": {"list": [source, *choices]}, "annotations": {"list": [changes]},
        "panels": _placed(panels),
    }  # fmt: skip


def _placed(panels: Sequence[Json]) -> list[Json]:
    """The panels from left to right, a new row where one does not fit."""
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        size = panel["gridPos"]
        if x + size["w"] > _WIDTH:
            x, y, row = 0, y + row, 0
        placed.append(panel | {"id": number, "gridPos": size | {"x": x, "y": y}})
        x, row = x + size["w"], max(row, size["h"])
    return placed


def _panel(kind: str, title: str, size: tuple[int, int], targets: Sequence[Json], **defaults: Any) -> Json:
    return {
        "type": kind, "title": title, "datasource": _SOURCE, "gridPos": {"w": size[0], "h": size[1]},
        "targets": [{"refId": chr(65 + n), "datasource": _SOURCE, **target} for n, target in enumerate(targets)],
        "fieldConfig": {"defaults": {"noValue": "not measured", **defaults}, "overrides": []},
    }  # fmt: skip


def _stat(
    title: str, expr: str, *, alarm_from: float | None = None, alarm_below: float | None = None, unit: str = "none"
) -> Json:  # fmt: skip
    first = _ALARM if alarm_below is not None else _CALM
    steps: list[Json] = [{"value": None, "color": first}]
    if alarm_from is not None:
        steps.append({"value": alarm_from, "color": _ALARM})
    if alarm_below is not None:
        steps.append({"value": alarm_below, "color": _CALM})
    return _panel(
        "stat", title, (4, 4), [{"expr": expr, "instant": True}],
        unit=unit, thresholds={"mode": "absolute", "steps": steps},
    )  # fmt: skip


def _curves(title: str, lines: Sequence[tuple[str, str]], unit: str = "none") -> Json:
    targets = [{"expr": expr, "legendFormat": legend} for expr, legend in lines]
    return _panel("timeseries", title, (12, 8), targets, unit=unit)


def _table(title: str, expr: str) -> Json:
    return _panel("table", title, (12, 8), [{"expr": expr, "instant": True, "format": "table"}])
