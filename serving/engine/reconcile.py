"""Keeps the engine as the record wants it: deployed on Ray, every bound package on this node, MLflow's aliases right.

PostgreSQL decides; Ray, the node's cache and MLflow are brought to it. The loop is a Ray driver and ends with its head;
the supervisor starts it again, and it deploys again. Everything it does is safe to repeat.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from registry import bindings, models, processes
from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import Settings
from registry.errors import MlflowAway
from registry.promotions import aliases, moves
from serving.engine import app, cache, calls, errors
from serving.engine.package import verify_package

TURN_S = 2.0
DEPLOY_S_MAX = 240.0
FAILURES_MAX = 3
RETRY_S_MAX = 300.0
WARM_S_MAX = 30.0


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


@dataclass(slots=True)
class Warm:
    """Has the replicas load a version once its promotion is approved, so the first study after it does not wait.

    ``load`` is ``app.warm`` for a digest. Whatever goes wrong only costs the first study its second or two.
    """

    load: Callable[[str], int]
    _done: set[str] = field(default_factory=set)

    def turn(self, digests: Iterable[str]) -> None:
        """Load what was not loaded yet, one version a turn; what is not approved any more is forgotten."""
        wanted = {*digests}
        self._done &= wanted
        for digest in sorted(wanted - self._done)[:1]:
            self._done.add(digest)
            try:
                log().info("warmed", digest=digest, count=self.load(digest))
            except Exception as error:  # noqa: BLE001 - Ray's and Serve's own errors: the study loads it then
                log().warning("warm.failed", digest=digest, error_type=type(error).__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Digests that this node must have, those that its replicas may be asked for at any moment, MLflow's aliases."""

    here: Iterable[str]
    loaded: Iterable[str] = ()
    aliases: Sequence[tuple[str, str, str]] = ()


class Reconciler:
    """One connected driver that deploys, watches, prefetches and warms until its head is gone.

    ``wanted`` gives the digests that are bound or may be at any moment (``bindings.bound_digests``, ``moves.near``),
    and what each alias should name (``aliases.wanted``).
    """

    def __init__(self, settings: Settings, wanted: Callable[[], Wanted]) -> None:
        self._settings = settings
        self._wanted = wanted
        self._prefetch = Prefetch(settings)
        self._warm = Warm(self._load)
        self._aliases = aliases.Follower(settings.mlflow_uri())
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
        """Prefetch, see that the engine is there, warm, and follow with aliases. Raises ``EngineAway`` if it is not.

        An application that Serve itself is healing (a dead replica) is left to it.
        """
        wanted = self._wanted()
        missing = self._prefetch.turn(wanted.here)
        if not calls.head_answers(self._settings):
            raise errors.EngineAway("Ray's head does not answer")
        if "ABSENT" in app.states(self._names).values():
            self._names = app.deploy(self._settings)
            log().warning("engine.redeployed")
        self._warm.turn({*wanted.loaded} - {*missing})
        try:
            for alias in self._aliases.turn(wanted.aliases):
                log().info("alias.followed", task=alias.task, digest=alias.digest, state=alias.state)
        except MlflowAway as error:
            log().warning("alias.waits", code=error.code)

    def _load(self, digest: str) -> int:
        package = verify_package(models.place(self._settings.cache_dir, digest))
        return app.warm(str(package.model["runtime_class"]), digest, WARM_S_MAX)


def loop(settings: Settings, db: Database, stop: Callable[[], bool]) -> None:
    """Deploy, tell the supervisor that the engine is ready, and turn until ``stop``.

    Raises ``EngineAway`` when the head is gone: a driver cannot change its head, so the process ends and its
    supervisor starts a new one.
    """

    def wanted() -> Wanted:
        with db.system() as conn:
            near, approved = moves.near(conn)
            here = sorted({*bindings.bound_digests(conn)} | near)
            return Wanted(here, approved, aliases.wanted(conn))

    reconciler = Reconciler(settings, wanted)
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
