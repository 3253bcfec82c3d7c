"""A supervisor over small stand-in processes: ``python -m tests.kit.up HOME SCENE``; the supervisor is the real one.

Only the work of the parts is left out, so that its rules (order, restart, orphans, stop) are tested in seconds.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from registry import supervisor, watch
from registry.core.errors import RadfleetError
from registry.core.settings import Settings
from registry.parts import Part, environment
from registry.processes import Launch

# Each writes one line at its start and one when it is asked to stop.
_CALM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("on", flush=True)
time.sleep(600)
"""
_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(600)
"""
# A helper in a session of its own that ignores SIGTERM: what Ray's processes are like when their head dies.
_PARENT = f"""
import subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", {_STUBBORN!r}], start_new_session=True, stdout=subprocess.DEVNULL)
print(helper.pid, flush=True)
time.sleep(600)
"""
_FAILS = "import sys\nsys.exit(3)"


def part(home: Path, name: str, code: str, **facts: object) -> Part:
    """A part that runs Python ``code`` and is ready when it has written to its log."""
    settings = Settings(home=home)

    def launch() -> Launch:
        return Launch([sys.executable, "-S", "-c", code], environment(settings), Path("/"))

    def probe(_pid: int) -> bool:
        log = settings.log_dir / f"{name}.log"
        return log.exists() and log.stat().st_size > 0

    return Part(name, launch, probe, **facts)  # type: ignore[arg-type]


SCENES: dict[str, Callable[[Path], list[Part]]] = {
    "chain": lambda home: [
        part(home, "once", "print('made')", once=True),
        part(home, "base", _CALM, after=("once",)),
        part(home, "top", _CALM, after=("base",)),
        part(home, "joined", _CALM, after=("base",), tied=("base",)),
    ],
    "family": lambda home: [part(home, "parent", _PARENT)],
    "stubborn": lambda home: [part(home, "stubborn", _STUBBORN, stop_s=1)],
    "fails": lambda home: [part(home, "migrate", _FAILS, once=True), part(home, "base", _CALM)],
}


def main(home: str, scene: str) -> int:
    """Run one scene as ``radfleet up`` would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch.ORPHAN_S = 1.0
    settings = Settings(home=Path(home))
    supervisor.parts = lambda _: SCENES[scene](Path(home))  # type: ignore[assignment]
    try:
        supervisor.up(settings, say=lambda text: typer.echo(text))
    except RadfleetError as error:
        typer.echo(error.lines())
        return error.answer.exit
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
