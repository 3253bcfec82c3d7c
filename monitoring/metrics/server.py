"""The part "metrics": ``/metrics`` for Prometheus, ``/healthz``, and the runbooks that alerts link to."""

import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from monitoring.alerts import rules
from monitoring.metrics.collector import collector
from registry.core.db import Database
from registry.core.logs import log
from registry.core.settings import Settings
from registry.processes import announce_ready

Start = Callable[[str, list[tuple[str, str]]], Any]
_RUNBOOKS = "/runbooks/"


class _Quiet(WSGIRequestHandler):
    """No line for each scrape, and no scraper that holds a thread for ever."""

    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def application(settings: Settings, db: Database) -> Callable[[Mapping[str, Any], Start], Iterable[bytes]]:
    """The WSGI application. It knows three addresses and reads no body."""
    metrics: Any = make_wsgi_app(collector(settings, db))

    def serve(environ: Mapping[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics" and environ.get("REQUEST_METHOD") in ("GET", "HEAD"):
            answer: Iterable[bytes] = metrics(environ, start)
            return answer
        name = path.removeprefix(_RUNBOOKS)
        if path == "/healthz":
            status, text = "200 OK", "ok\n"
        elif path.startswith(_RUNBOOKS) and name in rules.runbooks():
            status, text = "200 OK", rules.runbooks()[name]
        else:
            status, text = "404 Not Found", "/metrics, /healthz and /runbooks/NAME are here\n"
        start(status, [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")])
        return [text.encode()]

    return serve


def serve(settings: Settings, db: Database) -> None:
    """Listen until told to stop."""
    app: Any = application(settings, db)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with make_server(settings.bind, settings.metrics_port, app, ThreadingWSGIServer, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        log().info("metrics.open", port=settings.metrics_port)
        announce_ready()
        stop.wait()
        server.shutdown()
