"""Model versions: what exists, where each one answers, and what its card says it is not."""

from typing import Any

from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.render import Page
from registry import versions
from registry.versions_store import Version


def many(visit: Visit) -> Page:
    """Every version with the number of clinics that it answers."""
    with visit.reading() as conn:
        found, bound = versions.list(conn), views_store.bound(conn)
    where: dict[str, set[str]] = {}
    for row in bound:
        where.setdefault(row["digest"], set()).add(row["clinic"])
    rows = [_row(version) | {"clinics": sorted(where.get(version.digest, ()))} for version in found]
    rows.sort(key=lambda row: (row["task"], -len(row["clinics"])))
    used = sum(bool(row["clinics"]) for row in rows)
    heading = (
        f"{used} of {words.count(len(rows), 'version')} {'answers' if used == 1 else 'answer'} somewhere."
    )
    if not rows:
        heading = "Register the first version: radfleet model register PATH."
    return Page("models.html", "/models", heading, {"models": rows})


def one(visit: Visit) -> Page:
    """One version. Raises VersionUnknown, VersionAmbiguous."""
    with visit.reading() as conn:
        version = versions.by_name(conn, visit.args["digest"])
        bound = views_store.bound(conn, digest=version.digest)
    clinics = sorted({row["clinic"] for row in bound})
    facts = {
        "model": _row(version),
        "card": version.card,
        "bound": bound,
        "accepts": version.model.get("accepts", {}),
    }
    told = f"answers {words.count(len(clinics), 'clinic')}" if clinics else "answers nobody"
    return Page("model.html", "/models", f"{version.label} {told}: research use only.", facts)


def _row(version: Version) -> dict[str, Any]:
    card = version.card
    return {
        "name": version.name, "version": version.version, "task": version.task, "digest": version.digest,
        "runtime_class": version.runtime_class, "signed_by": version.signed_by, "mlflow_name": version.mlflow_name,
        "mlflow_version": version.mlflow_version, "created_by": version.created_by, "created_at": version.created_at,
        "summary": str(card.get("summary", "")), "parent": card.get("parent"),
    }  # fmt: skip
