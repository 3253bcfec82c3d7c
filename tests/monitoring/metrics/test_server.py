"""The part "metrics" as a process: what it answers, and that it ends when told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from monitoring.alerts import rules
from tests.house.tree import ROOT
from tests.kit.db import FreshDb, free_port


@pytest.fixture
def address(fresh_db: FreshDb) -> Iterator[str]:
    """Where a server of this test's database listens."""
    port = free_port()
    env = {**os.environ, "RADFLEET_METRICS_PORT": str(port), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "registry.cli", "metrics"], env=env) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"{url}/healthz")
                break
            except httpx.HTTPError:
                assert process.poll() is None
                time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "it ends when told"


def test_what_it_answers(address: str) -> None:
    metrics = httpx.get(f"{address}/metrics")
    assert metrics.status_code == 200
    assert "radfleet_up 1.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain")
    (name, *_) = rules.runbooks()
    assert httpx.get(f"{address}/runbooks/{name}").text == rules.runbooks()[name]
    for path in ("/", "/runbooks/", "/runbooks/../rules", "/runbooks/%2e%2e/rules.yaml", "/metrics/x"):
        assert httpx.get(f"{address}{path}").status_code == 404, path
    assert httpx.post(f"{address}/metrics", content=b"x").status_code == 404
