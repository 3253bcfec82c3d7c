"""kill -9 of the door while dcmtk sends: what was acknowledged is there. And the ledger catches a door that lies."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.chaos import door_ledger as ledger
from tests.kit.db import free_port
from tests.kit.dicom import mr_series, write_series
from tests.kit.world import World

pytestmark = pytest.mark.tool("storescu")


def start(fault, port):
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.door_child", fault, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline()
    return child


def end(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()


def kill_while_sending(world, tmp_path, fault, kills):
    """One sender, a door that is killed again and again; the balance at the end."""
    world.clinic("north")
    write_series(tmp_path / "in", mr_series(60))
    port, said = free_port(), tmp_path / "ledger"
    child = start(fault, port)
    sender = threading.Thread(
        target=ledger.send_all, args=(tmp_path / "in", port, "NORTH", "RADFLEET", ledger.Ledger(said)),
        kwargs={"give_up_s": 120},
    )  # fmt: skip
    sender.start()
    for _ in range(kills):
        begin, limit = len(ledger.read(said)), time.monotonic() + 30
        while len(ledger.read(said)) < begin + 8 and sender.is_alive() and time.monotonic() < limit:
            time.sleep(0.01)
        end(child)
        child = start(fault, port)
    sender.join(150)
    end(child)
    rows = world.sql('select "SOPInstanceUID", path from serving.instance')
    store = world.db.settings.store_dir
    return ledger.balance(ledger.read(said), [(uid, store / path) for uid, path in rows])


def test_nothing_acknowledged_is_lost(fresh_db, tmp_path):
    assert kill_while_sending(World(fresh_db), tmp_path, "", 4) == ledger.Balance(60, 0, 0, 0)


def test_the_ledger_catches_a_door_that_acknowledges_before_its_commit(fresh_db, tmp_path):
    assert kill_while_sending(World(fresh_db), tmp_path, "acknowledge before commit", 3).lost > 0


def test_the_balance_counts_each_kind_of_fault(tmp_path):
    paths = write_series(tmp_path / "in", mr_series(4))
    said = [ledger.entry(path) for path in paths]
    assert ledger.balance(said, [(s.uid, p) for s, p in zip(said, paths, strict=True)]) == ledger.Balance(
        4, 0, 0, 0
    )
    other = [
        (said[0].uid, paths[1]),
        (said[1].uid, paths[1]),
        (said[1].uid, paths[1]),
        (said[2].uid, tmp_path / "no"),
    ]
    assert ledger.balance(said, other) == ledger.Balance(4, 2, 1, 1)


def test_a_cut_line_of_the_ledger_does_not_count(tmp_path):
    path = tmp_path / "ledger"
    book = ledger.Ledger(path)
    book.write(ledger.Acknowledged("1.2", "ab"))
    with path.open("a") as file:
        file.write("1.3 c")
    assert ledger.read(path) == [ledger.Acknowledged("1.2", "ab")]
