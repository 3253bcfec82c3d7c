"""A missing tool is skipped by name, and fails in CI; no test reaches another machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT

TOY = """
import socket
import pytest

@pytest.mark.tool("no-such-tool-anywhere")
def test_tool():
    pass

def test_socket():
    with socket.socket() as sock:
        sock.connect(("192.0.2.1", 9))

def test_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
"""


def play(folder: Path, in_ci: str) -> str:
    """The report of pytest over a toy file under our own conftest."""
    (folder / "test_toy.py").write_text(TOY)
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), "-rs"]
    env = {**os.environ, "RADFLEET_CI": in_ci, "PYTHONPATH": str(ROOT)}
    argv += ["--rootdir", str(folder), "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("in_ci", "counts"), [("0", "1 failed, 1 passed, 1 skipped"), ("1", "1 failed, 1 passed, 1 error")]
)
def test_a_missing_tool_is_named(tmp_path: Path, in_ci: str, counts: str) -> None:
    report = play(tmp_path, in_ci)
    assert counts in report, report
    assert "needs the outside tool no-such-tool-anywhere" in report
    assert "a test tried to connect to another machine" in report
