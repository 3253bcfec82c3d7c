"""Every metric by name: its labels and what it says. A rule or panel may name no other.

Labels have few values (clinics, lanes, tasks, states, versions that are bound or answered): never a study, a person,
a replica or a scanner. A label "digest" is the first 12 hex digits.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. ``name`` is as PromQL says it, so a counter's ends in ``_total``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


_STREAM = ("clinic", "task", "sequence", "digest")

# Of this machine: true also while the database is away.
LOCAL = (
    Measure(
        "radfleet_up", "1 when the database answered this very scrape, else 0 and nothing of it is shown"
    ),
    Measure("radfleet_build_info", "1, with the version that runs", ("version",)),
    Measure("radfleet_part_ready", "1 while a part of radfleet up works, else 0", ("part",)),
    Measure("radfleet_part_restarts_total", "Restarts of a part by its supervisor", ("part",), "counter"),
    Measure("radfleet_door_ready", "1 when the HTTP door says that it can keep what it is sent"),
    Measure("radfleet_mlflow_up", "1 when MLflow answers"),
    Measure("radfleet_store_free_bytes", "Free bytes under the file store"),
    Measure("radfleet_store_reserve_bytes", "Free bytes below which the doors refuse"),
)
CLINIC = (
    Measure("radfleet_clinic_info", "1, with the state of the clinic", ("clinic", "state")),
    Measure("radfleet_clinic_last_heard_timestamp_seconds",
            "Last image of a clinic with a bound version, or when that was first bound", ("clinic",)),
    Measure("radfleet_clinic_silent_after_seconds",
            "Silence after which somebody has to ask, closed time added", ("clinic",)),
    Measure("radfleet_studies_open", "Studies without an end, by state", ("clinic", "state")),
    Measure("radfleet_studies_ended_24h", "Studies that ended within 24 hours, by how", ("clinic", "outcome")),
    Measure("radfleet_studies_stuck", "Studies past the moment by which a part had to move them", ("clinic",)),
    Measure("radfleet_study_oldest_deadline_timestamp_seconds", "When the first open study must close", ("clinic",)),
    Measure("radfleet_outbox_waiting", "Objects that wait for their destination", ("clinic",)),
    Measure("radfleet_outbox_failed", "Objects that no more tries will deliver", ("clinic",)),
    Measure("radfleet_outbox_oldest_age_seconds", "Age of the object that waits longest", ("clinic",)),
    Measure("radfleet_outbox_superseded_24h", "Objects of a day that a newer answer spared an archive", ("clinic",)),
    Measure("radfleet_deliveries_24h", "Objects delivered within 24 hours", ("clinic",)),
    Measure("radfleet_identity_mismatches_total",
            "Attempts whose loader read another version than their binding names", ("clinic",), "counter"),
    Measure("radfleet_answers_misbound_24h", "Answers of a day by another version than their binding's", ("clinic",)),
    Measure("radfleet_features_unread", "Feature rows that the monitor has not taken", ("clinic",)),
    Measure("radfleet_features_oldest_unread_age_seconds", "Age of the oldest of them", ("clinic",)),
    Measure("radfleet_flags_open", "Flags that are not resolved", ("clinic",)),
    Measure("radfleet_reports_waiting", "Flags with enough studies for a report and none", ("clinic",)),
    Measure("radfleet_reports_oldest_wait_seconds", "How long the first of them could have had one", ("clinic",)),
)  # fmt: skip
VERSION = (
    Measure("radfleet_clinic_binding_info", "1, with the version bound now; scope is *, profile or serial",
            ("clinic", "task", "scope", "model", "digest")),
    Measure("radfleet_answers_24h", "Answers of 24 hours by version", ("clinic", "task", "digest")),
    Measure("radfleet_promotions", "Promotions and rollbacks by state", ("clinic", "kind", "state")),
    Measure("radfleet_promotion_oldest_age_seconds", "Age of the one that waits longest", ("clinic", "state")),
)  # fmt: skip
WATCH = (
    Measure("radfleet_stream_statistic", "Drift statistic of a stream", _STREAM),
    Measure("radfleet_stream_threshold", "Where it flags", _STREAM),
    Measure("radfleet_stream_studies", "Studies of the stream's present epoch", _STREAM),
    Measure("radfleet_stream_state", "1, with the state of the stream", (*_STREAM, "state")),
    Measure("radfleet_stream_verdict", "1, with the verdict that holds", (*_STREAM, "verdict")),
    Measure("radfleet_flag", "Flags that are not resolved, by state, kind and verdict of their stream",
            ("clinic", "task", "state", "kind", "verdict")),
    Measure("radfleet_reviews_30d", "Reviews of 30 days", ("clinic", "task", "decision", "blinded")),
    Measure("radfleet_review_dice", "Mean Dice of 30 days, delivered against corrected", ("clinic", "task", "blinded")),
    Measure("radfleet_review_dice_cases", "Cases behind that mean", ("clinic", "task", "blinded")),
)  # fmt: skip
FLEET = (
    Measure("radfleet_queue_jobs", "Jobs that wait or run", ("lane", "state")),
    Measure("radfleet_queue_oldest_ready_age_seconds", "How long the first in the lane has waited", ("lane",)),
    Measure("radfleet_study_turnaround_seconds", "Last image to end, of the studies done in a day", ("quantile",)),
    Measure("radfleet_study_last_done_timestamp_seconds", "When a study was last done, within 24 hours"),
    Measure("radfleet_notices", "Notices of flags that were not surely told", ("channel", "state")),
)  # fmt: skip
MEASURES: dict[str, Measure] = {m.name: m for m in (*LOCAL, *CLINIC, *VERSION, *WATCH, *FLEET)}
