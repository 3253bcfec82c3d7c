"""MLflow's aliases follow the bindings, one way: a comparison of states, safe to repeat at any time.

``clinic-<slug>-<task>`` names the version that answers a whole clinic; narrower scopes have no alias. MLflow being
away stops no promotion: the next comparison, ``radfleet promotion sync``, catches up with whatever was missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from registry import bindings_store, models
from registry.core.db import Conn
from registry.errors import MlflowAway, ModelNotInMlflow


@dataclass(frozen=True, slots=True)
class Alias:
    """What became of one alias: set, right already, or waiting for a version that MLflow does not have."""

    clinic: str
    task: str
    digest: str
    state: str


def wanted(conn: Conn, slug: str | None = None, task: str | None = None) -> Sequence[tuple[str, str, str]]:
    """Clinic, task and digest of every alias that there should be; perhaps only one clinic's or task's."""
    rows = bindings_store.wide(conn)
    return [row for row in rows if slug in (None, row[0]) and task in (None, row[1])]


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


def after_change(uri: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """The same after a change that is committed already: what to tell its maker, never an error."""
    try:
        waiting = [alias for alias in follow(uri, rows) if alias.state == "not in MLflow"]
    except MlflowAway:
        return "MLflow is away and its alias waits: radfleet promotion sync"
    return "MLflow does not have this version and its alias waits: radfleet promotion sync" if waiting else ""
