"""Delivery: what each answer of an archive means, over real sockets with dcmtk, pynetdicom and HTTP."""

import http.server
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt

from serving.results import deliver, preview, seg, source
from serving.results.deliver import Destination, courier, judge, judge_http
from serving.results.errors import DestinationAway, DestinationBusy, DestinationRefused, ObjectMissing
from tests.kit import sources as kit


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A SEG and a preview as files."""
    slices = kit.classic()
    volume = kit.volume(slices)
    origin = source.from_headers(volume, slices)
    mask = np.zeros(volume.shape, np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    folder = tmp_path_factory.mktemp("results")
    made = [
        seg.build(kit.answer(), volume, mask, kit.LABELS, origin),
        preview.build(kit.answer(), volume, mask, mask, origin, {"findings": []}),
    ]
    for result in made:
        (folder / result.kind).write_bytes(result.data)
    return [folder / result.kind for result in made]


@pytest.fixture
def archive() -> Iterator[Callable[..., tuple[Destination, list[bytes]]]]:
    """Start a C-STORE receiver that answers ``status``; returns where it is and what it received."""
    servers = []

    def start(
        status: int = 0, classes: list[str] | None = None, syntax: str | None = None, require: str = ""
    ) -> tuple:
        received: list[bytes] = []

        def store(event: evt.Event) -> int:
            received.append(event.encoded_dataset(include_meta=False))
            return status

        entity = AE(ae_title="PACS")
        if require:
            entity.require_calling_aet = [require]
        for sop_class in classes or ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7"]:
            entity.add_supported_context(sop_class, *([syntax] if syntax else []))
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
        servers.append(server)
        return Destination("cstore", "127.0.0.1", server.server_address[1], "PACS"), received

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB007])
def test_stored_and_warned_is_delivered(status: int) -> None:
    judge(status)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110])
def test_no_resources_is_tried_again(status: int) -> None:
    with pytest.raises(DestinationBusy, match=f"{status:04X}"):
        judge(status)


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0124])
def test_cannot_understand_is_final(status: int) -> None:
    with pytest.raises(DestinationRefused, match=f"{status:04X}"):
        judge(status)


def failed(reason: int) -> bytes:
    return json.dumps(
        {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}
    ).encode()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b""), (200, b"{}"), (202, b"<xml/>"), (409, failed(0x0111)), (200, b"[]")]
)
def test_http_success(status: int, body: bytes) -> None:
    judge_http(status, body)


@pytest.mark.parametrize(
    ("status", "body"), [(503, b""), (429, b""), (401, b""), (404, b""), (202, failed(0xA700))]
)
def test_http_later(status: int, body: bytes) -> None:
    with pytest.raises(DestinationBusy):
        judge_http(status, body)


@pytest.mark.parametrize(
    ("status", "body"), [(400, b""), (409, b""), (415, b""), (409, failed(0xA900)), (202, failed(43265))]
)
def test_http_never(status: int, body: bytes) -> None:
    with pytest.raises(DestinationRefused):
        judge_http(status, body)


def test_c_store_sends_every_byte_of_the_dataset(objects: list[Path], archive: Callable) -> None:
    where, received = archive()
    with courier(where, objects) as send:
        for path in objects:
            send(path)
    assert len(received) == 2
    for path, data in zip(objects, received, strict=True):
        assert path.read_bytes().endswith(data)


def test_an_implicit_only_archive_gets_the_same_object(
    objects: list[Path], archive: Callable, tmp_path: Path
) -> None:
    where, received = archive(syntax=ImplicitVRLittleEndian)
    with courier(where, objects[:1]) as send:
        send(objects[0])
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset

    back = read_dataset(DicomBytesIO(received[0]), True, True)
    assert back.PixelData == dcmread(objects[0]).PixelData


def test_nodelay_is_set(objects: list[Path], archive: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = deliver._store

    def spy(association: object, path: Path) -> None:
        seen.append(association.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))  # type: ignore[attr-defined]
        real(association, path)

    monkeypatch.setattr(deliver, "_store", spy)
    where, _ = archive()
    with courier(where, objects) as send:
        send(objects[0])
    assert seen
    assert all(seen)


def test_an_answer_is_taken_by_nobody_but_who_waits_for_it(
    objects: list[Path], archive: Callable, unpaused: None
) -> None:
    where, received = archive()
    with courier(where, objects) as send:
        for path in objects:
            send(path)
    assert len(received) == 2


def test_a_full_archive_is_busy_and_the_connection_goes_on(objects: list[Path], archive: Callable) -> None:
    where, received = archive(status=0xA700)
    with courier(where, objects) as send:
        for path in objects:
            with pytest.raises(DestinationBusy):
                send(path)
    assert len(received) == 2


def test_a_refused_class_does_not_stop_the_others(objects: list[Path], archive: Callable) -> None:
    where, received = archive(classes=["1.2.840.10008.5.1.4.1.1.7"])
    with courier(where, objects) as send:
        with pytest.raises(DestinationRefused, match="SOP class"):
            send(objects[0])
        send(objects[1])
    assert len(received) == 1


def test_an_archive_that_takes_none_of_our_classes_refuses(objects: list[Path], archive: Callable) -> None:
    where, _ = archive(classes=["1.2.840.10008.5.1.4.1.1.2"])
    with pytest.raises(DestinationRefused), courier(where, objects):
        pass


def test_nobody_listening_and_rejection_are_away(objects: list[Path], archive: Callable) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DestinationAway), courier(Destination("cstore", "127.0.0.1", port, "PACS"), objects):
        pass
    where, _ = archive(require="SOMEONE")
    with pytest.raises(DestinationAway, match="rejected"), courier(where, objects):
        pass


def test_a_missing_file_is_named(objects: list[Path], archive: Callable, tmp_path: Path) -> None:
    where, _ = archive()
    with courier(where, objects) as send, pytest.raises(ObjectMissing):
        send(tmp_path / "gone.dcm")
    with pytest.raises(ObjectMissing), courier(where, [tmp_path / "gone.dcm"]):
        pass


@pytest.mark.tool("storescp")
@pytest.mark.parametrize("fault", ["--refuse", "--abort-after", "--abort-during"])
def test_an_archive_that_breaks_off_is_away(objects: list[Path], fault: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["storescp", fault, "-od", str(tmp_path), str(port)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        with (
            pytest.raises(DestinationAway),
            courier(Destination("cstore", "127.0.0.1", port, "PACS"), objects) as send,
        ):
            for path in objects:
                send(path)
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the receiver did not start")


@pytest.fixture
def web() -> Iterator[tuple[Destination, list[tuple[str, str, bytes]], list[int]]]:
    """A STOW-RS stand-in that answers the statuses of the list one after another (then 200)."""
    requests: list[tuple[str, str, bytes]] = []
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers["Content-Type"], body))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield (
        Destination("stow", url=f"http://127.0.0.1:{server.server_address[1]}/dicom-web"),
        requests,
        statuses,
    )
    server.shutdown()
    server.server_close()


def test_stow_carries_the_file_as_it_is(objects: list[Path], web: tuple) -> None:
    where, requests, _ = web
    with courier(where, objects) as send:
        for path in objects:
            send(path)
    assert [path for path, _, _ in requests] == ["/dicom-web/studies"] * 2
    assert requests[0][1].startswith('multipart/related; type="application/dicom"; boundary=')
    assert objects[0].read_bytes() in requests[0][2]


def test_stow_answers(objects: list[Path], web: tuple) -> None:
    where, _, statuses = web
    statuses += [503, 400]
    with courier(where, objects) as send:
        with pytest.raises(DestinationBusy):
            send(objects[0])
        with pytest.raises(DestinationRefused):
            send(objects[0])
        send(objects[0])
        with pytest.raises(ObjectMissing):
            send(objects[0].with_name("gone"))
    gone = Destination("stow", url="http://127.0.0.1:9/dicom-web")
    with courier(gone, objects) as send, pytest.raises(DestinationAway):
        send(objects[0])


def test_objects_on_the_wire_name_only_their_study(objects: list[Path]) -> None:
    for path in objects:
        ds: Dataset = dcmread(path)
        assert ds.StudyInstanceUID == kit.identity().StudyInstanceUID
