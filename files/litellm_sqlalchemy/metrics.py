"""What Prometheus scrapes from the shipper: the ledger, the spool, and how the tables are partitioned."""

import logging
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import fields

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Ledger, Spool

PREFIX = "litellm_request_log"

_COUNTERS = {
    "accepted": "exchanges accepted for logging",
    "stored": "exchanges committed to PostgreSQL",
    "dropped": "exchanges dropped because the spool was full or failed",
    "interrupted": "exchanges whose worker died",
    "salvaged": "exchanges read from a corrupted spool",
    "unlogged_refusals": "refused strangers beyond the rate at which they are logged",
}
_GAUGES = {"spooled": "exchanges waiting in the spool", "set_aside": "exchanges that PostgreSQL refused"}

logger = logging.getLogger(__name__)


class RequestLogCollector(Collector):
    """Reads the balance at each scrape; never asks PostgreSQL, which may keep it waiting."""

    def __init__(self, settings: Settings, shipper: Shipper) -> None:
        self._settings = settings
        self._shipper = shipper

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        yield CounterMetricFamily(
            f"{PREFIX}_ship_failures", "attempts to ship that failed", value=self._shipper.failures
        )
        yield _gauge("last_stored_timestamp_seconds", "when rows were last stored", self._shipper.stored_at)
        try:
            spool = Spool(self._settings.spool)
            try:
                yield from self._spool_metrics(spool)
            finally:
                spool.close()
        except sqlite3.Error as error:
            logger.warning("the spool cannot be read for the metrics: %s", error)
            yield _gauge("spool_readable", "1 where the spool can be read", 0)
        yield from self._partition_metrics()

    def _spool_metrics(self, spool: Spool) -> Iterator[Metric]:
        ledger = spool.ledger()
        yield _gauge("spool_readable", "1 where the spool can be read", 1)
        for field in fields(Ledger):
            value = getattr(ledger, field.name)
            if field.name in _COUNTERS:
                yield CounterMetricFamily(f"{PREFIX}_{field.name}", _COUNTERS[field.name], value=value)
            else:
                yield _gauge(field.name, _GAUGES[field.name], value)
        yield _gauge("balanced", "1 where accepted = stored + spooled + set aside + dropped", int(ledger.balanced))
        yield _gauge("spool_bytes", "bytes that the spool's exchanges take", spool.used_bytes())
        yield _gauge("spool_max_bytes", "bytes that they may take", self._settings.spool_max_bytes)
        yield _gauge("spool_free_bytes", "bytes left on the spool's file system", spool.free_bytes())
        oldest = spool.oldest()
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1_000_000)
        yield _gauge("spool_oldest_seconds", "age of the oldest exchange in the spool", age)

    def _partition_metrics(self) -> Iterator[Metric]:
        yield _gauge("database_up", "1 where PostgreSQL took what it was last given", int(not self._shipper.is_failing))
        state = self._shipper.partitions
        if state is not None:
            yield _gauge("partition_days_ahead", "days after today with a partition", state.days_ahead)
            yield _gauge("default_partition_used", "1 where rows are in no day's partition", int(state.default_used))


def serve(settings: Settings, shipper: Shipper) -> None:
    """Answer scrapes in a thread of its own; OSError where the port is taken."""
    registry = CollectorRegistry()
    registry.register(RequestLogCollector(settings, shipper))
    start_http_server(settings.metrics_port, settings.metrics_address, registry)


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, value=value)
