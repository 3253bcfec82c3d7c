"""Evidence and policies: how versions scored people, and the margins that were fixed before.

Whoever evaluates calls ``add``; ``read`` takes the same from a file. A row is never changed or removed: what was
measured again is one more row, and the gates count a person's worst score.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any

from registry import clinics, events, versions
from registry.canonical import canonical_json, sha256_digest
from registry.clinics_store import Clinic
from registry.core.db import Conn
from registry.core.settings import LIMITS
from registry.errors import ReasonMissing
from registry.promotions import evidence_store
from registry.promotions.errors import EvidenceInvalid, PolicyInvalid
from registry.promotions.evidence_store import Evidence, Policy

FILE_BYTES_MAX = 4 << 20
SCHEMA_FILE = Path(__file__).with_name("evidence.schema.json")
PEOPLE_MIN = 6
MARGINS = ("metric", "clinic_people_min", "person_loss_max", "global_people_min", "global_loss_max")
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def add(
    conn: Conn, digest: str, clinic: Clinic | None, metric: str, dataset: str, people: Mapping[str, float],
    *, source_digest: str, by: str,
) -> tuple[Evidence, bool]:  # fmt: skip
    """Record how a version scored people of a clinic (None: of the global set), and say whether that is new.

    ``source_digest`` names the bytes in which the evaluator keeps it; the same from the same bytes changes nothing.
    Needs a system transaction. Raises EvidenceInvalid, VersionUnknown.
    """
    document = {"version": digest, "metric": metric, "dataset": dataset, "people": dict(people)}
    _check(document | ({"clinic": clinic.slug} if clinic else {}))
    # The schema lets NaN through: it is neither below 0 nor above 1.
    if any(math.isnan(score) for score in people.values()) or not _DIGEST.fullmatch(source_digest):
        raise EvidenceInvalid("a score is no number, or the source has no digest")
    digest = versions.by_digest(conn, digest).digest
    row, new = evidence_store.add(
        conn,
        clinic.id if clinic else None,
        digest,
        metric,
        dataset,
        people,
        source_digest=source_digest,
        by=by,
    )
    if new:
        chain = events.of_clinic(clinic.id) if clinic else events.MODELS
        body = {
            "evidence": row.id,
            "digest": digest,
            "dataset": dataset,
            "people": len(people),
            "row": proof(row),
        }
        events.append(conn, chain, by, "evidence.added", body)
    return row, new


def read(conn: Conn, path: Path, *, by: str) -> tuple[Evidence, bool]:
    """Record the evidence in a JSON file; its digest is kept. Raises as ``add``, and ClinicUnknown."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise EvidenceInvalid("the file cannot be read", type(error).__name__) from error
    if len(data) > FILE_BYTES_MAX:
        raise EvidenceInvalid(f"the file is larger than {FILE_BYTES_MAX >> 20} MiB")
    try:
        document = json.loads(data, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise EvidenceInvalid("the file is not JSON in which every key stands once") from error
    _check(document)
    clinic = clinics.by_slug(conn, document["clinic"]) if "clinic" in document else None
    digest = versions.by_name(conn, document["version"]).digest
    return add(
        conn, digest, clinic, document["metric"], document["dataset"], document["people"],
        source_digest=sha256_digest(data), by=by,
    )  # fmt: skip


def proof(row: Evidence) -> str:
    """The digest of a row, as its event keeps it: an altered row no longer has it."""
    facts = (
        row.id,
        str(row.clinic_id),
        row.digest,
        row.metric,
        row.dataset,
        row.people,
        row.source_digest,
        row.added_by,
    )
    return sha256_digest(canonical_json((*facts, row.added_at.astimezone(UTC).isoformat())))


def set_policy(conn: Conn, margins: Mapping[str, Any], *, by: str, reason: str) -> tuple[Policy, Policy]:
    """Fix margins for versions registered from now on; what ``margins`` leaves out stays. Returns before, after.

    Needs a system transaction. Raises PolicyInvalid, ReasonMissing.
    """
    if not reason.strip():
        raise ReasonMissing
    evidence_store.lock_policy(conn)
    before = evidence_store.policies(conn, 1)[0]
    values = {name: margins.get(name, getattr(before, name)) for name in MARGINS}
    for name in ("clinic_people_min", "global_people_min"):
        if not PEOPLE_MIN <= values[name] <= 10_000:
            raise PolicyInvalid(f"{name} is {values[name]}")
    for name in ("person_loss_max", "global_loss_max"):
        if not 0 <= values[name] <= 1:
            raise PolicyInvalid(f"{name} is {values[name]}")
    if not _METRIC.fullmatch(values["metric"]):
        raise PolicyInvalid("that is not the name of a metric")
    after = evidence_store.set_policy(conn, values, by=by, reason=reason)
    events.append(
        conn, events.FLEET, by, "policy.set", {"version": after.version, "reason": reason, **values}
    )
    return before, after


def policies(conn: Conn, *, limit: int = LIMITS.page_rows) -> Sequence[Policy]:
    """Policies, the newest first."""
    return evidence_store.policies(conn, limit)


def _check(document: object) -> None:
    """Name the field and the rule that it breaks, never the value: it could be somebody's name."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(document))
    if error is not None:
        field = "/".join(str(part) for part in list(error.absolute_path)[:1]) or "the document"
        raise EvidenceInvalid(f"evidence field {field} breaks the rule {error.validator}")


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(_: str) -> float:
    raise ValueError("NaN and infinities are no scores")
