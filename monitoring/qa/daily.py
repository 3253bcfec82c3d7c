"""Keeps each clinic's QA figures once a day, by which clinics are placed among each other."""

import time
from datetime import timedelta

from monitoring.qa import metrics, peers, peers_store, qa_store
from registry.core.db import Conn, Database

DAYS = 90
LOOK_S = 60.0
AT_ONCE = 5


class Figures:
    """Keeps what is due, looked for once a minute: five clinics a turn, each in a transaction of its own."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._next = 0.0

    def turn(self) -> int:
        """How many clinics' figures were kept."""
        if time.monotonic() < self._next:
            return 0
        with self._db.monitor() as conn:
            due = peers_store.due(conn, AT_ONCE)
        for clinic_id, slug in due:
            with self._db.monitor(write=True) as conn:
                figures = [figure for cut in cuts(conn, slug) for figure in peers.figures(cut)]
                peers_store.keep(conn, clinic_id, figures)
        if len(due) < AT_ONCE:
            self._next = time.monotonic() + LOOK_S
        return len(due)


def cuts(conn: Conn, slug: str) -> list[metrics.Metrics]:
    """A clinic's QA metrics of the last 90 days by version."""
    now, window = qa_store.now(conn), timedelta(days=DAYS)
    outcomes, reviews = (
        qa_store.outcomes(conn, slug, now - window),
        qa_store.reviews(conn, slug, now - window),
    )
    return metrics.metrics(outcomes, reviews, metrics.By.VERSION, now, window, {})
