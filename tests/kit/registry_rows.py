"""Clinics and versions for tests that need some to be there."""

from typing import Any

from registry import clinics, versions
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.versions_store import Version

TASK = "ms-lesion"


def add_clinic(conn: Conn, slug: str = "lakeside", **facts: Any) -> Clinic:
    """A registered clinic."""
    return clinics.add(conn, slug, slug.title(), by="test", **facts)


def add_version(conn: Conn, version: str = "1.0.0", task: str = TASK) -> Version:
    """A version whose digest is made from its name: no package stands behind it."""
    import hashlib

    digest = "sha256:" + hashlib.sha256(f"{task}@{version}".encode()).hexdigest()
    model = {"name": task, "version": version, "task": task, "runtime_class": "cpu-small"}
    return versions.add(conn, digest, model, {"people": 0}, by="test")
