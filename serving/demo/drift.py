"""The demo's second act: a scanner is replaced without a word, the monitor flags it, and its evidence is frozen."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from registry.core.output import talk
from serving.demo.errors import DemoFailed
from serving.demo.past import AFTER, BEFORE
from serving.demo.stage import Stage

CLINIC: Final = "west"
TASK: Final = "ms-lesion"
# The scanner that west has had since the replacement; the file says that it is simulated, as the past's rows do.
CAST: Final = {
    "ae": "WEST_MR",
    "vendor": "Philips",
    "model": "Ingenia (simulated)",
    "software": "5.7 (simulated)",
}


def render(stage: Stage) -> subprocess.Popen[bytes]:
    """Begin to draw the simulated people of ``west`` and to measure its past from their pixels."""
    return stage.start("serving.demo.people", str(folder(stage)), json.dumps(CAST), log="people.log")


def folder(stage: Stage) -> Path:
    """Where the studies of ``west`` lie before they are sent, and its past."""
    return stage.home / "scans" / CLINIC


def clinic(stage: Stage, pacs_port: int) -> None:
    """Register the clinic whose people are all simulated."""
    stage.run("clinic", "add", CLINIC, "--name", "West Clinic (demo, simulated)", "--quiet-s", "4")
    stage.run("clinic", "peer", "add", CLINIC, "--calling", CAST["ae"])
    stage.deliver_to(CLINIC, pacs_port)


def backfill(stage: Stage, people: subprocess.Popen[bytes]) -> None:
    """Take the measured past over, marked as simulated, once the people are drawn. Raises DemoFailed."""
    stage.wait("the simulated people", lambda: people.poll() is not None, 240)
    if people.returncode:
        raise DemoFailed("no simulated people", why=(stage.home / "people.log").read_text()[-1500:])
    stage.run("study", "backfill", CLINIC, str(folder(stage) / "past.csv"), "--task", TASK, "--simulated")
    stage.say(
        f"west: a simulated past of {BEFORE + AFTER} studies; after study {BEFORE} its scanner was replaced"
    )


def flagged(stage: Stage) -> dict[str, Any]:
    """Wait for the flag and its frozen report, acknowledge it; its figures. Raises DemoFailed when it is wrong."""

    def drifted() -> list[dict[str, Any]]:
        return [f for f in stage.ask("flag", "list", "--clinic", CLINIC) if f["kind"] == "drift"]

    its = stage.wait("the flag", drifted, 120)[0]
    stage.say(f"flag: {its['sentence']}")
    stage.run("flag", "acknowledge", str(its["id"]), "--reason", "demo: the QA lead looks at it")

    def frozen() -> list[dict[str, Any]]:
        return [r for r in stage.ask("monitor", "reports", "--clinic", CLINIC) if r["flag_id"] == its["id"]]

    report = stage.wait("the frozen report", frozen, 90)[0]
    stage.say("its report by Evidently is frozen by digest")
    others = [f["clinic"] for f in stage.ask("flag", "list") if f["clinic"] != CLINIC]
    if others:
        raise DemoFailed(f"a clinic without any change was flagged: {', '.join(others)}")
    return {
        "id": its["id"], "clinic": its["clinic"], "kind": its["kind"], "verdict": its["verdict"],
        "since": its["since_at"], "features": its["features"], "statistic": its["statistic"],
        "threshold": its["threshold"], "sentence": its["sentence"], "would_change": its["would_change"],
        "report_digest": report["digest"],
    }  # fmt: skip


def tell(flag: dict[str, Any]) -> None:
    """The flag as the closing story tells it."""
    talk(f"flag {flag['id']} ({flag['clinic']}, {flag['verdict']}): {flag['sentence']}")
    talk(f"  what would change it: {flag['would_change']}")
    talk(
        f"  report {flag['report_digest'][7:19]}: radfleet monitor report {flag['clinic']} --flag {flag['id']}"
    )
