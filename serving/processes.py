"""Serving's long-running processes, one command each: the same commands are the workloads of a cluster."""

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from registry.core import logs
from registry.core.settings import Settings, settings
from registry.processes import announce_ready
from registry.verbs import database

if TYPE_CHECKING:
    from registry.core.db import Database

door = typer.Typer(help="The ways in, each one process.", no_args_is_help=True)


def _service(part: str) -> tuple[Settings, "Database", Callable[[], bool]]:
    """Set up one long-running process: logs, database, and a stop flag that SIGTERM and Ctrl-C raise."""
    its = settings()
    logs.configure(part, level=its.log_level, as_json=its.log_json)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return its, database(its), stop.is_set


@door.command("dicom")
def door_dicom() -> None:
    """Receive C-STORE and C-ECHO."""
    from serving.doors import scp

    its, db, stop = _service("door-dicom")
    scp.serve(its, db, stop)


@door.command("http")
def door_http() -> None:
    """Receive STOW-RS."""
    from serving.doors import http

    its, db, _ = _service("door-http")
    http.serve(its, db)


def work() -> None:
    """Answer studies: claim, prepare, infer, write results."""
    from serving.engine import dispatch
    from serving.engine.calls import RayEngine

    its, db, stop = _service("work")
    announce_ready()
    dispatch.loop(dispatch.Worker(its, db, RayEngine(its)), stop)


def engine() -> None:
    """Keep the Ray Serve deployments as they should be, and the node's package cache warm."""
    from serving.engine.reconcile import loop

    its, db, stop = _service("engine")
    loop(its, db, stop)


def deliver() -> None:
    """Send results out of the outbox."""
    from serving.results import deliver_loop

    its, db, stop = _service("deliver")
    announce_ready()
    deliver_loop.loop(its, db, stop)


def sweep() -> None:
    """Close complete studies, return expired leases, remove orphan files."""
    from serving.doors.filestore import Filestore
    from serving.doors.record import known_paths
    from serving.studies import sweep as sweeping

    its, db, stop = _service("sweep")
    store = Filestore(its.store_dir, free_bytes_min=0)
    announce_ready()
    sweeping.loop(db, lambda: store.sweep(known_paths(db)), stop, lease_s=its.lease_s)
