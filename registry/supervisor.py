"""``radfleet up``, ``down`` and ``status``: one supervisor an installation, found by its lock and its record.

Straight line: up -> lock -> leftovers -> ports -> watch.Supervisor.run -> lock given back.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import datetime

import typer

from registry import installation, postgres
from registry.core.errors import RadfleetError
from registry.core.settings import Settings, from_environment
from registry.errors import NotStopped, PartUnknown, PortTaken, UpElsewhere
from registry.installation import PartStatus, State, UpLock
from registry.parts import Part, cluster, parts
from registry.processes import alive, descendants, end, memory_mb
from registry.watch import Say, Supervisor

DOWN_S = 120.0
LEFTOVER_S = 15.0


def up(settings: Settings, only: Sequence[str] = (), say: Say = typer.echo) -> None:
    """Start the parts (all, or those named in ``only``) and watch them until Ctrl-C or ``down``.

    Where this installation is up already, show its parts and follow them; Ctrl-C then ends only the following.
    Raises PartUnknown, PortTaken, PartFailed, UpElsewhere, PostgresMissing, PostgresUnreachable,
    PostgresNotStarted.
    """
    chosen = choose(parts(settings), only)
    lock = UpLock(settings.root)
    if lock.acquire():
        supervise(settings, chosen, lock, say)
    else:
        attach(settings, [part.name for part in chosen], say)


def supervise(settings: Settings, chosen: Sequence[Part], lock: UpLock, say: Say) -> None:
    """Everything between taking the lock and giving it back; ``lock`` is held already."""
    try:
        old = installation.read(settings.root)
        if old and (found := end(old.victims(), LEFTOVER_S)):
            say(f"ended {found} processes that an earlier supervisor left behind")
        check_ports(chosen)
        if any(part.name == "postgres" for part in chosen):
            for line in postgres.warnings(cluster(settings).data):
                say(f"warning: {line}")
        Supervisor(settings, chosen, say).run()
        say("stopped: no process is left")
    finally:
        lock.release()


def choose(known: Sequence[Part], only: Sequence[str]) -> list[Part]:
    """The parts named, in their order; all where none is named. Raises PartUnknown."""
    if unknown := sorted(set(only) - {part.name for part in known}):
        raise PartUnknown(f"there is no part named {', '.join(unknown)}")
    return [part for part in known if not only or part.name in only]


def check_ports(chosen: Sequence[Part]) -> None:
    """Raises PortTaken, which names the port and its variable, where a part could not listen."""
    for part in chosen:
        for port in part.ports:
            family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((port.host, port.number))
                except OSError as error:
                    reason = os.strerror(error.errno or 0).lower()
                    raise PortTaken(
                        f"port {port.number} for {part.name} cannot be used: {reason}",
                        cure=f"Stop what listens on port {port.number}, or set {port.variable} to a free one.",
                    ) from error


def attach(settings: Settings, wanted: Sequence[str], say: Say) -> None:
    """Show the parts of the running supervisor and every change until it ends. Raises UpElsewhere."""
    lock = UpLock(settings.root)
    holder = lock.holder()
    record = installation.read(settings.root)
    if holder is None or record is None or record.supervisor != holder:
        raise UpElsewhere(
            "another supervisor is just starting or stopping here, or its record cannot be read",
            cure="Wait a few seconds and run radfleet up again as the same user.",
        )
    if missing := sorted(set(wanted) - {row["part"] for row in record.parts}):
        raise UpElsewhere(f"the supervisor with pid {holder.pid} runs without {', '.join(missing)}")
    say(f"already up (pid {holder.pid}); following it, Ctrl-C leaves it running")
    seen: dict[str, PartStatus] = {}
    try:
        while lock.holder() == holder:
            for row in _rows(settings):
                if row.part not in seen or seen[row.part].state != row.state:
                    say(f"{row.part} {row.state}  {row.address} {row.note}".rstrip())
                seen[row.part] = row
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    say("the supervisor has ended")


def down(settings: Settings, say: Say = typer.echo, timeout_s: float = DOWN_S) -> None:
    """Stop everything of this installation from any terminal; fine where nothing runs. Raises NotStopped."""
    holder = UpLock(settings.root).holder()
    record = installation.read(settings.root)
    if holder is None:
        found = end(record.victims(), LEFTOVER_S) if record else 0
        say(f"ended {found} left processes" if found else "nothing is up")
        return
    say(f"stopping the supervisor with pid {holder.pid}")
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except PermissionError as error:
        raise NotStopped(f"the supervisor with pid {holder.pid} belongs to another user") from error
    deadline = time.monotonic() + timeout_s
    while alive(holder) and time.monotonic() < deadline:
        time.sleep(0.1)
    if alive(holder):
        # It hangs. Its children are known from the record and are ended one by one.
        record = installation.read(settings.root)
        end([(holder, signal.SIGKILL)], 5)
        end(record.victims() if record else [], 30)
    if alive(holder) or (record and record.victims()):
        raise NotStopped("something of this installation still runs")
    say("stopped")


def _rows(settings: Settings) -> list[PartStatus]:
    holder = UpLock(settings.root).holder()
    record = installation.read(settings.root)
    if holder is None or record is None or record.supervisor != holder:
        return [PartStatus(part.name, State.DOWN, address=part.address) for part in parts(settings)]
    return [
        PartStatus(
            part=row["part"],
            state=State(row["state"]),
            pid=row["pid"],
            since=datetime.fromisoformat(row["since"]) if row["since"] else None,
            restarts=row["restarts"],
            address=row["address"],
            note=row["note"],
        )
        for row in record.parts
    ]


def status(settings: Settings) -> list[PartStatus]:
    """What each part does now, with its memory; all parts are ``down`` where no supervisor runs.

    The first row is the supervisor itself where there is one.
    """
    rows = _rows(settings)
    holder = UpLock(settings.root).holder()
    if holder is None:
        return rows
    trees = descendants([row.pid for row in rows if row.pid])
    found = [PartStatus("supervisor", State.READY, holder.pid, memory_mb=memory_mb([holder]))]
    for row in rows:
        size = memory_mb(trees[row.pid]) if row.pid else None
        found.append(
            PartStatus(row.part, row.state, row.pid, row.since, row.restarts, size, row.address, row.note)
        )
    return found


def wait_ready(settings: Settings, timeout_s: float) -> bool:
    """Wait until every part of the running supervisor is ready or done; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        rows = _rows(settings)
        if rows and all(row.state in (State.READY, State.DONE) for row in rows):
            return True
        time.sleep(0.2)
    return False


def _main() -> None:
    settings, verb, only = from_environment(os.environ), sys.argv[1], sys.argv[2:]
    try:
        if verb == "up":
            up(settings, only)
        elif verb == "down":
            down(settings)
        else:
            for row in status(settings):
                size = "" if row.memory_mb is None else f"{row.memory_mb:.0f}"
                typer.echo(
                    f"{row.part:12}{row.state:12}{row.pid or '':>8}{row.restarts:>4}{size:>7}  {row.address}"
                )
    except RadfleetError as error:
        typer.echo(error.lines(), err=True)
        raise SystemExit(error.answer.exit) from error


if __name__ == "__main__":
    _main()
