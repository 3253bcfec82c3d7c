"""What clinics' reports say beside our answers: cells from rows, the view behind them, and who may see it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from typer.testing import CliRunner

from monitoring.qa import concordance as module
from monitoring.qa import concordance_store
from monitoring.qa.concordance import LEAST, Concordance, Row, concordance
from monitoring.qa.intervals import share
from registry.cli import build
from serving.results import findings
from tests.house.tree import ROOT
from tests.kit import sources
from tests.kit.answered import answered_study, version_with_labels
from tests.kit.world import DIGEST_A, DIGEST_B, World

TASK = "ms-lesion"
SINCE = datetime.now(UTC) - timedelta(days=90)


def row(says: str, ours: bool | None, rules: str = "narrative-1", **changes: str) -> Row:
    its = {"clinic": "north", "task": TASK, "model": "ms-lesion@1.0.0"} | changes
    return Row(**its, says=says, rules=rules, ours=ours)


ROWS = [
    *[row("present", True)] * 11, *[row("absent", False)] * 5, *[row("absent", True, "coded")] * 3,
    row("present", False), *[row("unclear", True)] * 7, *[row("present", None)] * 2,
]  # fmt: skip


def test_rows_become_four_cells_and_a_share_with_its_interval() -> None:
    (its,) = concordance(ROWS)
    assert (its.both, its.neither, its.only_ours, its.only_theirs) == (11, 5, 3, 1)
    assert (its.n, its.unclear, its.withheld, its.coded) == (20, 7, 2, 3)
    assert its.agree == share(16, 20)
    assert its.sentence == (
        "16 of n 20 clear reports say the same as our answer (80%, 95 % interval 58% to 92%), 3 of them coded by the "
        "clinic; read from text by rules"
    )
    assert "not validated on real reports" in its.how and "no verdict takes it" in its.how


def test_few_reports_have_counts_and_no_share() -> None:
    (its,) = concordance(ROWS[: LEAST - 1])
    assert (its.n, its.agree, its.both) == (19, None, 11)
    assert its.sentence.startswith("16 of n 19 clear reports") and "too few for a share" in its.sentence
    (its,) = concordance([row("unclear", True)])
    assert (its.n, its.agree, its.unclear) == (0, None, 1)
    assert concordance([]) == []


@given(st.lists(st.builds(
    row, st.sampled_from(["present", "absent", "unclear"]), st.sampled_from([True, False, None]),
    clinic=st.sampled_from("ab"), model=st.sampled_from("xy"),
), max_size=60), st.randoms(use_true_random=False))  # fmt: skip
def test_every_row_is_counted_once_in_whatever_order(rows: list[Row], rng: Any) -> None:
    found = concordance(rows)
    assert sum(its.n + its.unclear + its.withheld for its in found) == len(rows)
    assert all(its.both + its.neither + its.only_ours + its.only_theirs == its.n for its in found)
    rng.shuffle(rows)
    assert concordance(rows) == found


def document(lesions: int, cut: bool = False) -> dict[str, Any]:
    """The findings as serving writes them, with so many counted lesions; ``cut``: withheld, the brain is cut."""
    mask = np.zeros((30, 30, 20), np.uint8)
    for n in range(lesions):
        mask[4 + 8 * n : 8 + 8 * n, 4:8, 4:8] = 1
    mask[28, 28, 18] = 1  # one voxel, never counted
    brain = np.zeros_like(mask)
    brain[1:-1, 1:-1, 1:-1] = 1
    its = findings.Measured(mask, (brain | cut).astype(np.uint8), np.eye(4), sources.LABELS)
    made = findings.build(sources.answer(), its)
    (finding,) = made["findings"]
    assert (finding["count"] is None) == cut
    return made


def answer(
    world: World, clinic: UUID, study: UUID, made: dict[str, Any], revision: int = 1, digest: str = DIGEST_A
) -> None:
    ((job,),) = world.sql(
        "insert into registry.job(clinic_id, kind, dedup_key, study_id, revision) values (%s, 'infer', %s, %s, %s)"
        " returning id", clinic, f"{study}:{revision}", study, revision,
    )  # fmt: skip
    world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) values (%s, %s, %s, %s, %s, 1, '*', 1, %s, %s)",
        clinic, study, revision, TASK, job, digest, Jsonb(made),
    )  # fmt: skip


def state(world: World, clinic: UUID, study: UUID, *said: str) -> None:
    for number, says in enumerate(said, start=1):
        world.sql(
            "insert into serving.narrative(clinic_id, study_id, task, number, says, rules, text_sha256, stated_by)"
            " values (%s, %s, %s, %s, %s, 'narrative-1', sha256('x'), 'quin')", clinic, study, TASK, number, says,
        )  # fmt: skip


def fill(world: World) -> tuple[UUID, UUID]:
    """North: every cell once, and what is in none; south: one study."""
    for digest, version in ((DIGEST_A, "1.0.0"), (DIGEST_B, "2.0.0")):
        version_with_labels(world, digest, version)
    north, south = world.clinic(), world.clinic("south")
    yes, no, withheld = document(2), document(0), document(1, cut=True)
    partly = no | {"findings": no["findings"] + withheld["findings"]}  # two labels of lesions, one withheld
    cases: list[tuple[list[str], list[dict[str, Any]]]] = [
        (["absent", "present"], [yes]),  # the latest report counts
        (["absent"], [no]),
        (["absent"], [no, yes]),  # our latest answer counts
        (["present"], [no]),
        (["present", "unclear"], [yes]),
        (["present"], [withheld]),
        (["present"], [{}]),
        (["present"], [partly]),
        (["present"], []),  # not answered: nothing to compare
        ([], [yes]),  # no report
    ]
    for number, (said, answers) in enumerate(cases):
        study = world.study(north, f"1.2.{number}", state="done")
        for revision, made in enumerate(answers, start=1):
            answer(world, north, study, made, revision)
        state(world, north, study, *said)
    theirs = world.study(south, "1.3.1", state="done")
    answer(world, south, theirs, yes, digest=DIGEST_B)
    state(world, south, theirs, "present")
    return north, south


def read(world: World) -> list[Concordance]:
    with world.db.database.monitor() as conn:
        return concordance(concordance_store.rows(conn, None, SINCE))


def right(found: list[Concordance]) -> bool:
    cells = [
        (
            i.clinic,
            i.model,
            i.n,
            i.both,
            i.neither,
            i.only_ours,
            i.only_theirs,
            i.unclear,
            i.withheld,
            i.agree,
        )
        for i in found
    ]
    return cells == [
        ("north", "ms-lesion@1.0.0", 4, 1, 1, 1, 1, 1, 3, None),
        ("south", "ms-lesion@2.0.0", 1, 1, 0, 0, 0, 0, 0, None),
    ]  # fmt: skip


def test_the_view_joins_the_latest_of_both(world: World) -> None:
    fill(world)
    assert right(read(world))
    world.sql(
        "update serving.study set last_at = now() - interval '91 days' where \"StudyInstanceUID\" like '1.2.%%'"
    )
    assert [its.clinic for its in read(world)] == ["south"]


def test_a_clinic_sees_its_own_alone_and_nobody_the_digest_of_a_text(world: World) -> None:
    north, south = fill(world)
    for clinic, slug in ((north, "north"), (south, "south")):
        with world.db.database.tenant(clinic) as conn:
            assert {row.clinic for row in concordance_store.rows(conn, None, SINCE)} == {slug}
            other = "south" if slug == "north" else "north"
            assert concordance_store.rows(conn, other, SINCE) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege), world.db.database.monitor() as conn:
        conn.execute("select text_sha256 from serving.narrative")


VIEW = "select pg_get_viewdef('serving.concordance_v'::regclass)"
# In the view: (what stands there, what a fault would put there).
FAULTS = {
    "ignores the latest report": ("k.number > n.number", "k.number < n.number"),
    "takes our first answer": ("ORDER BY q.revision DESC", "ORDER BY q.revision"),
    "takes a withheld number for none": ("bool_and((jsonb_typeof", "bool_or(true or (jsonb_typeof"),
    "counts any number as a lesion": (" > (0)::numeric", " >= (0)::numeric"),
}


@pytest.mark.parametrize("mutant", FAULTS)
def test_a_fault_planted_in_the_view_is_caught(mutant: str, world: World) -> None:
    fill(world)
    ((text,),) = world.sql(VIEW)
    was, fault = FAULTS[mutant]
    assert was in text, text
    world.sql(
        f"create or replace view serving.concordance_v with (security_invoker = true) as {text.replace(was, fault)}"
    )
    assert not right(read(world))


MUTANTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "shares few reports": ("LEAST", lambda _: 1),
    "forgets to say how it was read": ("_sentence", lambda was: lambda *its: was(*its).partition(";")[0]),
    "counts agreement of all rows": ("share", lambda was: lambda count, n: was(count, len(ROWS))),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, fault = MUTANTS[mutant]
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    with pytest.raises(AssertionError):
        test_rows_become_four_cells_and_a_share_with_its_interval()
        test_few_reports_have_counts_and_no_share()


def test_the_command_shows_it_by_version(world: World) -> None:
    told = ["monitor", "qa", "--by", "version"]
    of = answered_study(world, world.clinic(), version_with_labels(world, DIGEST_A))
    (its,) = json.loads(CliRunner().invoke(build(), [*told, "--json"]).stdout)
    assert its["concordance"] is None
    state(world, of.clinic, of.study, "present")
    world.sql("update serving.result set findings = %s", Jsonb(document(1)))
    (its,) = json.loads(CliRunner().invoke(build(), [*told, "--json"]).stdout)
    assert (its["concordance"]["n"], its["concordance"]["both"], its["concordance"]["agree"]) == (1, 1, None)
    assert "read from text by rules" in its["concordance"]["sentence"]
    assert "concordance" in CliRunner().invoke(build(), told).output
    (its,) = json.loads(CliRunner().invoke(build(), ["monitor", "qa", "--json"]).stdout)
    assert "concordance" not in its


# Descriptive: these show or record it, and nobody else may even name it.
MAY = {
    "monitoring/commands_evidence.py", "monitoring/qa/concordance.py", "monitoring/qa/concordance_store.py",
    "monitoring/web/pages/clinic.py", "serving/commands_review.py", "serving/reviews/narratives.py",
    "serving/reviews/narratives_store.py",
}  # fmt: skip
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for package in ("monitoring", "registry", "serving") for path in (ROOT / package).rglob("*.py")
}  # fmt: skip


def listeners(sources: dict[str, str]) -> set[str]:
    """Modules that import concordance or what it comes from, or ask its tables."""
    words = ("concordance", "serving.narrative", "reviews.narrative import", "import narrative")
    return {path for path, text in sources.items() if any(word in text for word in words)}


def test_nothing_decides_by_it() -> None:
    assert listeners(SOURCES) == MAY


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("monitoring/judge/verdict.py", "from monitoring.qa import concordance\n"),
        ("monitoring/judge/evidence_store.py", 'X = "select says from serving.narrative"\n'),
        ("registry/promotions/gates.py", 'X = "select * from serving.concordance_v"\n'),
    ],
)
def test_whoever_decides_by_it_is_found(path: str, line: str) -> None:
    """Mutants."""
    assert path in listeners(SOURCES | {path: SOURCES.get(path, "") + line})
