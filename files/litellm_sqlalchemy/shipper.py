"""From the spool to PostgreSQL: a batch a transaction, exactly once.

A batch is copied into both tables with ids drawn from the sequences. What PostgreSQL has committed is deleted from
the spool afterwards; where the process died in between, the unique key (request_id, created_at) shows on the next
round what is already there.
"""

import logging
import random
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, select, text, tuple_
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from litellm_sqlalchemy.copying import copy_rows
from litellm_sqlalchemy.exchange import Document, Exchange, moment, rows_of
from litellm_sqlalchemy.models import Base, Request, Response
from litellm_sqlalchemy.spool import Spool, dead_workers

POLL_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 15.0
HOUSEKEEPING_SECONDS = 5.0

# SQLSTATE classes that say that a row itself is at fault: data exception, integrity constraint, program limit.
_AT_FAULT = ("22", "23", "54")

logger = logging.getLogger(__name__)


class Shipper:
    """Moves finished exchanges from one spool to the tables until it is told to stop."""

    def __init__(self, spool: Spool, engine: Engine, batch_size: int) -> None:
        """``batch_size``: exchanges a transaction."""
        self._spool = spool
        self._engine = engine
        self._batch_size = batch_size
        self._stop = threading.Event()
        self.failures = 0

    def stop(self) -> None:
        """Finish the batch at hand and return from ``run``; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Ship until stopped; PostgreSQL may be away for as long as it likes."""
        next_housekeeping = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= next_housekeeping:
                self._housekeep()
                next_housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
            try:
                shipped = self.ship_batch()
            except SQLAlchemyError as error:
                self._wait_after(error)
                continue
            if self.failures:
                logger.info("PostgreSQL takes rows again after %d failed attempts", self.failures)
                self.failures = 0
            if shipped == 0:
                self._stop.wait(POLL_SECONDS)

    def drain(self) -> int:
        """Ship what is ready now and return how many; SQLAlchemyError where PostgreSQL does not take it."""
        total = 0
        while shipped := self.ship_batch():
            total += shipped
        return total

    def ship_batch(self) -> int:
        """Ship the oldest finished exchanges; returns how many left the spool."""
        batch = self._spool.ready(self._batch_size)
        if batch:
            self._store(batch)
        return len(batch)

    def _store(self, batch: Sequence[Exchange]) -> None:
        """Store a batch and forget it; what PostgreSQL refuses is found by bisection and set aside."""
        try:
            store(self._engine, batch)
        except DBAPIError as error:
            if not _is_at_fault(error):
                raise
            if len(batch) == 1:
                logger.error("exchange %s is set aside: %s", batch[0].request_id, error.orig)
                self._spool.set_aside(batch[0], str(error.orig).strip())
                return
            middle = len(batch) // 2
            self._store(batch[:middle])
            self._store(batch[middle:])
        else:
            self._spool.forget_stored([exchange.seq for exchange in batch])

    def _housekeep(self) -> None:
        dead = dead_workers(self._spool.path, self._spool.workers())
        if dead:
            closed = self._spool.interrupt(dead)
            logger.warning("%d exchanges of %d dead workers are closed as interrupted", closed, len(dead))
        self._spool.checkpoint()

    def _wait_after(self, error: SQLAlchemyError) -> None:
        self.failures += 1
        seconds = random.uniform(0.5, 1) * min(LONGEST_BACKOFF_SECONDS, 0.25 * 2 ** min(self.failures, 8))  # noqa: S311
        orig = getattr(error, "orig", None) or error
        logger.warning("PostgreSQL does not take rows, again in %.1f s: %s", seconds, str(orig).strip())
        self._stop.wait(seconds)


def store(engine: Engine, batch: Sequence[Exchange]) -> None:
    """Store exchanges that may be there already, in one transaction."""
    try:
        with engine.begin() as connection:
            _copy(connection, batch)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != "23505":  # unique_violation: a replay
            raise
        with engine.begin() as connection:
            _copy(connection, _not_there(connection, batch))


def _copy(connection: Connection, batch: Sequence[Exchange]) -> None:
    if not batch:
        return
    ids = connection.execute(
        text(
            "SELECT nextval(pg_get_serial_sequence('requests', 'id')) AS request,"
            " nextval(pg_get_serial_sequence('responses', 'id')) AS response FROM generate_series(1, :count)"
        ),
        {"count": len(batch)},
    ).all()
    requests: list[Document] = []
    responses: list[Document] = []
    for (request_id, response_id), exchange in zip(ids, batch, strict=True):
        request, response = rows_of(exchange)
        requests.append({"id": request_id, **request})
        responses.append({"id": response_id, "request_id_fk": request_id, **response})
    copy_rows(connection, Base.metadata.tables[Request.__tablename__], requests)
    copy_rows(connection, Base.metadata.tables[Response.__tablename__], responses)


def _not_there(connection: Connection, batch: Sequence[Exchange]) -> list[Exchange]:
    """The exchanges of the batch that are not stored yet."""
    wanted = {(exchange.request_id, moment(exchange.created_at)): exchange for exchange in batch}
    key = tuple_(Request.request_id, Request.created_at)
    for row in connection.execute(select(Request.request_id, Request.created_at).where(key.in_(list(wanted)))):
        del wanted[(row.request_id, row.created_at)]
    return list(wanted.values())


def _is_at_fault(error: DBAPIError) -> bool:
    if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
        return False
    return str(getattr(error.orig, "pgcode", None) or "").startswith(_AT_FAULT)
