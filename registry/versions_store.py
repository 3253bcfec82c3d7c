"""Rows of model versions; the digest of the package is the key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from registry.core.db import Conn


@dataclass(frozen=True, slots=True)
class Version:
    """One model version. ``model`` and ``card`` are the package's own documents; ``mlflow_*`` its label there."""

    digest: str
    name: str
    version: str
    task: str
    runtime_class: str
    signed_by: str
    mlflow_name: str | None
    mlflow_version: str | None
    model: dict[str, Any]
    card: dict[str, Any]
    created_by: str
    created_at: datetime

    @property
    def label(self) -> str:
        """``name@version``, as people write it."""
        return f"{self.name}@{self.version}"


ADD = """
insert into registry.model_version(digest, name, version, task, runtime_class, signed_by, model, card, created_by)
values (%(digest)s, %(name)s, %(version)s, %(task)s, %(runtime_class)s, %(signed_by)s, %(model)s, %(card)s, %(by)s)
on conflict do nothing returning 1"""


def add(
    conn: Conn, digest: str, model: Mapping[str, Any], card: Mapping[str, Any], *, signed_by: str, by: str
) -> bool:
    """Add a version; False where the digest or the name@version is there already."""
    values = {
        "digest": digest, "name": model["name"], "version": model["version"], "task": model["task"],
        "runtime_class": model["runtime_class"], "signed_by": signed_by, "model": Jsonb(dict(model)),
        "card": Jsonb(dict(card)), "by": by,
    }  # fmt: skip
    return conn.execute(ADD, values).fetchone() is not None


BY_DIGEST = """
select digest, name, version, task, runtime_class, signed_by, mlflow_name, mlflow_version, model, card, created_by,
  created_at
from registry.model_version where digest = %(digest)s"""


def by_digest(conn: Conn, digest: str) -> Version | None:
    """The version with this digest."""
    with conn.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(BY_DIGEST, {"digest": digest}).fetchone()


FIND = """
select digest, name, version, task, runtime_class, signed_by, mlflow_name, mlflow_version, model, card, created_by,
  created_at
from registry.model_version
where (name = %(name)s and version = %(version)s) or starts_with(digest, %(prefix)s)
order by created_at, digest limit 2"""


def find(conn: Conn, *, name: str | None, version: str | None, prefix: str | None) -> Sequence[Version]:
    """At most two versions with this name and version, or whose digest starts so: two mean ambiguous."""
    with conn.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(FIND, {"name": name, "version": version, "prefix": prefix}).fetchall()


PAGE = """
select digest, name, version, task, runtime_class, signed_by, mlflow_name, mlflow_version, model, card, created_by,
  created_at
from registry.model_version
where (%(task)s::text is null or task = %(task)s) order by created_at desc, digest limit %(limit)s"""


def page(conn: Conn, task: str | None, limit: int) -> Sequence[Version]:
    """Versions, the newest first."""
    with conn.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(PAGE, {"task": task, "limit": limit}).fetchall()


SET_MLFLOW = """
update registry.model_version set mlflow_name = %(name)s, mlflow_version = %(version)s
where digest = %(digest)s returning 1"""


def set_mlflow(conn: Conn, digest: str, name: str, version: str) -> bool:
    """Fill in the MLflow label; False where there is no such version."""
    return (
        conn.execute(SET_MLFLOW, {"digest": digest, "name": name, "version": version}).fetchone() is not None
    )
