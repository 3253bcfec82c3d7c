"""`radfleet study send` against our own doors and against dcmtk's receiver."""

import subprocess
import time

import pytest

from serving.doors import scu
from serving.doors.errors import PeerRefused, SourceMissing
from tests.kit.dicom import encoded, mr_series, write_series
from tests.serving.doors.conftest import CALLED, CALLING
from tests.serving.doors.test_folder import tarred
from tests.serving.doors.test_http import KEY, web

__all__ = ["web"]


def test_c_store_sends_a_folder_unchanged(dicom, tmp_path):
    series = mr_series(8)
    write_series(tmp_path / "in", series)
    steps = []
    report = scu.send(
        tmp_path / "in", to=f"127.0.0.1:{dicom.port}", calling=CALLING, called=CALLED,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert (report.received, report.failed) == (8, 0)
    assert steps[-1] == (8, 8)
    for ds in series:
        (item,) = [row[1] for row in dicom.ledger.rows if row[0][1] == ds.SOPInstanceUID]
        assert (dicom.store.root / item.stored.path).read_bytes().endswith(encoded(ds))


def test_an_answer_is_taken_by_nobody_but_who_waits_for_it(dicom, tmp_path, unpaused):
    write_series(tmp_path / "in", mr_series(3))
    report = scu.send(tmp_path / "in", to=f"127.0.0.1:{dicom.port}", calling=CALLING, called=CALLED)
    assert (report.received, report.failed) == (3, 0)


def test_an_archive_and_its_refusals_are_reported(dicom, tmp_path):
    paths = write_series(tmp_path / "in", mr_series(5))
    entries = [(p.name, p.read_bytes()) for p in paths]
    entries[2] = (entries[2][0], entries[2][1][:-20])
    path = tarred(tmp_path / "x.tar.xz", [*entries, ("notes", b"words" * 100)])
    report = scu.send(path, to=f"127.0.0.1:{dicom.port}", calling=CALLING, called=CALLED)
    assert (report.received, report.failed, report.skipped) == (4, 1, 1)
    assert report.reasons == {"doors.truncated": 1, "doors.not_dicom": 1}


def test_stow_sends_a_folder(web, tmp_path):
    paths = write_series(tmp_path / "in", mr_series(60))
    paths[7].write_bytes(paths[7].read_bytes()[:-20])
    report = scu.send(tmp_path / "in", url=f"http://127.0.0.1:{web.port}", key=KEY)
    assert (report.received, report.failed, dict(report.reasons)) == (59, 1, {"doors.truncated": 1})
    with pytest.raises(PeerRefused):
        scu.send(tmp_path / "in", url=f"http://127.0.0.1:{web.port}/dicom-web", key="wrong")


def test_who_is_not_known_or_not_there_is_a_named_error(dicom, tmp_path):
    write_series(tmp_path / "in", mr_series(1))
    with pytest.raises(PeerRefused, match="rejected"):
        scu.send(tmp_path / "in", to=f"127.0.0.1:{dicom.port}", calling="STRANGER", called=CALLED)
    with pytest.raises(PeerRefused):
        scu.send(tmp_path / "in", to="127.0.0.1:1")
    with pytest.raises(SourceMissing):
        scu.send(tmp_path / "in")
    with pytest.raises(SourceMissing):
        scu.send(tmp_path / "in", to="nonsense")


@pytest.mark.tool("storescp")
def test_dcmtk_receives_what_we_send(tmp_path):
    series = mr_series(6)
    write_series(tmp_path / "in", series)
    (tmp_path / "out").mkdir()
    port = "11977"
    peer = subprocess.Popen(["storescp", "-od", str(tmp_path / "out"), port])
    try:
        for _ in range(50):
            time.sleep(0.1)
            try:
                report = scu.send(tmp_path / "in", to=f"127.0.0.1:{port}")
                break
            except PeerRefused:
                continue
        assert report.received == 6
        assert len(list((tmp_path / "out").iterdir())) == 6
    finally:
        peer.terminate()
        peer.wait(5)
