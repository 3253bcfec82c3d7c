"""A verdict that says hold stops delivery of that version at that clinic, once; who lifts it is not overruled."""

from dataclasses import replace
from datetime import timedelta

import pytest

from monitoring.judge import evidence_store, judging
from monitoring.judge.verdict import Contract, Evidence, judge
from monitoring.streams import streams_store
from registry import holds_store
from registry.holds_store import Kind
from tests.kit.world import DIGEST_A, World
from tests.monitoring.fleet import PROFILE, TASK, Clinic, drain

WELL = Evidence(reference={"a": 60}, contract=Contract(0.8, 0.05, 60, "signed"), threshold=3650.0)


@pytest.mark.parametrize(
    ("its", "stops"),
    [
        (replace(WELL, gates=("tags are missing",)), True),
        (replace(WELL, e_harm=64.0, labels=150, harm_group="all", group_labels=150), True),
        (replace(WELL, since_model_change=3), False),  # a new version is no reason to keep results back
        (replace(WELL, double_read=0.5), False),
        (replace(WELL, e_harm=64.0, labels=30), False),
        (WELL, False),
    ],
)
def test_which_verdicts_stop_delivery(its: Evidence, stops: bool) -> None:
    assert judging.stops_delivery(judge(its), its) is stops


def test_studies_that_fail_too_often_stop_delivery_until_a_person_lifts_it(world: World) -> None:
    world.version()
    clinic = Clinic(world)
    south = Clinic(world, slug="south")
    world.bind(clinic.id)
    world.sql(
        "insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason)"
        " values (%s, %s, '*', 1, .9, .05, 60, 'qa', 'signed')", clinic.id, TASK,
    )  # fmt: skip
    clinic.many(60)
    follower = drain(world)
    for n in range(25):
        world.sql(
            'insert into serving.study(clinic_id, "StudyInstanceUID", state, code, finished_at)'
            " values (%s, %s, 'rejected', 'imaging.not_a_head', now())", clinic.id, f"9.{n}",
        )  # fmt: skip
    clinic.many(1)
    drain(world, follower)
    ((word, rule, sentence),) = world.sql("select verdict, rule, sentence from monitoring.verdict_v")
    assert (word, rule) == ("hold", 2)
    assert "studies end without an answer more often than 10% (25 of 25)" in sentence
    with world.db.database.system() as conn:
        assert holds_store.is_held(conn, clinic.id, None, DIGEST_A) is None
        assert holds_store.obey(conn) == 1
    with world.db.database.system() as conn:
        assert holds_store.is_held(conn, clinic.id, None, DIGEST_A) is Kind.ANSWERS
        assert holds_store.is_held(conn, south.id, None, DIGEST_A) is None
        assert holds_store.obey(conn) == 0
        (hold,) = holds_store.list(conn, clinic_id=clinic.id)
        assert (hold.placed_by, hold.reason) == ("radfleet", sentence)
        holds_store.release(conn, Kind.ANSWERS, hold.target, by="ada", reason="a phantom day")
    clinic.many(2)
    drain(world, follower)
    with world.db.database.system() as conn:
        assert holds_store.obey(conn) == 0, "who lifted it is not overruled by the same evidence"


def test_two_streams_that_ask_for_one_hold_get_it(world: World) -> None:
    """What fails at a clinic stands as a gate in each of its streams, so each sequence asks for the same hold."""
    world.version()
    clinic = Clinic(world)
    world.bind(clinic.id)
    clinic.many(1)
    clinic.many(1, profile={**PROFILE, "sequence_class": "FLAIR"})
    drain(world)
    with world.db.database.monitor(write=True) as conn:
        for stream in streams_store.streams(conn, clinic.id):
            evidence_store.ask_hold(conn, clinic.id, stream.stream_id, 1, f"Hold: {stream.sequence}.")
    with world.db.database.system() as conn:
        assert holds_store.obey(conn) == 1
    with world.db.database.system() as conn:
        assert holds_store.is_held(conn, clinic.id, None, DIGEST_A) is Kind.ANSWERS
        assert holds_store.obey(conn) == 0, "the other stream's wish is answered by the same hold"


def test_what_fails_today_counts_at_a_clinic_of_many_studies(world: World) -> None:
    clinic = world.clinic()
    world.sql(
        'insert into serving.study(clinic_id, "StudyInstanceUID", state, finished_at)'
        " select %s, '1.' || n, case when n > 10000 then 'rejected' else 'done' end,"
        " now() - (10020 - n) * interval '1 min' from generate_series(1, 10020) n", clinic,
    )  # fmt: skip
    with world.db.database.monitor() as conn:
        ended = evidence_store.ended(conn, clinic, timedelta(hours=1))
    assert (len(ended), sum(failed for failed, _ in ended)) == (10000, 20)
    assert ended[-1][0] and not ended[0][0]
