"""The engine on a real Ray: who answered is proven, versions live side by side, and every death is survived."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest

from registry import parts
from registry.core.settings import Settings
from registry.processes import READY_FILE
from serving.engine import calls, errors
from serving.engine.answering import Question
from serving.engine.calls import RayEngine
from serving.engine.package import write_package
from serving.imaging.volume import Volume, save_volume
from tests.serving.engine.conftest import know_the_toy
from tests.serving.engine.toy import toy_model, toy_weights

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(what: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


class Machine:
    """One installation's Ray and engine, started as the supervisor starts them."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(
            home=home, ray_port=free_port(), mlflow_url="http://127.0.0.1:1", threads=1, lease_s=60
        )
        self.digests: dict[str, str] = {}
        self.running: list[subprocess.Popen[bytes]] = []
        self.ready = home / "engine.ready"

    def start(self, argv: list[str], env: Any, name: str) -> subprocess.Popen[bytes]:
        with (self.settings.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
        self.running.append(process)
        return process

    def up(self) -> None:
        part = next(part for part in parts.parts(self.settings) if part.name == "ray")
        launch = part.launch()
        self.ray = self.start(launch.argv, launch.env, "ray")
        wait(lambda: part.probe(self.ray.pid), 240)
        self.ready.unlink(missing_ok=True)
        env = {**parts.environment(self.settings), READY_FILE: str(self.ready)}
        approved = json.dumps([self.digests["approved"]])
        self.engine = self.start(
            [sys.executable, "-m", "tests.serving.engine.toy_engine", "[]", approved], env, "engine"
        )
        wait(self.ready.exists, 240)

    def of_this(self, word: str, without: str = "") -> list[psutil.Process]:
        """Living processes of ours whose title holds a word, and not another one."""
        found = []
        for root in self.running:
            try:
                family = [psutil.Process(root.pid), *psutil.Process(root.pid).children(recursive=True)]
            except psutil.Error:
                continue
            for process in family:
                try:
                    title = " ".join(process.cmdline())
                except psutil.Error:
                    continue
                if word in title and (not without or without not in title):
                    found.append(process)
        return found

    def down(self) -> None:
        family = self.of_this("")
        for process in family:
            try:
                process.kill()
            except psutil.Error:
                continue
        for root in self.running:
            root.wait(20)
        self.running = []


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="rf-"))
    its = Machine(home)
    patch = pytest.MonkeyPatch()
    know_the_toy(patch)
    for name, seed, parameters in (
        ("a", 1, {"threshold": 0.0}),
        ("b", 2, {"threshold": 0.0}),
        ("slow", 3, {"threshold": 0.0, "sleep_s": 6}),
        ("fails", 4, {"threshold": 0.0, "fail": 1}),
        ("approved", 5, {"threshold": 0.0}),
    ):
        package = write_package(
            home / "made" / name, toy_model(parameters=parameters), {}, {"brain": toy_weights(seed)}
        )
        its.digests[name] = package.digest
        shutil.copytree(package.path, its.settings.cache_dir / package.digest.removeprefix("sha256:"))
    try:
        its.up()
        yield its
    finally:
        its.down()
        patch.undo()
        for log in home.glob("*.log"):
            sys.stderr.write(f"--- {log.name}\n{log.read_text()[-3000:]}\n")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def engine(machine: Machine) -> Iterator[RayEngine]:
    its = RayEngine(machine.settings, timeout_s=60)
    yield its
    its.close()


def ask(engine: RayEngine, digest: str, tmp_path: Path, seed: int = 0) -> Any:
    voxels = np.random.default_rng(seed).normal(size=(24, 20, 22)).astype(np.float32)
    save_volume(Volume(voxels, np.eye(4)), tmp_path / "volume")
    question = Question(
        clinic_id=uuid4(), study_id=uuid4(), revision=1, task="toy", fence=7, digest=digest, binding_seq=1, name="toy",
        version="1.0.0", created_at=datetime.now(UTC), paths=(), work_dir=tmp_path, trace=lambda *_: None,
    )  # fmt: skip
    reply = engine.infer(question, tmp_path / "volume")
    return SimpleNamespace(reply=reply, voxels=voxels)


def test_two_versions_answer_side_by_side_and_each_names_itself(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    replies = {}
    for name in ("a", "b", "a"):
        answer = ask(engine, machine.digests[name], tmp_path)
        assert answer.reply.digest == machine.digests[name]
        assert answer.reply.mask.shape == (24, 20, 22)
        assert answer.reply.runtime == "openvino"
        if name in replies:
            assert np.array_equal(replies[name], answer.reply.mask)
        replies[name] = answer.reply.mask
    assert not np.array_equal(replies["a"], replies["b"])


def test_a_rebind_answers_the_next_study_with_no_restart(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    replicas = {process.pid for process in machine.of_this("ServeReplica")}
    ask(engine, machine.digests["b"], tmp_path)
    began = time.monotonic()
    assert ask(engine, machine.digests["a"], tmp_path).reply.digest == machine.digests["a"]
    assert time.monotonic() - began < 10
    assert replicas
    assert {process.pid for process in machine.of_this("ServeReplica")} == replicas


def test_a_cold_version_waits_by_name(machine: Machine, engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(errors.PackageCold):
        ask(engine, "sha256:" + "0" * 64, tmp_path)
    # The same from inside a replica, whose node may be another one than the worker's.
    fields = {
        "volume_dir": str(tmp_path), "out_dir": str(tmp_path), "clinic_id": "x", "fence": 1,
        "digest": "sha256:" + "0" * 64,
    }  # fmt: skip
    with pytest.raises(errors.PackageCold):
        engine._caller.ask("cpu-small", fields, 60)


def test_another_package_under_the_asked_name_is_refused_by_the_replica(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    """P6. Mutant caught: echoing the request's digest instead of the loader's own."""
    liar = "sha256:" + "1" * 64
    shutil.copytree(machine.settings.root / "made" / "a", machine.settings.cache_dir / ("1" * 64))
    save_volume(Volume(np.zeros((8, 8, 8), np.float32), np.eye(4)), tmp_path / "volume")
    fields = {
        "volume_dir": str(tmp_path / "volume"), "out_dir": str(tmp_path / "o"), "clinic_id": "x", "fence": 1,
        "digest": liar,
    }  # fmt: skip
    with pytest.raises(errors.IdentityMismatch):
        engine._caller.ask("cpu-small", fields, 60)
    assert not (tmp_path / "o").exists()
    with pytest.raises(errors.IdentityMismatch):
        engine.package(liar)


def test_a_model_that_fails_is_named_and_its_text_stays_inside(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    with pytest.raises(errors.ModelFailed) as failed:
        ask(engine, machine.digests["fails"], tmp_path)
    assert "patient" not in failed.value.lines()
    assert "ZeroDivisionError" in failed.value.lines()


def test_an_unknown_runtime_class_and_a_bad_request_are_named(engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(errors.EngineAway):
        engine._caller.ask("abacus", {"digest": "x"}, 30)
    with pytest.raises(errors.RequestInvalid):
        engine._caller.ask("cpu-small", {"digest": "sha256:" + "0" * 64}, 30)


def test_a_slow_study_times_out_and_the_next_one_is_answered(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    impatient = RayEngine(machine.settings, timeout_s=2)
    try:
        with pytest.raises(errors.EngineTimeout):
            ask(impatient, machine.digests["slow"], tmp_path / "slow")
    finally:
        impatient.close()
    assert ask(engine, machine.digests["a"], tmp_path).reply.digest == machine.digests["a"]


def test_a_killed_replica_is_replaced(machine: Machine, engine: RayEngine, tmp_path: Path) -> None:
    for process in machine.of_this("ServeReplica"):
        os.kill(process.pid, signal.SIGKILL)

    def answered() -> bool:
        try:
            ask(engine, machine.digests["a"], tmp_path)
        except (errors.ReplicaDied, errors.EngineAway):
            return False
        return True

    wait(answered, 180)


def test_a_killed_caller_is_started_again(machine: Machine, engine: RayEngine, tmp_path: Path) -> None:
    ask(engine, machine.digests["a"], tmp_path)
    child = engine._caller._child
    assert child is not None
    child.kill()
    child.wait()
    assert ask(engine, machine.digests["a"], tmp_path).reply.digest == machine.digests["a"]


def test_a_task_runs_once_beside_the_replicas(machine: Machine, tmp_path: Path) -> None:
    """The replica holds the only core, and the task still runs; what fails there is named here."""
    calls.run_task(machine.settings, "tests.serving.engine.toy_task", tmp_path)
    assert (tmp_path / "ran").read_text().split() == ["once"]
    with pytest.raises(errors.TaskFailed, match="status 3"):
        calls.run_task(machine.settings, "tests.serving.engine.toy_task", tmp_path / "nowhere")
    with pytest.raises(errors.EngineAway):
        calls.run_task(
            replace(machine.settings, ray_port=free_port()),
            "tests.serving.engine.toy_task",
            tmp_path,
        )


def test_a_killed_head_is_named_and_its_successor_found(
    machine: Machine, engine: RayEngine, tmp_path: Path
) -> None:
    """Mutant caught: a worker that keeps the dead head's driver never answers again."""
    for process in machine.of_this("", without="toy_engine"):
        with suppress(ProcessLookupError):  # it ended with the one before it
            os.kill(process.pid, signal.SIGKILL)
    machine.ray.wait(10)
    with pytest.raises(errors.EngineAway):
        ask(engine, machine.digests["a"], tmp_path)
    assert machine.engine.wait(120) != 0
    machine.running.clear()
    machine.up()
    assert ask(engine, machine.digests["a"], tmp_path).reply.digest == machine.digests["a"]
