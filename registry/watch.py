"""The loop of ``radfleet up``: start the parts in order, probe them, restart what dies, stop all in reverse.

One thread does everything but the probes, because the kernel ties a child's life to the thread that started it.
"""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from registry import installation
from registry.core.errors import RadfleetError
from registry.core.settings import Settings
from registry.errors import PartFailed
from registry.installation import Record, State
from registry.parts import Part
from registry.processes import (
    adopt_orphans,
    descendants,
    identify,
    memory_mb,
    own_children,
    spawn,
)

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
HEALTHY_S = 60.0
SILENT_S = 120.0
ORPHAN_S = 4.0
ONCE_TRIES = 3
Say = Callable[[str], None]


@dataclass(slots=True, eq=False)
class Run:
    """The present life of one part. Times are seconds of the monotonic clock."""

    part: Part
    state: State = State.WAITING
    process: "subprocess.Popen[bytes] | None" = None
    since: datetime | None = None
    started: float = 0.0
    answered: float = 0.0
    probed: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    restarts: int = 0
    signalled: float = 0.0
    step: int = 0
    pending: "Future[bool] | None" = None
    note: str = ""

    @property
    def pid(self) -> int | None:
        """The pid of the part's own process while it runs."""
        return self.process.pid if self.process else None


class Supervisor:
    """Runs the chosen parts until it is told to stop. Use it from the main thread only."""

    def __init__(self, settings: Settings, chosen: Sequence[Part], say: Say) -> None:
        names = {part.name for part in chosen}
        self.settings = settings
        self.runs = {part.name: Run(part) for part in chosen}
        # With `--only`, what is not chosen is somebody else's business and is not waited for.
        self._after = {part.name: [n for n in part.after if n in names] for part in chosen}
        self._talk = say
        self._began = time.monotonic()
        self._asked = 0
        self._stopping = False
        self._failure: RadfleetError | None = None
        self._told = False
        self._orphans: dict[int, float] = {}
        self._recorded = 0.0
        self._changed = True
        self._pool = ThreadPoolExecutor(max_workers=6, thread_name_prefix="probe")
        me = identify(os.getpid())
        assert me is not None
        self._me = me

    def _say(self, text: str) -> None:
        # A closed terminal must not end the supervision.
        with suppress(OSError):
            self._talk(text)

    def run(self) -> None:
        """Supervise until SIGINT, SIGTERM or SIGHUP; leaves no process behind. Raises PartFailed."""
        adopt_orphans()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        before = {number: signal.signal(number, self._on_signal) for number in handled}
        try:
            while self._turn():
                calm = not self._stopping and not self._orphans and self._all(State.READY, State.DONE)
                if select.select([reader], [], [], 1.0 if calm else 0.1)[0]:
                    os.read(reader, 4096)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(reader)
            os.close(writer)
        if self._failure:
            raise self._failure

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._asked += 1

    def _all(self, *states: State) -> bool:
        return all(run.state in states for run in self.runs.values())

    def _turn(self) -> bool:
        """One round of the loop; False when everything has stopped."""
        now = time.monotonic()
        if (self._asked or self._failure) and not self._stopping:
            self._stopping = self._changed = True
            self._say("stopping")
        for run in self.runs.values():
            self._collect(run, now)
        self._clear_orphans(now)
        for run in self.runs.values():
            if self._stopping:
                self._stop(run, now)
            else:
                self._advance(run, now)
        if not self._told and not self._stopping and self._all(State.READY, State.DONE):
            self._tell_ready(now)
        if self._changed or now - self._recorded > 5:
            self._write(now)
        gone = not self._orphans and all(run.process is None for run in self.runs.values())
        return not (self._stopping and gone)

    def _set(self, run: Run, state: State, note: str = "") -> None:
        run.state, run.note, run.since, self._changed = state, note, datetime.now(UTC), True

    def _collect(self, run: Run, now: float) -> None:
        """Notice the end of a part's process and decide what follows."""
        if run.process is None or (code := run.process.poll()) is None:
            return
        ordered = bool(run.signalled)
        run.process, run.pending, run.signalled, run.step = None, None, 0.0, 0
        if self._stopping:
            self._set(run, State.DOWN)
        elif run.part.once and code == 0:
            self._set(run, State.DONE)
            self._say(f"{run.part.name} done in {now - run.started:.1f} s")
        elif ordered and run.note != "silent":
            self._set(run, State.WAITING)
        else:
            self._died(run, code, now)

    def _died(self, run: Run, code: int, now: float) -> None:
        name = run.part.name
        if run.state in (State.READY, State.SILENT) and now - run.started > HEALTHY_S:
            run.failures = 0
        run.failures += 1
        run.restarts += 1
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        if run.part.once and run.failures >= ONCE_TRIES:
            self._set(run, State.FAILED, how)
            self._failure = PartFailed(f"{name} {how}, {run.failures} times", why=f"See logs/{name}.log.")
            return
        delay = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (run.failures - 1))
        run.not_before = now + delay
        self._set(run, State.RESTARTING, how)
        self._say(f"{name} {how}; again in {delay:g} s (logs/{name}.log)")
        for other in self.runs.values():
            if name in other.part.tied and other.process:
                self._say(f"{other.part.name} stops: it was joined to the {name} that died")
                self._interrupt(other, now)

    def _clear_orphans(self, now: float) -> None:
        """End what a dead part left behind: the kernel has given it to us because we adopt orphans."""
        known = {run.process.pid for run in self.runs.values() if run.process}
        found = [pid for pid in own_children() if pid not in known]
        for pid in found:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                continue
            first = self._orphans.setdefault(pid, now)
            number = signal.SIGKILL if now - first > ORPHAN_S else signal.SIGTERM
            if first == now or number == signal.SIGKILL:
                os.kill(pid, number)  # our own unreaped child: the pid cannot have been reused
        self._orphans = {pid: t for pid, t in self._orphans.items() if pid in found and identify(pid)}

    def _advance(self, run: Run, now: float) -> None:
        if run.process is None:
            free = run.state in (State.WAITING, State.RESTARTING) and now >= run.not_before
            met = all(self.runs[n].state in (State.READY, State.DONE) for n in self._after[run.part.name])
            # A second life must not meet what is left of the first one (ports, shared memory).
            if free and met and not (run.restarts and self._orphans):
                self._start(run, now)
            return
        if run.signalled:
            self._stop(run, now)
        elif not run.part.once:
            self._probe(run, now)
        if run.state == State.STARTING and now - run.started > run.part.ready_s and not run.signalled:
            self._say(f"{run.part.name} was not ready within {run.part.ready_s:.0f} s")
            self._interrupt(run, now, "silent")

    def _start(self, run: Run, now: float) -> None:
        log = self.settings.log_dir / f"{run.part.name}.log"
        try:
            run.process = spawn(run.part.launch(), log)
        except RadfleetError as error:
            self._failure = error
            self._set(run, State.FAILED, error.code)
            return
        except OSError as error:
            why = errno.errorcode.get(error.errno or 0, "")
            self._failure = PartFailed(f"{run.part.name} could not be started", why=f"The system says {why}.")
            self._set(run, State.FAILED, "not started")
            return
        run.started = run.answered = time.monotonic()
        run.probed = 0.0
        self._set(run, State.STARTING)

    def _probe(self, run: Run, now: float) -> None:
        if run.pending is not None:
            if not run.pending.done():
                return
            good = run.pending.exception() is None and run.pending.result()
            run.pending = None
            self._heard(run, now, good)
            return
        every = 0.1 if run.state == State.STARTING else 10.0
        if (run.state == State.STARTING or run.part.watched) and now - run.probed >= every and run.pid:
            run.probed = now
            run.pending = self._pool.submit(run.part.probe, run.pid)

    def _heard(self, run: Run, now: float, good: bool) -> None:
        if good:
            run.answered = now
            if run.state == State.STARTING:
                self._say(f"{run.part.name} ready in {now - run.started:.1f} s  {run.part.address}")
            if run.state != State.READY:
                self._set(run, State.READY)
        elif run.state == State.READY and now - run.answered > 15:
            self._set(run, State.SILENT)
        elif run.state == State.SILENT and now - run.answered > SILENT_S:
            self._say(f"{run.part.name} has not answered for {SILENT_S:.0f} s")
            self._interrupt(run, now, "silent")

    def _interrupt(self, run: Run, now: float, note: str = "") -> None:
        self._set(run, State.STOPPING, note)
        self._stop(run, now)

    def _stop(self, run: Run, now: float) -> None:
        """Take the next step of stopping one part: its signals in turn, each with its time, then SIGKILL."""
        if run.process is None:
            if self._stopping and run.state not in (State.DOWN, State.DONE, State.FAILED):
                self._set(run, State.DOWN)
            return
        needed = [o for o in self.runs.values() if o.process and run.part.name in self._after[o.part.name]]
        if self._stopping and needed and self._asked < 2:
            return
        ladder = (*run.part.stop_signals, signal.SIGKILL)
        patience = run.part.stop_s if run.step == 1 and self._asked < 2 else 5.0
        if run.step and (now - run.signalled < patience or run.step >= len(ladder)):
            return
        number = ladder[run.step]
        run.step, run.signalled = run.step + 1, now
        if run.state != State.STOPPING:
            self._set(run, State.STOPPING)
        if number == signal.SIGKILL:
            os.killpg(run.process.pid, number)  # not reaped yet, so the group is still its own
        else:
            run.process.send_signal(number)

    def _tell_ready(self, now: float) -> None:
        self._told = True
        tree = descendants([os.getpid()])[os.getpid()]
        took, size = now - self._began, memory_mb(tree)
        self._say(f"everything runs after {took:.1f} s, {size:.0f} MB; Ctrl-C stops it")

    def _write(self, now: float) -> None:
        heads = {run.process.pid: run.part for run in self.runs.values() if run.process}
        trees = descendants([*heads, *self._orphans])
        stops = {pid: part.stop_signals[0] for pid, part in heads.items()}
        record = Record(self._me, stopping=self._stopping)
        record.processes = [
            (who.pid, who.ticks, int(stops.get(who.pid, signal.SIGTERM)))
            for tree in trees.values()
            for who in tree
        ]
        record.parts = [
            {
                "part": run.part.name,
                "state": run.state.value,
                "pid": run.pid,
                "since": run.since.isoformat() if run.since else None,
                "restarts": run.restarts,
                "address": run.part.address,
                "note": run.note,
            }
            for run in self.runs.values()
        ]
        installation.write(self.settings.root, record)
        self._recorded, self._changed = now, False
