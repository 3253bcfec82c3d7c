"""The promotion line on a real database: which moves are allowed, who wins a race, what is refused twice (P7)."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from registry import accounts, bindings, bindings_store, events, holds_store
from registry.core.errors import RadfleetError
from registry.errors import (
    ActorUnknown,
    BindingStale,
    ReasonMissing,
    ScopeInvalid,
    VersionTask,
    VersionUnknown,
)
from registry.promotions import gates, moves, moves_store
from registry.promotions.errors import (
    GatesUnmet,
    GateUnknown,
    NowhereBack,
    PromotionOpen,
    PromotionState,
    PromotionUnknown,
    RolledBack,
    SamePerson,
    VersionBound,
)
from tests.kit.db import FreshDb
from tests.kit.registry_rows import TASK, add_version
from tests.registry.promoting import WHY, Line, begin


@pytest.fixture
def line(fresh_db: FreshDb) -> Line:
    return begin(fresh_db)


def test_a_version_is_promoted_by_two_people(line: Line) -> None:
    its = line.promote()
    assert (its.state, its.answers, its.proposed_by, its.approved_by) == ("active", True, "bert", "anna")
    assert (its.expected_seq, its.active_model, its.policy_version) == (1, f"{TASK}@1.0.0", 1)
    assert [(g["name"], g["verdict"], g["people"]) for g in its.gates] == [
        ("clinic", "pass", 10),
        ("global", "pass", 10),
    ]
    assert line.bound() == ("2", 2)
    with line.db.connect() as admin:
        assert admin.execute("select promotion_id from registry.binding order by seq").fetchall() == [
            (None,),
            (its.id,),
        ]


# Which state each move leads to, or that it is refused: the whole machine.
ALLOWED = {
    ("proposed", "approve"): "approved", ("proposed", "withdraw"): "withdrawn",
    ("approved", "apply"): "active", ("approved", "withdraw"): "withdrawn",
}  # fmt: skip
STATES = ("proposed", "approved", "active", "withdrawn", "stale")


def in_state(line: Line, state: str, slug: str) -> int:
    """A promotion of a clinic of its own, brought to a state by allowed moves."""
    its = line.another(slug)
    line.measured(clinic=its)
    id = line.request(clinic=its).id
    if state not in ("proposed", "withdrawn"):
        line.approve(id)
    with line.system() as conn:
        if state == "withdrawn":
            moves.withdraw(conn, id, **WHY)
        if state == "stale":
            bindings.set(conn, its, TASK, line.version(4).digest, by="anna", reason="by hand")
        if state in ("active", "stale"):
            moves.apply(conn, id, by="bert")
    return id


def move(line: Line, id: int, name: str) -> None:
    with line.system() as conn:
        if name == "approve":
            moves.approve(conn, id, by="anna")
        elif name == "apply":
            moves.apply(conn, id, by="bert")
        else:
            moves.withdraw(conn, id, **WHY)


def test_every_move_from_every_state(line: Line) -> None:
    for number, state in enumerate(STATES):
        for name in ("approve", "apply", "withdraw"):
            id = in_state(line, state, f"c{number}-{name}")
            before = line.show(id)
            assert before.state == state
            if (state, name) in ALLOWED:
                move(line, id, name)
                assert line.show(id).state == ALLOWED[state, name]
            else:
                with pytest.raises(PromotionState, match=state):
                    move(line, id, name)
                assert line.show(id) == before


def test_what_may_not_be_requested(line: Line) -> None:
    its = line.clinic()
    with line.system() as conn:
        other = add_version(conn, task="brain-extraction").digest
        for error, digest, scope, reason in (
            (VersionUnknown, "sha256:" + "0" * 64, "*", "why"),
            (VersionTask, other, "*", "why"),
            (VersionBound, line.version(1).digest, "*", "why"),
            (VersionBound, line.version(1).digest, "serial:A", "why"),  # it answers there already
            (ScopeInvalid, line.version(2).digest, "clinic:x", "why"),
            (ReasonMissing, line.version(2).digest, "*", " "),
        ):
            with pytest.raises(error):
                moves.request(conn, its, TASK, digest, scope, by="bert", reason=reason)
        with pytest.raises(PromotionUnknown):
            moves.show(conn, 1)
    made = line.request(2)
    with pytest.raises(PromotionOpen):
        line.request(3)
    assert line.request(3, "serial:A").expected_seq == 0  # another scope is another key
    with line.system() as conn:
        moves.withdraw(conn, made.id, **WHY)
        assert [p.scope for p in moves.list(conn, its, open_only=True)] == ["serial:A"]
        assert len(moves.list(conn)) == 2
    line.request(3)


def refuses_who_proposed(line: Line) -> None:
    line.measured()
    id = line.request().id
    with pytest.raises(SamePerson, match="bert proposed"):
        line.approve(id, by="bert")
    with pytest.raises(ActorUnknown):
        line.approve(id, by="nobody")
    assert line.show(id).state == "proposed"


def refuses_without_gates(line: Line) -> None:
    line.measured(gain=0.0)
    id = line.request().id
    with pytest.raises(GatesUnmet, match="1 of 2"):
        line.approve(id)
    with pytest.raises(GatesUnmet):
        line.approve(id, waive=["global"], reason="why")
    with pytest.raises(GateUnknown):
        line.approve(id, waive=["all"], reason="why")
    with pytest.raises(ReasonMissing):
        line.approve(id, waive=["clinic"], reason=" ")
    its = line.approve(id, waive=["clinic", "global"], reason="no other version reads this protocol")
    assert (its.waived, its.proposed_by, its.approved_by) == (["clinic"], "bert", "anna")
    assert line.apply(id) is not None


def refuses_what_changed_meanwhile(line: Line) -> None:
    line.measured()
    id = line.request().id
    line.approve(id)
    line.bind(3)
    line.bind(1)  # the same version as before, two decisions later
    assert line.apply(id) is None
    assert (line.show(id).state, line.bound()) == ("stale", ("1", 3))


def refuses_harm_found_after_the_approval(line: Line) -> None:
    line.measured()
    id = line.request().id
    line.approve(id)
    line.evidence(2, clinic=line.clinic(), gain=-0.2)
    with pytest.raises(GatesUnmet):
        line.apply(id)
    assert (line.show(id).state, line.bound()) == ("approved", ("1", 1))


def refuses_a_changed_wider_scope(line: Line) -> None:
    line.measured()
    id = line.request(2, "serial:A").id
    line.approve(id)
    line.bind(3)
    assert line.apply(id) is None
    assert line.show(id).state == "stale"


def goes_back_step_by_step(line: Line) -> None:
    line.bind(2)
    line.bind(3)
    its = line.clinic()

    def back(expected: int | None = None) -> str:
        with line.system() as conn:
            return moves.rollback(conn, its, TASK, expected_seq=expected, **WHY)[0].model[-5]

    with pytest.raises(BindingStale):
        back(2)
    assert (back(), line.bound()) == ("2", ("2", 4))
    with pytest.raises(RolledBack):  # a second person, a minute later
        back()
    assert (back(4), line.bound()) == ("1", ("1", 5))
    with pytest.raises(NowhereBack):
        back(5)
    line.bind(4)
    assert (back(), line.bound()) == ("1", ("1", 7))


def leaves_events_that_fit(line: Line) -> None:
    from registry import audit

    its = line.promote()
    with line.system() as conn:
        moves.rollback(conn, line.clinic(), TASK, **WHY)
        told = [
            e
            for e in events.list(conn, events.of_clinic(line.clinic().id))
            if e.type.startswith("promotion.")
        ]
        assert [(e.type, e.actor) for e in reversed(told)] == [
            ("promotion.requested", "bert"), ("promotion.approved", "anna"), ("promotion.applied", "bert"),
            ("promotion.rolled_back", "bert"),
        ]  # fmt: skip
        body = json.loads(told[2].body)
        assert (body["promotion"], body["before"], body["after"]) == (its.id, "proposed", "approved")
        assert all(state.whole for state in audit.verify(conn)), audit.verify(conn)


SCENARIOS = (
    refuses_who_proposed, refuses_without_gates, refuses_what_changed_meanwhile, refuses_harm_found_after_the_approval,
    refuses_a_changed_wider_scope, goes_back_step_by_step, leaves_events_that_fit,
)  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_the_line(scenario: Callable[[Line], None], line: Line) -> None:
    scenario(line)


_set = bindings.set


def _swap_without_compare(
    conn: Any, its: Any, task: str, digest: str, scope: str = "*", _: int | None = None, **facts: Any
) -> Any:
    return _set(conn, its, task, digest, scope, None, **facts)


def _any_state(conn: Any, id: int, *_: Any) -> Any:
    return moves_store.locked(conn, id)


# Each fault, and a scenario that it turns red.
MUTANTS: dict[str, tuple[Any, str, Any, Callable[[Line], None]]] = {
    "approve without the proposer check": (moves, "_another_person", lambda *_: None, refuses_who_proposed),
    "approve without gates": (moves, "_must_pass", lambda *_: None, refuses_without_gates),
    "waive without a reason": (moves, "_unmet", lambda _: [], refuses_without_gates),
    "a minimum that nobody checks": (
        gates._Rule, "_verdict", lambda *_: (gates.Verdict.PASS, ""), refuses_without_gates,
    ),
    "apply without the compare-and-swap": (bindings, "set", _swap_without_compare, refuses_what_changed_meanwhile),
    "apply without judging again": (moves, "_must_pass", lambda *_: None, refuses_harm_found_after_the_approval),
    "compare with this scope alone": (
        bindings_store, "ANSWERING", bindings_store.ANSWERING.replace(", '*')", ")"), refuses_a_changed_wider_scope,
    ),
    "move from any state": (moves, "_locked", _any_state, test_every_move_from_every_state),
    "a rollback forgets where it came from": (
        moves_store, "EARLIER", moves_store.EARLIER.replace("coalesce(p.restored_seq, b.seq)", "b.seq"),
        goes_back_step_by_step,
    ),
    "a second rollback asks nobody": (
        moves_store, "EARLIER", moves_store.EARLIER.replace("'rollback' as again", "'never' as again"),
        goes_back_step_by_step,
    ),
    "a rollback takes the last in the list": (
        moves_store, "EARLIER", moves_store.EARLIER.replace("seq < now.origin", "seq <> now.seq"),
        goes_back_step_by_step,
    ),
    "change without an event": (moves, "_record", lambda *_: None, leaves_events_that_fit),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants of P7: with the fault planted, a scenario above fails or the database itself refuses."""
    owner, name, fault, scenario = MUTANTS[mutant]
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises((AssertionError, pytest.fail.Exception, psycopg.Error, RadfleetError)):
        scenario(line)


def test_a_first_version_needs_the_approvers_reason(line: Line) -> None:
    with line.system() as conn:
        bindings.end(conn, line.clinic(), TASK, by="anna", reason="begin anew")
    made = line.request()
    assert (made.expected_seq, made.active_digest) == (0, None)
    with pytest.raises(ReasonMissing):
        line.approve(made.id)
    its = line.approve(made.id, reason="ten studies were read by the clinic")
    assert its.waived == ["clinic", "global"] and "nothing to compare" in its.gates[0]["why"]
    change = line.apply(made.id)
    assert change is not None and change.before is None
    assert change.undo == f"radfleet binding end lakeside {TASK} --expected-seq 2 --reason TEXT"


def test_there_is_no_way_back_where_nothing_is_bound(line: Line) -> None:
    with line.system() as conn:
        for scope in ("*", "serial:A"):
            with pytest.raises(NowhereBack):
                moves.rollback(conn, line.clinic(), TASK, scope, **WHY)
        with pytest.raises(ReasonMissing):
            moves.rollback(conn, line.clinic(), TASK, by="bert", reason="")


def test_the_margins_are_those_from_before_the_version(line: Line) -> None:
    from registry.promotions.evidence import policies, set_policy

    with line.system() as conn:
        before, after = set_policy(conn, {"clinic_people_min": 6}, by="quin", reason="few patients")
        assert (before.version, after.version, after.person_loss_max) == (1, 2, before.person_loss_max)
        assert [p.version for p in policies(conn)] == [2, 1]
    assert line.request(2).policy_version == 1  # it existed already: no margin is moved for it
    with line.system() as conn:
        young = add_version(conn, "9.0.0").digest
    with line.system() as conn:
        assert moves.request(conn, line.clinic(), TASK, young, "serial:A", **WHY).policy_version == 2


def test_what_may_be_bound_at_any_moment_is_known(line: Line) -> None:
    def near() -> tuple[set[str], set[str]]:
        with line.system() as conn:
            return moves.near(conn)

    one, two, three = (line.version(number).digest for number in (1, 2, 3))
    assert near() == (set(), set())
    line.measured()
    made = line.request()
    assert near() == ({two}, set())
    line.approve(made.id)
    assert near() == ({two}, {two})
    line.apply(made.id)
    assert near() == ({one}, set()), "the way back"
    line.request(3)
    assert near() == ({one, three}, set())


def test_a_waiver_covers_what_the_approver_saw_and_nothing_worse(line: Line) -> None:
    for number in (1, 2):
        line.evidence(number)
        line.evidence(number, clinic=line.clinic(), people=3)
    id = line.request().id
    assert line.approve(id, waive=["clinic"], reason="three people is all they have").waived == ["clinic"]
    line.evidence(2, clinic=line.clinic(), gain=-0.3, people=3)
    with pytest.raises(GatesUnmet, match="1 of 2") as refused:
        line.apply(id)
    assert "one person is worse by 0.300" in refused.value.why_text
    assert line.show(id).state == "approved"


def test_an_approval_does_not_outlive_its_account(line: Line) -> None:
    line.measured()
    id = line.request().id
    line.approve(id, by="carl")
    with line.system() as conn:
        accounts.switch(conn, "carl", active=False, by="anna")
    with pytest.raises(ActorUnknown, match="who approved"):
        line.apply(id)
    assert line.bound() == ("1", 1)


def test_who_goes_back_to_a_version_on_hold_is_told(line: Line) -> None:
    line.promote()
    with line.system() as conn:
        its, digest = line.clinic(), line.version(1).digest
        made, _ = moves.rollback(conn, its, TASK, **WHY)
        assert moves.kept_back(conn, made) == ""
        holds_store.place(conn, holds_store.Kind.VERSION, None, digest, by="anna", reason="harm elsewhere")
        assert moves.kept_back(conn, made).startswith(
            f"a hold on the version keeps the results of {TASK}@1.0.0 back"
        )
