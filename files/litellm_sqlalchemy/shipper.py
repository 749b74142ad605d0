"""From the spool to PostgreSQL: a batch a transaction, exactly once.

A batch is copied into both tables with ids drawn from the sequences. What PostgreSQL has committed is deleted from
the spool afterwards; where the process died in between, the unique key (request_id, created_at) shows on the next
round what is already there.
"""

import logging
import random
import sqlite3
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, select, tuple_
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from litellm_sqlalchemy import partitions
from litellm_sqlalchemy.copying import copy_pairs
from litellm_sqlalchemy.exchange import Exchange, moment, rows_of
from litellm_sqlalchemy.locks import dead_workers
from litellm_sqlalchemy.models import Request
from litellm_sqlalchemy.spool import Spool

POLL_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 15.0
HOUSEKEEPING_SECONDS = 5.0
PARTITIONS_SECONDS = 60.0

# SQLSTATE classes that say that a row itself is at fault: data exception, integrity constraint, program limit.
_AT_FAULT = ("22", "23", "54")

logger = logging.getLogger(__name__)


class Shipper:
    """Moves finished exchanges from one spool to the tables until it is told to stop."""

    def __init__(self, spool: Spool, engine: Engine, batch_size: int, accounting_grace: float) -> None:
        """``batch_size``: exchanges a transaction; ``accounting_grace``: seconds, see Settings."""
        self._spool = spool
        self._engine = engine
        self._batch_size = batch_size
        self._grace = accounting_grace
        self._stopping = False
        self._looked_at = -PARTITIONS_SECONDS
        self._failures_in_a_row = 0
        self.failures = 0
        self.stored_at = 0.0
        self.partitions: partitions.State | None = None

    def stop(self) -> None:
        """Finish the batch at hand and return from ``run``; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Ship until stopped; PostgreSQL may be away for as long as it likes."""
        next_housekeeping = 0.0
        while not self._stopping:
            try:
                if time.monotonic() >= next_housekeeping:
                    next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
                    self._housekeep()
                shipped = self.ship_batch()
            except SQLAlchemyError as error:
                self._wait_after("PostgreSQL does not take rows", getattr(error, "orig", None) or error)
            except sqlite3.Error as error:
                self._recover(error)
                self._wait_after("the spool cannot be read or emptied", error)
            else:
                self._succeeded()
                if shipped == 0:
                    self._pause(POLL_SECONDS)

    def drain(self) -> int:
        """Ship what is ready now and return how many; SQLAlchemyError where PostgreSQL does not take it."""
        total = 0
        while shipped := self.ship_batch():
            total += shipped
        return total

    def ship_batch(self) -> int:
        """Ship the oldest finished exchanges; returns how many left the spool."""
        batch = self._spool.ready(self._batch_size, self._grace)
        if batch:
            self._store(batch)
            self.stored_at = time.time()
        return len(batch)

    def _store(self, batch: Sequence[Exchange]) -> None:
        """Store a batch and forget it; what PostgreSQL refuses is found by bisection and set aside."""
        try:
            store(self._engine, batch)
        except Exception as error:
            if isinstance(error, SQLAlchemyError | sqlite3.Error) and not _is_at_fault(error):
                raise
            if len(batch) == 1:
                reason = _reason(error)
                logger.error("exchange %s is set aside: %s", batch[0].request_id, reason)
                self._spool.set_aside(batch[0].seq, reason)
                return
            middle = len(batch) // 2
            self._store(batch[:middle])
            self._store(batch[middle:])
        else:
            self._spool.forget_stored([exchange.seq for exchange in batch])

    def _housekeep(self) -> None:
        self._spool.follow()
        self._spool.salvage()
        dead = dead_workers(self._spool.path, self._spool.workers())
        if closed := self._spool.interrupt(dead):
            logger.warning("%d exchanges of %d dead workers are closed as interrupted", closed, len(dead))
        self._spool.checkpoint()
        if time.monotonic() - self._looked_at >= PARTITIONS_SECONDS:
            self.partitions = None
            with self._engine.connect() as connection:
                self.partitions = partitions.state(connection)
            self._looked_at = time.monotonic()

    def _recover(self, error: sqlite3.Error) -> None:
        try:
            if isinstance(error, sqlite3.DatabaseError):
                self._spool.recover(error)
        except sqlite3.Error:
            # Not corrupted, or the disk takes no new file either: the next round tries again.
            logger.debug("not recovered", exc_info=True)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures_in_a_row > 0

    def _succeeded(self) -> None:
        if self._failures_in_a_row:
            logger.info("rows are stored again after %d failed attempts", self._failures_in_a_row)
            self._failures_in_a_row = 0

    def _wait_after(self, what: str, error: object) -> None:
        self.failures += 1
        self._failures_in_a_row += 1
        longest = min(LONGEST_BACKOFF_SECONDS, 0.25 * 2 ** min(self._failures_in_a_row, 8))
        seconds = random.uniform(0.5, 1) * longest  # noqa: S311  # jitter, no secret
        logger.warning("%s, again in %.1f s: %s", what, seconds, str(error).strip())
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        """Sleep, and notice soon when told to stop; an Event could not be set in a signal handler safely."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))


def store(engine: Engine, batch: Sequence[Exchange]) -> None:
    """Store exchanges that may be there already, in one transaction."""
    try:
        with engine.begin() as connection:
            copy_pairs(connection, map(rows_of, batch), len(batch))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != "23505":  # unique_violation: a replay
            raise
        with engine.begin() as connection:
            missing = _not_there(connection, batch)
            copy_pairs(connection, map(rows_of, missing), len(missing))


def _not_there(connection: Connection, batch: Sequence[Exchange]) -> list[Exchange]:
    """The exchanges of the batch that are not stored yet."""
    wanted = {(exchange.request_id, moment(exchange.created_at)): exchange for exchange in batch}
    key = tuple_(Request.request_id, Request.created_at)
    for row in connection.execute(select(Request.request_id, Request.created_at).where(key.in_(list(wanted)))):
        del wanted[(row.request_id, row.created_at)]
    return list(wanted.values())


def _reason(error: Exception) -> str:
    """One line; PostgreSQL's DETAIL is left out, since it quotes the row."""
    diagnosis = getattr(getattr(error, "orig", None), "diag", None)
    if diagnosis is not None and diagnosis.message_primary:
        return f"{diagnosis.sqlstate}: {diagnosis.message_primary}"
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _is_at_fault(error: Exception) -> bool:
    return str(getattr(getattr(error, "orig", None), "pgcode", None) or "").startswith(_AT_FAULT)
