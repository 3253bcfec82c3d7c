"""1,000 requests while versions are promoted and rolled back: none fails, none is answered by another version.

A request is what a worker does with a study between its claim and its answer: the binding is resolved in the clinic's
own transaction, Ray Serve is asked through a worker's own caller, the digest that the loader computed is checked. All
requests ask for one small head, prepared once: reading, writing and delivering would only take longer. Beside them
whole studies come through the DICOM door and are answered by the real worker and delivered. Versions change by the
real commands: one account requests, another approves (both gates waived by name: what is measured is the change and
not the version), apply, rollback. Each promoted version is new to the replicas: the shipped 1.1.0, then repacks of it.

Run: python -m tests.bench.promotion [--requests N] [--changes N]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from pydicom import dcmread

from registry import bindings
from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.parts import answers
from registry.postgres import SUPERUSER
from serving.demo.errors import DemoFailed
from serving.demo.stage import Stage, free_ports
from serving.engine.answering import Question
from serving.engine.calls import RayEngine
from serving.engine.package import read_package, seal
from serving.imaging.child import prepare
from tests.bench.record import Goal, record, versions
from tests.bench.study import spread
from tests.chaos.sender import Scanner, study
from tests.chaos.storm import small_head
from tests.conformance.line import CAST, CLINIC, PACKAGES, installation

TASK, FIRST, SECOND = "brain-extraction", "brain-extraction@1.0.0", "brain-extraction@1.1.0"
ASKERS = 2
REQUESTS_A_STUDY = 50
SETTLE_S_MAX = 600.0
JOIN_TRIES = 20
# An attempt's row is written in the transaction that resolved its binding, a moment later.
RESOLVED_BEFORE_S = 1.0
PROMOTE_GOAL_S, ROLLBACK_GOAL_S = 5.0, 2.0
WHY = ("--reason", "bench")


@dataclass(frozen=True, slots=True)
class Answer:
    """One request. Times are seconds of the wall clock, which the database of this machine shares."""

    asked: float
    resolved: float
    seq: int
    digest: str
    answered: float
    echoed: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """One validity range of the record, and when its commit was heard of (LISTEN): all later claims must see it."""

    digest: str
    since: float
    told: float


def mixed(answers: Sequence[Answer], ranges: dict[int, Range]) -> list[str]:
    """Answers by another version than the one valid at their claim, in words. ``ranges`` by sequence number."""
    found = []
    for it in answers:
        if it.error:
            continue
        its = ranges.get(it.seq)
        later = [other.told for seq, other in ranges.items() if seq > it.seq]
        if it.echoed != it.digest:
            found.append("answered by another version than was asked")
        elif its is None or its.digest != it.digest:
            found.append("asked for another version than its sequence number names")
        elif it.resolved < its.since:
            found.append("asked for a version before it was bound")
        elif later and it.asked > min(later):
            found.append("asked for a version after another was bound")
    return found


@dataclass(slots=True)
class Askers:
    """Threads that ask one request after the other: ``wanted`` at least, and until ``over`` is set."""

    stage: Stage
    clinic_id: UUID
    volume_dir: Path
    wanted: int
    answers: list[Answer] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _given: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, number: int) -> None:
        """One asker, with a connection to Ray of its own. What it asks until it has joined Ray does not count."""
        its = self.stage.settings()
        database, engine = Database(its), RayEngine(its)
        try:
            work = self.stage.home / "asked" / str(number)
            joined = any(not self._ask(database, engine, work).error for _ in range(JOIN_TRIES))
            while joined and self._take():
                answer = self._ask(database, engine, work)
                with self._lock:
                    self.answers.append(answer)
        finally:
            engine.close()
            database.close()

    def _take(self) -> bool:
        with self._lock:
            self._given += 1
            return self._given <= self.wanted or not self.over.is_set()

    def _ask(self, database: Database, engine: RayEngine, work: Path) -> Answer:
        asked = time.time()
        with database.tenant(self.clinic_id) as conn:
            binding = bindings.resolve(conn, self.clinic_id, TASK, "", "")
        resolved = time.time()
        question = Question(
            clinic_id=self.clinic_id, study_id=uuid4(), revision=1, task=TASK, fence=time.monotonic_ns(),
            digest=binding.digest, binding_seq=binding.seq, name=TASK, version="", created_at=datetime.now(UTC),
            paths=(), work_dir=work, trace=lambda _step, _detail: None,
        )  # fmt: skip
        try:
            echoed, error = engine.infer(question, self.volume_dir).digest, ""
        except RadfleetError as fault:
            echoed, error = "", fault.code
        return Answer(asked, resolved, binding.seq, binding.digest, time.time(), echoed, error)


@contextmanager
def heard(stage: Stage) -> Iterator[dict[int, float]]:
    """Sequence number -> moment at which the commit of a binding was heard of."""
    told: dict[int, float] = {}
    database = Database(stage.settings())
    conn, end = database.listen("radfleet_binding"), threading.Event()

    def listen() -> None:
        while not end.is_set():
            for notice in conn.notifies(timeout=0.2):
                told[int(notice.payload.rpartition(":")[2])] = time.time()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield told
    finally:
        end.set()
        thread.join()
        conn.close()


def ask(stage: Stage, statement: str) -> list[tuple[Any, ...]]:
    """Rows as the superuser: the judge sees what row security would hide."""
    with psycopg.connect(stage.settings().dsn(SUPERUSER)) as conn:
        return conn.execute(statement).fetchall()  # type: ignore[arg-type]


def candidates(stage: Stage, count: int) -> list[str]:
    """Register ``count`` versions that no replica has loaded: 1.1.0, and repacks of it with digests of their own."""
    names = [SECOND]
    stage.run("model", "register", str(PACKAGES / SECOND.replace("@", "-")))
    for number in range(1, count):
        folder = stage.home / "repacked" / f"{TASK}-1.1.{number}"
        shutil.copytree(PACKAGES / SECOND.replace("@", "-"), folder)
        model = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(model | {"version": f"1.1.{number}"}, sort_keys=True))
        seal(folder)
        stage.run("model", "register", str(folder))
        names.append(f"{TASK}@1.1.{number}")
    stage.say(f"{count} versions are registered that no replica has loaded")
    return names


def change(stage: Stage, *words: str) -> float:
    """Call one changing command of promotion; the moment at which it was started. Raises DemoFailed."""
    began = time.time()
    command = [sys.executable, "-m", "registry.cli", "promotion", *words]
    done = subprocess.run(command, env=stage.env, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        raise DemoFailed(f"promotion {words[0]} ended with {done.returncode}", why=done.stderr[-500:])
    return began


def changes(
    stage: Stage, askers: Askers, told: dict[int, float], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Promote each version and take it back, evenly over the requests; what each change took."""
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        asked = stage.ask("promotion", "request", CLINIC, TASK, name, *WHY, "--as", "mia")
        id = str(asked[0]["it"]["id"])
        stage.run("promotion", "approve", id, "--waive", "clinic", "--waive", "global", *WHY, "--as", "otto")
        for kind, words in (
            ("promote", ("apply", id, "--as", "mia")),
            ("rollback", ("rollback", CLINIC, TASK, *WHY, "--as", "otto")),
        ):
            due = askers.wanted * (len(rows) + 1) // (2 * len(names) + 1)
            stage.wait("the requests before it", lambda due=due: len(askers.answers) >= due, SETTLE_S_MAX)
            seq = max(told, default=1) + 1
            began = change(stage, *words)
            took = time.time() - began
            stage.wait(
                f"an answer under sequence {seq}", lambda s=seq: any(a.seq == s for a in askers.answers), 120
            )
            first = min(a.answered for a in askers.answers if a.seq == seq)
            rows.append(
                {"kind": kind, "version": name, "seq": seq, "command_to_first_answer_s": first - began,
                 "commit_to_first_answer_s": first - told[seq], "command_to_commit_s": told[seq] - began,
                 "command_s": took}
            )  # fmt: skip
            stage.say(
                f"{number + 1}/{len(names)} {kind} {name}: first answer {first - began:.2f} s after the command"
            )
    return rows


def send(stage: Stage, askers: Askers, slices: Path, sent: list[int]) -> None:
    """Send a small study by C-STORE for every ``REQUESTS_A_STUDY`` requests."""
    scanner, images = Scanner(stage.port("DICOM"), CAST["ae"]), [dcmread(p) for p in sorted(slices.iterdir())]
    while len(askers.answers) < askers.wanted or not askers.over.is_set():
        if len(askers.answers) >= len(sent) * REQUESTS_A_STUDY:
            sent.append(sum(scanner.store(image) > 0 for image in study(images)))
            scanner.release()
        time.sleep(0.1)


STUDIES = "select count(*) filter (where state = 'done'), count(*) from serving.study"
ATTEMPTS = """
select extract(epoch from started_at)::float8, binding_seq, digest, coalesce(echoed_digest, ''), coalesce(code, ''),
  coalesce(extract(epoch from finished_at)::float8, 0) from serving.attempt"""
RANGES = "select seq, digest, extract(epoch from lower(valid))::float8 from registry.binding"


def attempts(stage: Stage) -> list[Answer]:
    """What the worker did with the studies of the door, as the same judge reads it."""
    return [
        Answer(at - RESOLVED_BEFORE_S, at, seq, digest, ended, echoed, code if ended else "unfinished")
        for at, seq, digest, echoed, code, ended in ask(stage, ATTEMPTS)
    ]


def altered(stage: Stage) -> dict[str, Any]:
    """Change one word of one event as whoever owns the database can, and ask `audit verify` before and after."""
    before = stage.ask("audit", "verify")
    chain, seq, body = ask(
        stage,
        "select chain, seq, body from registry.event where type = 'promotion.approved' order by seq limit 1",
    )[0]
    with psycopg.connect(stage.settings().dsn(SUPERUSER)) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("update registry.event set body = %s where chain = %s and seq = %s",
                     (body.replace("otto", "mia"), chain, seq))  # fmt: skip
    after = json.loads(stage.run("audit", "verify", "--json", ok=(6,)))
    return {
        "events": sum(row["events"] for row in before), "chains": len(before),
        "whole_before": all(row["whole"] for row in before), "altered": f"event {seq} of {chain}",
        "found": [f"{row['chain']}: {row['fault']}" for row in after if not row["whole"]],
        "named": [row["fault"] for row in after if not row["whole"]] == [f"event {seq} was changed"]
        and [row["chain"] for row in after if not row["whole"]] == [chain],
    }  # fmt: skip


@contextmanager
def archive(home: Path) -> Iterator[int]:
    """A peer that receives, up before the installation chooses its ports; its port."""
    (port,) = free_ports(1)
    with subprocess.Popen([sys.executable, "-m", "serving.demo.pacs", str(port), str(home / "pacs")],
                          stdout=subprocess.DEVNULL) as pacs:  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not answers("127.0.0.1", port) and time.monotonic() < end:
                time.sleep(0.2)
            yield port
        finally:
            pacs.terminate()


def run(home: Path, requests: int, count: int) -> dict[str, Any]:
    """One installation, all requests and changes; the figures. Raises DemoFailed."""
    # Two replicas of one thread: on one replica a version could not be loaded beside another's answer.
    os.environ |= {"RADFLEET_THREADS": "1", "TCP_NODELAY": "1"}
    with archive(home) as pacs_port, installation(home, pacs_port, [FIRST]) as stage:
        for name in ("mia", "otto"):
            stage.run("account", "add", name, "--role", "ml")
        names, slices = candidates(stage, count), small_head(home / "slices")
        accepts = read_package(PACKAGES / FIRST.replace("@", "-")).package.model["accepts"]
        volume_dir = prepare(sorted(slices.iterdir()), accepts, home / "volume").volume_dir
        ((clinic_id,),) = ask(stage, "select id from registry.clinic")
        askers, sent = Askers(stage, clinic_id, volume_dir.absolute(), requests), list[int]()
        began = time.monotonic()
        with heard(stage) as told, ThreadPoolExecutor(ASKERS + 1) as pool:
            work = [pool.submit(askers.run, number) for number in range(ASKERS)]
            work.append(pool.submit(send, stage, askers, slices, sent))
            try:
                rows = changes(stage, askers, told, names)
            except BaseException:
                askers.wanted = 0
                raise
            finally:
                askers.over.set()
            for one in work:
                one.result()
        seconds = time.monotonic() - began
        stage.say(f"{len(askers.answers)} requests are answered; waiting for the studies of the door")
        stage.wait("the end of every study", lambda: ask(stage, STUDIES) == [(len(sent),) * 2], SETTLE_S_MAX)
        ranges = {
            seq: Range(digest, since, told.get(seq, since)) for seq, digest, since in ask(stage, RANGES)
        }
        return {
            "requests": askers.answers, "attempts": attempts(stage), "studies": len(sent), "ranges": ranges,
            "changes": rows, "seconds": seconds, "audit": altered(stage),
        }  # fmt: skip


def judge(outcome: dict[str, Any], requests: int) -> int:
    """Write build/bench-promotion.json; the exit code."""
    answers = [*outcome["requests"], *outcome["attempts"]]
    failed = Counter(it.error for it in answers if it.error)
    wrong = Counter(mixed(answers, outcome["ranges"]))
    took = {
        kind: [row["command_to_first_answer_s"] for row in outcome["changes"] if row["kind"] == kind]
        for kind in ("promote", "rollback")
    }
    audit = outcome["audit"]
    goals = [
        Goal("requests answered", sum(not it.error for it in outcome["requests"]), requests),
        Goal("failed", sum(failed.values()), 0, at_least=False),
        Goal("mixed", sum(wrong.values()), 0, at_least=False),
        Goal("seconds from promote to the first answer, the slowest", max(took["promote"]), PROMOTE_GOAL_S, False),
        Goal("seconds from rollback to the first answer, the slowest", max(took["rollback"]), ROLLBACK_GOAL_S, False),
        Goal("the altered event is named, and nothing else", audit["whole_before"] and audit["named"], True),
    ]  # fmt: skip
    spans = {
        f"{kind} {name}": spread([row[name] for row in outcome["changes"] if row["kind"] == kind])
        for kind in took
        for name in (
            "command_to_first_answer_s",
            "commit_to_first_answer_s",
            "command_to_commit_s",
            "command_s",
        )
    }
    return record(
        "bench-promotion", goals, requests=len(outcome["requests"]), studies_through_the_door=outcome["studies"],
        attempts=len(outcome["attempts"]), failed=dict(failed), mixed=dict(wrong),
        requests_by_sequence=dict(sorted(Counter(it.seq for it in outcome["requests"]).items())),
        request_s=spread([it.answered - it.asked for it in outcome["requests"]]), changes_s=spans,
        changes=outcome["changes"], audit=audit, seconds=round(outcome["seconds"], 1),
        what="a request asks the engine for one head prepared once; studies go the whole way from C-STORE to the peer",
        versions=versions(["radfleet", "ray", "psycopg", "openvino", "mlflow"], {}),
    )  # fmt: skip


def main() -> int:
    """Measure, write build/bench-promotion.json, and say by the exit code whether the goals are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=6, help="promotions, each with its rollback")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        outcome = run(Path(folder), given.requests, given.changes)
    return judge(outcome, given.requests)


if __name__ == "__main__":
    sys.exit(main())
