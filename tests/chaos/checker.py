"""Compares three independent accounts after the storm: the senders' ledger, the product's rows and files, the PACS."""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from pydicom import dcmread

from registry.core.settings import Settings
from registry.postgres import SUPERUSER
from serving.doors.headers import META_BYTES_MAX, split_file_header
from tests.chaos.ledger import Entry

UNFINISHED = """
select (select count(*) from serving.study where state in ('receiving', 'ready', 'running')),
  (select count(*) from serving.outbox where state in ('ready', 'leased')), (select count(*) from serving.study)"""
HELD = """
select c.slug, i."SOPInstanceUID", i.sha256, i.path from serving.instance i
join registry.clinic c on c.id = i.clinic_id"""
ENDED = (
    "select id, state, coalesce(code, '') from serving.study where state in ('dead', 'rejected') order by id"
)
RESULTS = """
select count(*), count(distinct (clinic_id, study_id, revision, task)),
  count(distinct job_id) filter (where job_id is not null) from serving.result"""
UNANSWERED = """
select count(*) from serving.study s where not exists (select 1 from serving.result r
  where r.clinic_id = s.clinic_id and r.study_id = s.id and r.revision = s.revision)"""
# What was not sent any more is in order where a newer answer to the same study is there, and nowhere else.
SENT = """
select r."SOPInstanceUID", case when o.state = 'superseded' and exists (
    select from serving.result a join serving.result n
    on n.clinic_id = a.clinic_id and n.study_id = a.study_id and n.task = a.task and n.revision > a.revision
    where a.clinic_id = r.clinic_id and a.id = r.result_id) then 'replaced' else o.state end from serving.outbox o
join serving.result_object r on r.clinic_id = o.clinic_id and r.id = o.result_object_id"""


@dataclass(slots=True)
class Verdict:
    """Lists of what is wrong in words, and what was counted on the way."""

    lost: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)


def ask(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """Rows of one statement as the superuser: the checker must see what row security would hide."""
    with psycopg.connect(settings.dsn(SUPERUSER)) as conn:
        return conn.execute(statement).fetchall()  # type: ignore[arg-type]


def wait(settings: Settings, studies: int, seconds: float) -> tuple[int, int]:
    """Wait until nothing is unfinished; (studies, deliveries) that still are when the time is up."""
    end, left = time.monotonic() + seconds, (-1, -1)
    while time.monotonic() < end:
        try:
            ((open_studies, deliveries, known),) = ask(settings, UNFINISHED)
        except psycopg.OperationalError:
            time.sleep(1)
            continue
        left = (open_studies + max(0, studies - known), deliveries)
        if left == (0, 0):
            break
        time.sleep(2)
    return left


def ended(settings: Settings) -> list[tuple[str, str, str]]:
    """(study, state, code) of every study that ended without an answer."""
    return [(str(study), state, code) for study, state, code in ask(settings, ENDED)]


def check(settings: Settings, acknowledged: Iterable[Entry], pacs: Path) -> Verdict:
    """The three accounts against each other."""
    verdict = Verdict()
    _instances(settings, list(acknowledged), verdict)
    _results(settings, pacs, verdict)
    return verdict


def _instances(settings: Settings, acknowledged: list[Entry], verdict: Verdict) -> None:
    held: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for slug, instance, sha256, path in ask(settings, HELD):
        held[slug, instance].append((bytes(sha256).hex(), path))
    for entry in acknowledged:
        rows = held.get((entry.clinic, entry.instance), [])
        paths = [path for sha256, path in rows if sha256 == entry.sha256]
        if not paths:
            verdict.lost.append("no row with these bytes")
        elif _data_set_sha256(settings.store_dir / paths[0]) != entry.sha256:
            verdict.lost.append("the file does not hold the bytes that were sent")
        if len(rows) > 1:
            verdict.duplicate.append("one instance in two versions")
    verdict.counted["instances_acknowledged"] = len(acknowledged)
    verdict.counted["instances_held"] = sum(len(rows) for rows in held.values())
    verdict.counted["instances_sent_again"] = sum(entry.tries > 1 for entry in acknowledged)


def _data_set_sha256(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    split = split_file_header(data[:META_BYTES_MAX])
    return hashlib.sha256(data[split[1] :]).hexdigest() if split else ""


def _results(settings: Settings, pacs: Path, verdict: Verdict) -> None:
    ((results, distinct, jobs),) = ask(settings, RESULTS)
    if not results == distinct == jobs:
        verdict.duplicate.append(f"{results} results of {distinct} questions by {jobs} jobs")
    ((unanswered,),) = ask(settings, UNANSWERED)
    verdict.stuck += ["a study whose last revision has no result"] * unanswered
    received: dict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(pacs.glob("*.dcm")):
        uid = str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        received[uid][hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    sent = dict(ask(settings, SENT))
    for uid, state in sent.items():
        if state == "replaced":
            continue
        if state != "delivered":
            verdict.stuck.append(f"a result object is {state}")
        elif uid not in received:
            verdict.lost.append("a result object that counts as delivered is not at the PACS")
    verdict.duplicate += [
        "two objects under one UID at the PACS" for its in received.values() if len(its) > 1
    ]
    verdict.duplicate += ["an object at the PACS that no result has" for uid in received if uid not in sent]
    verdict.counted |= {
        "results": results, "result_objects": len(sent), "objects_at_pacs": len(received),
        "objects_received_again": sum(sum(its.values()) for its in received.values()) - len(received),
    }  # fmt: skip
