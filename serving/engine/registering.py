"""Registers a package: verify every byte, keep it by its digest, store its row, show it in MLflow once."""

import shutil
from pathlib import Path

from registry import models, versions
from registry.core.db import Database
from registry.core.settings import Settings
from serving.engine import signature
from serving.engine.package import Package, verify_package

PUBLISHER = Path(__file__).parents[1] / "packages" / "publisher.pub"


def register(settings: Settings, db: Database, folder: Path, by: str) -> Package:
    """Register the package in ``folder`` and return it verified. Safe to repeat: the digest is the key.

    The row comes first: PostgreSQL is the record and MLflow its projection, so with MLflow away the version
    exists and the same command later only completes its label. Raises the Package errors and Unavailable.
    """
    package = verify_package(folder, signature.trusted_keys([PUBLISHER]) if PUBLISHER.exists() else None)
    keep(settings, package)
    with db.system() as conn:
        versions.add(
            conn,
            digest=package.digest,
            model=package.model,
            card=package.card,
            signed_by=package.signed_by or "",
            by=by,
        )
    label = models.register(settings.mlflow_uri(), folder, package.digest, package.model)
    with db.system() as conn:
        versions.set_mlflow(conn, package.digest, label.name, label.version)
    return package


def keep(settings: Settings, package: Package) -> Path:
    """Copy a verified package into this node's cache under its digest; an existing copy stays."""
    place = settings.cache_dir / package.digest.removeprefix("sha256:")
    if not place.exists():
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        fresh = settings.cache_dir / f".{place.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(package.path, fresh)
        verify_package(fresh)
        fresh.rename(place)
    return place
