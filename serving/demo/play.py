"""The screenplay: three clinics, two versions, real DICOM in, results at a peer, a rebind, a flag, a closing table."""

import json
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.core.output import show
from registry.installation import UpLock
from serving.demo import cure, drift
from serving.demo.errors import DemoFailed
from serving.demo.stage import Stage, free_ports

ROOT = Path(__file__).parents[2]
HEADS = ROOT / "tests" / "data" / "heads"
PACKAGES = ROOT / "serving" / "packages"
# Real scans of one person (Ljubljana data, CC-BY, defaced). Vendor headers are simulated and say so in the file.
CAST = {
    "north": {
        "ae": "NORTH_MR",
        "vendor": "SIEMENS",
        "model": "Prisma_fit",
        "software": "syngo MR E11 (simulated)",
    },
    "south": {
        "ae": "SOUTH_MR",
        "vendor": "GE MEDICAL SYSTEMS",
        "model": "SIGNA UHP",
        "software": "RX28.0 (simulated)",
    },
}
FIRST, SECOND, LESION = "brain-extraction@1.0.0", "brain-extraction@1.1.0", "ms-lesion@1.0.0"


def play(home: Path, record: Path, *, leave_running: bool) -> dict[str, Any]:
    """Play the whole line and write its figures to ``record``; stay up until Ctrl-C if asked. Raises DemoFailed."""
    if UpLock(home.absolute()).holder() is not None:
        raise DemoFailed(
            "another demo still runs in this folder",
            cure="Wait until it ended, or give another one with --home.",
        )
    shutil.rmtree(home, ignore_errors=True)
    stage = Stage.build(home)
    try:
        figures = _acts(stage)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(figures, indent=2))
        if leave_running:
            stage.say(f"everything stays up: RADFLEET_HOME={home} radfleet status; Ctrl-C ends it")
            _wait()
        return figures
    finally:
        stage.end()


def _wait() -> None:
    """Until Ctrl-C or SIGTERM; both end the stage, which a default SIGTERM would not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        signal.pause()


def _acts(stage: Stage) -> dict[str, Any]:
    pacs_port = free_ports(1)[0]
    pacs = stage.start("serving.demo.pacs", str(pacs_port), str(stage.home / "pacs"), log="pacs.jsonl")
    people = drift.render(stage)
    stage.say("a receiving PACS listens; radfleet up starts PostgreSQL, MLflow, Ray Serve, doors and workers")
    up = stage.start("registry.cli", "up", log="up.log")
    # Clinics and versions need the database and MLflow alone: the networks load meanwhile.
    stage.wait("PostgreSQL and MLflow", lambda: _ready(stage, up, ("migrate", "mlflow")), 300)
    _clinics(stage, pacs_port)
    _versions(stage)
    stage.wait("radfleet up", lambda: _ready(stage, up), 300)
    up_s = time.monotonic() - stage.began
    stage.say("everything is up")
    studies = _send(stage)
    drift.backfill(stage, people)
    cure.scanned(stage)
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(cure.reviewed, stage)  # a reader does not wait until the others have finished
        rows, rebind_s, flag = _watched(stage, studies, pacs)
        reading.result()
    promotion = cure.cured(stage, flag["id"])
    rollback_s = cure.rolled_back(stage, "north", "brain-extraction")
    received = _received(stage)
    _judge(rows, received, promotion.pop("objects_delivered"))
    stuck = stage.ask("study", "list", "--stuck")
    stage.measure()
    figures = {
        "seconds": round(time.monotonic() - stage.began, 1), "up_seconds": round(up_s, 1),
        "rebind_to_delivered_seconds": round(rebind_s, 1), "peak_mb": round(stage.peak_mb),
        "studies_delivered": len(rows) + promotion.pop("studies_delivered"),
        "studies_stuck": len(stuck), "objects_at_pacs": len(received),
        "studies": rows, "flag": flag, "promotion": promotion,
        "flag_closed": promotion["flag_closed"],
        "rollback_seconds": round(rollback_s, 2),
        "simulated": "vendor headers, and everything of west; north's and south's images are of one person (n = 1)",
    }  # fmt: skip
    _close(figures)
    return figures


def _watched(
    stage: Stage, studies: list[str], pacs: Any
) -> tuple[list[dict[str, Any]], float, dict[str, Any]]:
    """Answers, a rebind with its answer, the flag: rows of the studies, seconds of the rebind, the flag's figures."""
    rows = [_answered(stage, clinic, pacs) for clinic in studies]
    stage.say("rebind: north moves to version 1.1.0 by two people, with no restart")
    bound_at = time.monotonic()
    cure.rebound(stage, "north", "brain-extraction", SECOND)
    _send_one(stage, "north", "study2_FLAIR")
    rows.append(_answered(stage, "north", pacs, newest=True))
    rebind_s = time.monotonic() - bound_at
    flag = drift.flagged(stage)
    return rows, rebind_s, flag


def _ready(stage: Stage, up: Any, only: tuple[str, ...] = ()) -> bool:
    if up.poll() is not None:
        raise DemoFailed("radfleet up ended early", why=(stage.home / "up.log").read_text()[-1500:])
    parts = json.loads(stage.run("status", "--json", ok=(0, 6, 7)))
    wanted = [part for part in parts if not only or part["part"] in only]
    return bool(wanted) and all(part["state"] in ("ready", "done") for part in wanted)


def _clinics(stage: Stage, pacs_port: int) -> None:
    stage.run("account", "add", "demo-admin", "--role", "admin")
    for slug, cast in CAST.items():
        stage.run("clinic", "add", slug, "--name", f"{slug.title()} Clinic (demo)", "--quiet-s", "4")
        stage.run("clinic", "peer", "add", slug, "--calling", cast["ae"])
        stage.deliver_to(slug, pacs_port)
    drift.clinic(stage, pacs_port)
    cure.accounts(stage)
    stage.say(
        "north and south are registered, and west, whose people are simulated; each with a sender and a destination"
    )


def _versions(stage: Stage) -> None:
    folders = (str(PACKAGES / name.replace("@", "-")) for name in (FIRST, SECOND, LESION))
    stage.run("model", "register", *folders)
    stage.run("binding", "set", "north", "brain-extraction", FIRST, "--reason", "demo: north's first version")
    stage.run(
        "binding", "set", "south", "brain-extraction", SECOND, "--reason", "demo: south's first version"
    )
    stage.run("binding", "set", drift.CLINIC, drift.TASK, LESION, "--reason", "demo: west's first version")
    stage.run("binding", "set", "south", "ms-lesion", LESION, "--reason", "demo: lesions for south")
    stage.say(
        "three versions are registered in MLflow; north is bound to 1.0.0, south to 1.1.0 and a lesion version"
    )


def _send(stage: Stage) -> list[str]:
    for clinic in CAST:
        _send_one(stage, clinic, "study1_FLAIR")
    return list(CAST)


def _send_one(stage: Stage, clinic: str, name: str) -> None:
    from serving.demo.head import write_head

    cast = CAST[clinic]
    folder = write_head(HEADS / f"{name}.nii.gz", stage.home / "scans" / f"{clinic}-{name}", cast)
    stage.send(folder, cast["ae"])
    stage.say(f"{clinic}: {len(list(folder.glob('*.dcm')))} instances sent by C-STORE, all acknowledged")


def _answered(stage: Stage, clinic: str, pacs: Any, *, newest: bool = False) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        if pacs.poll() is not None:
            raise DemoFailed("the receiving PACS ended early")
        studies = [s for s in stage.ask("study", "list", "--clinic", clinic) if s["state"] != "receiving"]
        if (newest and len(studies) < 2) or not studies:
            return None
        study: dict[str, Any] = studies[0]
        if study["state"] in ("rejected", "dead"):
            raise DemoFailed(f"{clinic}'s study ended as {study['state']} ({study['code']})")
        return study if study["state"] == "done" and 0 < study["to_deliver"] == study["delivered"] else None

    study = stage.wait(f"the answer for {clinic}", done, 240)
    shown = stage.ask("study", "show", str(study["study_id"]))
    answers = [
        {
            "task": f["task"], "version": f"{f['model']['name']} {f['model']['version']}",
            "digest": f["model"]["digest"],
            "findings": {x["name"]: x["volume_ml"] for x in f["findings"]},
        }
        for f in shown["findings"]
    ]  # fmt: skip
    stage.say(f"{clinic}: answered and delivered, {study['delivered']} objects")
    return {
        "clinic": clinic, "study_id": study["study_id"], "delivered": study["delivered"],
        "receive_to_delivered_s": shown["receive_to_delivered_s"], "answers": answers,
    }  # fmt: skip


def _received(stage: Stage) -> list[dict[str, str]]:
    return [
        json.loads(line)
        for line in (stage.home / "pacs.jsonl").read_text().splitlines()
        if line.startswith("{")
    ]


def _judge(rows: list[dict[str, Any]], received: list[dict[str, str]], simulated: int) -> None:
    """The demo's own checks: right counts, two versions side by side, and the rebind answered by the new one."""
    if len(received) != sum(row["delivered"] for row in rows) + simulated:
        raise DemoFailed("the PACS holds another number of objects than were delivered")
    versions = [{a["version"] for a in row["answers"] if a["task"] == "brain-extraction"} for row in rows]
    if versions != [{"brain-extraction 1.0.0"}, {"brain-extraction 1.1.0"}, {"brain-extraction 1.1.0"}]:
        raise DemoFailed(f"the versions that answered are not the bound ones: {versions}")


def _close(figures: dict[str, Any]) -> None:
    table: list[dict[str, Any]] = [
        {
            "clinic": row["clinic"], "version": answer["version"], "digest": answer["digest"][7:19],
            "finding": "; ".join(f"{k} {_ml(v)}" for k, v in answer["findings"].items()),
            "objects at PACS": row["delivered"], "last instance to delivered": f"{row['receive_to_delivered_s']:.1f} s",
        }
        for row in figures["studies"] for answer in row["answers"]
    ]  # fmt: skip
    show(
        table,
        as_json=False,
        title="What this run did (research use only; vendor headers simulated; one person's scans)",
    )
    keys = (
        "seconds",
        "up_seconds",
        "rebind_to_delivered_seconds",
        "peak_mb",
        "studies_delivered",
        "studies_stuck",
    )
    show([{key: figures[key] for key in keys}], as_json=False)
    drift.tell(figures["flag"])
    cure.tell(figures["promotion"], figures["rollback_seconds"])


def _ml(value: float | None) -> str:
    return "withheld" if value is None else f"{value:.1f} ml"
