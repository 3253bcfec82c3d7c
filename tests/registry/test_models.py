"""MLflow shows a package once and gives it back by digest; damaged or absent, it never reaches a clinic."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from registry import models
from registry.core.errors import Invalid
from registry.errors import AliasInvalid, ArtefactDamaged, MlflowAway, ModelNotInMlflow

pytestmark = pytest.mark.slow
MODEL = {"name": "toy", "task": "toy", "version": "1.0.0"}


def digest_of(folder: Path) -> str:
    """A stand-in for the package's own verification: one digest over names and bytes."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return "sha256:" + total.hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real MLflow server of one process on SQLite."""
    root = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{root}/mlflow.db"
    env = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": store,
        "_MLFLOW_SERVER_REGISTRY_STORE": store,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(root / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    argv = [sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app", "--port", str(port)]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, cwd=root, stdout=log, stderr=log)
        uri = f"http://127.0.0.1:{port}"
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=2)
                    break
                except OSError:
                    assert process.poll() is None, (root / "server.log").read_text()[-3000:]
                    assert time.monotonic() < end
                    time.sleep(0.3)
            yield SimpleNamespace(uri=uri, artifacts=root / "artifacts", process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def folder(tmp_path: Path, text: str) -> tuple[Path, str]:
    place = tmp_path / f"toy-{text}"
    (place / "openvino").mkdir(parents=True)
    (place / "model.json").write_text(text)
    (place / "openvino/brain.xml").write_text(text * 2)
    return place, digest_of(place)


def test_a_package_gets_one_version_however_often_and_by_whom(server: Any, tmp_path: Path) -> None:
    place, digest = folder(tmp_path, "once")
    first = models.register(server.uri, place, digest, MODEL)
    labels: list[models.Label] = []
    again = [
        threading.Thread(target=lambda: labels.append(models.register(server.uri, place, digest, MODEL)))
        for _ in range(2)
    ]
    for thread in again:
        thread.start()
    for thread in again:
        thread.join()
    assert labels == [first, first]
    assert models.find(server.uri, digest) == first
    other_place, other = folder(tmp_path, "other")
    second = models.register(server.uri, other_place, other, MODEL)
    assert (second.name, second.version) != (first.name, first.version)


def test_racing_registrars_leave_one_version(server: Any, tmp_path: Path) -> None:
    """Mutant caught: creating without looking once more leaves two versions of one digest."""
    place, digest = folder(tmp_path, "race")
    racers = [
        threading.Thread(target=models.register, args=(server.uri, place, digest, MODEL)) for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    with models._client(server.uri) as client:
        assert len(client.search_model_versions(f"tags.`{models.TAG}` = '{digest}'")) == 1


def test_fetch_downloads_once_and_then_needs_no_server(server: Any, tmp_path: Path) -> None:
    place, digest = folder(tmp_path, "fetch")
    models.register(server.uri, place, digest, MODEL)
    cache = tmp_path / "cache"
    got = models.fetch(server.uri, digest, cache, digest_of)
    assert got == models.place(cache, digest)
    assert digest_of(got) == digest
    assert models.fetch("http://127.0.0.1:1", digest, cache, digest_of) == got
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == [got.name]


def test_a_damaged_artefact_never_enters_the_cache(server: Any, tmp_path: Path) -> None:
    place, digest = folder(tmp_path, "damaged")
    models.register(server.uri, place, digest, MODEL)
    stored = next(path for path in server.artifacts.rglob("model.json") if path.read_text() == "damaged")
    stored.write_text("Damaged")
    with pytest.raises(ArtefactDamaged):
        models.fetch(server.uri, digest, tmp_path / "cache", digest_of)

    def refuses(_: Path) -> str:
        raise Invalid("a byte differs")

    with pytest.raises(ArtefactDamaged):
        models.fetch(server.uri, digest, tmp_path / "cache", refuses)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_what_mlflow_does_not_know_is_named(server: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelNotInMlflow):
        models.fetch(server.uri, "sha256:" + "0" * 64, tmp_path, digest_of)
    for bad in ("latest", "sha256:../../x", "sha256:" + "0" * 64 + "' or '1'='1"):
        with pytest.raises(ModelNotInMlflow):
            models.fetch(server.uri, bad, tmp_path, digest_of)


def test_a_cold_version_waits_by_name_when_mlflow_is_away(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(MlflowAway):
        models.fetch("http://127.0.0.1:1", "sha256:" + "0" * 64, tmp_path, digest_of)
    with pytest.raises(MlflowAway):
        models.curve_logger("x", "")
    assert time.monotonic() - began < 10


def test_an_alias_follows_the_binding_and_is_put_back(server: Any, tmp_path: Path) -> None:
    digests = []
    for text in ("alias-a", "alias-b"):
        place, digest = folder(tmp_path, text)
        models.register(server.uri, place, digest, MODEL)
        digests.append(digest)
    assert models.set_alias(server.uri, "north", "toy", digests[0])
    assert not models.set_alias(server.uri, "north", "toy", digests[0])
    assert models.set_alias(server.uri, "north", "toy", digests[1])
    with models._client(server.uri) as client:
        found = client.get_model_version_by_alias("toy", "clinic-north-toy")
        assert found.tags[models.TAG] == digests[1]
    with pytest.raises(AliasInvalid):
        models.set_alias(server.uri, "North Clinic", "toy", digests[0])


def test_a_training_curve_is_drawn(server: Any) -> None:
    log = models.curve_logger("brain, seed 1", server.uri)
    for step in range(3):
        log("loss", 1 / (step + 1), step)
    with models._client(server.uri) as client:
        number = client.get_experiment_by_name("training").experiment_id
        run = client.search_runs([number])[0]
        assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [
            1,
            0.5,
            1 / 3,
        ]
