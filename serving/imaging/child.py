"""One study, one child process, one failure: decoding with limits, and its named errors carried back.

The child sets its own limits before it touches a stranger's byte: address space, CPU time, file size,
open files, no core dump, no new privileges, death with its parent, and no network where that is allowed.
The parent kills the whole process group when the wall clock runs out.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry.core.errors import RadfleetError
from serving.imaging import errors
from serving.imaging.limits import DEFAULT_LIMITS, ChildLimits

CHOICES, PREPARED, ERROR = "choices.json", "prepared.json", "error.json"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _CLONE_NEWNET = 1, 38, 0x40000000
_REFUSED = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A study ready for a model. ``volume_dir`` is for ``load_volume``; ``choices`` covers every series."""

    volume_dir: Path
    choices: list[dict[str, Any]]
    profile: dict[str, Any]
    series_instance_uids: list[str]
    warnings: list[str]


def prepare(
    paths: Sequence[Path],
    accepts: Mapping[str, Any],
    out_dir: Path,
    limits: ChildLimits = DEFAULT_LIMITS,
) -> Prepared:
    """Choose, decode and save the series of one study that fits ``accepts``, in a child with limits.

    Writes into ``out_dir``: volume.npy, geometry.json, prepared.json, choices.json (the last one also
    when the study is refused). Raises the ImagingError that the child raised; memory, time or a crash
    become TooLarge or Malformed; a full disk becomes NoSpace.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in (PREPARED, ERROR, CHOICES):
        (out_dir / name).unlink(missing_ok=True)
    request = {
        "paths": [str(Path(path).absolute()) for path in paths],
        "accepts": dict(accepts),
        "out_dir": str(out_dir.absolute()),
        "limits": asdict(limits),
    }
    status = _run(json.dumps(request).encode(), limits.wall_seconds)
    if status == 0 and (out_dir / PREPARED).exists():
        record = json.loads((out_dir / PREPARED).read_text(encoding="utf-8"))
        return Prepared(
            out_dir, record["choices"], record["profile"], record["series_instance_uids"], record["warnings"]
        )
    raise _failure(status, out_dir)


def read_choices(out_dir: Path) -> list[dict[str, Any]]:
    """What was decided on each series, also of a refused study; [] where it never came so far."""
    try:
        found = json.loads((out_dir / CHOICES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(found)


def _run(request: bytes, wall_seconds: float) -> int | None:
    """Run the child; returns its exit status (negative: signal), or None when the wall clock ran out."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "LC_ALL": "C.UTF-8",
        **threads,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "serving.imaging.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        child.communicate(request, timeout=wall_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return child.returncode


def _failure(status: int | None, out_dir: Path) -> RadfleetError:
    """The named error of a child that did not succeed."""
    try:
        return errors.from_record(json.loads((out_dir / ERROR).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    if status is None:
        return errors.TooLarge("Reading this study took longer than one study may.")
    if status in (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGXFSZ):
        return errors.TooLarge("Reading this study used more time or memory than one study may.")
    return errors.Malformed("Reading this study ended the process that read it.", f"Exit status {status}.")


def confine(limits: ChildLimits) -> None:
    """Give up what a decoder does not need. Irreversible; only for the child process."""
    for kind, amount in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_AS, limits.memory_bytes),
    ):
        resource.setrlimit(kind, (amount, amount))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 2))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Needs a right that containers often lack; where it is refused, the other limits still hold.
    libc.unshare(_CLONE_NEWNET)


def main() -> int:
    """The child: read the request from standard input, work, leave a result or an error record."""
    request = json.loads(sys.stdin.buffer.read())
    out_dir = Path(request["out_dir"])
    confine(ChildLimits(**request["limits"]))
    try:
        _work(request, out_dir)
    except RadfleetError as error:
        return _refuse(error, out_dir)
    except Exception as error:  # noqa: BLE001 - whatever hostile bytes provoke is a refusal of this study
        return _refuse(named(error), out_dir)
    return 0


def named(error: Exception) -> RadfleetError:
    """The named error for anything else that ends a child: memory, depth, disk, or an unforeseen one."""
    if isinstance(error, MemoryError):
        return errors.TooLarge("Reading this study asked for more memory than it may.")
    if isinstance(error, RecursionError):
        return errors.Malformed("Sequences are nested too deeply.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.NoSpace()
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return errors.TooLarge("The volume of this study is larger than one file may be.")
    return errors.Malformed("This study cannot be read.", type(error).__name__)


def _work(request: Mapping[str, Any], out_dir: Path) -> None:
    # Imported under the limits: the import itself is part of what they must leave room for.
    from serving.imaging.study import prepare_here

    prepare_here([Path(path) for path in request["paths"]], request["accepts"], out_dir)


def _refuse(error: RadfleetError, out_dir: Path) -> int:
    (out_dir / ERROR).write_text(json.dumps(errors.as_record(error)), encoding="utf-8")
    return _REFUSED


if __name__ == "__main__":
    sys.exit(main())
