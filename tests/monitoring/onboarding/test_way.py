"""A clinic's whole way over a real database: each step by its own evidence, until two people sign."""

import json

import psycopg
import pytest

from monitoring.onboarding import conformance, standing
from registry.cli import main
from registry.conformance.standard import HERE, load, parse
from registry.errors import ActorUnknown, ReasonMissing
from registry.onboarding import decisions
from registry.onboarding.errors import (
    AcceptedAlready,
    OnboardingAbsent,
    OnboardingBegun,
    OnboardingLate,
    OnboardingMeasure,
    ReviewsMissing,
    SameSigner,
    StepFixed,
    StepsMissing,
    StepWaived,
    TaskUnbound,
    VersionRefused,
)
from tests.monitoring.fleet import drain
from tests.monitoring.onboarding.way import FLAIR_3D, TASK, THICK, Way


def test_a_clinic_goes_its_way_step_by_step(way: Way) -> None:
    assert standing.of(way.db, way.clinic()).state == "not_begun"
    way.decide(decisions.begin)
    assert way.standing().state == "connectivity"
    way.connected()
    assert way.standing().state == "conformance"
    studies = way.answered(49)
    assert way.standing().state == "silent_run"
    studies += way.answered(1)
    assert way.standing().state == "acceptance"
    assert "more blinded reviews" in way.step("acceptance").missing[0].what
    way.reviewed(studies[:40], 0.9)
    assert way.standing().trials[TASK].word == "accepted"
    assert way.accept("quin").state == "proposed"
    (missing,) = way.step("acceptance").missing
    assert "another person than quin" in missing.what
    assert way.accept("quaid").state == "signed"
    assert way.standing().state == "active"
    (study,) = way.answered(1)
    way.world.sql("update registry.job set state = 'done' where study_id = %s", study)
    way.world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " select clinic_id, id, 'seg', 'x', 1, sha256('x') from serving.result where study_id = %s", study,
    )  # fmt: skip
    way.world.sql(
        "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest, state,"
        " finished_at) select r.clinic_id, r.job_id, o.id, d.id, r.study_id, r.digest, 'delivered', now()"
        " from serving.result r join serving.result_object o on o.result_id = r.id, serving.destination d"
        " where r.study_id = %s", study,
    )  # fmt: skip
    assert way.standing().state == "probation"
    way.world.sql("alter table registry.acceptance disable trigger user")
    way.world.sql("update registry.acceptance set signed_at = now() - interval '31 days'")
    assert way.standing().state == "onboarded"
    assert way.chain() == ["onboarding.begun", "acceptance.proposed", "acceptance.signed"]


def test_backfilled_history_counts_for_the_silent_run_alone(way: Way) -> None:
    way.decide(decisions.begin)
    way.connected()
    way.answered(48, FLAIR_3D | {"model": "Prisma (simulated)"}, state="past")
    assert "0 of 10 studies" in way.step("conformance").missing[0].what, "a past study was not sent from here"
    assert "48 of 50 studies (48 of its past, 48 simulated)" in way.step("silent_run").what
    way.answered(10)
    assert way.step("silent_run").done
    assert way.step("conformance").done


def test_a_scanner_that_does_not_fit_is_named_with_one_advice_a_rule(way: Way) -> None:
    way.decide(decisions.begin)
    way.answered(12, THICK)
    way.answered(2, {"vendor": "ge", "model": "Old", "sequence_class": "FLAIR"})
    step = way.step("conformance")
    assert not step.done
    assert any("Siemens Prisma: 0 of its newest 10 fit" in m.what for m in step.missing)
    assert any("2 headers do not say" in m.what for m in step.missing)
    rows = {row["scanner"]: row for row in way.standing().conformance}
    thick = rows["siemens Prisma"]
    assert (thick["studies"], thick["refused"]) == (12, 12)
    advice = {d["code"]: d for d in thick["deviations"]}
    assert advice["PROT-THICK"]["advice"].startswith("Set the slice thickness to 3 mm")
    assert (advice["PROT-THICK"]["value"], advice["PROT-THICK"]["verdict"]) == (6.0, "refuse")
    assert rows["ge Old"]["unknown"] == 2
    assert any("MagneticFieldStrength" in d["advice"] for d in rows["ge Old"]["deviations"])
    way.answered(10)  # the protocol was mended: the newest ten fit
    assert [m.what for m in way.step("conformance").missing if "Prisma" in m.what] == []


def test_a_study_is_judged_once_and_again_by_another_version_of_the_rules(way: Way) -> None:
    way.decide(decisions.begin)
    way.answered(3)
    drain(way.world)
    assert conformance.turn(way.db) == 3
    assert conformance.turn(way.db) == 0
    way.world.sql(
        "insert into serving.feature(clinic_id, study_id, revision, task, digest, profile, values)"
        " select clinic_id, study_id, 2, task, digest, profile, values from serving.feature order by seq limit 1"
    )
    drain(way.world)
    assert conformance.turn(way.db) == 0, "a late image of the same study is no further study"
    text = (HERE / "ms-2021.toml").read_text().replace("version = 1", "version = 2")
    assert conformance.turn(way.db, standard=parse(text.encode())) == 3
    ((kept,),) = way.world.sql(
        "select count(*) from monitoring.conformance where rules_digest = %s", load().digest
    )
    assert kept == 3


def test_nobody_accepts_too_early_or_alone(way: Way) -> None:
    with pytest.raises(OnboardingAbsent):
        way.proof()
    way.decide(decisions.begin)
    with pytest.raises(StepsMissing, match="connectivity, conformance, silent run"):
        way.proof()
    way.connected()
    studies = way.answered(50)
    with pytest.raises(ReviewsMissing, match="No blinded review"):
        way.proof()
    way.reviewed(studies[:40], 0.9, blinded=False)
    with pytest.raises(ReviewsMissing, match="No blinded review"):
        way.proof()  # who corrects our mask is drawn to it
    with pytest.raises(TaskUnbound):
        standing.proof(way.standing(), "brain-regions")
    way.world.sql("alter table serving.review disable trigger user")
    way.world.sql("update serving.review set blinded = true")
    way.accept("quin")
    with pytest.raises(SameSigner):
        way.accept("quin")
    with pytest.raises(ActorUnknown):
        way.accept("nobody")
    with pytest.raises(ReasonMissing):
        way.decide(decisions.accept, TASK, *way.proof(), by="quaid", reason=" ")
    way.accept("quaid")
    with pytest.raises(AcceptedAlready):
        way.accept("anna")


def test_cases_that_refuse_a_version_end_its_acceptance(way: Way) -> None:
    way.ready(dice=0.5)
    with pytest.raises(VersionRefused, match="odds of 2"):
        way.proof()
    (missing,) = way.step("acceptance").missing
    assert missing.who == "ML engineer"
    assert "finetune" in missing.cure


def test_a_review_that_is_withdrawn_makes_the_proposal_anew(way: Way) -> None:
    way.ready(reviews=45)
    assert way.accept("quin").state == "proposed"
    way.world.sql(
        "update serving.review set withdrawn_at = now(), withdrawn_by = 'dr-a', withdrawn_reason = 'wrong study'"
        " where seq = (select min(seq) from serving.review)"
    )
    assert way.accept("quaid").state == "proposed", "quin signed other reviews"
    assert way.accept("quin").state == "signed"
    assert way.chain()[1:] == [
        "acceptance.proposed",
        "acceptance.withdrawn",
        "acceptance.proposed",
        "acceptance.signed",
    ]


@pytest.mark.parametrize(
    "change",
    [
        "update registry.acceptance set state = 'signed', signed_by = proposed_by, signed_at = now()",
        "update registry.acceptance set state = 'signed'",
        "update registry.acceptance set odds = 1000",
        "update registry.acceptance set state = 'withdrawn', reviews = 1",
        "delete from registry.acceptance",
        "update registry.onboarding set silent_studies = 1",
        "delete from registry.onboarding",
        "update monitoring.conformance set verdict = 'accept'",
    ],
)
def test_the_database_refuses_what_the_code_refuses(way: Way, change: str) -> None:
    way.ready()
    way.accept("quin")
    with pytest.raises(psycopg.Error):
        way.world.sql(change)


def test_odds_that_are_not_proven_cannot_be_written(way: Way) -> None:
    way.ready()
    digest, proof = way.proof()
    with pytest.raises(psycopg.errors.CheckViolation):
        way.decide(decisions.accept, TASK, digest, proof | {"odds": 19.9})


def test_a_step_is_waived_by_name_and_with_a_reason(way: Way) -> None:
    with pytest.raises(OnboardingAbsent):
        way.decide(decisions.waive, "conformance")
    way.decide(decisions.begin)
    for step in ("acceptance", "connectivity", "anything"):
        with pytest.raises(StepFixed):
            way.decide(decisions.waive, step)
    with pytest.raises(ReasonMissing):
        way.decide(decisions.waive, "conformance", reason="")
    way.decide(decisions.waive, "conformance", reason="the new scanner comes in May")
    with pytest.raises(StepWaived):
        way.decide(decisions.waive, "conformance")
    step = way.step("conformance")
    assert step.done
    assert step.missing, "what is missing stays in sight"
    assert step.waived == "waived by quin: the new scanner comes in May"


def test_an_onboarding_is_begun_once_and_never_under_a_clinic_that_relies_on_us(way: Way) -> None:
    with pytest.raises(OnboardingMeasure):
        way.decide(decisions.begin, silent_studies=0)
    way.decide(decisions.begin)
    with pytest.raises(OnboardingBegun):
        way.decide(decisions.begin)
    way.connected()
    (study,) = way.answered(1)
    way.world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " select clinic_id, id, 'seg', 'x', 1, sha256('x') from serving.result where study_id = %s", study,
    )  # fmt: skip
    way.world.sql("alter table registry.onboarding disable trigger user")
    way.world.sql("delete from registry.onboarding")
    way.world.sql(
        "insert into serving.outbox(clinic_id, job_id, result_object_id, destination_id, study_id, digest, state)"
        " select r.clinic_id, r.job_id, o.id, d.id, r.study_id, r.digest, 'delivered' from serving.result r"
        " join serving.result_object o on o.result_id = r.id, serving.destination d"
    )
    with pytest.raises(OnboardingLate):
        way.decide(decisions.begin)


def test_an_echo_counts_for_the_address_that_was_called(way: Way) -> None:
    way.decide(decisions.begin)
    way.connected()
    assert way.step("connectivity").done
    way.world.sql("update serving.destination set port = 2")
    assert "present address" in way.step("connectivity").missing[0].what
    way.called("results.destination_away")
    (missing,) = way.step("connectivity").missing
    assert missing.who == "clinic"
    assert "results.destination_away" in missing.what


def test_the_commands(way: Way, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = main([*words])
        return code, "".join(capsys.readouterr())

    monkeypatch.setenv("RADFLEET_ACTOR", "quin")
    code, text = run("clinic", "onboard", "nowhere")
    assert (code, "error:" in text) == (3, True)
    code, text = run("clinic", "onboard", "north")
    assert (code, "onboarding.absent" in text) == (3, True)
    code, text = run("clinic", "onboard", "north", "--begin")
    assert (code, "reason" in text) == (2, True)
    code, text = run("clinic", "onboard", "north", "--begin", "--reason", "contract of May", "--as", "bert")
    assert code == 4, "who trains does not decide about clinics"
    code, text = run("clinic", "onboard", "north", "--begin", "--reason", "contract of May")
    assert code == 6
    assert "missing  connectivity: nothing yet" in text
    assert "clinic: nothing came in from its own senders" in text
    way.connected()
    studies = way.answered(50)
    code, text = run("clinic", "accept", "north", "--task", TASK, "--reason", "r")
    assert (code, "onboarding.steps_missing" in text) == (6, True), (
        "nothing is judged before the monitor took it"
    )
    drain(way.world)
    code, text = run("clinic", "conformance", "north")
    assert code == 0
    assert "siemens Prisma" in text
    code, text = run("clinic", "accept", "north", "--task", TASK, "--reason", "r")
    assert (code, "onboarding.reviews_missing" in text) == (6, True)
    way.reviewed(studies[:40], 0.9)
    code, text = run("clinic", "accept", "north", "--task", TASK, "--reason", "good here")
    assert code == 0
    assert "proposed by quin" in text
    code, text = run("clinic", "accept", "north", "--task", TASK, "--reason", "good here")
    assert (code, "onboarding.same_signer" in text) == (4, True)
    code, text = run("clinic", "accept", "north", "--task", TASK, "--reason", "I agree", "--as", "quaid")
    assert code == 0
    assert "signed by quin and quaid" in text
    code, text = run("clinic", "onboard", "north", "--json")
    (told,) = json.loads(text)
    assert (code, told["state"]) == (6, "active")
    assert told["acceptances"][0]["minutes"] == 6 * told["acceptances"][0]["reviews"]
    code, text = run("clinic", "conformance", "north", "--json")
    assert json.loads(text)[0]["accepted"] == 50
