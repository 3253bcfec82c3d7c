"""One storm: an installation of its own, senders that do not give up, kills, calm, and the judgement."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
from scipy import ndimage

from serving.demo.errors import DemoFailed
from serving.demo.head import write_head
from serving.demo.stage import Stage, free_ports
from tests.chaos import checker, shown
from tests.chaos.killer import Killer
from tests.chaos.ledger import entries

ROOT = Path(__file__).parents[2]
HEAD = ROOT / "tests" / "data" / "heads" / "study1_FLAIR.nii.gz"
PACKAGE = ROOT / "serving" / "packages" / "brain-extraction-1.1.0"
CLINICS = ("north", "south")
SHAPE = (64, 64, 12)
CAST = {"ae": "CHAOS", "vendor": "SIEMENS", "model": "Prisma_fit", "software": "syngo MR E11 (simulated)"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is. ``studies`` in all, over two clinics; ``pause_s`` after each study and between kills."""

    studies: int
    kills: Mapping[str, int]
    study_pause_s: float = 2.0
    kill_pause_s: tuple[float, float] = (1.0, 3.0)
    settle_s: float = 900.0


@dataclass(slots=True)
class Report:
    """What happened."""

    verdict: checker.Verdict
    kills: Counter[str]
    not_killed: Counter[str]
    while_arriving: int = 0
    retried: dict[str, int] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run(home: Path, size: Size, seed: int) -> Report:
    """Play one storm in ``home`` (emptied first). Raises DemoFailed where the installation does not come up."""
    shutil.rmtree(home, ignore_errors=True)
    stage = Stage.build(home)
    stage.env |= {
        "RADFLEET_LEASE_S": "5",
        "RADFLEET_WORKERS": "2",
        "RADFLEET_THREADS": "1",
        "TCP_NODELAY": "1",
    }
    try:
        up = _installation(stage)
        return _storm(stage, up, size, seed)
    finally:
        stage.end()


def _installation(stage: Stage) -> "Popen[bytes]":
    (port,) = free_ports(1)
    stage.start("serving.demo.pacs", str(port), str(stage.home / "pacs"), log="pacs.jsonl")
    up = stage.start("tests.chaos.up", log="up.log")

    def ready() -> bool:
        if up.poll() is not None:
            raise DemoFailed("radfleet up ended early", why=(stage.home / "up.log").read_text()[-1500:])
        return "everything runs after" in (stage.home / "up.log").read_text()

    stage.wait("radfleet up", ready, 400)
    stage.say("everything is up")
    stage.run("account", "add", "demo-admin", "--role", "admin")
    stage.run("model", "register", str(PACKAGE))
    for slug in CLINICS:
        stage.run("clinic", "add", slug, "--name", slug.title(), "--quiet-s", "3")
        stage.run("clinic", "peer", "add", slug, "--calling", slug.upper())
        stage.run("destination", "add", slug, "pacs", "--host", "127.0.0.1", "--port", str(port),
                  "--ae-title", "PACS")  # fmt: skip
        stage.run("binding", "set", slug, "brain-extraction", "brain-extraction@1.1.0", "--reason", "chaos")
    return up


def _storm(stage: Stage, up: "Popen[bytes]", size: Size, seed: int) -> Report:
    slices, began = small_head(stage.home / "slices"), time.monotonic()
    senders = []
    for number, slug in enumerate(CLINICS):
        count = size.studies // 2 + (number < size.studies % 2)
        path = str(stage.home / f"{slug}.ledger")
        argv = [str(stage.port("DICOM")), slug, str(count), str(size.study_pause_s), str(slices), path]
        senders.append(stage.start("tests.chaos.sender", *argv, log=f"sender-{slug}.log"))
    report = Report(checker.Verdict(), Counter(), Counter())

    def heard(name: str, pid: int) -> None:
        arriving = any(sender.poll() is None for sender in senders)
        report.while_arriving += arriving
        total = sum(killer.done.values())
        if total % 20 == 0:
            stage.say(f"{total} kills, the last one {name} ({pid}){', studies arrive' if arriving else ''}")

    killer = Killer(stage.home.absolute(), up.pid, random.Random(seed), size.kill_pause_s)
    killer.run(size.kills, heard)
    report.kills, report.not_killed = killer.done, killer.skipped
    report.seconds["kills"] = round(time.monotonic() - began, 1)
    stage.say("the last kill is done; waiting until every sender has its acknowledgements")
    for sender in senders:
        if sender.wait(1800) != 0:
            raise DemoFailed("a sender gave up", why=(stage.home / "sender-north.log").read_text()[-500:])
    report.seconds["arrival"] = round(time.monotonic() - began, 1)
    _settle(stage, size, report)
    report.seconds["in all"] = round(time.monotonic() - stage.began, 1)
    return report


def _settle(stage: Stage, size: Size, report: Report) -> None:
    its = stage.settings()
    left = checker.wait(its, size.studies, size.settle_s)
    stage.say(f"calm: {left[0]} studies and {left[1]} deliveries unfinished")
    without = checker.ended(its)
    report.retried = dict(Counter(f"{state} {code}".strip() for _, state, code in without))
    for study, state, code in without:
        stage.say(f"study retry: it ended as {state} ({code})")
        stage.run("study", "retry", study, ok=(0, 5, 6, 7))
    if without:
        left = checker.wait(its, size.studies, size.settle_s)
    report.verdict = checker.check(its, entries(stage.home), stage.home / "pacs")
    report.verdict.stuck += ["a study is unfinished"] * left[0] + ["a delivery is unfinished"] * left[1]
    report.verdict.stuck += [f"a study ended as {state} ({code})" for _, state, code in checker.ended(its)]
    ((done,),) = checker.ask(its, "select count(*) from serving.study where state = 'done'")
    report.shown = shown.faults(stage, done)
    listed: list[Any] = json.loads(stage.run("study", "list", "--stuck", "--json"))
    report.verdict.stuck += [f"study list --stuck: {row['what']}" for row in listed]


def small_head(folder: Path) -> Path:
    """A real head in 64 x 64 x 12 voxels, still a head to every check of the study line; the folder of its slices."""
    import nibabel as nib

    image: Any = nib.load(HEAD)  # type: ignore[attr-defined]
    factors = np.array(image.shape[:3]) / SHAPE
    voxels = ndimage.zoom(image.get_fdata(), 1 / factors, order=1, grid_mode=True, mode="nearest")
    affine = image.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] = (image.affine @ [*((factors - 1) / 2), 1.0])[:3]
    folder.mkdir(parents=True)
    small = folder.parent / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.rint(voxels).astype(np.int16), affine), small)  # type: ignore[attr-defined]
    return write_head(small, folder, CAST)
