"""Model versions: what exists, where each one answers, and what its card says it is not."""

from typing import Any

from monitoring.web import views_store, words
from monitoring.web.desk import Visit
from monitoring.web.render import Page
from registry import local_versions_store, versions
from registry.errors import VersionUnknown
from registry.versions_store import Version


def many(visit: Visit) -> Page:
    """Every version with the number of clinics that it answers."""
    hidden = _hidden(visit)
    with visit.reading() as conn:
        found, bound = versions.list(conn), views_store.bound(conn)
    where: dict[str, set[str]] = {}
    for row in bound:
        where.setdefault(row["digest"], set()).add(row["clinic"])
    rows = [
        _row(version) | {"clinics": sorted(where.get(version.digest, ()))}
        for version in found
        if version.digest not in hidden
    ]
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
    hidden = _hidden(visit)
    with visit.reading() as conn:
        version = versions.by_name(conn, visit.args["digest"])
        if version.digest in hidden:
            raise VersionUnknown("no model version has this name or digest")
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


def _hidden(visit: Visit) -> set[str]:
    """Digests that this session must not learn of: a version of another clinic's people says how many there are."""
    if not visit.who.clinic_id:
        return set()
    with visit.desk.db.system() as conn:
        return local_versions_store.others(conn, visit.who.clinic_id)


def _row(version: Version) -> dict[str, Any]:
    card = version.card
    return {
        "name": version.name, "version": version.version, "task": version.task, "digest": version.digest,
        "runtime_class": version.runtime_class, "signed_by": version.signed_by, "mlflow_name": version.mlflow_name,
        "mlflow_version": version.mlflow_version, "created_by": version.created_by, "created_at": version.created_at,
        "summary": str(card.get("summary", "")), "parent": card.get("parent"),
    }  # fmt: skip
