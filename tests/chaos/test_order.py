"""Promise P1 in system calls: sync, rename, sync, commit, and only then the answer. And the judge can condemn."""

import subprocess
import sys
import time

import pytest

from serving.doors import scu
from tests.chaos import door_child, order
from tests.kit.dicom import mr_series, write_series
from tests.kit.world import World

pytestmark = pytest.mark.tool("strace")
OBJECTS = 6


@pytest.fixture
def world(fresh_db):
    return World(fresh_db)


def trace(tmp_path, fault):
    """Run a door under strace with one fault (or none), send six objects, judge what it did."""
    path = tmp_path / "trace"
    child = subprocess.Popen(
        ["strace", *order.TRACE, "-o", str(path), sys.executable, "-m", "tests.chaos.door_child", fault],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(child.stdout.readline())
        write_series(tmp_path / "in", mr_series(OBJECTS))
        report = scu.send(tmp_path / "in", to=f"127.0.0.1:{port}", calling="NORTH", called="RADFLEET")
        assert report.received == OBJECTS
        time.sleep(0.6)  # what a faulty door commits late, it commits by then
    finally:
        child.stdin.close()
        child.wait(30)
        child.stdout.close()
    return order.judge(path, port)


def test_no_answer_is_ahead_of_the_bytes_or_the_row(world, tmp_path):
    world.clinic("north")
    verdict = trace(tmp_path, "")
    assert verdict == order.Verdict(OBJECTS, ())
    assert world.sql("select count(*) from serving.instance") == [(OBJECTS,)]


@pytest.mark.parametrize("fault", door_child.FAULTS)
def test_the_judge_condemns_a_door_with(world, tmp_path, fault):
    world.clinic("north")
    verdict = trace(tmp_path, fault)
    assert verdict.answers == OBJECTS
    assert len(verdict.broken) >= OBJECTS - 1
