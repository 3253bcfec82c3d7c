"""What the database refuses by itself, what the audit finds, and what counts as evidence."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from registry import audit, events
from registry.errors import ClinicUnknown, ReasonMissing, VersionUnknown
from registry.promotions import add_evidence
from registry.promotions.errors import EvidenceInvalid, PolicyInvalid
from registry.promotions.evidence import FILE_BYTES_MAX, read, set_policy
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK
from tests.registry.promoting import Line, begin


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    its = begin(fresh_db)
    its.promote()
    its.request(3)
    return its


ROW = """insert into registry.promotion(clinic_id, task, scope, kind, state, digest, expected_seq, restored_seq,
  policy_version, proposed_by, approved_by, approval, waived, reason)
  select clinic_id, task, 'serial:A', {kind}, {state}, {digest}, 0, {seq}, {policy}, 'bert', {by}, '', {waived}, 'x'
  from registry.promotion where id = 1"""
PLAIN = {
    "kind": "'promote'", "state": "'proposed'", "digest": "digest", "seq": "null", "policy": "1", "by": "null",
    "waived": "'{}'",
}  # fmt: skip
NEVER = "(select digest from registry.model_version where version = '4.0.0')"


def row(**values: str) -> str:
    return ROW.format(**{**PLAIN, **values})


# What a person with psql, or a faulty program, might try: promotion 1 is active, 2 is proposed by bert.
FORBIDDEN = {
    "approve one's own": "update registry.promotion set state = 'approved', approved_by = 'bert' where id = 2",
    "insert one's own approved": row(state="'approved'", by="'bert'"),
    "approve without a person": "update registry.promotion set state = 'approved' where id = 2",
    "approve by nobody's account": "update registry.promotion set state = 'approved', approved_by = 'eve' where id = 2",
    "activate what was not approved": "update registry.promotion set state = 'active' where id = 2",
    "insert active without approval": row(state="'active'"),
    "waive without a reason": row(state="'approved'", by="'anna'", waived="'{clinic}'"),
    "promote without margins": row(policy="null"),
    "roll back to a version never bound here": row(kind="'rollback'", state="'active'", seq="1", digest=NEVER),
    "roll back to nothing": row(kind="'rollback'", state="'active'"),
    "two open ones": row().replace("'serial:A'", "'*'"),
    "change who proposed": "update registry.promotion set proposed_by = 'anna' where id = 2",
    "change who approved": "update registry.promotion set approved_by = 'carl' where id = 1",
    "open again": "update registry.promotion set state = 'proposed' where id = 1",
    "remove a promotion": "delete from registry.promotion where id = 2",
    "remove all promotions": "truncate registry.promotion cascade",
    "change evidence": "update registry.evidence set people = '{\"p1\": 1}'",
    "remove evidence": "delete from registry.evidence",
    "remove all evidence": "truncate registry.evidence",
    "move a margin": "update registry.policy set clinic_people_min = 6",
    "too few people": "insert into registry.policy values (2, 'dice', 5, 0.1, 10, 0.1, 'quin', 'x')",
    "bind for another promotion": "insert into registry.binding(clinic_id, task, scope, seq, digest, valid, bound_by, "
    f"reason, promotion_id) select id, '{TASK}', 'serial:A', 1, {NEVER}, tstzrange(now(), null), 'x', 'x', 1 "
    "from registry.clinic",
}  # fmt: skip


def let_through(conn: "psycopg.Connection[Any]") -> list[str]:
    """What the database did not refuse."""
    found = []
    for name, statement in FORBIDDEN.items():
        try:
            with conn.transaction(force_rollback=True):
                conn.execute(statement)
            found.append(name)
        except (psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege):
            pass
    return found


def test_the_database_refuses_even_its_superuser(line: Line) -> None:
    with line.db.connect() as admin:
        assert let_through(admin) == []


def test_the_service_role_may_not_rewrite(line: Line) -> None:
    with line.db.connect("radfleet_system") as conn:
        for statement in (
            "update registry.promotion set digest = digest", "delete from registry.promotion",
            "update registry.evidence set metric = 'f1'", "update registry.policy set metric = 'f1'",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)
    with line.db.connect("radfleet_app") as conn:
        for table in ("promotion", "evidence", "policy"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"select * from registry.{table}")


MUTANTS = {
    "alter table registry.promotion drop constraint promotion_two_people": "approve one's own",
    "alter table registry.promotion drop constraint promotion_approved": "insert active without approval",
    "alter table registry.promotion drop constraint promotion_waived": "waive without a reason",
    "alter table registry.promotion drop constraint promotion_restored": "roll back to a version never bound here",
    "alter table registry.promotion drop constraint promotion_approved_by_fkey": "approve by nobody's account",
    "alter table registry.promotion disable trigger promotion_moves": "change who proposed",
    "alter table registry.evidence disable trigger evidence_fixed": "change evidence",
    "alter table registry.evidence disable trigger evidence_kept": "remove all evidence",
    "alter table registry.policy disable trigger policy_fixed": "move a margin",
    "alter table registry.binding drop constraint binding_promotion": "bind for another promotion",
    "drop index registry.promotion_open": "two open ones",
}


def test_every_planted_hole_is_found(line: Line) -> None:
    """Mutants of P7: a schema without one of its guards lets through what that guard is there for."""
    with line.db.connect() as admin:
        for change, name in MUTANTS.items():
            with admin.transaction(force_rollback=True):
                admin.execute(change)
                assert name in let_through(admin), change


FACTS = "clinic_id, task, scope, kind, state, digest, expected_seq, policy_version, proposed_by, approved_by, reason"
ALTERED = {
    "update registry.promotion set approved_by = 'carl' where id = 1": "promotion 1 is not as its event says",
    "update registry.promotion set gates = '[]' where id = 1": "promotion 1 is not as its event says",
    "update registry.promotion set state = 'withdrawn' where id = 2": "promotion 2 is not as its event says",
    "delete from registry.promotion where id = 2": "promotion 2 is gone",
    f"insert into registry.promotion({FACTS}, id) overriding system value select {FACTS}, 7 "
    "from registry.promotion where id = 1": "promotion 7 is not as its event says",
    "update registry.evidence set people = people || '{\"p1\": 1}' where id = 1": "evidence 1 is not as its event says",
    "delete from registry.evidence where id = 1": "evidence 1 is gone",
    "update registry.event set body = replace(body, 'anna', 'carl') where type = 'promotion.approved'": "was changed",
    "delete from registry.event where type = 'promotion.approved'": "is missing",
}  # fmt: skip


def test_what_was_altered_with_all_rights_is_found(line: Line) -> None:
    with line.system() as conn:
        assert all(state.whole for state in audit.verify(conn))
    for change, fault in ALTERED.items():
        with line.db.connect() as admin, admin.transaction(force_rollback=True):
            admin.execute("set local session_replication_role = replica")  # as if triggers were not there
            assert admin.execute(change).rowcount == 1
            states = audit.verify(admin)
            assert any(fault in state.fault for state in states if not state.whole), (change, states)


GOOD = {
    "version": f"{TASK}@2.0.0",
    "clinic": "lakeside",
    "metric": "dice",
    "dataset": "more",
    "people": {"p1": 0.5},
}


def file(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "evidence.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_evidence_from_a_file_is_kept_once_with_its_digest(line: Line, tmp_path: Path) -> None:
    path = file(tmp_path, GOOD)
    with line.system() as conn:
        row, new = read(conn, path, by="bert")
        assert (new, row.people, row.clinic_id) == (True, {"p1": 0.5}, line.clinic().id)
        assert read(conn, path, by="carl") == (row, False)
        told = events.list(conn, events.of_clinic(line.clinic().id), limit=1)[0]
        assert (
            told.type == "evidence.added" and "p1" not in told.body
        )  # nobody's pseudonym goes into the record
        everywhere, _ = read(
            conn, file(tmp_path, {k: v for k, v in GOOD.items() if k != "clinic"}), by="bert"
        )
        assert everywhere.clinic_id is None


@pytest.mark.parametrize(
    "wrong",
    [
        {**GOOD, "people": {}}, {**GOOD, "people": {"p1": 1.01}}, {**GOOD, "people": {"p1": "0.5"}},
        {**GOOD, "people": {"Kanarie^Piet": 0.5}}, {**GOOD, "people": {"p1\n": 0.5}}, {**GOOD, "people": [0.5]},
        {**GOOD, "metric": "Dice score"}, {**GOOD, "dataset": ""}, {**GOOD, "more": 1}, {"people": {"p1": 0.5}}, [],
        "{",
        '{"version": "x@1", "metric": "dice", "dataset": "d", "people": {"p1": NaN}}',
        '{"version": "x@1", "metric": "dice", "dataset": "d", "people": {"p1": 0.5, "p1": 0.9}}',
        "[" * 100_000, " " * (FILE_BYTES_MAX + 1),
    ],
    ids=lambda wrong: repr(wrong)[:70],
)  # fmt: skip
def test_what_is_no_evidence_is_named_without_its_values(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(EvidenceInvalid) as caught:
        read(None, file(tmp_path, wrong), by="bert")  # type: ignore[arg-type] - refused before anything is asked
    assert "Kanarie" not in caught.value.lines()


def test_evidence_about_what_is_not_there(line: Line, tmp_path: Path) -> None:
    with line.system() as conn:
        for error, wrong in (
            (VersionUnknown, {**GOOD, "version": f"{TASK}@7"}), (ClinicUnknown, {**GOOD, "clinic": "nowhere"}),
        ):  # fmt: skip
            with pytest.raises(error):
                read(conn, file(tmp_path, wrong), by="bert")
        with pytest.raises(EvidenceInvalid):
            read(conn, tmp_path / "absent.json", by="bert")
        digest = line.version(2).digest
        for people, source in (({"p1": float("nan")}, digest), ({"p1": 0.5}, "no digest")):
            with pytest.raises(EvidenceInvalid):
                add_evidence(conn, digest, None, "dice", "d", people, source_digest=source, by="bert")


def test_margins_that_cannot_be_used(line: Line) -> None:
    with line.system() as conn:
        for wrong in (
            {"clinic_people_min": 5},
            {"person_loss_max": 1.5},
            {"global_loss_max": -0.1},
            {"metric": "Dice"},
        ):
            with pytest.raises(PolicyInvalid):
                set_policy(conn, wrong, by="quin", reason="why")
        with pytest.raises(ReasonMissing):
            set_policy(conn, {}, by="quin", reason=" ")
