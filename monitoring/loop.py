"""The part "monitor": follow rows, count days, resolve what promotions answered, freeze reports, tell the outside."""

import time
from collections.abc import Callable, Mapping

from monitoring import notices
from monitoring.evidence import freeze
from monitoring.evidence.monthly import Months
from monitoring.judge.days import Days
from monitoring.notices import Send
from monitoring.onboarding import conformance
from monitoring.qa.daily import Figures
from monitoring.qa.estimating import Estimates
from monitoring.streams.follower import Follower
from registry.core.db import Database, DatabaseAway
from registry.core.logs import log

IDLE_S = 1.0


def loop(db: Database, stop: Callable[[], bool], *, tell: Mapping[str, Send]) -> None:
    """Turn for ever; a database that is away is waited for. ``tell`` is what ``notices.channels`` gives.

    Each turn's work is whole transactions: what a kill interrupts begins again as if it had not begun.
    """
    follower, days, estimates = Follower(db, notify=[*tell]), Days(db, notify=[*tell]), Estimates(db)
    months, figures = Months(db), Figures(db)
    while not stop():
        try:
            taken = follower.turn() + conformance.turn(db) + days.turn() + estimates.turn()
            taken += figures.turn()
            taken += freeze.freeze_one(db) or months.turn()  # one report a turn: drawing takes seconds
            while tell and not stop() and notices.send_one(db, tell):
                pass
        except DatabaseAway as error:
            log().warning("waiting", code=error.code)
            taken = 0
        if taken:
            log().info("followed", count=taken)
        else:
            time.sleep(IDLE_S)
