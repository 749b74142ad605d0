"""Backfill: what LiteLLM_SpendLogs holds and the request log does not, into both tables, exactly once.

A day at a time and a batch a transaction. A pair's key comes from the row itself, so a run that was killed is simply
run again: it takes what is still missing.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, text

from litellm_sqlalchemy import partitions
from litellm_sqlalchemy.copying import copy_pairs
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.switch.spend_logs import (
    COLUMNS,
    IN_RANGE,
    KEY,
    NOT_OF_OUR_GATEWAY,
    day_range,
    pair_of,
    rows_by_day,
)

ROWS_AT_ONCE = 2_000
PROGRESS_SECONDS = 5.0

_ADVISORY_LOCK = 0x6261636B66696C  # "backfil"

_MISSING = f"""
    {IN_RANGE}
    AND NOT EXISTS (
        SELECT FROM requests r
        WHERE r.request_id = {KEY} AND r.created_at = s."startTime" AT TIME ZONE 'UTC'
          AND r.created_at >= :from AND r.created_at < :until
    )
    AND {NOT_OF_OUR_GATEWAY}
"""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Backfilled:
    """What a run stored, or would store: rows, and the days that had no partition."""

    rows: int = 0
    spend_logs: int = 0
    partitions_created: list[str] = field(default_factory=list)


def backfill(
    engine: Engine,
    *,
    since: date | None = None,
    until: date | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
    dry_run: bool = False,
) -> Backfilled:
    """Store the missing rows of the days from ``since`` until before ``until``; ValueError where a run is at work."""
    with engine.connect() as reader:
        _refuse_foreign(reader)
        with _alone(reader):
            days = rows_by_day(reader, since, until)
            done = Backfilled(spend_logs=sum(days.values()))
            progress = _Progress(done.spend_logs)
            redactor = Redactor.of_environment()
            for day, rows in days.items():
                pair = partitions.Partition(day)
                if day not in partitions.days(reader):
                    done.partitions_created.append(pair.suffix)
                    if not dry_run:
                        with engine.begin() as writer:
                            partitions.create(writer, pair)
                for batch in _batches(reader, day, rows_at_once, dry_run=dry_run):
                    if not dry_run:
                        with engine.begin() as writer:
                            copy_pairs(writer, (pair_of(row, redactor) for row in batch), len(batch))
                    done.rows += len(batch)
                    progress.report(day, done.rows)
                reader.rollback()  # a day, a snapshot
                progress.passed += rows
            if done.rows and not dry_run:
                # Queries of the next minutes need not wait for autovacuum to have seen so many new rows.
                with engine.begin() as writer:
                    writer.execute(text(f"ANALYZE {', '.join(partitions.TABLES)}"))
    logger.info("backfill: %d of %d rows %s", done.rows, done.spend_logs, "would be stored" if dry_run else "stored")
    return done


def _refuse_foreign(connection: Connection) -> None:
    if connection.execute(text("""SELECT to_regclass('"LiteLLM_SpendLogs"')""")).scalar_one() is None:
        raise ValueError("the database has no table LiteLLM_SpendLogs: it is not LiteLLM's")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """One backfill at a time; the lock is the session's, so it goes with a process that is killed."""
    if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}).scalar_one():
        raise ValueError("another backfill is at work: wait for it, or end it and run this again")
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
        connection.commit()


def _batches(connection: Connection, day: date, size: int, *, dry_run: bool) -> Iterator[list[Any]]:
    """The missing rows of a day, oldest first."""
    columns = "s.request_id" if dry_run else COLUMNS
    query = f'SELECT {columns} FROM "LiteLLM_SpendLogs" s WHERE {_MISSING} ORDER BY s."startTime", s.request_id'  # noqa: S608
    result = connection.execute(
        text(query), day_range(day), execution_options={"stream_results": True, "max_row_buffer": size}
    )
    rows = iter(result.mappings())
    while batch := list(islice(rows, size)):
        yield batch


class _Progress:
    """Says every few seconds how far a run is."""

    def __init__(self, rows: int) -> None:
        self.passed = 0  # rows of the days before this one
        self._rows = rows
        self._started = self._said = time.monotonic()

    def report(self, day: date, stored: int) -> None:
        now = time.monotonic()
        if now - self._said < PROGRESS_SECONDS:
            return
        self._said = now
        rate = stored / (now - self._started)
        found = (day, stored, rate, self.passed, self._rows)
        logger.info("backfill: at %s, %d rows stored, %.0f a second; %d of %d passed", *found)
