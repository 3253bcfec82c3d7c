"""MLflow's aliases follow the bindings, one way: a comparison of states, safe to repeat at any time.

``clinic-<slug>-<task>`` names the version that answers a whole clinic; narrower scopes have no alias. MLflow being
away stops no promotion, and no promotion waits for it: the part ``engine`` compares after every change of a binding
and every few minutes, ``radfleet promotion sync`` does by hand.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from registry import bindings_store, models
from registry.core.db import Conn
from registry.errors import MlflowAway, ModelNotInMlflow

AGAIN_S = 300.0
REST_S = 30.0


@dataclass(frozen=True, slots=True)
class Alias:
    """What became of one alias: set, right already, or waiting for a version that MLflow does not have."""

    clinic: str
    task: str
    digest: str
    state: str


def wanted(conn: Conn) -> Sequence[tuple[str, str, str]]:
    """Clinic, task and digest of every alias that there should be."""
    return bindings_store.wide(conn)


def follow(uri: str, rows: Sequence[tuple[str, str, str]]) -> Sequence[Alias]:
    """Point aliases at what is bound; outside any transaction, for MLflow may take its time. Raises MlflowAway."""
    found = []
    for slug, task, digest in rows:
        try:
            state = "set" if models.set_alias(uri, slug, task, digest) else "right"
        except ModelNotInMlflow:
            state = "not in MLflow"
        found.append(Alias(slug, task, digest, state))
    return found


@dataclass(slots=True)
class Follower:
    """Compares when something was bound, and all again every ``AGAIN_S``, for somebody may move an alias by hand."""

    uri: str
    clock: Callable[[], float] = time.monotonic
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)
    _again: float = 0.0
    _rest: float = 0.0

    def turn(self, rows: Sequence[tuple[str, str, str]]) -> Sequence[Alias]:
        """Follow what is new in ``rows``, or all; nothing for ``REST_S`` after MLflow was away. Raises MlflowAway."""
        now = self.clock()
        if now < self._rest:
            return []
        if now >= self._again:
            self._seen.clear()
        new = [row for row in rows if self._seen.get((row[0], row[1])) != row[2]]
        try:
            found = follow(self.uri, new) if new else []
        except MlflowAway:
            self._rest = now + REST_S
            raise
        if now >= self._again:
            self._again = now + AGAIN_S
        self._seen |= {(alias.clinic, alias.task): alias.digest for alias in found}
        return found
