"""QA metrics count what the rows hold, each number with its n, and say nothing where the rows say nothing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from monitoring.errors import ClinicUnwatched
from monitoring.evidence.errors import CutUnknown
from monitoring.qa.metrics import By, Outcome, Review, metrics, with_groups
from monitoring.streams import groups
from registry.cli import build
from tests.kit.answered import answered_study, version_with_labels
from tests.kit.world import DIGEST_A, World
from tests.monitoring.fleet import drain

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WINDOW = timedelta(days=28)
PROFILE = {"vendor": "siemens", "model": "Prisma", "software_major": "XA30"}
GROUP = groups.name(groups.facts(PROFILE))
SCANNER = UUID(int=1)


def outcome(**changes: Any) -> Outcome:
    its: dict[str, Any] = {
        "clinic": "north", "study_id": uuid4(), "task": "ms-lesion", "model": "ms-lesion@1.0.0", "scanner_id": SCANNER,
        "profile": PROFILE, "state": "done", "code": None, "last_at": NOW - timedelta(days=2), "answered_at": None,
        "delivered_at": None, "waiting": 0, "delivery_failed": 0,
    }  # fmt: skip
    return Outcome(**(its | changes))


def review(
    dice: float | None, *, study: UUID | None = None, decision: str = "edit", blinded: bool = True
) -> Review:
    return Review(
        "north", study or uuid4(), "ms-lesion", "ms-lesion@1.0.0", PROFILE, decision, blinded, dice, 3.0
    )


def one(outcomes: list[Outcome], reviews: list[Review] = [], by: By = By.CLINIC) -> Any:  # noqa: B006
    (found,) = metrics(outcomes, reviews, by, NOW, WINDOW, {})
    return found


def test_turnaround_ends_at_the_delivery_or_at_the_answer() -> None:
    at = NOW - timedelta(days=2)
    rows = [
        outcome(answered_at=at + timedelta(seconds=10), delivered_at=at + timedelta(seconds=30)),
        outcome(answered_at=at + timedelta(seconds=20)),
        outcome(answered_at=at + timedelta(seconds=10), waiting=1),
        outcome(answered_at=at + timedelta(seconds=10), delivery_failed=1),
        outcome(state="leased"),
    ]
    its = one(rows)
    assert (its.turnaround_p50_s, its.turnaround_p95_s, its.turnaround_n) == (20.0, 30.0, 2)
    assert (its.undelivered, its.studies, its.a_week) == (1, 5, 5 / 4)
    assert its.silence_days == pytest.approx(2)


def test_rates_are_of_what_ended_and_by_code() -> None:
    rows = [outcome()] * 0 + [outcome() for _ in range(6)]
    rows += [outcome(state="rejected", code="imaging.no_geometry", profile=None) for _ in range(2)]
    rows += [outcome(state="dead", code="engine.away", profile=None), outcome(state="ready", profile=None)]
    its = one(rows)
    assert (its.rejected.count, its.failed.count, its.failed.n) == (2, 1, 9)
    assert its.codes == {"imaging.no_geometry": 2, "engine.away": 1}


def test_an_unanswered_study_counts_to_the_group_its_scanner_had_last() -> None:
    early, late = NOW - timedelta(days=9), NOW - timedelta(days=1)
    before = outcome(state="dead", code="x", profile=None, last_at=early - timedelta(days=1))
    rows = [outcome(last_at=early), outcome(state="dead", code="x", profile=None, last_at=late), before,
            outcome(state="dead", code="x", profile=None, last_at=late, scanner_id=None)]  # fmt: skip
    assert [row.group for row in with_groups(rows)].count(GROUP) == 2
    found = {m.group: m for m in metrics(rows, [], By.SCANNER, NOW, WINDOW, {})}
    assert found[GROUP].failed.count == 1
    assert found["?"].failed.count == 2


def test_two_readers_of_one_study_are_one_case_and_blinded_stands_apart() -> None:
    study = uuid4()
    said = [review(0.8, study=study), review(0.6, study=study), review(0.5), review(0.9, blinded=False),
            review(None, decision="accept", blinded=False), review(None, decision="reject", blinded=False)]  # fmt: skip
    its = one([], said)
    assert (its.dice["blinded"].n, its.dice["blinded"].median) == (2, pytest.approx(0.6))
    assert (its.dice["open"].n, its.dice["open"].low) == (1, None)
    assert its.decisions == {"accept": 1, "edit": 4, "reject": 1}
    assert (its.accepted.count, its.accepted.n, its.minutes) == (1, 6, 18.0)
    assert its.silence_days is None, "without a study nothing is known of silence"


def test_a_silent_clinic_is_there_and_silent() -> None:
    last = {"north": NOW - timedelta(days=200), "never": None}
    never, north = metrics([], [], By.CLINIC, NOW, WINDOW, last)
    assert (north.clinic, north.studies, north.silence_days) == ("north", 0, 200)
    assert (never.clinic, never.silence_days, never.accepted.value) == ("never", None, None)
    assert metrics([], [], By.SCANNER, NOW, WINDOW, last) == []


CUTS = st.tuples(
    st.sampled_from("ab"), st.sampled_from([None, "t1", "t2"]), st.sampled_from(["done", "dead", "ready"])
)


@given(st.lists(CUTS, max_size=20))
def test_every_cut_counts_every_row_once(found: list[tuple[str, str | None, str]]) -> None:
    rows = [outcome(clinic=c, task=t, model=t and f"{t}@1", state=s) for c, t, s in found]
    for by in By:
        cuts = metrics(rows, [], by, NOW, WINDOW, {})
        assert sum(m.failed.n for m in cuts) == sum(s != "ready" for _, _, s in found)
        assert sum(m.studies for m in cuts) == len(rows)
        assert len({(m.clinic, m.task, m.model, m.group) for m in cuts}) == len(cuts)


def test_from_rows_of_the_database(world: World) -> None:
    north = world.clinic()
    of = answered_study(world, north, version_with_labels(world, DIGEST_A))
    refused = world.study(north, uid="1.9.1", state="rejected")
    world.sql("update serving.study set code = 'studies.patient_mixup' where id = %s", refused)
    world.sql(
        "insert into serving.review(clinic_id, study_id, revision, task, result_id, digest, decision, reader)"
        " values (%s, %s, 1, 'ms-lesion', %s, %s, 'accept', 'ada')", north, of.study, of.result, DIGEST_A,
    )  # fmt: skip
    answered_study(world, world.clinic("south"), DIGEST_A, uid="1.2.8", software="E11")

    def radfleet(*words: str) -> Any:
        return CliRunner().invoke(build(), ["monitor", *words])

    done = radfleet("qa", "--clinic", "north", "--json")
    assert done.exit_code == 0, done.exception
    (its,) = json.loads(done.stdout)
    assert (its["studies"], its["rejected"]["count"], its["rejected"]["n"]) == (2, 1, 2)
    assert its["codes"] == {"studies.patient_mixup": 1}
    assert (its["decisions"]["accept"], its["dice"]["open"]["n"], its["dice"]["open"]["median"]) == (
        1,
        0,
        None,
    )
    assert its["turnaround_n"] == 1
    by_scanner = json.loads(radfleet("qa", "--by", "scanner", "--json").stdout)
    assert {row["model"] for row in by_scanner} == {None, "ms-lesion@1.0.0"}
    assert radfleet("qa").exit_code == 0
    assert isinstance(radfleet("qa", "--clinic", "nowhere").exception, ClinicUnwatched)
    assert isinstance(radfleet("qa", "--by", "moon").exception, CutUnknown)
    drain(world)  # scanners are counted as rows are taken
    (told,) = json.loads(radfleet("vendors", "--json").stdout)
    assert [(row["software"], row["now"]) for row in told["scanners"]] == [
        ("syngo MR E11", ["south"]), ("syngo MR XA30", ["north"])
    ]  # fmt: skip
    assert told["events"] == []
    assert radfleet("vendors").exit_code == 0
