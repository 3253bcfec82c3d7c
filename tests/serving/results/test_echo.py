"""The echo outwards: a destination that answers, one that is away, one that rejects us; and the silent run's gate."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage, Verification

from registry import accounts, clinics
from registry.core import queue_store
from registry.onboarding import decisions
from serving.results import echo, results_store
from serving.results.errors import DestinationUnknown
from tests.kit.db import free_port
from tests.kit.world import DIGEST_A, World


@pytest.fixture
def archive() -> Iterator[int]:
    """An archive that answers C-ECHO to callers of PACS alone; its port."""
    entity = AE(ae_title="PACS")
    entity.require_called_aet = True
    entity.add_supported_context(Verification)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0x0000)]
    )
    yield port
    server.shutdown()


def add(world: World, clinic: Any, name: str, kind: str = "cstore", **facts: Any) -> None:
    with world.db.database.system() as conn:
        results_store.add_destination(conn, clinic, name, kind, objects=["seg"], **facts)


def north(world: World) -> Any:
    with world.db.database.system() as conn:
        return clinics.by_slug(conn, "north")


def test_each_destination_is_called_and_what_it_said_is_kept(world: World, archive: int) -> None:
    clinic = world.clinic("north")
    with pytest.raises(DestinationUnknown):
        echo.check(world.db.database, north(world))
    add(world, clinic, "away", host="127.0.0.1", port=free_port(), ae_title="PACS")
    add(world, clinic, "here", host="127.0.0.1", port=archive, ae_title="PACS")
    add(world, clinic, "rejects", host="127.0.0.1", port=archive, ae_title="OTHER")
    found = {one.destination: one for one in echo.check(world.db.database, north(world))}
    assert {name: one.ok for name, one in found.items()} == {"away": False, "here": True, "rejects": False}
    assert found["rejects"].code == "results.destination_away"
    assert "rejected" in found["rejects"].why
    rows = world.sql("select destination, ok, present from serving.echo_v order by destination")
    assert rows == [("away", False, True), ("here", True, True), ("rejects", False, True)]
    add(world, clinic, "here", host="127.0.0.1", port=archive + 1, ae_title="PACS")
    assert world.sql("select present from serving.echo_v where destination = 'here'") == [(False,)]


def test_an_archive_that_takes_no_echo_is_named(world: World) -> None:
    clinic, port = world.clinic("north"), free_port()
    entity = AE(ae_title="PACS")
    entity.add_supported_context(MRImageStorage)
    server = entity.start_server(("127.0.0.1", port), block=False)
    try:
        add(world, clinic, "pacs", host="127.0.0.1", port=port, ae_title="PACS")
        (one,) = echo.check(world.db.database, north(world))
    finally:
        server.shutdown()
    assert (one.ok, one.code) == (False, "results.destination_refused")


class Web(http.server.BaseHTTPRequestHandler):
    """A DICOMweb root by its path: what it answers to OPTIONS."""

    def do_OPTIONS(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def test_a_dicomweb_root_is_asked_for_what_it_can(world: World) -> None:
    clinic = world.clinic("north")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for status in (200, 204, 405, 401, 404, 503):
            url = f"http://127.0.0.1:{server.server_port}/{status}"
            add(world, clinic, f"web{status}", "stow", url=url)
        found = {one.destination: one.ok for one in echo.check(world.db.database, north(world))}
    finally:
        server.shutdown()
    assert {name for name, ok in found.items() if ok} == {"web200", "web204", "web405"}


def test_in_a_silent_run_an_answer_is_kept_and_not_delivered(world: World) -> None:
    """Without an onboarding, silently, and after two people signed: outbox rows for one answer each."""
    clinic, db = world.clinic("north"), world.db.database
    world.version(task="ms-lesion")
    world.version("sha256:" + "b" * 64, task="brain-extraction")
    add(world, clinic, "pacs", host="127.0.0.1", port=9, ae_title="PACS")

    def answer(uid: str, task: str = "ms-lesion", digest: str = DIGEST_A) -> int:
        study = world.study(clinic, uid=uid)
        world.job(clinic, study, uid)
        with db.system() as conn:
            job = queue_store.claim(conn, "test", ["infer"])
        assert job is not None
        made = results_store.StoredObject("seg", f"{uid}.9", "1.2", f"p/{uid}", 1, b"x" * 32)
        outcome = results_store.Outcome(task, "*", 1, digest, None, {}, (made,), {}, {})
        with db.tenant(clinic) as conn:
            waiting = results_store.record(conn, job, outcome)
            silent = results_store.is_silent(conn, clinic, task)
            queue_store.finish(conn, job)
        assert silent == (waiting == 0)
        return waiting

    assert answer("1.1") == 1, "a clinic without an onboarding is delivered to as ever"
    with db.system() as conn:
        for name in ("quin", "quaid"):
            accounts.add(conn, name, "admin", by="test")
        decisions.begin(conn, north(world), by="quin", reason="new")
    assert answer("1.2") == 0
    proof = {"reviews": 30, "minutes": 90.0, "odds": 21.0, "reviews_digest": "sha256:1"}
    for name in ("quin", "quaid"):
        assert answer(f"1.3.{len(name)}") == 0, "one signature is none"
        with db.system() as conn:
            decisions.accept(conn, north(world), "ms-lesion", DIGEST_A, proof, by=name, reason="good here")
    assert answer("1.4") == 1
    assert answer("1.5", "brain-extraction", "sha256:" + "b" * 64) == 0, "each task is accepted by itself"
    assert world.sql("select count(*) from serving.outbox") == [(2,)], "what was silent stays silent"
    other = world.clinic("south")
    assert world.sql("select registry.is_silent(%s, 'ms-lesion')", other) == [(False,)]
    with db.tenant(other) as conn:
        assert results_store.is_silent(conn, clinic, "ms-lesion") is False, (
            "row-level security holds here too"
        )


def test_the_gate_is_noticed_when_it_is_taken_away(world: World) -> None:
    """Mutant: an outbox statement without the gate delivers in a silent run."""
    assert "registry.is_silent" in results_store.ADD_OUTBOX
    clinic = world.clinic("north")
    world.version(task="ms-lesion")
    with world.db.database.system() as conn:
        decisions.begin(conn, north(world), by="quin", reason="new")
    add(world, clinic, "pacs", host="127.0.0.1", port=9, ae_title="PACS")
    study = world.study(clinic)
    job = world.job(clinic, study)
    world.sql(
        "insert into serving.result(clinic_id, study_id, revision, task, job_id, fence, binding_scope, binding_seq,"
        " digest, findings) values (%s, %s, 1, 'ms-lesion', %s, 1, '*', 1, %s, %s)",
        clinic, study, job, DIGEST_A, Jsonb({}),
    )  # fmt: skip
    ((its,),) = world.sql(
        "insert into serving.result_object(clinic_id, result_id, kind, path, size, sha256)"
        " select clinic_id, id, 'seg', 'x', 1, sha256('x') from serving.result returning id"
    )
    values = {"clinic_id": clinic, "job_id": job, "object_id": its, "study_id": study, "scanner_id": None,
              "digest": DIGEST_A, "kind": "seg", "task": "ms-lesion"}  # fmt: skip
    gate = "and not registry.is_silent(d.clinic_id, %(task)s)"
    with world.db.database.tenant(clinic) as conn:
        assert conn.execute(results_store.ADD_OUTBOX, values).fetchall() == []
        assert len(conn.execute(results_store.ADD_OUTBOX.replace(gate, ""), values).fetchall()) == 1
