"""Model versions: what a digest stands for. A row is written once and only its MLflow label is ever filled in."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from registry import events, versions_store
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import VersionAmbiguous, VersionTaken, VersionUnknown
from registry.versions_store import Version

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


def add(
    conn: Conn,
    digest: str,
    model: Mapping[str, Any],
    card: Mapping[str, Any],
    *,
    by: str,
    signed_by: str = "",
) -> Version:
    """Record the version of a verified package; the same digest again changes nothing.

    ``model`` and ``card`` are the package's model.json and card.json. Needs a system transaction. Raises
    VersionTaken when the name@version stands for other bytes.
    """
    if versions_store.add(conn, digest, model, card, signed_by=signed_by, by=by):
        body = {"digest": digest, "name": model["name"], "version": model["version"], "task": model["task"]}
        events.append(conn, events.MODELS, by, "version.added", body)
    version = versions_store.by_digest(conn, digest)
    if version is None:
        raise VersionTaken(f"{model['name']}@{model['version']} is registered with another digest")
    return version


def by_digest(conn: Conn, digest: str) -> Version:
    """The version with exactly this digest. Raises VersionUnknown."""
    version = versions_store.by_digest(conn, digest)
    if version is None:
        raise VersionUnknown("no model version has this digest")
    return version


def by_name(conn: Conn, text: str) -> Version:
    """The version that a person means: ``name@version``, a digest, or at least six first digits of one.

    Raises VersionUnknown, VersionAmbiguous.
    """
    name, at, version = text.rpartition("@")
    prefix = _PREFIX.fullmatch(text)
    if at:
        found = versions_store.find(conn, name=name, version=version, prefix=None)
    elif prefix:
        found = versions_store.find(conn, name=None, version=None, prefix=f"sha256:{prefix[1]}")
    else:
        raise VersionUnknown("this is neither name@version nor the beginning of a digest")
    if not found:
        raise VersionUnknown("no model version has this name or digest")
    if len(found) > 1:
        raise VersionAmbiguous(f"{found[0].label} and {found[1].label} both begin so")
    return found[0]


def list(conn: Conn, task: str | None = None, *, limit: int = LIMITS.page_rows) -> Sequence[Version]:
    """Versions, the newest first."""
    return versions_store.page(conn, task, limit)


def show(conn: Conn, text: str) -> Version:
    """As ``by_name``: everything known about one version, with its card."""
    return by_name(conn, text)


def set_mlflow(conn: Conn, digest: str, name: str, version: str) -> None:
    """Fill in where MLflow has this version. Raises VersionUnknown."""
    if not versions_store.set_mlflow(conn, digest, name, version):
        raise VersionUnknown("no model version has this digest")
