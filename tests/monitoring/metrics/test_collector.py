"""What /metrics says is what the rows say; with the database away it says so and shows no old number."""

import re
import subprocess
from collections.abc import Iterator
from uuid import UUID

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics.collector import collector
from monitoring.metrics.measures import LOCAL, MEASURES
from registry.core.db import Database
from registry.core.settings import Settings
from tests.kit.db import free_port
from tests.kit.world import DIGEST_A, DIGEST_B, World
from tests.monitoring import fleet

Read = dict[tuple[str, tuple[tuple[str, str], ...]], float]
CANARY = "1.2.840.99999.31415926"


def read(world: World, settings: Settings | None = None) -> Read:
    """Every sample of one scrape by name and labels."""
    text = generate_latest(collector(settings or world.db.settings, world.db.database)).decode()
    return parsed(text)


def parsed(text: str) -> Read:
    found: Read = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def at(scrape: Read, name: str, **labels: str) -> float | None:
    return scrape.get((name, tuple(sorted(labels.items()))))


def named(scrape: Read) -> set[str]:
    return {name for name, _ in scrape}


@pytest.fixture
def busy(world: World) -> Iterator[tuple[World, UUID]]:
    """A clinic in every trouble there is: each metric has something to say."""
    world.version()
    world.version(DIGEST_B, "2.0.0")
    north = fleet.Clinic(world)
    world.clinic("quiet")
    world.bind(north.id)
    north.many(60)
    fleet.drain(world)
    north.many(1)  # not followed yet
    ((stream,),) = world.sql("select id from monitoring.stream")
    world.sql(
        "insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at, statistic,"
        " threshold, sentence, would_change) values (%s, %s, 'drift', 1, 'x', 5, 4, now(), 9, 8, 's', 'w')",
        north.id, stream,
    )  # fmt: skip
    world.sql(
        "insert into monitoring.flag_event select %s, id, 1, now(), 'a', 'raised', '{}', '', '' from monitoring.flag",
        north.id,
    )
    world.sql("insert into monitoring.notice(clinic_id, flag_id, event_seq, channel, state)"
              " select clinic_id, flag_id, seq, 'email', 'unsure' from monitoring.flag_event")  # fmt: skip
    world.sql(
        'insert into serving.study(clinic_id, "StudyInstanceUID", state, deadline, hard_deadline, patient_key) values'
        " (%s, %s, 'receiving', now() - interval '5 min', now(), %s)", north.id, CANARY, CANARY.encode(),
    )  # fmt: skip
    for state in ("done", "rejected", "dead"):
        world.sql(
            'insert into serving.study(clinic_id, "StudyInstanceUID", state, code, finished_at) values'
            " (%s, %s, %s, 'x', now() + interval '7 s')", north.id, f"{CANARY}.{state}", state,
        )  # fmt: skip
    waits = world.study(north.id, f"{CANARY}.2")
    world.sql("update serving.study set lane = 'stat' where id = %s", waits)
    job = world.job(north.id, waits, "waits", "stat")
    world.sql(
        "update registry.job set run_at = now() - interval '90 s', created_at = now() - interval '90 s' where id = %s",
        job,
    )
    _answers(world, north.id, waits, job)
    world.sql(
        "insert into registry.account(name, role) values ('anna', 'ml'), ('bert', 'ml') on conflict do nothing"
    )
    world.sql(
        "insert into registry.promotion(clinic_id, task, scope, kind, state, digest, expected_seq, policy_version,"
        " proposed_by, reason, changed_at)"
        " values (%s, 'brain-extraction', '*', 'promote', 'proposed', %s, 1, 1, 'anna', 'r', now() - interval '2 d')",
        north.id, DIGEST_B,
    )  # fmt: skip
    yield world, north.id


def _answers(world: World, clinic: UUID, study: UUID, job: int) -> None:
    """An answer by a version that is not the bound one, reviewed, and two objects that did not arrive."""
    world.sql(
        "insert into serving.attempt(clinic_id, job_id, study_id, revision, fence, task, binding_scope, binding_seq,"
        " digest, echoed_digest, code) values (%s, %s, %s, 1, 1, 'brain-extraction', '*', 1, %s, %s,"
        " 'engine.identity_mismatch')", clinic, job, study, DIGEST_A, DIGEST_B,
    )  # fmt: skip
    ((result,),) = world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) values (%s, %s, 1, 'brain-extraction', %s, 1, '*', 1, %s, '{}') returning id",
        clinic, study, job, DIGEST_B,
    )  # fmt: skip
    for n, (dice, reader) in enumerate(((0.5, "r1"), (0.7, "r2"))):
        world.sql(
            "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded,"
            " reader, dice, delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256) values"
            " (%s, %s, 1, 'brain-extraction', %s, %s, 'edit', true, %s, %s, 1, 1, 'seg', %s, 1, sha256('x'))",
            clinic, study, result, DIGEST_B, reader, dice, f"m{n}",
        )  # fmt: skip
    ((thing,),) = world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " values (%s, %s, 'seg', %s, 1, sha256('x')) returning id", clinic, result, CANARY,
    )  # fmt: skip
    for n, state in enumerate(("ready", "failed", "delivered", "superseded")):
        ((where,),) = world.sql(
            "insert into serving.destination(clinic_id, name, kind, url)"
            " values (%s, %s, 'stow', 'http://x') returning id",
            clinic, f"d{n}",
        )  # fmt: skip
        world.sql(
            "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest, state,"
            " created_at, finished_at) values (%s, %s, %s, %s, %s, %s, %s, now() - interval '100 s',"
            " case when %s in ('delivered', 'superseded') then now() end)",
            clinic, job, thing, where, study, DIGEST_B, state, state,
        )  # fmt: skip


def test_a_clinic_in_every_trouble(busy: tuple[World, UUID]) -> None:
    scrape = read(busy[0])
    north = {"clinic": "north"}
    bound = {**north, "task": "brain-extraction"}
    stream = {**bound, "sequence": "T1", "digest": "a" * 12}
    expected = {
        ("radfleet_up", ()): 1,
        ("radfleet_studies_open", (*north.items(), ("state", "receiving"))): 1,
        ("radfleet_studies_open", (*north.items(), ("state", "ready"))): 1,
        ("radfleet_studies_ended_24h", (*north.items(), ("outcome", "dead"))): 1,
        ("radfleet_studies_stuck", (*north.items(),)): 1,
        ("radfleet_outbox_waiting", (*north.items(),)): 1,
        ("radfleet_outbox_failed", (*north.items(),)): 1,
        ("radfleet_outbox_superseded_24h", (*north.items(),)): 1,
        ("radfleet_deliveries_24h", (*north.items(),)): 1,
        ("radfleet_identity_mismatches_total", (*north.items(),)): 1,
        ("radfleet_answers_misbound_24h", (*north.items(),)): 1,
        ("radfleet_features_unread", (*north.items(),)): 1,
        ("radfleet_flags_open", (*north.items(),)): 1,
        ("radfleet_flags_open", (("clinic", "quiet"),)): 0,
        ("radfleet_studies_stuck", (("clinic", "quiet"),)): 0,
        ("radfleet_queue_jobs", (("lane", "shadow"), ("state", "ready"))): 0,
        ("radfleet_promotions", (*north.items(), ("kind", "promote"), ("state", "proposed"))): 1,
        ("radfleet_reviews_30d", tuple(sorted((bound | {"decision": "edit", "blinded": "yes"}).items()))): 2,
        # One case, read twice: the mean of its readers.
        ("radfleet_review_dice", tuple(sorted((bound | {"blinded": "yes"}).items()))): pytest.approx(0.6),
        ("radfleet_review_dice_cases", tuple(sorted((bound | {"blinded": "yes"}).items()))): 1,
        ("radfleet_stream_studies", tuple(sorted(stream.items()))): 60,
        ("radfleet_stream_state", tuple(sorted((stream | {"state": "flagged"}).items()))): 1,
        ("radfleet_notices", (("channel", "email"), ("state", "unsure"))): 1,
    }  # fmt: skip
    assert {key: scrape.get(key) for key in expected} == expected
    assert 90 <= (at(scrape, "radfleet_queue_oldest_ready_age_seconds", lane="stat") or 0) < 150
    assert 100 <= (at(scrape, "radfleet_outbox_oldest_age_seconds", **north) or 0) < 160
    assert (at(scrape, "radfleet_promotion_oldest_age_seconds", **north, state="proposed") or 0) > 86400
    info = {**bound, "scope": "*", "model": "brain-extraction@1.0.0", "digest": "a" * 12}
    assert at(scrape, "radfleet_clinic_binding_info", **info) == 1
    # A clinic to which nothing is bound is not expected to be heard.
    assert at(scrape, "radfleet_clinic_last_heard_timestamp_seconds", clinic="quiet") is None


def test_every_measure_has_something_to_say(busy: tuple[World, UUID]) -> None:
    """A measure that no row can fill is a promise of a panel that stays empty."""
    supervised = {"radfleet_part_ready", "radfleet_part_restarts_total"}
    stored = {"radfleet_store_free_bytes", "radfleet_store_reserve_bytes"}
    assert set(MEASURES) - named(read(busy[0])) <= supervised | stored


def test_no_patient_and_no_identifier_is_in_it(busy: tuple[World, UUID]) -> None:
    world, _ = busy
    text = generate_latest(collector(world.db.settings, world.db.database)).decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in samples if CANARY in line or re.search(r"\d+\.\d+\.\d+\.\d+", line)]
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text), "no study, job or clinic id"
    assert not re.search(r'"[0-9a-f]{13,}"', text), "digests are short"


def test_an_away_database_is_said_and_nothing_old_is_shown(busy: tuple[World, UUID]) -> None:
    world, _ = busy
    settings = Settings(
        home=world.db.settings.home, database_url=f"host=127.0.0.1 port={free_port()} user={{role}}"
    )
    away = Database(settings)
    registry = collector(world.db.settings, world.db.database)
    assert parsed(generate_latest(registry).decode())["radfleet_up", ()] == 1
    (load,) = registry._collector_to_names
    load._db = away  # type: ignore[attr-defined]
    scrape = parsed(generate_latest(registry).decode())
    away.close()
    assert scrape["radfleet_up", ()] == 0
    assert named(scrape) <= {measure.name for measure in LOCAL}


def test_a_view_that_is_not_there_is_said_too(world: World) -> None:
    """Not migrated, a right that is missing: the same honest zero."""
    world.sql("revoke select on monitoring.clinic_load_v from radfleet_monitor")
    scrape = read(world)
    assert scrape["radfleet_up", ()] == 0
    assert named(scrape) <= {measure.name for measure in LOCAL}


def test_series_grow_with_clinics_and_with_nothing_else(world: World) -> None:
    world.version()
    one = fleet.Clinic(world)
    world.bind(one.id)
    one.many(3)
    fleet.drain(world)
    before = len(read(world))
    one.many(40)
    fleet.drain(world)
    assert len(read(world)) - before <= 4, "turnaround and answers begin, studies add none"
    before = len(read(world))
    for n in range(10):
        world.clinic(f"c{n}")
    assert len(read(world)) - before <= 10 * 20


def test_labels_are_few() -> None:
    words = {label for measure in MEASURES.values() for label in measure.labels}
    assert words <= {
        "clinic", "task", "sequence", "digest", "model", "scope", "state", "outcome", "lane", "kind", "verdict",
        "decision", "blinded", "part", "version", "quantile", "channel",
    }  # fmt: skip
    assert all((m.kind == "counter") == m.name.endswith("_total") for m in MEASURES.values())


@pytest.mark.tool("promtool")
def test_prometheus_takes_the_text(busy: tuple[World, UUID]) -> None:
    world, _ = busy
    text = generate_latest(collector(world.db.settings, world.db.database))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    assert done.returncode in (0, 3), done.stderr  # 3: an opinion about names
    assert b"error" not in done.stderr.lower().replace(b"lint", b""), done.stderr
