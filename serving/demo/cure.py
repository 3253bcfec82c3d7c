"""The demo's third act: reviewed studies of the new scanner, a fine-tuned version, two people, the flag ends."""

from datetime import UTC, datetime
from typing import Any, Final

from registry.core.output import talk
from serving.demo.drift import CAST, CLINIC, TASK, folder
from serving.demo.errors import DemoFailed
from serving.demo.people import COHORT
from serving.demo.stage import Stage

PROPOSES, APPROVES, READS = "demo-ml", "demo-second", "demo-reader"
SIMULATED: Final = (
    "generated heads with known lesions; their anatomies and lesions are those of the replayed and the global heads, "
    "and the shift was chosen so that a fine-tune helps: the figures show the line and are no evidence of a cure"
)
_FORBIDDEN: Final = 4  # the exit code of an approval by who proposed


def accounts(stage: Stage) -> None:
    """A reader, the one who proposes and the one who approves; margins for as few people as a demo has."""
    for name, role in ((READS, "qa"), (PROPOSES, "ml"), (APPROVES, "ml")):
        stage.run("account", "add", name, "--role", role)
    stage.run("policy", "set", "--clinic-people-min", "6", "--reason", "demo: six simulated people judge")


def scanned(stage: Stage) -> None:
    """Send those who are reviewed."""
    _send(stage, "cohort")
    stage.say(f"{CLINIC}: {COHORT} simulated people scanned on the new scanner")


def cured(stage: Stage, flag: int) -> dict[str, Any]:
    """Fine-tune, request, approval and promotion; figures of it. Raises DemoFailed."""
    stage.say(f"{CLINIC}: {TASK} is fine-tuned on what was reviewed")
    made = stage.ask(
        "model", "finetune", "--clinic", CLINIC, "--task", TASK, "--tier", "T2", "--as", PROPOSES,
    )[0]  # fmt: skip
    before, after = (_mean(scores["clinic"]) for scores in (made["active"], made["tiers"][-1]["scores"]))
    stage.say(f"{made['version']}: Dice {before:.3f} -> {after:.3f} on {made['people_evaluation']} who judge")
    asked = stage.ask(
        "promotion", "request", CLINIC, TASK, made["version"], "--reason", "demo: cured on its own cases",
        "--as", PROPOSES,
    )[0]["it"]  # fmt: skip
    number = str(asked["id"])
    stage.run("promotion", "approve", number, "--as", PROPOSES, ok=(_FORBIDDEN,))
    stage.run("promotion", "approve", number, "--as", APPROVES)
    began = datetime.now(UTC)
    stage.run("promotion", "apply", number, "--as", APPROVES)
    applied = (datetime.fromisoformat(_bound(stage, CLINIC, TASK)["since"]) - began).total_seconds()
    stage.say(f"promoted: {PROPOSES} proposed it and could not approve it, {APPROVES} did")
    closed = stage.wait(
        "the flag's end", lambda: stage.ask("flag", "show", str(flag))[0]["state"] == "resolved", 30
    )
    stage.say("the flag is resolved by the promotion")
    _send(stage, "after")
    last = stage.wait("the study after it", lambda: "".join(_done(stage)[COHORT:]), 120)
    answer = stage.ask("study", "show", last)["findings"][0]["model"]["digest"]
    if answer != made["digest"]:
        raise DemoFailed("the study after the promotion was not answered by the promoted version")
    stage.say(f"{CLINIC}: the next study was answered by the promoted version")
    delivered = [study["delivered"] for study in _studies(stage)]
    return {
        "studies_delivered": len(delivered), "objects_delivered": sum(delivered),
        "proposed_by": PROPOSES, "approved_by": APPROVES, "before_digest": made["parent"],
        "after_digest": made["digest"], "version": made["version"], "tier": made["tier"],
        "dice_before": round(before, 4), "dice_after": round(after, 4), "n_people": made["people_evaluation"],
        "n_people_trained_on": made["people_train"], "apply_seconds": round(applied, 2), "flag_closed": bool(closed),
        "simulated": SIMULATED,
    }  # fmt: skip


def rebound(stage: Stage, clinic: str, task: str, version: str) -> None:
    """Promote a newer version of ours: no case of the clinic is labelled, so the approver waives both gates by name."""
    why = ("--reason", "demo: the newer version")
    asked = stage.ask("promotion", "request", clinic, task, version, *why, "--as", PROPOSES)[0]["it"]
    number = str(asked["id"])
    stage.run(
        "promotion", "approve", number, "--waive", "clinic", "--waive", "global", *why, "--as", APPROVES
    )
    stage.run("promotion", "apply", number, "--as", APPROVES)


def _send(stage: Stage, which: str) -> None:
    stage.send(folder(stage) / which, CAST["ae"])


def _studies(stage: Stage) -> list[dict[str, Any]]:
    """The simulated people's studies in the order of the people: ids are made as they arrive, one after another."""
    found = stage.ask("study", "list", "--clinic", CLINIC, "--limit", "200")
    return sorted((s for s in found if s["state"] != "past"), key=lambda study: study["study_id"])


def _done(stage: Stage) -> list[str]:
    """Those of them, by place, that are answered and delivered. Raises DemoFailed where one is refused."""
    studies = _studies(stage)
    if bad := {s["code"] for s in studies if s["state"] in ("rejected", "dead")}:
        raise DemoFailed(f"a study of {CLINIC} was not answered", why=", ".join(map(str, bad)))
    return [
        s["study_id"] if s["state"] == "done" and 0 < s["to_deliver"] == s["delivered"] else ""
        for s in studies
    ]


def reviewed(stage: Stage) -> None:
    """One blinded reading a study as soon as it is answered, with the drawn lesions as the reader's mask."""
    read: set[int] = set()

    def more() -> bool:
        for number, study in enumerate(_done(stage)):
            if study and number not in read:
                mask = f"{folder(stage)}/cohort/{number:02d}.nii.gz"
                stage.run(
                    "review", "add", study, "--decision", "edit", "--mask", mask, "--blinded",
                    "--note", "no reader: the lesions as they were drawn", "--as", READS,
                )  # fmt: skip
                read.add(number)
        return len(read) == COHORT

    stage.wait(f"{COHORT} answers for {CLINIC}", more, 400)
    stage.say(f"{CLINIC}: all answered, each read blind by a second reader (simulated: the drawn lesions)")


def _mean(people: dict[str, float]) -> float:
    return sum(people.values()) / len(people)


def rolled_back(stage: Stage, clinic: str, task: str) -> float:
    """Take a clinic back to the version before, as on-call would; seconds until it is bound. Raises DemoFailed."""
    before = _bound(stage, clinic, task)
    began = datetime.now(UTC)
    stage.run("promotion", "rollback", clinic, task, "--reason", "demo: back to the version before")
    after = _bound(stage, clinic, task)
    if after["digest"] == before["digest"]:
        raise DemoFailed(f"{clinic} was not rolled back")
    seconds = (datetime.fromisoformat(after["since"]) - began).total_seconds()
    stage.say(f"rollback: {clinic} has the version before again after {seconds:.1f} s, with no restart")
    return seconds


def _bound(stage: Stage, clinic: str, task: str) -> dict[str, Any]:
    found: dict[str, Any] = stage.ask("binding", "show", clinic, "--task", task)[0]
    return found


def tell(its: dict[str, Any], rollback_s: float) -> None:
    """The cure as the closing story tells it."""
    talk(
        f"cure ({CLINIC}, {its['version']}): Dice {its['dice_before']:.3f} -> {its['dice_after']:.3f} on "
        f"{its['n_people']} simulated people; proposed by {its['proposed_by']}, approved by "
        f"{its['approved_by']}; flag closed; a rollback takes {rollback_s:.1f} s"
    )
    talk(f"  simulated: {its['simulated']}")
