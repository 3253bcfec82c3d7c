"""Rows become samples: pure. Each row of the views gives its values by metric name and labels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any

from monitoring.metrics.load_store import Row
from registry.verbs import short

Sample = tuple[str, tuple[str, ...], float]
LANES = ("stat", "routine", "shadow", "backfill")


def of(rows: Mapping[str, Sequence[Row]]) -> Iterator[Sample]:
    """(metric, label values, value) of everything that was read.

    What is counted by clinic or lane is there at zero too: an alert cannot fire on a series that is born broken.
    """
    yield from _clinics(rows["clinics"])
    yield from _versions(rows)
    yield from _watched(rows)
    yield from _fleet(rows)


def _clinics(rows: Sequence[Row]) -> Iterator[Sample]:
    for row in rows:
        its = (row["clinic"],)
        yield "radfleet_clinic_info", (*its, row["state"]), 1
        yield from _time("radfleet_clinic_last_heard_timestamp_seconds", its, row["last_heard_at"])
        yield "radfleet_clinic_silent_after_seconds", its, row["silent_after"].total_seconds()
        for state in ("receiving", "ready", "running"):
            yield "radfleet_studies_open", (*its, state), row[state]
        for outcome in ("done", "rejected", "dead"):
            yield "radfleet_studies_ended_24h", (*its, outcome), row[f"{outcome}_24h"]
        yield "radfleet_studies_stuck", its, row["stuck"] or 0
        yield from _time("radfleet_study_oldest_deadline_timestamp_seconds", its, row["oldest_deadline"])
        yield "radfleet_outbox_waiting", its, row["undelivered"]
        yield "radfleet_outbox_failed", its, row["delivery_failed"]
        yield "radfleet_outbox_oldest_age_seconds", its, row["undelivered_s"] or 0
        if row["superseded_24h"]:  # rare: no clinic has a series for it every day
            yield "radfleet_outbox_superseded_24h", its, row["superseded_24h"]
        yield "radfleet_deliveries_24h", its, row["delivered_24h"]
        yield "radfleet_identity_mismatches_total", its, row["mismatches"]
        yield "radfleet_answers_misbound_24h", its, row["misbound_24h"]
        yield "radfleet_features_unread", its, row["unread"]
        yield "radfleet_features_oldest_unread_age_seconds", its, row["unread_s"] or 0


def _versions(rows: Mapping[str, Sequence[Row]]) -> Iterator[Sample]:
    for row in rows["bindings"]:
        its = (row["clinic"], row["task"], row["scope"], row["model"], short(row["digest"]))
        yield "radfleet_clinic_binding_info", its, 1
    for row in rows["answers"]:
        yield "radfleet_answers_24h", (row["clinic"], row["task"], short(row["digest"])), row["answers"]
    for row in rows["promotions"]:
        yield "radfleet_promotions", (row["clinic"], row["kind"], row["state"]), row["promotions"]
        if row["state"] in ("proposed", "approved"):
            yield "radfleet_promotion_oldest_age_seconds", (row["clinic"], row["state"]), row["age_s"]


def _watched(rows: Mapping[str, Sequence[Row]]) -> Iterator[Sample]:
    for row in rows["streams"]:
        its = (row["clinic"], row["task"], row["sequence"] or "", short(row["digest"]))
        yield "radfleet_stream_state", (*its, row["state"]), 1
        if row["threshold"] is None:  # no study yet: there is nothing to be quiet
            continue
        yield "radfleet_stream_statistic", its, row["statistic"]
        yield "radfleet_stream_threshold", its, row["threshold"]
        yield "radfleet_stream_studies", its, row["n"]
        if row["verdict"]:
            yield "radfleet_stream_verdict", (*its, row["verdict"]), 1
    flags = Counter({row["clinic"]: 0 for row in rows["clinics"]})
    for row in rows["flags"]:
        flags[row["clinic"]] += row["flags"]
        labels = (row["clinic"], row["task"], row["state"], row["kind"], row["verdict"])
        yield "radfleet_flag", labels, row["flags"]
    for clinic, count in flags.items():
        yield "radfleet_flags_open", (clinic,), count
    reports = {row["clinic"]: (0, 0) for row in rows["clinics"]}
    reports |= {row["clinic"]: (row["reports"], row["age_s"]) for row in rows["reports"]}
    for clinic, (count, age_s) in reports.items():
        yield "radfleet_reports_waiting", (clinic,), count
        yield "radfleet_reports_oldest_wait_seconds", (clinic,), age_s
    for row in rows["reviews"]:
        said = (row["clinic"], row["task"], row["decision"], _word(row["blinded"]))
        yield "radfleet_reviews_30d", said, row["reviews"]
    for row in rows["dice"]:
        cut = (row["clinic"], row["task"], _word(row["blinded"]))
        yield "radfleet_review_dice", cut, row["dice"]
        yield "radfleet_review_dice_cases", cut, row["cases"]


def _fleet(rows: Mapping[str, Sequence[Row]]) -> Iterator[Sample]:
    lanes: dict[str, Row] = {lane: {"ready": 0, "leased": 0, "age_s": 0} for lane in LANES}
    lanes |= {row["lane"]: row for row in rows["lanes"]}
    for lane, row in lanes.items():
        yield "radfleet_queue_jobs", (lane, "ready"), row["ready"]
        yield "radfleet_queue_jobs", (lane, "leased"), row["leased"]
        yield "radfleet_queue_oldest_ready_age_seconds", (lane,), row["age_s"] or 0
    for row in rows["turnaround"]:
        if row["studies"]:
            yield "radfleet_study_turnaround_seconds", ("0.5",), row["p50_s"]
            yield "radfleet_study_turnaround_seconds", ("0.95",), row["p95_s"]
        yield from _time("radfleet_study_last_done_timestamp_seconds", (), row["last_done_at"])
    notices = dict.fromkeys(product(("webhook", "email"), ("ready", "sending", "unsure", "given_up")), 0)
    notices |= {(row["channel"], row["state"]): row["notices"] for row in rows["notices"]}
    for labels, count in notices.items():
        yield "radfleet_notices", labels, count


def _word(value: Any) -> str:
    return "yes" if value else "no"


def _time(name: str, labels: tuple[str, ...], at: datetime | None) -> Iterator[Sample]:
    if at is not None:
        yield name, labels, at.timestamp()
