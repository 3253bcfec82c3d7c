"""The Collector behind ``/metrics``: it reads at each scrape and keeps nothing, so it can show no old number."""

import threading
from collections.abc import Iterable

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from monitoring.metrics import load_store, machine, samples
from monitoring.metrics.measures import MEASURES, Measure
from monitoring.metrics.samples import Sample
from registry.core.db import Database
from registry.core.errors import RadfleetError
from registry.core.logs import log
from registry.core.settings import Settings


class Load(Collector):
    """Reads the shared views and this machine. Never raises: what is away is 0 or absent."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings, self._db = settings, db
        # Scrapers that come at once read one after the other: the database is there for studies.
        self._turn = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """The families without values: registering must not ask the database."""
        return families(())

    def collect(self) -> Iterable[Metric]:
        """Everything of this moment."""
        with self._turn:
            read = [*machine.samples(self._settings)]
            try:
                with self._db.monitor() as conn:
                    rows = load_store.read(conn)
                read += [("radfleet_up", (), 1), *samples.of(rows)]
            except (RadfleetError, psycopg.Error) as error:
                log().warning("metrics.unread", code=getattr(error, "code", type(error).__name__))
                read.append(("radfleet_up", (), 0))
        return families(read)


def families(read: Iterable[Sample]) -> list[Metric]:
    """Samples by family, in the order of ``MEASURES``; a family without a sample is there with its help alone."""
    made = {name: _family(measure) for name, measure in MEASURES.items()}
    for name, labels, value in read:
        made[name].add_metric(labels, float(value))
    return [*made.values()]


def _family(measure: Measure) -> CounterMetricFamily | GaugeMetricFamily:
    if measure.kind == "counter":
        return CounterMetricFamily(measure.name.removesuffix("_total"), measure.help, labels=measure.labels)
    return GaugeMetricFamily(measure.name, measure.help, labels=measure.labels)


def collector(settings: Settings, db: Database) -> CollectorRegistry:
    """A registry with this collector alone, to serve or to mount: ``generate_latest(collector(settings, db))``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Load(settings, db))
    return registry
