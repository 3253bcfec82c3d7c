"""``make chaos``: kill -9 everything while studies arrive; nothing acknowledged is lost, doubled or stuck.

Quick: 200 kills while 300 studies arrive at two clinics. Writes build/chaos.json; exits non-zero when a goal is missed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.bench.record import Goal, record, versions
from tests.chaos import killer, mutants, storm, up

HOME = Path("build") / "chaos"
QUICK = storm.Size(300, killer.QUICK)
WHOLE = storm.Size(1500, {name: 5 * count for name, count in killer.QUICK.items()}, settle_s=3600)


def main() -> int:
    """Run the storm and the planted faults, write build/chaos.json."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument(
        "--quick", action="store_true", help="200 kills and 300 studies instead of five times that"
    )
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--studies", type=int, help="another number of studies")
    parser.add_argument("--kills", type=int, help="another number of kills, in the same proportions")
    given = parser.parse_args()
    size = QUICK if given.quick else WHOLE
    if given.studies or given.kills:
        size = smaller(size, given.studies or size.studies, given.kills or sum(size.kills.values()))
    # On few cores everything else may wait; inherited by all that is started here.
    os.nice(5)
    began = time.monotonic()
    report = storm.run(HOME, size, given.seed)
    caught = mutants.caught()
    return judge(report, size, given.seed, caught, round(time.monotonic() - began, 1))


def smaller(size: storm.Size, studies: int, kills: int) -> storm.Size:
    """The same storm with fewer kills: at least one of each part while there are enough."""
    total = sum(size.kills.values())
    shares = {name: max(1, kills * count // total) for name, count in size.kills.items()}
    names = sorted(shares, key=lambda name: -size.kills[name])
    while sum(shares.values()) != kills:
        step = 1 if sum(shares.values()) < kills else -1
        shares[max(names, key=lambda name: shares[name] if step < 0 else -shares[name])] += step
    return storm.Size(studies, shares, size.study_pause_s, size.kill_pause_s, size.settle_s)


def judge(report: storm.Report, size: storm.Size, seed: int, caught: dict[str, bool], seconds: float) -> int:
    """Write the figures against the goals; the exit code."""
    verdict = report.verdict
    lists = {
        "lost": verdict.lost,
        "duplicate": verdict.duplicate,
        "stuck": verdict.stuck,
        "shown": report.shown,
    }
    for name, found in lists.items():
        for text, count in Counter(found).items():
            print(f"{name}: {text} ({count} times)", file=sys.stderr)
    kills, wanted = sum(report.kills.values()), sum(size.kills.values())
    goals = [
        Goal("kills", kills, wanted),
        Goal("studies", size.studies, size.studies),
        Goal(
            "instances acknowledged", verdict.counted["instances_acknowledged"], size.studies * storm.SHAPE[2]
        ),
        Goal("lost", len(verdict.lost), 0, at_least=False),
        Goal("duplicate", len(verdict.duplicate), 0, at_least=False),
        Goal("stuck", len(verdict.stuck), 0, at_least=False),
        Goal("pages and metrics that do not answer truly", len(report.shown), 0, at_least=False),
        Goal("planted faults not noticed", list(caught.values()).count(False), 0, at_least=False),
    ]
    return record(
        "chaos", goals, kills=dict(report.kills), not_killed=dict(report.not_killed),
        kills_while_arriving=report.while_arriving, studies=size.studies, **verdict.counted,
        lost=len(verdict.lost), duplicate=len(verdict.duplicate), stuck=len(verdict.stuck),
        dead_then_retried=report.retried, mutants_caught=caught, seconds=seconds, phases_s=report.seconds, seed=seed,
        supervisor=f"the product's own; a part counts as healthy after {up.HEALTHY_S:g} s instead of 60",
        versions=versions(["radfleet", "ray", "psycopg", "pynetdicom", "openvino", "mlflow"], {}),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
