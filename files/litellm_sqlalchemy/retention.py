"""Retention: bodies go after some days, rows after some more. Whole pairs of partitions are dropped, never rows.

Both steps take a short lock on one pair at a time under ``lock_timeout`` and try again later where somebody is in the
way, so that inserts never queue behind them for long.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from litellm_sqlalchemy.partitions import TABLES, Partition, days

LOCK_TIMEOUT_MS = 500
"""Milliseconds that a step waits for a lock; inserts that came after it wait behind it as long."""

ATTEMPTS = 10
PAUSE_SECONDS = 3.0
ROWS_AT_ONCE = 10_000

BODIES_REMOVED = "bodies removed"
"""The comment on a partition whose payloads and answers are gone."""

_LOCK_NOT_AVAILABLE = "55P03"
_ADVISORY_LOCK = 0x726574656E74  # "retent"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Expired:
    """What a run did: the days dropped, the days relieved of their bodies, and the days that were in use."""

    dropped: list[str] = field(default_factory=list)
    stripped: list[str] = field(default_factory=list)
    postponed: list[str] = field(default_factory=list)


def expire(
    engine: Engine,
    keep_days: int,
    keep_bodies_days: int,
    *,
    today: date | None = None,
    pause: float = PAUSE_SECONDS,
    dry_run: bool = False,
) -> Expired:
    """Drop what is older than ``keep_days`` and strip what is older than ``keep_bodies_days``; 0: never."""
    today = today or datetime.now(timezone.utc).date()
    done = Expired()
    with engine.connect() as guard:
        # A session's lock, not a transaction's: the work below commits many times.
        guard.execution_options(isolation_level="AUTOCOMMIT")
        if not guard.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}).scalar_one():
            logger.info("another run is at work")
            return done
        try:
            for day in sorted(days(guard)):
                pair = Partition(day)
                if keep_days and day < today - timedelta(days=keep_days):
                    step, result = _drop, done.dropped
                elif keep_bodies_days and day < today - timedelta(days=keep_bodies_days):
                    if _is_stripped(engine, pair):
                        continue
                    step, result = _strip, done.stripped
                else:
                    continue
                reached = dry_run or _patiently(step, engine, pair, pause)
                (result if reached else done.postponed).append(pair.suffix)
        finally:
            guard.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
    return done


def _patiently(step: Callable[[Engine, Partition], None], engine: Engine, pair: Partition, pause: float) -> bool:
    """Do the step when nobody is in the way; False where somebody was each time."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause)
        try:
            step(engine, pair)
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            logger.info("partition %s is in use", pair.suffix)
        else:
            return True
    return False


def _drop(engine: Engine, pair: Partition) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        connection.execute(text(f"DROP TABLE {', '.join(pair.table(parent) for parent in reversed(TABLES))}"))


def _is_stripped(engine: Engine, pair: Partition) -> bool:
    with engine.connect() as connection:
        comment = connection.execute(
            text("SELECT obj_description(to_regclass(:table))"), {"table": pair.table(TABLES[0])}
        ).scalar_one()
    return bool(comment == BODIES_REMOVED)


def _strip(engine: Engine, pair: Partition) -> None:
    """Replace payloads and answers by a word, some rows at a time, and give their space back."""
    requests, responses = (pair.table(parent) for parent in TABLES)
    for table, column, stripped in (
        (requests, "payload", "'{\"expired\": true}'"),
        (responses, "content", "content - 'response'"),
    ):
        last = 0
        while True:
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
                row = connection.execute(
                    text(
                        f"WITH chunk AS (SELECT id FROM {table} WHERE id > :last ORDER BY id LIMIT :rows),"  # noqa: S608
                        f" done AS (UPDATE {table} t SET {column} = {stripped} FROM chunk WHERE t.id = chunk.id"
                        f" AND t.{column} IS DISTINCT FROM {stripped})"
                        " SELECT max(id) FROM chunk"
                    ),
                    {"last": last, "rows": ROWS_AT_ONCE},
                ).scalar_one()
            if row is None:
                break
            last = row
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM (ANALYZE) {requests}, {responses}"))
        connection.execute(text(f"COMMENT ON TABLE {requests} IS '{BODIES_REMOVED}'"))
