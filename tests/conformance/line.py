"""Two real heads over the whole line: dcmsend, a private `radfleet up`, and Orthanc as the PACS that receives.

Run alone with ``python -m tests.conformance.line``. ``installation`` is also the stage of ``tests.bench.study``.
"""

import io
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom

from serving.demo.errors import DemoFailed
from serving.demo.head import write_head
from serving.demo.stage import Stage
from tests.kit.judges import dciodvfy_errors, dsrdump
from tests.kit.orthanc import Orthanc, orthanc

ROOT = Path(__file__).parents[2]
HEADS = ROOT / "tests" / "data" / "heads"
PACKAGES = ROOT / "serving" / "packages"
STUDIES = ("study1_FLAIR", "study2_FLAIR")
VERSIONS = ("ms-lesion@1.0.0", "brain-extraction@1.1.0")
TOOLS = ("dcmsend", "dciodvfy", "dsrdump", "Orthanc")
# The acceptance of the demo is three minutes for everything; a laden machine gets more before we call it stuck.
UP_S_MAX, ANSWER_S_MAX = 300.0, 300.0
CLINIC, QUIET_S = "conformance", 4
CAST = {
    "ae": "CONFORM_MR",
    "vendor": "SIEMENS",
    "model": "Prisma_fit",
    "software": "syngo MR E11 (simulated)",
}


@contextmanager
def installation(home: Path, pacs_port: int, versions: Sequence[str] = VERSIONS) -> Iterator[Stage]:
    """A private `radfleet up` with one clinic, ``versions`` bound, and one C-STORE destination; ended afterwards."""
    stage = Stage.build(home)
    try:
        up = stage.start("registry.cli", "up", log="up.log")
        stage.wait("radfleet up", lambda: _ready(stage, up), UP_S_MAX)
        stage.say("everything is up")
        stage.run("account", "add", "demo-admin", "--role", "admin")
        stage.run("clinic", "add", CLINIC, "--name", "Conformance Clinic", "--quiet-s", str(QUIET_S))
        stage.run("clinic", "peer", "add", CLINIC, "--calling", CAST["ae"])
        stage.run(
            "destination", "add", CLINIC, "pacs", "--kind", "cstore", "--host", "127.0.0.1", "--port", str(pacs_port),
            "--ae-title", "PACS",
        )  # fmt: skip
        for version in versions:
            stage.run("model", "register", str(PACKAGES / version.replace("@", "-")))
            task = version.partition("@")[0]
            stage.run("binding", "set", CLINIC, task, version, "--reason", "conformance")
        stage.say(f"bound: {', '.join(versions)}")
        yield stage
    finally:
        stage.end()


def _ready(stage: Stage, up: "subprocess.Popen[bytes]") -> bool:
    if up.poll() is not None:
        raise DemoFailed("radfleet up ended early", why=(stage.home / "up.log").read_text()[-1500:])
    parts = json.loads(stage.run("status", "--json", ok=(0, 6, 7)))
    return bool(parts) and all(part["state"] in ("ready", "done") for part in parts)


def send(stage: Stage, folder: Path) -> datetime:
    """Send a folder with dcmsend; the moment of its last answer. Raises DemoFailed unless all are taken."""
    count = len(list(folder.iterdir()))
    done = subprocess.run(
        ["dcmsend", "-v", "-aet", CAST["ae"], "-aec", "RADFLEET", "+sd", "127.0.0.1", str(stage.port("DICOM")), folder],
        env={**os.environ, "TCP_NODELAY": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    at = datetime.now(UTC)
    said = done.stdout + done.stderr
    # dcmsend ends with 0 also where the receiver answered with a failure: its own summary tells.
    taken = [line for line in said.splitlines() if "with status SUCCESS" in line]
    if done.returncode != 0 or not taken or taken[-1].split()[-1] != str(count):
        raise DemoFailed(f"dcmsend ended with {done.returncode}, not all of {count} taken", why=said[-1000:])
    return at


def answered(stage: Stage, known: set[str]) -> dict[str, Any]:
    """Wait for the one study that is not in ``known`` to be delivered; its row. Raises DemoFailed."""

    def done() -> dict[str, Any] | None:
        rows = stage.ask("study", "list", "--clinic", CLINIC, "--limit", "200")
        fresh = [row for row in rows if row["study_id"] not in known]
        if not fresh:
            return None
        study: dict[str, Any] = fresh[0]
        if study["state"] in ("rejected", "dead"):
            raise DemoFailed(f"the study ended as {study['state']} ({study['code']})")
        return study if study["state"] == "done" and 0 < study["to_deliver"] == study["delivered"] else None

    row: dict[str, Any] = stage.wait("the answer and its delivery", done, ANSWER_S_MAX)
    known.add(row["study_id"])
    return row


def travel(stage: Stage, name: str, known: set[str]) -> dict[str, Any]:
    """One head as DICOM through the line: the study's row, its trace, its findings, and the seconds it took.

    ``seconds`` runs from the answer to the last C-STORE to the step ``delivered`` of the trace.
    """
    folder = write_head(HEADS / f"{name}.nii.gz", stage.home / "scans" / f"{name}-{len(known)}", CAST)
    sent_at = send(stage, folder)
    row = answered(stage, known)
    trace = stage.ask("study", "trace", row["study_id"])
    ends = [datetime.fromisoformat(step["at"]) for step in trace if step["step"] == "delivered"]
    seconds = (max(ends) - sent_at).total_seconds()
    stage.say(
        f"{name}: answered, {row['delivered']} objects delivered {seconds:.1f} s after the last C-STORE"
    )
    shown = stage.ask("study", "show", row["study_id"])
    return {
        **row,
        "scan": name,
        "sent_at": sent_at,
        "seconds": seconds,
        "trace": trace,
        "findings": shown["findings"],
    }


def results_of(stage: Stage) -> dict[str, Path]:
    """The result objects that the installation keeps: SOPInstanceUID -> file."""
    found = {}
    for path in sorted((stage.home / "store").rglob("*.dcm")):
        if not is_dicom(path):  # the levels of an answer lie there too
            continue
        header = dcmread(path, stop_before_pixels=True)
        if header.Modality != "MR":
            found[str(header.SOPInstanceUID)] = path
    return found


def volume_ml(segmentation: Dataset) -> float:
    """Millilitres of label 1 in a SEG, from its own frames and pixel measures."""
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    edges = (*measures.PixelSpacing, measures.get("SpacingBetweenSlices") or measures.SliceThickness)
    return float(np.count_nonzero(segmentation.pixel_array) * np.prod([float(edge) for edge in edges]) / 1000)


def judge(stage: Stage, archive: Orthanc, studies: list[dict[str, Any]]) -> dict[str, Any]:
    """What the outside judges and the archive say about every result object of the installation."""
    errors, differing, volumes, classes = [], [], [], []
    kept = results_of(stage)
    for uid, path in kept.items():
        ours, back = dcmread(path), archive.instance(uid)
        kind = str(ours.Modality)
        classes.append(kind)
        errors += [f"{kind}: {line}" for line in dciodvfy_errors(path)]
        if kind == "SR":
            dsrdump(path)
        theirs = dcmread(io.BytesIO(back)) if back else None
        if theirs is None or theirs != ours:
            differing.append(kind)
        elif kind == "SEG":
            volumes.append(volume_ml(theirs))
    said = [f["volume_ml"] for s in studies for d in s["findings"] for f in d["findings"]]
    left, apart = list(volumes), []
    for number in (v for v in said if v is not None):  # a volume that is withheld has a SEG and no number
        nearest = min(left, key=lambda volume: abs(volume - number), default=math.inf)
        apart.append(abs(nearest - number))
        left = [volume for volume in left if volume is not nearest]
    return {
        "objects": len(kept), "objects_at_pacs": archive.count(), "classes": {k: classes.count(k) for k in classes},
        "dciodvfy_errors": errors, "not_read_back_equal": differing,
        "seg_volumes_ml": volumes, "findings_ml": said,
        "seg_against_findings_ml": max(apart) if apart and len(volumes) == len(said) else None,
    }  # fmt: skip


def run() -> dict[str, Any]:
    """Both studies over the line; the figures, with ``failed`` where the line did not come to its end."""
    with orthanc() as archive, tempfile.TemporaryDirectory(prefix="rf-") as folder:
        try:
            with installation(Path(folder), archive.dicom_port) as stage:
                known: set[str] = set()
                studies = [travel(stage, name, known) for name in STUDIES]
                stuck = stage.ask("study", "list", "--stuck")
                figures = judge(stage, archive, studies)
        except DemoFailed as error:
            return {"failed": error.lines(), "answered": 0}
    rows = [{k: s[k] for k in ("scan", "instances", "delivered", "seconds")} for s in studies]
    answers = [f"{d['model']['name']} {d['model']['version']}" for s in studies for d in s["findings"]]
    return {
        "failed": None, "answered": len(studies), "answers": answers, "studies": rows, "stuck": len(stuck),
        "delivered": sum(s["delivered"] for s in studies), **figures,
    }  # fmt: skip


if __name__ == "__main__":
    outcome = run()
    print(json.dumps(outcome, indent=1, default=str))
    sys.exit(1 if outcome["failed"] else 0)
