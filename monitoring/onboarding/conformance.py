"""Judges the acquisition of every answered study by the present standard, once; a turn of the part "monitor"."""

from typing import Any
from uuid import UUID

from monitoring.onboarding import conformance_store as store
from monitoring.streams import groups
from registry.conformance.judge import judge
from registry.conformance.standard import Standard, load
from registry.core.db import Conn, Database

BATCH = 500


def turn(db: Database, clinic_id: UUID | None = None, standard: Standard | None = None) -> int:
    """Judge what the follower has taken since, at most a batch a clinic; returns how many studies.

    Another version of the rules judges everything again and leaves the earlier verdicts as they were.
    """
    its = standard or load()
    tasks = sorted(its.tasks)
    with db.monitor() as conn:
        waiting = store.clinics(conn, its.digest, tasks, clinic_id)
    done = 0
    for clinic in waiting:
        with db.monitor(write=True) as conn:
            rows = store.rows(conn, clinic, its.digest, tasks, BATCH)
            store.add(conn, [_row(its, clinic, row) for row in rows])
        done += len(rows)
    return done


def _row(its: Standard, clinic_id: UUID, row: store.Unjudged) -> dict[str, Any]:
    judged = judge(its, row.task, row.profile)
    return {
        "clinic_id": clinic_id, "seq": row.seq, "study_id": row.study_id, "task": row.task, "at": row.at,
        "sequence": str(row.profile.get("sequence_class") or "UNKNOWN"), "scanner_id": row.scanner_id,
        "scanner": groups.machine(groups.facts(row.profile)), "standard": its.label, "digest": its.digest,
        "verdict": judged.verdict,
        "deviations": [{"rule": d.rule, "verdict": d.verdict, "value": d.value} for d in judged.deviations],
    }  # fmt: skip


def told(conn: Conn, clinic_id: UUID, standard: Standard | None = None) -> list[dict[str, Any]]:
    """Each scanner and month with its counts, and what to change: one advice a rule, the most frequent first."""
    its = standard or load()
    found = store.months(conn, clinic_id, its.digest)
    deviations = store.deviations(conn, clinic_id, its.digest)
    for row in found:
        row["standard"] = its.label
        row["deviations"] = [_advice(its, d) for d in deviations if _same(d, row)]
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("task", "sequence", "scanner", "month"))


def _advice(its: Standard, row: dict[str, Any]) -> dict[str, Any]:
    rule = its.rule(row["rule"])
    assert rule is not None, "rows and rules have one digest"
    silent = row["verdict"] == "unknown"
    return {
        "rule": rule.id, "code": rule.code, "verdict": row["verdict"], "studies": row["studies"],
        "value": row["last_value"], "says": rule.says, "basis": rule.basis, "source": its.sources[rule.source],
        "advice": f"Let the scanner send {', '.join(sorted(rule.reads))}." if silent else rule.advice,
    }  # fmt: skip
