"""A flag row -> /metrics -> Prometheus -> Alertmanager -> a receiver: the shipped configurations, with real servers."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from wsgiref.simple_server import make_server

import httpx
import pytest
import yaml
from prometheus_client.exposition import ThreadingWSGIServer

from monitoring.alerts import rules
from monitoring.metrics import server
from tests.kit.db import free_port
from tests.kit.world import World
from tests.monitoring import fleet

WITHIN_S = 90.0


class Receiver(BaseHTTPRequestHandler):
    """Keeps what Alertmanager posts: (path, document)."""

    got: "Queue[tuple[str, Any]]"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.put((self.path, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(it: Any) -> Iterator[int]:
    thread = threading.Thread(target=it.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(it.server_address[1])
    finally:
        it.shutdown()
        it.server_close()


@contextmanager
def process(argv: list[str], ready: str) -> Iterator[None]:
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as it:
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                assert it.poll() is None, f"{argv[0]} ended"
                try:
                    if httpx.get(ready).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield
        finally:
            it.terminate()
            it.wait(20)


def configurations(folder: Path, metrics: int, alertmanager: int, receiver: int) -> None:
    """The shipped examples with this test's ports, and seconds in the place of minutes."""
    prometheus = yaml.safe_load((rules.FOLDER / "prometheus.example.yaml").read_text())
    prometheus["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["scrape_configs"][0]["scrape_timeout"] = "1s"
    prometheus["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{metrics}"]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(prometheus))
    (folder / "rules.yaml").write_text(rules.RULES.read_text())
    example = yaml.safe_load((rules.FOLDER / "alertmanager.example.yaml").read_text())
    example["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    example["route"]["routes"][0]["group_wait"] = "1s"
    for one in example["receivers"]:
        hook = one["webhook_configs"][0]
        hook["url"] = hook["url"].replace(":9095", f":{receiver}")
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(example))


def flag(world: World, clinic: fleet.Clinic, kind: str) -> None:
    """One open flag of the clinic's only stream."""
    world.sql(
        "insert into monitoring.flag(clinic_id, stream_id, kind, epoch, subject, seq, since_seq, since_at, statistic,"
        " threshold, sentence, would_change) select %s, stream_id, %s, epoch, 'x', 5, 4, now(), 9, 8, 's', 'w'"
        " from monitoring.stream_state where clinic_id = %s", clinic.id, kind, clinic.id,
    )  # fmt: skip


def arrives(got: "Queue[tuple[str, Any]]", name: str, status: str = "firing") -> tuple[str, dict[str, Any]]:
    """Wait for an alert of that name; which receiver got it, and the alert."""
    until, seen = time.monotonic() + WITHIN_S, set()
    while (left := until - time.monotonic()) > 0:
        try:
            path, document = got.get(timeout=left)
        except Empty:
            break
        for alert in document["alerts"]:
            seen.add((alert["labels"]["alertname"], alert["status"]))
            if alert["labels"]["alertname"] == name and alert["status"] == status:
                return path, alert
    raise AssertionError(f"{name} did not arrive within {WITHIN_S:.0f} s; these did: {sorted(seen)}")


@pytest.mark.tool("prometheus", "prometheus-alertmanager")
def test_a_flag_reaches_the_receiver_and_ends_there(world: World, tmp_path: Path) -> None:
    world.version()
    clinic = fleet.Clinic(world)
    world.bind(clinic.id)
    clinic.many(3)
    fleet.drain(world)
    got: Queue[tuple[str, Any]] = Queue()
    app: Any = server.application(world.db.settings, world.db.database)
    prometheus, alertmanager = free_port(), free_port()
    with ExitStack() as stack:
        handler = type("Handler", (Receiver,), {"got": got})
        receiver = stack.enter_context(served(ThreadingHTTPServer(("127.0.0.1", 0), handler)))
        metrics = stack.enter_context(
            served(make_server("127.0.0.1", 0, app, ThreadingWSGIServer, server._Quiet))
        )
        configurations(tmp_path, metrics, alertmanager, receiver)
        stack.enter_context(process(
            ["prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yaml", f"--storage.path={tmp_path}/am",
             f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address="],
            f"http://127.0.0.1:{alertmanager}/-/ready",
        ))  # fmt: skip
        flag(world, clinic, "drift")
        # Prometheus finds its Alertmanager only after seconds; what fires before is sent again after this delay.
        stack.enter_context(process(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/tsdb",
             f"--web.listen-address=127.0.0.1:{prometheus}", "--rules.alert.resend-delay=2s"],
            f"http://127.0.0.1:{prometheus}/-/ready",
        ))  # fmt: skip
        path, alert = arrives(got, "RadfleetFlagRaised")
        assert path == "/qa"
        assert alert["labels"] | {"clinic": "north", "kind": "drift"} == alert["labels"]
        assert "north, brain-extraction: drift" in alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == "http://127.0.0.1:18091/runbooks/RadfleetFlagRaised"
        # The address that the alert gives is one that our server answers.
        answer = httpx.get(alert["annotations"]["runbook_url"].replace(":18091", f":{metrics}"))
        assert answer.text.startswith("# RadfleetFlagRaised")
        world.sql("update monitoring.flag set state = 'acknowledged', acknowledged_by = 'anna',"
                  " acknowledged_at = now(), acknowledged_reason = 'r'")  # fmt: skip
        arrives(got, "RadfleetFlagRaised", "resolved")
