"""Keeps the engine as the record wants it: deployed on Ray, and every bound package on this node.

PostgreSQL decides; Ray and the node's cache are brought to it. The loop is a Ray driver and ends with its head; the
supervisor starts it again, and it deploys again. Everything it does is safe to repeat.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from registry import bindings, models, processes
from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import Settings
from serving.engine import app, cache, calls, errors

TURN_S = 2.0
DEPLOY_S_MAX = 240.0
FAILURES_MAX = 3
RETRY_S_MAX = 300.0


@dataclass(slots=True)
class Prefetch:
    """Brings every bound package to this node before a study asks for it, so a promotion waits for nothing.

    A package that cannot be fetched is tried again after 2, 4, 8 ... s, at most 5 minutes.
    """

    settings: Settings
    clock: Callable[[], float] = time.monotonic
    _next: dict[str, tuple[float, float]] = field(default_factory=dict)

    def turn(self, digests: Iterable[str]) -> list[str]:
        """Fetch what is missing and due; returns the digests that still are missing."""
        missing = []
        for digest in digests:
            if models.place(self.settings.cache_dir, digest).is_dir():
                self._next.pop(digest, None)
                continue
            due, wait = self._next.get(digest, (0.0, TURN_S))
            if self.clock() < due:
                missing.append(digest)
                continue
            try:
                cache.ensure(self.settings.mlflow_uri(), digest, self.settings.cache_dir)
                log().info("prefetched", digest=digest)
            except RadfleetError as error:
                log().warning("prefetch.waits", digest=digest, code=error.code, reason=error.why_text)
                self._next[digest] = (self.clock() + wait, min(2 * wait, RETRY_S_MAX))
                missing.append(digest)
        return missing


class Reconciler:
    """One connected driver that deploys, watches and prefetches until its head is gone.

    ``bound`` gives every digest bound anywhere (``registry.bindings.bound_digests``).
    """

    def __init__(self, settings: Settings, bound: Callable[[], Iterable[str]]) -> None:
        self._settings = settings
        self._bound = bound
        self._prefetch = Prefetch(settings)
        self._names: list[str] = []

    def deploy(self) -> None:
        """Join Ray, deploy, and wait until every application runs. Raises ``EngineAway``."""
        if not calls.head_answers(self._settings):
            raise errors.EngineAway("Ray's head does not answer")
        app.connect(calls.address(self._settings))
        self._names = app.deploy(self._settings)
        end = time.monotonic() + DEPLOY_S_MAX
        while (states := app.states(self._names)) and set(states.values()) != {"RUNNING"}:
            if time.monotonic() > end or "DEPLOY_FAILED" in states.values():
                raise errors.EngineAway(
                    "The engine did not come up on Ray", ", ".join(sorted(states.values()))
                )
            time.sleep(TURN_S / 4)
        log().info("engine.deployed", count=len(self._names))

    def turn(self) -> None:
        """Prefetch, and see that the engine is still there. Raises ``EngineAway`` when it is not.

        An application that Serve itself is healing (a dead replica) is left to it.
        """
        self._prefetch.turn(self._bound())
        if not calls.head_answers(self._settings):
            raise errors.EngineAway("Ray's head does not answer")
        if "ABSENT" in app.states(self._names).values():
            self._names = app.deploy(self._settings)
            log().warning("engine.redeployed")


def loop(settings: Settings, db: Database, stop: Callable[[], bool]) -> None:
    """Deploy, tell the supervisor that the engine is ready, and turn until ``stop``.

    Raises ``EngineAway`` when the head is gone: a driver cannot change its head, so the process ends and its
    supervisor starts a new one.
    """

    def bound() -> list[str]:
        with db.system() as conn:
            return bindings.bound_digests(conn)

    reconciler = Reconciler(settings, bound)
    reconciler.deploy()
    processes.announce_ready()
    failures = 0
    while not stop():
        try:
            reconciler.turn()
            failures = 0
        except RadfleetError as error:
            failures += 1
            log().warning("engine.turn_failed", code=error.code, count=failures)
            if isinstance(error, errors.EngineAway) and failures >= FAILURES_MAX:
                raise
        time.sleep(TURN_S)
