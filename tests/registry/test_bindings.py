"""Which version answers: the most specific scope, compare-and-swap, gapless history."""

import itertools
import json
import threading
from uuid import uuid4

import pytest

from registry import bindings, events, scanners_store, versions
from registry.bindings import Binding
from registry.errors import (
    BindingStale,
    NoBinding,
    ReasonMissing,
    ScopeInvalid,
    VersionAmbiguous,
    VersionTaken,
    VersionTask,
    VersionUnknown,
)
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK, add_clinic, add_version

WHY = {"by": "test", "reason": "because"}


def test_the_most_specific_scope_answers(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        one, two, three = (add_version(conn, f"{n}.0.0").digest for n in (1, 2, 3))
        bindings.set(conn, its, TASK, one, **WHY)
        bindings.set(conn, its, TASK, two, "profile:flair-3d", **WHY)
        bindings.set(conn, its, TASK, three, "serial:SN 1", **WHY)
    with fresh_db.database.tenant(its.id) as conn:
        assert bindings.resolve(conn, its.id, TASK, "flair-3d", "SN 1") == Binding("serial:SN 1", 1, three)
        assert bindings.resolve(conn, its.id, TASK, "flair-3d", "SN 2").digest == two
        assert bindings.resolve(conn, its.id, TASK, "flair-2d", "").digest == one
        assert bindings.resolve(conn, its.id, TASK, "*", "*").digest == one
        assert bindings.tasks(conn, its.id) == [TASK]
        with pytest.raises(NoBinding):
            bindings.resolve(conn, its.id, "other", "", "")


def test_no_clinic_resolves_another_clinics_binding(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
        bindings.set(conn, one, TASK, add_version(conn).digest, **WHY)
    with fresh_db.database.tenant(two.id) as conn:
        for clinic in (one, two):
            with pytest.raises(NoBinding):
                bindings.resolve(conn, clinic.id, TASK, "", "")
            assert bindings.tasks(conn, clinic.id) == []


def test_set_says_before_after_and_undo(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        one, two = add_version(conn, "1.0.0").digest, add_version(conn, "2.0.0").digest
        first = bindings.set(conn, its, TASK, one, expected_seq=0, **WHY)
        assert (first.before, first.after, first.seq) == (None, Binding("*", 1, one), 1)
        assert first.undo == f"radfleet binding end lakeside {TASK} --expected-seq 1 --reason TEXT"
        second = bindings.set(conn, its, TASK, two, expected_seq=1, **WHY)
        assert (second.before, second.after, second.seq) == (first.after, Binding("*", 2, two), 2)
        assert second.undo == f"radfleet binding set lakeside {TASK} {one} --expected-seq 2 --reason TEXT"
        assert bindings.bound_digests(conn) == [two]


def test_binding_what_is_bound_changes_nothing(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        digest = add_version(conn).digest
        first = bindings.set(conn, its, TASK, digest, **WHY)
        again = bindings.set(conn, its, TASK, digest, **WHY)
        assert (again.before, again.after, again.undo) == (first.after, first.after, "")
        assert len(bindings.history(conn, its)) == 1


def test_ranges_meet_without_gap_or_overlap_even_in_one_transaction(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        digests = [add_version(conn, f"{n}.0.0").digest for n in range(4)]
        for digest in digests:
            bindings.set(conn, its, TASK, digest, **WHY)
        rows = list(reversed(bindings.history(conn, its, TASK)))
    assert [r.digest for r in rows] == digests
    assert [r.seq for r in rows] == [1, 2, 3, 4]
    assert all(a.until is not None and a.until <= b.since for a, b in itertools.pairwise(rows))
    assert rows[-1].until is None


def test_a_stale_decision_is_refused(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        one, two = add_version(conn, "1.0.0").digest, add_version(conn, "2.0.0").digest
        bindings.set(conn, its, TASK, one, expected_seq=0, **WHY)
        for stale in (0, 2):
            with pytest.raises(BindingStale):
                bindings.set(conn, its, TASK, two, expected_seq=stale, **WHY)
        bindings.end(conn, its, TASK, expected_seq=1, **WHY)
        # What was decided on sequence 1 is stale once it has been ended, though no higher number was given.
        with pytest.raises(BindingStale):
            bindings.set(conn, its, TASK, two, expected_seq=1, **WHY)
        assert bindings.set(conn, its, TASK, two, expected_seq=0, **WHY).seq == 2


def test_of_racing_changes_one_wins(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        digests = [add_version(conn, f"{n}.0.0").digest for n in range(9)]
        bindings.set(conn, its, TASK, digests[0], **WHY)
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def change(digest: str) -> None:
        start.wait()
        try:
            with fresh_db.database.system() as conn:
                bindings.set(conn, its, TASK, digest, expected_seq=1, **WHY)
            outcomes.append("won")
        except BindingStale:
            outcomes.append("stale")

    threads = [threading.Thread(target=change, args=(digest,)) for digest in digests[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stale"] * 7 + ["won"]
    with fresh_db.database.system() as conn:
        assert [r.seq for r in bindings.history(conn, its)] == [2, 1]
        assert all(state.whole for state in events.verify(conn))


def test_end_leaves_the_wider_scope(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        one, two = add_version(conn, "1.0.0").digest, add_version(conn, "2.0.0").digest
        bindings.set(conn, its, TASK, one, **WHY)
        bindings.set(conn, its, TASK, two, "serial:A", **WHY)
        ended = bindings.end(conn, its, TASK, "serial:A", **WHY)
        assert (ended.after, ended.seq) == (None, 0)
        assert ended.undo.startswith(
            f"radfleet binding set lakeside {TASK} {two} --scope serial:A --expected-seq 0"
        )
        with pytest.raises(NoBinding):
            bindings.end(conn, its, TASK, "serial:A", **WHY)
    with fresh_db.database.tenant(its.id) as conn:
        assert bindings.resolve(conn, its.id, TASK, "", "A").digest == one


def test_what_may_not_be_bound(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its = add_clinic(conn)
        other = add_version(conn, task="brain-extraction").digest
        with pytest.raises(VersionTask):
            bindings.set(conn, its, TASK, other, **WHY)
        with pytest.raises(VersionUnknown):
            bindings.set(conn, its, TASK, "sha256:" + "0" * 64, **WHY)
        digest = add_version(conn).digest
        for scope in ("", "serial:", "clinic:x", "serial:" + "a" * 65, "serial:a\nb"):
            with pytest.raises(ScopeInvalid):
                bindings.set(conn, its, TASK, digest, scope, **WHY)
        with pytest.raises(ReasonMissing):
            bindings.set(conn, its, TASK, digest, by="test", reason="  ")
        assert not bindings.show(conn, its)


def test_a_change_is_an_event_and_a_notification_at_commit(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its, version = add_clinic(conn), add_version(conn)
    listener = fresh_db.database.listen("radfleet_binding")
    try:
        with fresh_db.database.system() as conn:
            bindings.set(conn, its, TASK, version.digest, by="anna", reason="better")
        told = next(listener.notifies(timeout=5, stop_after=1))
    finally:
        listener.close()
    assert told.payload == f"{its.id}:{TASK}:1"
    with fresh_db.database.system() as conn:
        event = events.list(conn, events.of_clinic(its.id), limit=1)[0]
    assert (event.actor, event.type) == ("anna", "binding.set")
    after = {"digest": version.digest, "scope": "*", "seq": 1}
    assert json.loads(event.body) == {"task": TASK, "before": None, "after": after, "reason": "better"}


def test_a_change_that_is_rolled_back_leaves_nothing(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        its, version = add_clinic(conn), add_version(conn)
    with pytest.raises(RuntimeError), fresh_db.database.system() as conn:
        bindings.set(conn, its, TASK, version.digest, **WHY)
        raise RuntimeError
    with fresh_db.database.system() as conn:
        assert not bindings.history(conn, its)
        assert [e.type for e in events.list(conn, events.of_clinic(its.id))] == ["clinic.added"]


def test_a_version_is_added_once(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        first, again = add_version(conn), add_version(conn)
        assert first == again
        assert [e.type for e in events.list(conn, events.MODELS)] == ["version.added"]
        with pytest.raises(VersionTaken):
            versions.add(conn, "sha256:" + "1" * 64, first.model, {}, by="test")
        versions.set_mlflow(conn, first.digest, "ms-lesion", "7")
        assert versions.by_digest(conn, first.digest).mlflow_version == "7"
        with pytest.raises(VersionUnknown):
            versions.set_mlflow(conn, "sha256:" + "1" * 64, "x", "1")


def test_a_version_is_found_by_what_a_person_writes(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        v = add_version(conn)
        for text in (v.label, v.digest, v.digest[:13], v.digest.removeprefix("sha256:")[:12]):
            assert versions.show(conn, text) == v
        for text in ("ms-lesion", "ms-lesion@9", "abc", "sha256:" + "f" * 64, "a%b@_", ""):
            with pytest.raises(VersionUnknown):
                versions.by_name(conn, text)
        for end in "12":
            model = {**v.model, "version": f"{end}.1"}
            versions.add(conn, "sha256:" + "a" * 63 + end, model, {}, by="test")
        with pytest.raises(VersionAmbiguous):
            versions.by_name(conn, "aaaaaaaa")
        assert {x.version for x in versions.list(conn, TASK)} == {"1.0.0", "1.1", "2.1"}
        assert len(versions.list(conn, TASK, limit=2)) == 2
        assert not versions.list(conn, "other")


def test_a_scanner_is_one_row_that_follows_its_software(fresh_db: FreshDb) -> None:
    with fresh_db.database.system() as conn:
        one, two = add_clinic(conn, "one"), add_clinic(conn, "two")
    facts = {"vendor": "Siemens", "model": "Skyra", "serial": "1", "field_t": 3.0}
    with fresh_db.database.tenant(one.id) as conn:
        first = scanners_store.upsert(conn, one.id, software="E11", **facts)
        assert scanners_store.upsert(conn, one.id, software="E11", **facts) == first
        assert scanners_store.upsert(conn, one.id, software="XA30", **facts) == first
        assert scanners_store.upsert(conn, one.id, software="XA30", **{**facts, "field_t": None}) == first
        assert scanners_store.upsert(conn, one.id, software="XA30", **{**facts, "serial": ""}) != first
    with fresh_db.database.tenant(two.id) as conn:
        assert scanners_store.upsert(conn, two.id, software="E11", **facts) != first
        assert scanners_store.by_id(conn, one.id, first) is None
    with fresh_db.database.system() as conn:
        assert [s.software for s in scanners_store.page(conn, one.id, 10)] == ["XA30", "XA30"]
        assert scanners_store.by_id(conn, one.id, first) is not None
        assert scanners_store.by_id(conn, one.id, uuid4()) is None
