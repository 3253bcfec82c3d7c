"""How long pages and /metrics take with a fleet of 1,000 clinics: the real servers over loopback, asked one by one.

Database, servers and client share one core (`--cores 0`: all there are). A request is a whole page: session, SQL,
template, bytes. Each address is asked once before the clock. The fleet is made up (thousand.py).

Run: python -m tests.bench.web [--quick] [--requests N] [--clinics N] [--studies N] [--cores N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from registry import accounts
from registry.core import db
from registry.core.settings import settings
from registry.sign_in import sessions
from tests.bench import thousand
from tests.bench.record import Goal, record, versions
from tests.kit.db import free_port

FLEET_GOAL_S, SCRAPE_GOAL_S, SAMPLES_A_CLINIC = 0.2, 1.0, 60
PAGES = ("/", "/index.json", "/clinics/c0013", "/work", "/flags", "/vendors", "/studies")
"""c0013 has an open flag."""


@contextmanager
def part(name: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """A part of an installation as its own process; its address."""
    code = "from registry.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, name], env=dict(environment), stdout=sys.stderr)
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{base}/healthz", timeout=5)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait(20)


def timed(client: httpx.Client, path: str, requests: int) -> dict[str, Any]:
    """Seconds of each of so many requests, one after the other: median, 95 %, largest."""
    size = len(client.get(path).raise_for_status().content)
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        took.append(time.perf_counter() - began)
    p50, p95 = np.quantile(took, (0.5, 0.95))
    row = {
        "n": requests,
        "p50_s": round(p50, 4),
        "p95_s": round(p95, 4),
        "max_s": round(max(took), 4),
        "bytes": size,
    }
    print(f"{path:18} p50 {p50 * 1000:6.0f} ms  p95 {p95 * 1000:6.0f} ms  {size / 1000:.0f} kB", flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description="Pages and /metrics with a fleet of 1,000 clinics.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--requests", type=int)
    parser.add_argument("--clinics", type=int, default=1000)
    parser.add_argument("--studies", type=int)
    parser.add_argument("--cores", type=int, default=1)
    asked = parser.parse_args()
    requests, studies = (
        asked.requests or (20 if asked.quick else 100),
        asked.studies or (40 if asked.quick else 200),
    )
    if asked.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    with thousand.empty() as server, tempfile.TemporaryDirectory(prefix="radfleet-bench-") as home:
        began = time.perf_counter()
        with server.connect(thousand.DATABASE) as conn:
            rows = thousand.fill(conn, asked.clinics, studies)
        print(f"filled in {time.perf_counter() - began:.0f} s: {rows}", flush=True)
        web, metrics = free_port(), free_port()
        its = {
            "RADFLEET_HOME": home, "RADFLEET_DATABASE_URL": server.dsn("{role}", thousand.DATABASE),
            "RADFLEET_WEB_PORT": str(web), "RADFLEET_METRICS_PORT": str(metrics),
        }  # fmt: skip
        os.environ |= its
        settings.cache_clear()
        its_db = db.database(settings())
        with its_db.system() as system:
            accounts.add(system, "anna", "admin", by="bench")
            token = sessions.begin(system, "anna", sessions.add_key(system, "anna", by="anna"))
        its_db.close()
        with part("web", web, os.environ) as base, httpx.Client(base_url=base, timeout=60) as client:
            client.cookies.set("radfleet_session", token)
            pages = {
                path: timed(client, path, requests if path == "/" else max(5, requests // 5))
                for path in PAGES
            }
        with part("metrics", metrics, os.environ) as base, httpx.Client(base_url=base, timeout=60) as client:
            scrape = timed(client, "/metrics", max(5, requests // 5))
            lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    scrape["samples"] = len(lines)
    print(f"{len(lines)} samples, {len(lines) / asked.clinics:.1f} a clinic")
    goals = [
        Goal("fleet page, p95 seconds", pages["/"]["p95_s"], FLEET_GOAL_S, at_least=False),
        Goal("scrape of /metrics, p95 seconds", scrape["p95_s"], SCRAPE_GOAL_S, at_least=False),
        Goal("samples a clinic", len(lines) / asked.clinics, SAMPLES_A_CLINIC, at_least=False),
    ]
    return record(
        "bench-web", goals, pages=pages, scrape=scrape, rows=rows, clinics=asked.clinics, studies_a_clinic=studies,
        cores=asked.cores or os.cpu_count(), quick=asked.quick, seed=None,
        versions=versions(("radfleet", "fastapi", "uvicorn", "psycopg", "jinja2"), {}),
        conditions="made-up fleet without random choice; database, server and client share the cores; fsync off",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
