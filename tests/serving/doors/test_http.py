"""STOW-RS on a real socket: what is kept, what each part is answered, and what a broken request meets."""

import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
import uvicorn

from registry.core.db import DatabaseAway
from registry.errors import KeyExpired, KeyRevoked, KeyWrong
from serving.doors import http
from tests.kit.dicom import CANARY_ID, encoded, mr_instance, mr_series, part10

KEY = "rf_test"
CONTENT = 'multipart/related; type="application/dicom"; boundary=BB'


def body(parts, kind=b"application/dicom"):
    return (
        b"".join(b"--BB\r\nContent-Type: " + kind + b"\r\n\r\n" + p + b"\r\n" for p in parts) + b"--BB--\r\n"
    )


@pytest.fixture
def web(house):
    wrong = {"expired": KeyExpired, "revoked": KeyRevoked}

    def find(token):
        if token != KEY:
            raise wrong.get(token, KeyWrong)
        return house.clinic

    app = http.application(
        house.intake, find, house.store.check_space, lambda c, studies: house.hints.append((c, studies))
    )
    server = uvicorn.Server(
        uvicorn.Config(app, "127.0.0.1", 0, log_config=None, access_log=False, lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    house.port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{house.port}", trust_env=False, timeout=20) as client:
        house.client = client
        yield house
    server.should_exit = True
    thread.join(5)


def post(web, content, study="", key=KEY, content_type=CONTENT, **headers):
    path = "/dicom-web/studies" + (f"/{study}" if study else "")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type, **headers}
    return web.client.post(path, content=content, headers=headers)


def sequence(answer, tag):
    return [
        {k: v["Value"][0] for k, v in item.items()} for item in answer.json().get(tag, {}).get("Value", [])
    ]


def test_a_series_is_kept_byte_for_byte_and_every_instance_answered(web):
    series = mr_series(40)
    answer = post(web, body([part10(ds) for ds in series]))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert [i["00081155"] for i in sequence(answer, "00081199")] == [str(ds.SOPInstanceUID) for ds in series]
    assert len(web.ledger.rows) == len(web.files()) == 40
    by_uid = {row[0][1]: row[1] for row in web.ledger.rows}
    for ds in series:
        path = web.store.root / by_uid[str(ds.SOPInstanceUID)].stored.path
        assert path.read_bytes().endswith(encoded(ds))
        assert path.read_bytes()[:128] == bytes(128)
    assert {row[2] for row in web.ledger.rows} == {"stow"}
    ((clinic, studies),) = web.hints
    assert clinic == web.clinic.id and len(studies) == 1


def test_the_same_object_by_c_store_and_stow_is_a_duplicate(web):
    ds = mr_instance()
    assert post(web, body([part10(ds)])).status_code == 200
    again = part10(ds)
    assert post(web, body([b"#!/bin/sh polyglot".ljust(128, b"\n") + again[128:]])).status_code == 200
    assert len(web.ledger.rows) == len(web.files()) == 1


def test_a_conflict_is_kept_and_said(web):
    first, second = mr_instance(seed=1), mr_instance(seed=2)
    second.SOPInstanceUID = first.SOPInstanceUID
    assert post(web, body([part10(first)])).status_code == 200
    answer = post(web, body([part10(second)]))
    assert answer.status_code == 202
    assert sequence(answer, "00081199")[0]["00081196"] == 0xB000
    assert len(web.files()) == 2


def test_bad_parts_do_not_take_the_good_with_them(web):
    good = mr_instance()
    evil = part10(mr_instance(SOPInstanceUID="1.2.34.56.789")).replace(b"1.2.34.56.789\0", b"../../../../x\0")
    parts = [
        part10(good), b"%PDF-1.7" + bytes(400), b"", part10(mr_instance())[:-50],
        part10(mr_instance()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"), evil,
    ]  # fmt: skip
    answer = post(web, body(parts))
    assert answer.status_code == 202
    assert [i["00081155"] for i in sequence(answer, "00081199")] == [str(good.SOPInstanceUID)]
    assert [(i["00081197"], i["00000902"].split(":")[0]) for i in sequence(answer, "00081198")] == [
        (0xC000, "doors.truncated")
    ]
    others = [i["00000902"].split(":")[0] for i in sequence(answer, "0008119A")]
    assert others == ["doors.not_dicom", "doors.empty_object", "doors.transfer_syntax", "doors.bad_uid"]
    assert len(web.files()) == 1
    assert CANARY_ID not in answer.text


def test_only_the_study_of_the_address_is_taken(web):
    mine, other = mr_instance(), mr_instance()
    answer = post(web, body([part10(mine), part10(other)]), study=mine.StudyInstanceUID)
    assert answer.status_code == 202
    assert sequence(answer, "00081198")[0]["00081197"] == 0xA900
    assert post(web, body([part10(other)]), study=mine.StudyInstanceUID).status_code == 409
    assert post(web, body([part10(other)]), study="..%2F..%2Fx").status_code in (400, 404)
    assert len(web.files()) == 1


@pytest.mark.parametrize("key", ["wrong", "expired", "revoked"])
def test_a_bad_key_is_named_and_nothing_is_read(web, key):
    answer = post(web, body([part10(mr_instance())]), key=key)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == f"registry.key_{key}"
    assert answer.json()["cure"]
    assert web.files() == []


def test_no_key_is_401(web):
    answer = web.client.post("/dicom-web/studies", content=b"x")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "doors.key_missing"


@pytest.mark.parametrize(
    ("status", "code", "content_type", "content", "headers"),
    [
        (415, "doors.unsupported_media", "application/json", b"{}", {}),
        (415, "doors.unsupported_media", CONTENT, b"x", {"Content-Encoding": "gzip"}),
        (400, "doors.bad_multipart", 'multipart/related; type="application/dicom"', b"x", {}),
        (400, "doors.bad_multipart", CONTENT, b"", {}),
        (400, "doors.bad_multipart", CONTENT, b"--BB\r\n\r\nhalf", {}),
        (413, "doors.too_large", CONTENT, None, {"Content-Length": str(5 << 30)}),
    ],
)
def test_broken_requests_are_named(web, status, code, content_type, content, headers):
    if content is None:
        with socket.create_connection(("127.0.0.1", web.port), timeout=5) as sock:
            lines = [f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}"]
            lines += [f"Content-Type: {content_type}", f"Content-Length: {headers['Content-Length']}", "", ""]
            sock.sendall("\r\n".join(lines).encode())
            got = sock.recv(4096)
        assert got.startswith(b"HTTP/1.1 413")
        return
    answer = post(web, content, content_type=content_type, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert web.files() == []


def test_a_database_that_is_away_is_503_and_comes_back(web):
    def away():
        raise DatabaseAway

    web.ledger.before = away
    content = body([part10(mr_instance())])
    answer = post(web, content)
    assert (answer.status_code, answer.json()["code"]) == (503, "core.database_away")
    assert answer.headers["retry-after"]
    web.ledger.before = None
    assert post(web, content).status_code == 200


def test_a_full_disk_is_503_and_healthz_stays(web):
    web.store._free_bytes_min, web.store._checked = 1 << 62, float("-inf")
    answer = post(web, body([part10(mr_instance())]))
    assert (answer.status_code, answer.json()["code"]) == (503, "doors.disk_low")
    assert web.client.get("/readyz").status_code == 503
    assert web.client.get("/healthz").status_code == 200


def test_a_stalled_request_is_ended(web, monkeypatch):
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as sock:
        sock.sendall(
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: {CONTENT}\r\nContent-Length: 1000\r\n\r\n--BB\r\n".encode()
        )
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408") and b"doors.stalled" in answer


def test_more_requests_than_places_are_told_to_come_again(web):
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {CONTENT}\r\nContent-Length: 1000\r\n\r\n--BB\r\n"
    ).encode()
    waiting = [
        socket.create_connection(("127.0.0.1", web.port), timeout=10) for _ in range(http.REQUESTS_MAX)
    ]
    try:
        for sock in waiting:
            sock.sendall(head)
        time.sleep(0.5)
        answer = post(web, body([part10(mr_instance())]))
        assert (answer.status_code, answer.json()["code"]) == (503, "doors.busy")
    finally:
        for sock in waiting:
            sock.close()
    time.sleep(0.3)
    assert post(web, body([part10(mr_instance())])).status_code == 200


def test_a_sender_that_goes_away_leaves_no_half(web):
    series = mr_series(
        3,
    )
    content = body([part10(ds) for ds in series])
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as sock:
        sock.sendall(
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: {CONTENT}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content[:-5000]
        )
        time.sleep(0.2)
    deadline = time.monotonic() + 5
    while any(p.suffix == ".part" for p in web.files()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert web.files() == []


def test_many_parts_keep_few_files_open(web):
    opened = []

    def look():
        opened.append(len(list(Path("/proc/self/fd").iterdir())))

    before = len(list(Path("/proc/self/fd").iterdir()))
    web.ledger.before = look
    assert post(web, body([part10(ds) for ds in mr_series(100)])).status_code == 200
    assert max(opened) < before + 60


def test_health_says_nothing_else(web):
    assert web.client.get("/healthz").json() == {"status": "ok"}
    assert web.client.get("/readyz").json() == {"status": "ready"}
    for path in ("/docs", "/openapi.json", "/redoc", "/"):
        assert web.client.get(path).status_code == 404
