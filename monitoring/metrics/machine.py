"""What this machine can say without the database: parts of the supervisor, room on disk, who answers."""

import shutil
from collections.abc import Iterator
from typing import Any

import httpx

from monitoring.metrics.samples import Sample
from registry import installation
from registry.cli import product_version
from registry.core.settings import LIMITS, Settings
from registry.installation import State, UpLock

ANSWER_S = 2.0


def samples(settings: Settings) -> Iterator[Sample]:
    """(metric, label values, value). What does not run here is not shown: a pod has neither supervisor nor store."""
    yield "radfleet_build_info", (product_version(),), 1
    for row in _parts(settings):
        yield "radfleet_part_ready", (row["part"],), row["state"] in (State.READY, State.DONE)
        yield "radfleet_part_restarts_total", (row["part"],), row["restarts"]
    yield "radfleet_door_ready", (), _answers(f"{door(settings)}/readyz")
    yield "radfleet_mlflow_up", (), _answers(f"{settings.mlflow_uri()}/health")
    if settings.store_dir.is_dir():
        yield "radfleet_store_free_bytes", (), shutil.disk_usage(settings.store_dir).free
        yield "radfleet_store_reserve_bytes", (), LIMITS.disk_free_bytes_min


def door(settings: Settings) -> str:
    """Where the HTTP door answers."""
    local = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104 - compared, not bound
    return settings.door_url or f"http://{local}:{settings.http_port}"


def _parts(settings: Settings) -> list[dict[str, Any]]:
    """The supervisor's own record; what a dead one wrote last is no news and is not shown."""
    holder, record = UpLock(settings.root).holder(), installation.read(settings.root)
    return record.parts if record and holder == record.supervisor else []


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=ANSWER_S).status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
