"""`radfleet engine` for the tests: the real loop and the real host, with the toy network known to both."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any

from registry import bindings
from registry.core.settings import settings
from registry.promotions import moves
from serving.engine import app, reconcile
from serving.engine.host import Host
from tests.serving.engine.toy import install

HERE = "tests.serving.engine.toy_engine:build"


class ToyHost(Host):
    """A replica that knows the toy."""

    def __init__(self, **args: Any) -> None:
        install()
        super().__init__(**args)


def build(args: dict[str, Any]) -> Any:
    from ray import serve

    return serve.deployment(ToyHost, name="Host").bind(**args)


class NoDatabase:
    @contextmanager
    def system(self) -> Any:
        yield None


def main() -> None:
    document = app.document

    def toy_document(*args: Any) -> dict[str, Any]:
        wanted = document(*args)
        for application in wanted["applications"]:
            application["import_path"] = HERE
        return wanted

    app.document = toy_document
    bindings.bound_digests = lambda conn: json.loads(sys.argv[1])
    moves.near = lambda conn: (set(), {*json.loads(sys.argv[2])})
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    reconcile.loop(settings(), NoDatabase(), stop.is_set)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
