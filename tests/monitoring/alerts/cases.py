"""For each alert: series under which it must fire, series under which it must be silent, and what it then says."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Case:
    """``fires`` and ``calm`` map series to values in promtool's notation, one a minute."""

    alert: str
    fires: dict[str, str]
    calm: dict[str, str]
    summary: str
    severity: str = "ticket"
    labels: dict[str, str] = field(default_factory=dict)
    at: str = "30m"


NORTH = {"clinic": "north"}
FLAG = 'radfleet_flag{clinic="north", task="ms-lesion", state="%s", kind="drift", verdict="%s"}'
ITS = {**NORTH, "task": "ms-lesion", "kind": "drift"}
SERIES = 'radfleet_{}{{clinic="north"}}'
# time() is 1800 at minute 30.
HEARD, AFTER = (
    SERIES.format("clinic_last_heard_timestamp_seconds"),
    SERIES.format("clinic_silent_after_seconds"),
)
ACTIVE = 'radfleet_clinic_info{clinic="north", state="active"}'
SUSPENDED = 'radfleet_clinic_info{clinic="north", state="suspended"}'
ENDED = 'radfleet_studies_ended_24h{clinic="north", outcome="%s"}'

CASES = (
    Case("RadfleetUnmeasured", {"up": "1x60"}, {"radfleet_up": "0x60"}, "Nobody measures Radfleet", "page"),
    Case("RadfleetDatabaseAway", {"radfleet_up": "1 0x60"}, {"radfleet_up": "1x60"},
         "The database does not answer, so the doors refuse and nothing is answered", "page"),
    Case("RadfleetDoorRefuses", {"radfleet_door_ready": "1x5 0x60"},
         {"radfleet_door_ready": "1x60", 'radfleet_part_ready{part="dicom"}': "1x60"},
         "A door refuses what clinics send", "page"),
    Case("RadfleetDoorRefuses", {'radfleet_part_ready{part="dicom"}': "0x60"}, {'radfleet_part_ready{part="work"}': "0x60"},
         "A door refuses what clinics send", "page", {"part": "dicom"}),
    Case("RadfleetEngineAway", {'radfleet_part_ready{part="ray"}': "0x60", 'radfleet_part_ready{part="engine"}': "1x60"},
         {'radfleet_part_ready{part="ray"}': "1x60"}, "Studies wait and no model answers", "page"),
    # Where there is no supervisor: work waits, and the last study was done long ago or never.
    Case("RadfleetEngineAway", {'radfleet_queue_oldest_ready_age_seconds{lane="routine"}': "700x60",
                                "radfleet_study_last_done_timestamp_seconds": "30x60"},
         {'radfleet_queue_oldest_ready_age_seconds{lane="routine"}': "700x60",
          "radfleet_study_last_done_timestamp_seconds": "0+60x60"}, "Studies wait and no model answers", "page"),
    Case("RadfleetEngineAway", {'radfleet_queue_oldest_ready_age_seconds{lane="stat"}': "700x60"},
         {'radfleet_queue_oldest_ready_age_seconds{lane="backfill"}': "9000x60"}, "Studies wait and no model answers", "page"),
    Case("RadfleetMlflowAway", {"radfleet_mlflow_up": "0x60"}, {"radfleet_mlflow_up": "1 0x5 1x60"},
         "MLflow is away; what is cached answers, a version that is bound now for the first time waits"),
    Case("RadfleetDiskNearlyFull", {"radfleet_store_free_bytes": "4294967296x60", "radfleet_store_reserve_bytes": "2147483648x60"},
         {"radfleet_store_free_bytes": "8589934592x60", "radfleet_store_reserve_bytes": "2147483648x60"},
         "4GiB are free; soon the doors refuse", "page"),
    Case("RadfleetPartRestarts", {'radfleet_part_restarts_total{part="work"}': "0+1x60"},
         {'radfleet_part_restarts_total{part="work"}': "7x60"}, "work dies again and again", labels={"part": "work"}),
    Case("RadfleetStudyStuck", {SERIES.format("studies_stuck"): "0x5 2x60"}, {SERIES.format("studies_stuck"): "2x20 0x60"},
         "2 studies of north are past their deadline and nothing moves them", "page", NORTH),
    Case("RadfleetQueueTooOld", {'radfleet_queue_oldest_ready_age_seconds{lane="stat"}': "960x60",
                                 "radfleet_study_last_done_timestamp_seconds": "0+60x60"},
         {'radfleet_queue_oldest_ready_age_seconds{lane="backfill"}': "90000x60"},
         "The first study of lane stat has waited 16m 0s", "page", {"lane": "stat"}),
    Case("RadfleetDeliveryBacklog", {SERIES.format("outbox_oldest_age_seconds"): "4000x60"},
         {SERIES.format("outbox_oldest_age_seconds"): "3000x60", SERIES.format("outbox_failed"): "0x60"},
         "Results of north do not reach its archive", labels=NORTH),
    Case("RadfleetDeliveryBacklog", {SERIES.format("outbox_failed"): "1x60"}, {SERIES.format("outbox_waiting"): "9x60"},
         "Results of north do not reach its archive", labels=NORTH),
    Case("RadfleetClinicDegraded", {ENDED % "done": "8x60", ENDED % "dead": "1x60", ENDED % "rejected": "3x60"},
         {ENDED % "done": "6x60", ENDED % "dead": "2x60", ENDED % "rejected": "0x60"},
         "4 studies of north were rejected or died within a day", labels=NORTH),
    Case("RadfleetClinicDegraded", {ENDED % "done": "0x60", ENDED % "dead": "3x60"},
         {ENDED % "done": "90x60", ENDED % "dead": "5x60"},
         "3 studies of north were rejected or died within a day", labels=NORTH),
    Case("RadfleetServedModelMismatch", {SERIES.format("identity_mismatches_total"): "0x24 1x60"},
         {SERIES.format("identity_mismatches_total"): "3x60", SERIES.format("answers_misbound_24h"): "0x60"},
         "At north another version answered than is bound", "page", NORTH),
    Case("RadfleetServedModelMismatch", {SERIES.format("answers_misbound_24h"): "1x60"},
         {SERIES.format("answers_misbound_24h"): "1x20 0x60"},
         "At north another version answered than is bound", "page", NORTH),
    Case("RadfleetClinicSilent", {HEARD: "0x120", AFTER: "1200x120", ACTIVE: "1x120"},
         {HEARD: "0x120", AFTER: "1200x120", SUSPENDED: "1x120"},
         "Nothing came from north for 3 times as long as agreed", labels=NORTH, at="60m"),
    Case("RadfleetClinicSilent", {HEARD: "0x120", AFTER: "900x120", ACTIVE: "1x120"},
         {HEARD: "0+60x120", AFTER: "1800x120", ACTIVE: "1x120"},
         "Nothing came from north for 4 times as long as agreed", labels=NORTH, at="60m"),
    Case("RadfleetFlagRaised", {FLAG % ("open", "watch"): "1x60"},
         {FLAG % ("acknowledged", "watch"): "1x60", FLAG % ("muted", "watch"): "1x60"},
         "north, ms-lesion: drift (verdict watch)", labels={**ITS, "verdict": "watch"}),
    Case("RadfleetFlagHarm", {FLAG % ("open", "fine_tune"): "1x60"}, {FLAG % ("muted", "hold"): "1x60"},
         "north, ms-lesion: answers get worse, verdict fine_tune", "page", {**ITS, "verdict": "fine_tune"}),
    Case("RadfleetFlagHarm", {FLAG % ("open", "hold"): "1x60"}, {FLAG % ("open", "healthy"): "0x60"},
         "north, ms-lesion: answers get worse, verdict hold", "page", {**ITS, "verdict": "hold"}),
    Case("RadfleetMonitorStale", {SERIES.format("features_oldest_unread_age_seconds"): "0+60x60"},
         {SERIES.format("features_oldest_unread_age_seconds"): "5x60"},
         "Nobody follows the feature rows, so a clinic that gets worse is not seen", "page"),
    Case("RadfleetEvidenceFails", {SERIES.format("reports_oldest_wait_seconds"): "7200x60"},
         {SERIES.format("reports_oldest_wait_seconds"): "600x60"},
         "A flag of north waits 2h 0m 0s for its report", labels=NORTH, at="30m"),
    Case("RadfleetNoticeUntold", {'radfleet_notices{channel="email", state="unsure"}': "1x60"},
         {'radfleet_notices{channel="email", state="ready"}': "5x60"},
         "1 notices of flags may not have arrived by email (unsure)", labels={"channel": "email", "state": "unsure"}),
    Case("RadfleetPromotionWaits", {'radfleet_promotion_oldest_age_seconds{clinic="north", state="proposed"}': "90000x60"},
         {'radfleet_promotion_oldest_age_seconds{clinic="north", state="approved"}': "4000x60"},
         "A promotion for north is proposed since 1d 1h 0m 0s", labels={**NORTH, "state": "proposed"}),
)  # fmt: skip
RECORDED = (
    ("fleet:radfleet_studies_bad_24h:ratio", {ENDED % "done": "9x9", ENDED % "dead": "1x9"}, 0.1),
    ("fleet:radfleet_studies_bad_24h:ratio", {ENDED % "done": "0x9"}, None),
)
