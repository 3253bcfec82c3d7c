"""Each stream's report of the month that has ended, drawn by itself: a slow change shows where nobody had to ask."""

import time
from collections.abc import Callable

from monitoring.evidence import freeze, report, reports_store
from monitoring.evidence.freeze import Make
from monitoring.evidence.reports_store import Waiting
from monitoring.evidence.tables import CURRENT_MIN, REFERENCE_MIN
from registry.core.db import Database

FIRST_S, EVERY_S = 600.0, 6 * 3600.0
"""When it is looked first and again what is due: a start has other things to do."""


class Months:
    """What is due, found now and then, and drawn one a turn: a report takes seconds."""

    def __init__(
        self, db: Database, make: Make = report.make, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db, self._make, self._clock = db, make, clock
        self._next = clock() + FIRST_S
        self._due: list[Waiting] = []

    def turn(self) -> int:
        """Draw one report that is due; 0 where none is. What goes wrong is logged by code and tried another time."""
        if not self._due and self._clock() >= self._next:
            self._next = self._clock() + EVERY_S
            with self._db.monitor() as conn:
                self._due = reports_store.months(conn, REFERENCE_MIN, CURRENT_MIN)
        if not self._due:
            return 0
        freeze.attempt(self._db, self._due.pop(0), kind="month", make=self._make)
        return 1
