"""Retention: bodies go after some days, rows after some more. Whole pairs of partitions are dropped, never rows.

Both steps take a short lock on one pair at a time under ``lock_timeout`` and try again later where somebody is in the
way, so that inserts never queue behind them for long.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from litellm_sqlalchemy.partitions import TABLES, Partition, days

LOCK_TIMEOUT_MS = 100
"""Milliseconds that a step waits for a lock; inserts that came after it wait behind it as long."""

ATTEMPTS = 10
PAUSE_SECONDS = 3.0
ROWS_AT_ONCE = 10_000

BODIES_REMOVED = "bodies removed up to id"
"""How the comment on a partition begins whose payloads and answers are gone."""

STRIPPED_PAYLOAD = '{"expired": true}'

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
            for step in _steps(guard, today, keep_days, keep_bodies_days):
                reached = dry_run or _patiently(step, engine, pause)
                (getattr(done, step.result) if reached else done.postponed).append(step.pair.suffix)
        finally:
            guard.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
    return done


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing to do with one pair; ``result`` names the list of Expired that it goes to."""

    pair: Partition
    result: str
    work: Callable[[Engine, Partition], object]


def _steps(connection: Connection, today: date, keep_days: int, keep_bodies_days: int) -> list[_Step]:
    """What there is to do, oldest day first, the default partition last."""
    drop_before = today - timedelta(days=keep_days) if keep_days else date.min
    strip_before = today - timedelta(days=keep_bodies_days) if keep_bodies_days else date.min
    steps = []
    for pair in map(Partition, sorted(days(connection))):
        if pair.starts_before(drop_before):
            steps.append(_Step(pair, "dropped", _drop))
        elif pair.starts_before(strip_before) and _has_bodies(connection, pair):
            steps.append(_Step(pair, "stripped", _strip))
    default = Partition(None)
    if _holds(connection, default, drop_before):
        steps.append(_Step(default, "dropped", lambda engine, _: _delete(engine, drop_before)))
    if _holds(connection, default, strip_before, f"payload <> '{STRIPPED_PAYLOAD}'"):
        steps.append(_Step(default, "stripped", lambda engine, pair: _strip_rows(engine, pair, 0, strip_before)))
    return steps


def _patiently(step: _Step, engine: Engine, pause: float) -> bool:
    """Do the step when nobody is in the way; False where somebody was each time."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause)
        try:
            step.work(engine, step.pair)
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            logger.info("partition %s is in use", step.pair.suffix)
        else:
            return True
    return False


def _drop(engine: Engine, pair: Partition) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        connection.execute(text(f"DROP TABLE {', '.join(pair.table(parent) for parent in reversed(TABLES))}"))


def _delete(engine: Engine, before: date) -> None:
    """Delete from the default partition, which is never dropped; responses go with their requests."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
        table = Partition(None).table(TABLES[0])
        connection.execute(text(f"DELETE FROM {table} WHERE created_at < :before"), {"before": _midnight(before)})  # noqa: S608


def _strip(engine: Engine, pair: Partition) -> None:
    """Replace payloads and answers of a day, note up to which row, and give their space back."""
    with engine.connect() as connection:
        last = _stripped_up_to(connection, pair)
    last = _strip_rows(engine, pair, last, date.max)
    requests, responses = (pair.table(parent) for parent in TABLES)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM (ANALYZE) {requests}, {responses}"))
        connection.execute(text(f"COMMENT ON TABLE {requests} IS '{BODIES_REMOVED} {last}'"))


def _strip_rows(engine: Engine, pair: Partition, after: int, before: date) -> int:
    """Strip the rows whose requests have ids beyond ``after``, some at a time; returns the last id."""
    requests, responses = (pair.table(parent) for parent in TABLES)
    last = after
    while True:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
            row = connection.execute(
                text(
                    f"WITH chunk AS (SELECT id, created_at FROM {requests}"  # noqa: S608
                    " WHERE id > :last AND created_at < :before ORDER BY id LIMIT :rows),"
                    f" bodies AS (UPDATE {requests} r SET payload = '{STRIPPED_PAYLOAD}' FROM chunk"
                    "  WHERE (r.id, r.created_at) = (chunk.id, chunk.created_at)),"
                    f" answers AS (UPDATE {responses} s SET content = content - 'response' FROM chunk"
                    "  WHERE (s.request_id_fk, s.created_at) = (chunk.id, chunk.created_at))"
                    " SELECT max(id) FROM chunk"
                ),
                {"last": last, "rows": ROWS_AT_ONCE, "before": _midnight(before)},
            ).scalar_one()
        if row is None:
            return last
        last = int(row)


def _has_bodies(connection: Connection, pair: Partition) -> bool:
    """Whether rows have come since the day was stripped, or it never was; ids only grow."""
    newest = connection.execute(text(f"SELECT max(id) FROM {pair.table(TABLES[0])}")).scalar_one()  # noqa: S608
    return newest is not None and newest > _stripped_up_to(connection, pair)


def _stripped_up_to(connection: Connection, pair: Partition) -> int:
    query = text("SELECT obj_description(to_regclass(:table), 'pg_class')")
    comment = connection.execute(query, {"table": pair.table(TABLES[0])}).scalar_one()
    return int(comment.removeprefix(BODIES_REMOVED)) if (comment or "").startswith(BODIES_REMOVED) else 0


def _holds(connection: Connection, pair: Partition, before: date, condition: str = "true") -> bool:
    query = f"SELECT EXISTS (SELECT 1 FROM {pair.table(TABLES[0])} WHERE created_at < :before AND {condition})"  # noqa: S608
    return bool(connection.execute(text(query), {"before": _midnight(before)}).scalar_one())


def _midnight(day: date) -> datetime:
    """The first moment of a day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
