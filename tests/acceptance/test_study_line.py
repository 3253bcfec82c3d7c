"""The demo's real line, once: every part real; studies, a rebind, objects at the peer, a flag, its cure, a rollback."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread

from serving.demo import play
from serving.demo.people import AFTER, COHORT
from serving.demo.play import CAST


def _versions(study: dict[str, Any]) -> dict[str, str]:
    return {answer["version"]: answer["digest"] for answer in study["answers"]}


def _left(home: Path) -> list[str]:
    """Processes that still belong to the installation in ``home``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("RADFLEET_HOME") == str(home):
                found.append(" ".join(process.cmdline()[:4]))
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_real_scan_is_answered_by_the_clinics_own_version_and_comes_back(tmp_path: Path) -> None:
    home = tmp_path / "line"
    figures = play.play(home, home.parent / "demo.json", leave_running=False)
    first, south, rebound = figures["studies"]

    # two clinics, two versions side by side
    assert set(_versions(first)) == {"brain-extraction 1.0.0"}
    assert set(_versions(south)) == {"brain-extraction 1.1.0", "ms-lesion 1.0.0"}
    assert first["clinic"] == rebound["clinic"] == "north"
    assert len(set(_versions(first).values()) | set(_versions(south).values())) == 3

    # the rebind is answered by the very version that south has, and no part was started again for it
    assert _versions(rebound) == {k: v for k, v in _versions(south).items() if k.startswith("brain")}
    log = (home / "up.log").read_text()
    assert "again in" not in log and "joined to the" not in log

    # numbers that a brain can have
    brain = first["answers"][0]["findings"]
    assert 900 < brain["Brain"] < 1700
    lesions = next(a["findings"] for a in south["answers"] if a["task"] == "ms-lesion")
    assert 0 < lesions["White matter lesion"] < 100

    # nothing is stuck, and the peer holds what was delivered: a SEG, an SR and a preview for every answer
    assert figures["studies_stuck"] == 0
    simulated = COHORT + AFTER
    assert figures["studies_delivered"] == 3 + simulated
    files = sorted((home / "pacs").glob("*.dcm"))
    assert sum(row["delivered"] for row in figures["studies"]) == 12
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    answers = sum(len(row["answers"]) for row in figures["studies"]) + simulated
    assert len(files) == figures["objects_at_pacs"] == 3 * answers
    assert Counter(header.Modality for header in headers) == {"SEG": answers, "SR": answers, "OT": answers}
    # one study for each time that a scanner sent one: no object is filed into another clinic's study
    assert len({header.StudyInstanceUID for header in headers}) == 3 + simulated
    assert {len(list((home / "scans" / f"{c}-study1_FLAIR").glob("*.dcm"))) for c in CAST} == {36}

    # west was flagged after its scanner was replaced, and cured by a version that two people brought
    cure = figures["promotion"]
    assert figures["flag"]["clinic"] == "west" and figures["flag_closed"] is True
    assert cure["proposed_by"] != cure["approved_by"] and cure["before_digest"] != cure["after_digest"]
    assert cure["n_people"] >= 6 and cure["dice_after"] > cure["dice_before"]
    assert figures["rollback_seconds"] > 0

    assert _left(home) == []
