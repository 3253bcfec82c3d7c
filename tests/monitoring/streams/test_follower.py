"""The flag line on a real database: rows to streams, verdicts and flags, each once, whatever order and repeats."""

import random
import subprocess
import sys
import threading
import time
from math import inf, nan

import pytest

from monitoring.errors import StateDamaged
from monitoring.flags import raise_or_update
from monitoring.flags_store import Raised
from monitoring.streams import epochs, feed, groups, streams_store
from monitoring.streams.follower import Follower
from monitoring.streams.state import Row, from_bytes, to_bytes
from tests.kit.world import DIGEST_A, DIGEST_B, World
from tests.monitoring.fleet import FEATURES, PROFILE, TASK, Clinic, drain


@pytest.fixture
def clinic(world: World) -> Clinic:
    world.version()
    its = Clinic(world)
    world.bind(its.id)
    return its


def flags(world: World) -> list[tuple[object, ...]]:
    return world.sql("select kind, state, seq, sentence, features, cause from monitoring.flag_v order by id")


def verdict(world: World) -> tuple[object, ...]:
    ((word, rule, sentence),) = world.sql("select verdict, rule, sentence from monitoring.verdict_v")
    return word, rule, sentence


def test_fifty_studies_make_a_reference_and_a_shift_is_flagged_once(world: World, clinic: Clinic) -> None:
    clinic.many(110)
    drain(world)
    assert flags(world) == []
    ((state, n, ranked),) = world.sql("select state, n, ranked from monitoring.stream_v")
    assert (state, n, ranked) == ("quiet", 110, 60)
    clinic.many(40, shift=2.5)
    follower = drain(world)
    ((kind, state, seq, sentence, features, _),) = flags(world)
    assert (kind, state, features[0]["name"], features[0]["direction"]) == ("drift", "open", "snr_wm", "up")
    assert 110 < seq <= 135
    assert sentence.startswith("T1 from the Siemens Prisma: signal to noise in white matter rose since")
    ((since,),) = world.sql("select since_seq from monitoring.flag")
    assert abs(since - 111) <= 10
    clinic.many(5, shift=2.5)
    drain(world, follower)
    assert len(flags(world)) == 1
    assert verdict(world)[:2] == ("not_enough_data", 1), (
        "no contract: nothing is claimed, and the flag stands"
    )
    world.sql(
        "insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason)"
        " values (%s, %s, '*', 1, .9, .05, 60, 'qa', 'signed')", clinic.id, TASK,
    )  # fmt: skip
    clinic.many(1, shift=2.5)
    drain(world, follower)
    assert verdict(world)[:2] == ("watch", 7)
    ((events, rows),) = world.sql(
        "select (select count(*) from monitoring.flag_event), (select count(*) from monitoring.observation)"
    )
    assert (events, rows) == (1, 156)


def test_three_studies_are_a_stated_verdict(world: World, clinic: Clinic) -> None:
    clinic.many(3)
    drain(world)
    word, rule, sentence = verdict(world)
    assert (word, rule) == ("not_enough_data", 1)
    assert "3 of 50 reference studies" in str(sentence)


def test_a_new_scanner_is_an_event_at_its_first_study(world: World, clinic: Clinic) -> None:
    clinic.many(60)
    drain(world)
    clinic.many(3, profile=PROFILE | {"software_major": "XA30"})
    drain(world)
    ((kind, _, seq, sentence, _, cause),) = flags(world)
    assert (kind, seq) == ("acquisition", 61)
    assert "software release E11 -> XA30" in str(sentence)
    assert cause["changed"] == {"software_major": ["E11", "XA30"]}
    assert world.sql("select outcome, count(*) from monitoring.observation where seq > 60 group by 1 order by 1") == [
        ("learning", 2), ("new_group", 1),
    ]  # fmt: skip


def test_rows_twice_gaps_and_strange_values_change_nothing_else(world: World, clinic: Clinic) -> None:
    studies = clinic.many(60)
    drain(world)
    before = from_bytes(clinic.state())
    clinic.send(clinic.values(9.0), study=studies[3], revision=2)  # the same study again
    clinic.send(dict(zip(FEATURES, ("text", None, True, [], {}), strict=True)))
    clinic.send({})
    drain(world)
    after = from_bytes(clinic.state())
    assert (after.n, after.again) == (before.n + 1, 1)
    outcomes = world.sql("select outcome from monitoring.observation where seq > 60 order by seq")
    assert outcomes == [("again",), ("ranked",), ("nothing",)]
    clinic.send(clinic.values(efc=..., new_column=1.5))
    drain(world)
    last = from_bytes(clinic.state())
    assert last.unknown == ("new_column",)
    assert last.missing["efc"] == after.missing.get("efc", 0) + 1
    ((unwatched,),) = world.sql("select unwatched from monitoring.stream_v")
    assert unwatched == {"new_column": "it came after the reference"}


def test_a_row_with_no_number_is_no_row() -> None:
    row = Row(1, "s", "2026-01-01T00:00:00+00:00", groups.facts({}), {})
    assert feed.feed(feed.new(1, 3650, 0), row).outcome == "nothing"
    key, read = streams_store._row(
        1, "s", "t", DIGEST_A, None, {"a": nan, "b": inf, "c": 1}, _Moment(), None, None  # type: ignore[arg-type]
    )  # fmt: skip
    assert (dict(read.values), key.sequence) == ({"c": 1.0}, "UNKNOWN")


class _Moment:
    def isoformat(self) -> str:
        return "2026-01-01T00:00:00+00:00"


def test_a_late_row_is_waited_for(world: World, clinic: Clinic) -> None:
    """A lower number that is committed after a higher one is never passed."""
    clinic.many(1)
    follower = drain(world)
    with world.db.connect() as slow:
        with slow.transaction():
            clinic.send(conn=slow)  # draws number 2 and is not committed
            clinic.many(1)  # number 3, committed
            for _ in range(3):
                assert follower.turn() == 0
        drain(world, follower)
    assert world.sql("select seq from monitoring.observation order by seq") == [(1,), (2,), (3,)]


def test_an_impatient_follower_would_lose_that_row(
    world: World, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault that the test above is there to find."""
    monkeypatch.setattr(streams_store, "oldest", lambda _: 1 << 60)
    clinic.many(1)
    follower = drain(world)
    with world.db.connect() as slow:
        with slow.transaction():
            clinic.send(conn=slow)
            clinic.many(1)
            drain(world, follower)
        drain(world, follower)
    assert world.sql("select seq from monitoring.observation order by seq") == [(1,), (3,)]


def test_a_promotion_resolves_the_flag_and_begins_a_reference(world: World, clinic: Clinic) -> None:
    clinic.many(60)
    clinic.many(30, shift=3.0)
    follower = drain(world)
    assert [row[:2] for row in flags(world)] == [("drift", "open")]
    world.version(DIGEST_B, "1.1.0")
    rebind(world, clinic, DIGEST_B, 2)
    follower.turn()
    ((state, reason, by),) = world.sql("select state, resolved_reason, resolved_by from monitoring.flag_v")
    assert (state, reason, by) == ("resolved", "a new binding bound brain-extraction@1.1.0: better", "grace")
    clinic.many(55, shift=3.0)
    drain(world, follower)
    rows = world.sql("select digest, state, n from monitoring.stream_v order by digest")
    assert [row[1:] for row in rows] == [("superseded", 90), ("quiet", 55)]
    assert len(flags(world)) == 1, "what the new version was begun on is its normal"
    rebind(world, clinic, DIGEST_A, 3)  # back: the old version's stream begins a reference of its own
    clinic.many(2)
    drain(world, follower)
    ((epoch, n),) = world.sql("select epoch, n from monitoring.stream_v where digest = %s", DIGEST_A)
    assert (epoch, n) == (2, 2)
    assert replayed(world, clinic)


def rebind(world: World, clinic: Clinic, digest: str, seq: int, scope: str = "*") -> None:
    world.sql(
        "update registry.binding set valid = tstzrange(lower(valid), clock_timestamp())"
        " where upper_inf(valid) and scope = %s", scope,
    )  # fmt: skip
    world.sql(
        "insert into registry.binding(clinic_id, task, scope, seq, digest, valid, bound_by, reason) "
        "values (%s, %s, %s, %s, %s, tstzrange(clock_timestamp(), null), 'grace', 'better')",
        clinic.id, TASK, scope, seq, digest,
    )  # fmt: skip
    clinic.digest, clinic.binding_seq = digest, seq


def replayed(world: World, clinic: Clinic) -> bool:
    """Every stream computed again from rows and epochs is equal to the byte."""
    with world.db.database.monitor() as conn:
        stored = streams_store.streams(conn, clinic.id)
        assert stored
        return all(
            to_bytes(epochs.replayed(conn, clinic.id, one)) == to_bytes(epochs.loaded(conn, clinic.id, one))
            for one in stored
        )


def test_a_person_begins_an_epoch(world: World, clinic: Clinic) -> None:
    clinic.many(60)
    clinic.many(30, shift=3.0)
    drain(world)
    with world.db.database.monitor(write=True) as conn:
        ((stream,),) = world.sql("select id from monitoring.stream")
        assert epochs.begin(conn, clinic.id, stream, fresh=False, by="ada", reason="a phantom day") == 2
    its = from_bytes(clinic.state())
    assert (its.statistic, its.flagged_seq, its.detector is not None) == (0.0, None, True)
    clinic.many(25, shift=3.0)
    drain(world)
    assert [row[:2] for row in flags(world)] == [("drift", "open")] * 2, "the same shift is flagged again"
    assert replayed(world, clinic)


REVIEW = """
insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, blinded, reader, dice,
  delivered_ml, corrected_ml, mask_kind, mask_path, mask_size, mask_sha256)
select clinic_id, study_id, revision, task, id, digest, 'edit', %s, 'reader', %s, 1, 1, 'nifti', id::text, 1, %s
from serving.result where clinic_id = %s and study_id = %s"""


def test_a_stream_is_small_and_whole_again(world: World, clinic: Clinic) -> None:
    """What changes with every study is small; rows that are kept make it whole, and a lost one is noticed."""
    clinic.many(40)
    follower = drain(world)
    for count in (13, 60, 170):  # while collecting, while growing, after the history is full
        clinic.many(count)
        drain(world, follower)
        assert replayed(world, clinic)
        ((state,),) = world.sql("select octet_length(state) from monitoring.stream_state")
        assert state < 16_000
    ((rows,),) = world.sql("select count(*) from monitoring.kept_row where part <> 'reference'")
    assert rows <= 400 + 200 + 31
    world.sql("update monitoring.kept_row set number = 10000 where part = 'reference' and slot = 17")
    with pytest.raises(StateDamaged):
        clinic.state()


def test_reviews_of_drawn_studies_alone_prove_harm(world: World, clinic: Clinic) -> None:
    studies = clinic.many(60)
    world.sql(
        "insert into monitoring.contract(clinic_id, task, sequence, version, d_ref, margin, people, set_by, reason)"
        " values (%s, %s, 'T1', 1, .9, .05, 60, 'qa', 'signed')", clinic.id, TASK,
    )  # fmt: skip
    follower = drain(world)
    assert verdict(world)[:2] == ("healthy", 9)
    drawn = {row[0] for row in world.sql("select study_id from monitoring.audit where chosen")}
    assert len(world.sql("select 1 from monitoring.audit")) == 60
    for study in [study for study in studies if study not in drawn][:30]:
        world.sql(REVIEW, True, 0.3, b"0" * 32, clinic.id, study)
    drain(world, follower)
    assert verdict(world)[:2] == ("healthy", 9), "what readers picked is no evidence, blinded or not"
    choose(world, studies[30:])
    for study in studies[30:]:
        if study not in drawn:
            world.sql("update serving.review set withdrawn_at = now(), withdrawn_by = 'x', withdrawn_reason = 'x'"
                      " where study_id = %s and withdrawn_at is null", study)  # fmt: skip
        world.sql(REVIEW, True, 0.3, b"0" * 32, clinic.id, study)
    drain(world, follower)
    assert verdict(world)[:2] == ("watch", 6)
    assert "Harm is proven" in str(verdict(world)[2])
    assert [row[:2] for row in flags(world)] == [("harm", "open")]
    ((number,),) = world.sql("select max(number) from monitoring.verdict")
    drain(world, follower)
    assert world.sql("select max(number) from monitoring.verdict") == [(number,)], (
        "nothing new is judged again"
    )


def choose(world: World, studies: list[object]) -> None:
    """Let chance have chosen these studies: the table refuses it, so its guard is put aside."""
    world.sql("alter table monitoring.audit disable trigger fixed")
    world.sql("update monitoring.audit set draw = 0 where study_id = any(%s)", list(studies))
    world.sql("alter table monitoring.audit enable trigger fixed")


FOLLOW = "from registry.cli import main; raise SystemExit(main(['monitor', 'follow']))"


def test_killed_anywhere_the_state_is_the_same_to_the_byte(world: World, clinic: Clinic) -> None:
    """kill -9 at random while rows come twice and are committed out of order."""
    rng = random.Random(11)
    done = threading.Event()

    def store() -> None:
        with world.db.connect() as one, world.db.connect() as other:
            for n in range(70):
                with one.transaction():
                    clinic.send(clinic.values(2.0 if n > 50 else 0.0), conn=one)
                    with other.transaction():
                        clinic.send(clinic.values(2.0 if n > 50 else 0.0), conn=other)
                    if clinic.studies and rng.random() < 0.3:
                        study = rng.choice(clinic.studies[:-2] or clinic.studies)
                        if not world.sql(
                            "select 1 from serving.feature where study_id = %s and revision = 2", study
                        ):
                            clinic.send(study=study, revision=2, conn=one)
                time.sleep(0.02)
        done.set()

    writer = threading.Thread(target=store)
    writer.start()
    kills = 0
    while not done.is_set() or kills < 4:
        child = subprocess.Popen([sys.executable, "-c", FOLLOW], stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(1.0, 2.5))
        child.kill()
        child.wait()
        kills += 1
    writer.join()
    drain(world, Follower(world.db.database))
    ((rows, taken),) = world.sql(
        "select (select count(*) from serving.feature), (select count(*) from monitoring.observation)"
    )
    assert rows == taken >= 140
    assert kills >= 4
    assert replayed(world, clinic)
    ((first,),) = world.sql("select began_seq from monitoring.stream")
    with world.db.database.monitor() as conn:  # an undisturbed run, from the rows alone
        h = epochs.threshold(streams_store.Policy(), 1)
        its, seen = feed.new(1, h, first - 1), set[str]()
        for _, row in streams_store.rows(conn, clinic.id, 0, 1 << 60, 1000):
            its = feed.feed(its, row, again=row.study in seen).stream
            seen.add(row.study)
    assert to_bytes(its) == clinic.state()


def test_a_damaged_state_of_one_clinic_does_not_keep_reviews_of_others_waiting(
    world: World, clinic: Clinic
) -> None:
    south = Clinic(world, slug="south")
    world.bind(south.id)
    for its in (clinic, south):
        its.many(3)
    follower = drain(world)
    for its in (clinic, south):
        world.sql(REVIEW, True, 0.3, b"0" * 32, its.id, its.studies[0])
    world.sql("update monitoring.stream_state set state = 'x' where clinic_id = %s", clinic.id)
    follower.turn()
    seen = "select evidence ->> 'review_seq' from monitoring.verdict where clinic_id = %s"
    assert world.sql(seen, clinic.id) == [("0",)]
    assert world.sql(seen, south.id) == [("2",)]


def test_a_harm_flag_ends_when_its_version_answers_nowhere_here(world: World) -> None:
    """It names no scope: a promotion for other scanners of the clinic must not end it."""
    world.version()
    world.version(DIGEST_B, "1.1.0")
    clinic = Clinic(world, scope="serial:7")
    rebind(world, clinic, DIGEST_B, 1)
    rebind(world, clinic, DIGEST_A, 1, "serial:7")
    clinic.many(1)
    follower = drain(world)
    with world.db.database.monitor(write=True) as conn:
        ((stream,),) = world.sql("select id from monitoring.stream")
        its = Raised(
            "harm", 1, "", 1, 1, "2026-01-01T00:00:00+00:00", 64.0, 20.0, [], {}, None, "Harm.", "reviews"
        )
        assert raise_or_update(conn, clinic.id, stream, its, notify=())
    digest_c = world.version("sha256:" + "c" * 64, "1.2.0")
    rebind(world, clinic, digest_c, 2)
    follower.turn()
    assert [row[:2] for row in flags(world)] == [("harm", "open")], (
        "serial 7 is answered by the harmful version yet"
    )
    rebind(world, clinic, DIGEST_B, 2, "serial:7")
    follower.turn()
    assert world.sql("select state, resolved_reason from monitoring.flag_v") == [
        ("resolved", "a new binding bound brain-extraction@1.1.0: better")
    ]


def test_a_review_that_was_withdrawn_is_evidence_no_longer(world: World, clinic: Clinic) -> None:
    """Whoever withdraws a wrong review must not wait for the next study until the verdict forgets it."""
    studies = clinic.many(2)
    follower = drain(world)
    choose(world, list(studies))
    for study in studies:
        world.sql(REVIEW, True, 0.3, b"0" * 32, clinic.id, study)
    drain(world, follower)
    read = "select (evidence ->> 'all_labels')::int from monitoring.verdict_v"
    assert world.sql(read) == [(2,)]
    world.sql("update serving.review set withdrawn_at = now(), withdrawn_by = 'x', withdrawn_reason = 'x'"
              " where study_id = %s", studies[0])  # fmt: skip
    drain(world, follower)
    assert world.sql(read) == [(1,)]
