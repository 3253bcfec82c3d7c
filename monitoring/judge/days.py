"""Counts the whole days of every clinic, those without a study too: silence brings no row that anybody could follow."""

import time
from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

from monitoring import flags
from monitoring.errors import StateDamaged
from monitoring.flags_store import Raised
from monitoring.judge import judging
from monitoring.judge.counts import PROVEN, Count
from monitoring.streams import epochs, streams_store, volume, volume_store
from registry.core.db import Conn, Database
from registry.core.logs import log

LOOK_S = 600.0


class Days:
    """Looks every ten minutes whether a day is over. ``notify``: channels by which flags are told."""

    def __init__(self, db: Database, *, notify: Sequence[str] = ()) -> None:
        self._db = db
        self._notify = notify
        self._next = 0.0

    def turn(self) -> int:
        """Count what is whole of each clinic, each in a transaction of its own. Days counted."""
        if time.monotonic() < self._next:
            return 0
        with self._db.monitor() as conn:
            clinics = volume_store.due(conn, volume_store.today(conn))
        counted = 0
        for clinic_id in clinics:
            try:
                with self._db.monitor(write=True) as conn:
                    counted += count(conn, clinic_id, notify=self._notify)
            except StateDamaged as error:  # one clinic's damaged state must not stop the others
                log().error("state_damaged", clinic_id=str(clinic_id), code=error.code)
        self._next = time.monotonic() + LOOK_S
        return counted


def count(conn: Conn, clinic_id: UUID, *, notify: Sequence[str]) -> int:
    """Count the whole days of a clinic that are not counted, and judge it again where that says something else.

    Days are counted again from the first one of a closure that was stated or withdrawn since.
    """
    streams_store.lock(conn, clinic_id)
    last, closed = volume_store.last(conn, clinic_id), volume_store.calendar(conn, clinic_id)
    anew = closed.anew(last.day, last.known) if last.day else None
    return _write(conn, clinic_id, last, anew, volume_store.today(conn), closed, notify=notify)


def followed(
    conn: Conn,
    clinic_id: UUID,
    before: volume.Volume | None,
    days: Sequence[tuple[date, int]],
    closed: volume_store.Calendar,
) -> list[tuple[date, int, volume.Volume]]:
    """Each day with what is known after it, by what people decided until then."""
    anew, budgets = volume_store.anew(conn, clinic_id), volume_store.budgets(conn, clinic_id)
    return [*volume.follow(before, days, anew, budgets, closed.days)]


def differing(conn: Conn, clinic_id: UUID) -> list[date]:
    """Days that were written otherwise than the clinic's studies say now, by the calendar that was known then."""
    written, shut = volume_store.counted(conn, clinic_id), volume_store.closed(conn, clinic_id)
    last = volume_store.last(conn, clinic_id)
    if last.day is None:
        return []
    closed = volume_store.calendar(conn, clinic_id, last.known)
    days = volume_store.days(conn, clinic_id, None, last.day + timedelta(days=1))
    was = {day: (studies, its, day in shut) for day, studies, its in written}
    now = {day: (studies, its, day in closed.days)
           for day, studies, its in followed(conn, clinic_id, None, days, closed)}  # fmt: skip
    return sorted(day for day in was.keys() | now.keys() if was.get(day) != now.get(day))


def differ(conn: Conn, clinic_id: UUID) -> int:
    """How many days were written otherwise than the clinic's studies say now."""
    return len(differing(conn, clinic_id))


def mend(conn: Conn, clinic_id: UUID, *, notify: Sequence[str]) -> int:
    """Count the days again from the first one that differs, with the calendar of now. Days counted again.

    A day that no study can explain any more (its studies became a past) stays and is named by ``differing``.
    """
    streams_store.lock(conn, clinic_id)
    wrong, last = differing(conn, clinic_id), volume_store.last(conn, clinic_id)
    if not wrong or last.day is None:
        return 0
    closed = volume_store.calendar(conn, clinic_id)
    anew = min(day for day in (wrong[0], closed.anew(last.day, last.known)) if day)
    return _write(conn, clinic_id, last, anew, last.day + timedelta(days=1), closed, notify=notify)


def _write(
    conn: Conn, clinic_id: UUID, last: volume_store.Last, anew: date | None, today: date,
    closed: volume_store.Calendar, *, notify: Sequence[str],
) -> int:  # fmt: skip
    """Write the days after ``last``, or from ``anew`` on, and judge again where ``last`` said something else."""
    base = volume_store.last(conn, clinic_id, anew) if anew else last
    days = volume_store.days(conn, clinic_id, base.day, today)
    found = followed(conn, clinic_id, base.its, days, closed)
    if not found:
        return 0
    volume_store.add(conn, clinic_id, found, closed)
    was = {one.name for one in volume.counts(last.its) if one.beyond}
    now = [one for one in volume.counts(found[-1][2]) if one.beyond]
    for one in now:
        if one.name not in was:
            _flag(conn, clinic_id, one, notify=notify)
    if {one.name for one in now} != was:
        judging.judge_again(conn, clinic_id, notify=notify)
    return len(found)


def _flag(conn: Conn, clinic_id: UUID, its: Count, *, notify: Sequence[str]) -> None:
    """One flag for the clinic, at its largest stream: raised once for each beginning."""
    place = volume_store.place(conn, clinic_id)
    for one in streams_store.streams(conn, clinic_id):
        if one.stream_id == place:
            stream = epochs.loaded(conn, clinic_id, one)
            raised = Raised(
                "volume", stream.epoch, f"{its.name} {its.since[:10]}", stream.seq, stream.seq, its.since,
                its.odds, PROVEN, [], {}, None, volume.sentence(its), flags.WOULD_CHANGE,
            )  # fmt: skip
            flags.raise_or_update(conn, clinic_id, one.stream_id, raised, notify=notify)
