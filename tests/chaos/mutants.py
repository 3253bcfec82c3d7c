"""Runs the tests in which a fault is planted: each must be condemned, else the judges of this folder prove nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MUTANTS = {
    "acknowledge before commit": "tests/chaos/test_order.py::test_the_judge_condemns_a_door_with"
    "[acknowledge before commit]",
    "no fence": "tests/registry/core/test_queue.py::test_the_mutant_without_a_fence_is_caught",
    "drop FORCE": "tests/isolation/test_catalogue.py::test_every_seeded_hole_is_found"
    "[alter table serving.study no force row level security-serving.study: row-level security is not forced]",
}


def caught() -> dict[str, bool]:
    """Which planted faults were condemned. A test that is skipped or missing condemns nothing."""
    found = {}
    for name, test in MUTANTS.items():
        # No -q: the project sets one already, and with two the last line no longer says what passed.
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", test]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        found[name] = done.returncode == 0 and "1 passed" in done.stdout
        if not found[name]:
            print(done.stdout[-1500:] + done.stderr[-500:], file=sys.stderr)
    if shutil.which("strace") is None:
        print("the order of system calls cannot be judged without the outside tool strace", file=sys.stderr)
    return found
