"""Asks the engine for one study: from a worker, through a process of its own, to a Ray Serve replica.

A Ray driver does not survive the death of its head: Ray ends its process. So the driver is a child of the
worker (`python -m serving.engine.calls`), one line of JSON in and one out. When the head dies the child dies,
the worker learns it as ``engine.away`` at once, gives the study back, and starts a new child for the next one.
A fine-tune goes the same way, as one plain Ray task (``run_task``).
"""

import contextlib
import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from registry import parts
from registry.core.errors import RadfleetError
from registry.core.settings import Settings
from serving.engine import cache, errors
from serving.engine.answering import Question, Reply
from serving.engine.package import Package, verify_package

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

ANSWER_S_MAX = 300.0
CONNECT_S_MAX = 60.0
LINE_BYTES_MAX = 2**20
FOR_EVER_S = 1e8
_ARRAYS = {
    "mask": ("mask.npy", np.uint8), "brain": ("brain.npy", np.uint8), "probability": ("probability.npy", np.float16),
}  # fmt: skip


class RayEngine:
    """The served engine, as ``answering.Engine`` describes it. One question at a time."""

    def __init__(self, settings: Settings, timeout_s: float = ANSWER_S_MAX) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._packages: dict[str, Package] = {}
        self._caller = Caller(settings)

    def package(self, digest: str) -> Package:
        """The verified package of a digest on this node. Raises ``PackageCold`` when it cannot be had now."""
        if digest not in self._packages:
            package = verify_package(
                cache.ensure(self._settings.mlflow_uri(), digest, self._settings.cache_dir)
            )
            if package.digest != digest:
                raise errors.IdentityMismatch("The cached package is not the one that its place names")
            self._packages[digest] = package
        return self._packages[digest]

    def infer(self, question: Question, volume_dir: Path) -> Reply:
        """Run the bound package on a saved volume.

        Raises ``EngineAway`` (nothing ran, or the head died: try again), ``ReplicaDied``, ``EngineTimeout``,
        ``IdentityMismatch``, and what the replica names.
        """
        out = question.work_dir / "answer"
        fields = {
            "volume_dir": str(volume_dir.absolute()),
            "out_dir": str(out.absolute()),
            "clinic_id": str(question.clinic_id),
            "fence": question.fence,
            "digest": question.digest,
        }
        runtime_class = str(self.package(question.digest).model["runtime_class"])
        summary = self._caller.ask(runtime_class, fields, self._timeout_s)
        return read_reply(fields, summary)

    def close(self) -> None:
        """End the child."""
        self._caller.close()


def read_reply(fields: Mapping[str, Any], summary: Mapping[str, Any]) -> Reply:
    """The arrays of an answer, once it is proven to be the answer to ``fields``.

    Raises ``IdentityMismatch`` when another digest, fence or clinic, or other bytes came back.
    """
    for name in ("digest", "fence", "clinic_id"):
        if summary.get(name) != fields[name]:
            raise errors.IdentityMismatch(f"The answer carries another {name} than the question")
    arrays = {}
    for name, (file, kind) in _ARRAYS.items():
        path = Path(fields["out_dir"]) / file
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != summary["files"][file]:
            raise errors.IdentityMismatch(f"{file} is not the file that the replica wrote")
        arrays[name] = np.load(path, allow_pickle=False)
        if arrays[name].dtype != kind:
            raise errors.ModelFailed(f"{file} holds another type than it must")
    return Reply(
        mask=arrays["mask"],
        brain=arrays["brain"],
        numbers=dict(summary["numbers"]),
        warnings=tuple(summary["warnings"]),
        digest=str(summary["digest"]),
        runtime=str(summary["runtime"]),
        device=str(summary["device"]),
        seconds=dict(summary["seconds"]),
        probability=arrays["probability"],
    )


class Caller:
    """The child process that is the Ray driver, started when it is needed and replaced when it fails."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._lock = threading.Lock()

    def ask(self, runtime_class: str, fields: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The summary of one answer (``host.save``). Raises the errors that ``RayEngine.infer`` names."""
        with self._lock:
            try:
                self._start()
                question = {"class": runtime_class, "fields": dict(fields), "timeout_s": timeout_s}
                # The child keeps the time; the margin only covers a child that hangs itself.
                answer = self._exchange(question, timeout_s + 30)
            except errors.EngineAway:
                self._end()
                raise
        if "ok" in answer:
            return dict(answer["ok"])
        error = named(answer["error"])
        if isinstance(error, errors.EngineAway | errors.ReplicaDied):
            with self._lock:
                self._end()
            # The head's death looks like the replica's death from a driver: ask the head itself.
            if not head_answers(self._settings):
                raise errors.EngineAway("Ray's head died while it worked on this study") from error
        raise error

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self._end()
        if not head_answers(self._settings):
            raise errors.EngineAway("Ray's head does not answer")
        mine, theirs = socket.socketpair()
        environment = parts.environment(self._settings)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "serving.engine.calls", str(theirs.fileno()), address(self._settings)],
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._line = mine
        hello = self._read(CONNECT_S_MAX)
        if hello.get("ok") != "connected":
            raise errors.EngineAway("The engine's caller could not join Ray")

    def _exchange(self, question: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._line is not None
        try:
            self._line.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            raise errors.EngineAway("The engine's caller has ended") from error
        return self._read(timeout_s)

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._line is not None
        line = read_line(self._line, timeout_s)
        if not line:
            raise errors.EngineAway("The engine's caller has ended or hangs")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._end()


def run_task(settings: Settings, module: str, folder: Path) -> None:
    """Run ``python -m module folder`` as one Ray task and wait for it, however long it takes.

    On a GPU where the cluster has a free one. Where serving holds every core the task takes what serving leaves:
    it asks for none and runs with the lowest priority. Raises ``EngineAway`` when the head is away or dies (nothing
    is kept of the task), ``TaskFailed`` when the task itself fails.
    """
    if not head_answers(settings):
        raise errors.EngineAway("Ray's head does not answer")
    words = ["task", address(settings), module, str(folder), str(settings.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "serving.engine.calls", *words],
        env=parts.environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    said = done.stdout.split(b"\n")[0]
    if done.returncode or not said:
        raise errors.EngineAway("Ray's head died, or the task never began")
    status = int(json.loads(said)["status"])
    if status:
        raise errors.TaskFailed(f"{module} ended with status {status} on Ray")


def _task() -> int:
    """The driver of ``run_task``: one task, never tried twice, its exit status as a line of JSON."""
    import ray

    from serving.engine import app

    target, module, folder, threads = sys.argv[2:6]
    app.connect(target)
    free = ray.available_resources()
    cores = int(threads) if free.get("CPU", 0) >= int(threads) else 0
    remote = ray.remote(num_cpus=cores, num_gpus=min(1, int(free.get("GPU", 0))), max_retries=0)(_niced)
    status = ray.get(remote.remote(module, folder))
    sys.stdout.write(json.dumps({"status": status}) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _niced(module: str, folder: str) -> int:
    """The task: a process of its own, so that the node gets all of its memory back."""
    command = ["nice", "-n", "10", sys.executable, "-m", module, folder]
    return subprocess.run(command, check=False).returncode


def address(settings: Settings) -> str:
    """host:port of Ray's head."""
    return settings.ray_address or f"127.0.0.1:{settings.ray_port}"


def head_answers(settings: Settings) -> bool:
    """True when something accepts a connection where Ray's head should be."""
    host, _, port = address(settings).rpartition(":")
    return parts.answers(host, int(port))


def named(fields: Mapping[str, str]) -> RadfleetError:
    """The error that ``host.record`` wrote, as the class of its code; imaging's too, since a task may refuse."""
    from serving.imaging import errors as imaging

    for module in (errors, imaging):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, RadfleetError) and kind.code == fields["code"]:
                return kind(fields["what"], fields["why"], fields["cure"])
    return errors.ModelFailed("The engine refused this study", fields["code"])


def read_line(line: socket.socket, timeout_s: float) -> bytes:
    """One line without its end, or nothing when the other side is gone, too slow or says too much."""
    end = time.monotonic() + timeout_s
    data = bytearray()
    while not data.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or len(data) > LINE_BYTES_MAX or not select.select([line], [], [], left)[0]:
            return b""
        try:
            piece = line.recv(65536)
        except OSError:
            return b""
        if not piece:
            return b""
        data += piece
    return bytes(data[:-1])


def main() -> int:
    """The child: join Ray, then answer lines until the worker closes its end."""
    from serving.engine import app

    line = socket.socket(fileno=int(sys.argv[1]))
    app.connect(sys.argv[2])
    _say(line, {"ok": "connected"})
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    handles: dict[str, DeploymentHandle] = {}
    while question := read_line(line, FOR_EVER_S):
        _say(line, _relay(json.loads(question), handles))
    # Ray's own farewell may wait for a head that is gone.
    os._exit(0)


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _say(line: socket.socket, answer: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(answer).encode() + b"\n")


def _relay(question: Mapping[str, Any], handles: "dict[str, DeploymentHandle]") -> dict[str, Any]:
    """One question to a replica that has the version, or may load it."""
    import ray.exceptions as gone
    from ray import serve
    from ray.serve.exceptions import RayServeException

    from serving.engine import app
    from serving.engine.host import record

    name = app.application(question["class"])
    try:
        if name not in handles:
            handles[name] = serve.get_app_handle(name)
        handle = handles[name].options(multiplexed_model_id=question["fields"]["digest"])
        response = handle.answer.remote(question["fields"])
        try:
            answer: dict[str, Any] = response.result(timeout_s=question["timeout_s"])
        except TimeoutError:
            response.cancel()
            raise
    except TimeoutError:
        return {"error": record(errors.EngineTimeout())}
    except gone.RayActorError as error:
        return {"error": record(errors.ReplicaDied(why=type(error).__name__))}
    except RayServeException as error:
        return {"error": record(errors.EngineAway("The engine is not deployed", type(error).__name__))}
    except gone.RayTaskError as error:
        return {"error": record(errors.ModelFailed("The replica failed", type(error.cause).__name__))}
    except gone.RayError as error:
        return {"error": record(errors.EngineAway(why=type(error).__name__))}
    return answer


if __name__ == "__main__":
    sys.exit(_task() if sys.argv[1] == "task" else main())
