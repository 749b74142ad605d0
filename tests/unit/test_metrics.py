"""Metrics: the ledger as Prometheus scrapes it, whatever is broken."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric

from litellm_sqlalchemy import metrics
from litellm_sqlalchemy.metrics import RequestLogCollector
from litellm_sqlalchemy.partitions import State
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.spool import Spool

MIB = 1_048_576


class Shipper:
    """What the collector reads of one."""

    failures = 3
    stored_at = 1_790_000_000.0
    is_failing = False
    partitions: State | None = State(days_ahead=14, default_used=False)


@pytest.fixture
def settings(spool_path: Path) -> Settings:
    return Settings(spool=spool_path, spool_max_bytes=2 * MIB, metrics_address="127.0.0.1")


def values(settings: Settings, shipper: Any) -> dict[str, float]:
    """The samples of a scrape by name."""
    collected: Iterator[Metric] = RequestLogCollector(settings, shipper).collect()
    return {sample.name: sample.value for metric in collected for sample in metric.samples}


def test_every_figure_of_the_ledger_is_a_metric(spool: Spool, settings: Settings) -> None:
    for n in range(4):
        seq, _ = spool.open("w", n, "call", b"{}")
        spool.finish(seq, b"{}", 0)
    exchanges = spool.ready(10)
    spool.forget_stored([exchanges[0].seq])
    spool.set_aside(exchanges[1].seq, "why")
    spool.count("dropped", 5)
    spool.count("unlogged_refusals", 7)
    spool.open("dead", 9, "call", b"{}")
    spool.interrupt(["dead"])
    found = values(settings, Shipper())
    ledger = {name.removeprefix("litellm_request_log_"): value for name, value in found.items()}
    assert {
        name: ledger[name]
        for name in (
            "accepted_total",
            "stored_total",
            "spooled",
            "set_aside",
            "dropped_total",
            "interrupted_total",
            "unlogged_refusals_total",
            "balanced",
        )
    } == {
        "accepted_total": 10,
        "stored_total": 1,
        "spooled": 3,
        "set_aside": 1,
        "dropped_total": 5,
        "interrupted_total": 1,
        "unlogged_refusals_total": 7,
        "balanced": 1,
    }
    assert ledger["spool_oldest_seconds"] > 1_000_000
    assert 0 < ledger["spool_bytes"] < ledger["spool_max_bytes"] == 2 * MIB
    assert ledger["spool_free_bytes"] > 0
    assert (ledger["ship_failures_total"], ledger["last_stored_timestamp_seconds"]) == (3, 1_790_000_000)
    assert (ledger["partition_days_ahead"], ledger["default_partition_used"], ledger["database_up"]) == (14, 0, 1)


def test_imbalance_shows(spool: Spool, settings: Settings) -> None:
    spool.open("w", 1, "call", b"{}")
    spool._connection.execute("DELETE FROM requests")
    assert values(settings, Shipper())["litellm_request_log_balanced"] == 0


def test_database_that_is_away_shows(spool: Spool, settings: Settings) -> None:
    shipper = Shipper()
    shipper.is_failing, shipper.partitions = True, None
    found = values(settings, shipper)
    assert found["litellm_request_log_database_up"] == 0
    assert found["litellm_request_log_spooled"] == 0
    assert "litellm_request_log_partition_days_ahead" not in found


def test_default_partition_in_use_shows(spool: Spool, settings: Settings) -> None:
    shipper = Shipper()
    shipper.partitions = State(days_ahead=2, default_used=True)
    assert values(settings, shipper)["litellm_request_log_default_partition_used"] == 1


def test_spool_that_cannot_be_read_shows(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite3").mkdir()
    found = values(Settings(spool=tmp_path / "spool.sqlite3"), Shipper())
    assert found["litellm_request_log_spool_readable"] == 0
    assert found["litellm_request_log_database_up"] == 1


def test_scrape_is_answered_over_http(spool: Spool, settings: Settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    metrics.serve(settings.model_copy(update={"metrics_port": port}), Shipper())  # type: ignore[arg-type]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "litellm_request_log_balanced 1.0\n" in text
    assert "# TYPE litellm_request_log_accepted_total counter" in text
    with pytest.raises(OSError, match="in use"):
        metrics.serve(settings.model_copy(update={"metrics_port": port}), Shipper())  # type: ignore[arg-type]
