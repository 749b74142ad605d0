"""Connections to PostgreSQL: an async SQLAlchemy engine, and how statements run on it.

The pool and its reconnections are SQLAlchemy's. Statements run on psycopg's own connection: they are compiled
already, and what SQLAlchemy adds to each execution costs more than the rest of it.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumper, TextLoader
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from litellm_sqlalchemy.prisma_client import failures
from litellm_sqlalchemy.prisma_client.errors import DataError, PrismaError, data_error
from litellm_sqlalchemy.prisma_client.statements import Statement
from litellm_sqlalchemy.prisma_client.tables import Model
from litellm_sqlalchemy.prisma_client.url import DatabaseUrl

Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Any]

# A connection that has rested for longer is asked whether it still lives before it is used again, in seconds.
PING_AFTER = 1.0


def make_engine(url: DatabaseUrl) -> AsyncEngine:
    """An engine with the pool that the URL asks for."""
    engine = create_async_engine(
        URL.create("postgresql+psycopg"),
        connect_args=dict(url.connect),
        isolation_level="AUTOCOMMIT",
        use_native_hstore=False,
        pool_size=url.connection_limit,
        max_overflow=0,
        pool_recycle=url.max_connection_lifetime or -1,
        pool_use_lifo=True,
        pool_reset_on_return=None,  # what is not at rest is thrown away, see Pool.connection
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        driver: Connection = connection.driver_connection
        # Text is text, as Prisma declares it, and not whatever the statement might take it for.
        driver.adapters.register_dumper(str, StrDumper)
        # JSON stays text until a record is made of it: rows may be shared, and records may be changed.
        driver.adapters.register_loader("json", TextLoader)
        driver.adapters.register_loader("jsonb", TextLoader)
        driver.prepare_threshold = 5 if url.prepares else None

    @event.listens_for(engine.sync_engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        """Pre-ping, but not between statements that follow each other: it would double what a small one costs."""
        rested = time.monotonic() - record.info.get("returned", -PING_AFTER)
        if rested >= PING_AFTER:
            try:
                alive = engine.dialect.do_ping(connection)
            except psycopg.Error:
                alive = False
            if not alive:
                raise DisconnectionError("the connection is gone")

    @event.listens_for(engine.sync_engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["returned"] = time.monotonic()

    return engine


class Session(ABC):
    """Runs statements: each on its own, or all in one transaction. Raises what Prisma would."""

    @abstractmethod
    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for one statement."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager["Session"]:
        """A session in which all or nothing is done."""

    async def rows(self, statement: Statement, found: Sequence[Any], model: Model | None) -> list[Row]:
        """The rows that a statement returns, for the values of a call."""
        parameters = statement.parameters(found)
        async with self.connection() as connection:
            try:
                return await (await _execute(connection, statement.sql, parameters)).fetchall()
            except psycopg.Error as error:
                raise _failure(error, connection, model) from error

    async def count(self, statement: Statement, found: Sequence[Any], model: Model | None) -> int:
        """How many rows a statement changed."""
        parameters = statement.parameters(found)
        async with self.connection() as connection:
            try:
                return (await _execute(connection, statement.sql, parameters)).rowcount
            except psycopg.Error as error:
                raise _failure(error, connection, model) from error

    async def raw(self, sql: str, parameters: Sequence[Any]) -> psycopg.AsyncRawCursor[Row]:
        """A statement of a caller's own, with the rows that it returns."""
        async with self.connection() as connection:
            try:
                return await _execute(connection, sql, parameters)
            except psycopg.Error as error:
                if connection.closed:
                    raise failures.lost(error) from None
                raise failures.from_raw(error) from error


class Pool(Session):
    """A session in which every statement stands for itself."""

    def __init__(self, url: DatabaseUrl) -> None:
        self.url = url
        self._engine = make_engine(url)
        # First come, first served: SQLAlchemy's pool would let those who just had a connection overtake.
        self._free = asyncio.Semaphore(url.connection_limit)
        self.loaders: dict[tuple[str, str], Any] = {}

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool's. Raises what LiteLLM takes for an outage where there is none to be had."""
        await self._wait()
        try:
            held = await self._connect()
            driver: Any = held.driver_connection
            try:
                yield driver
            finally:
                if driver.pgconn.transaction_status != TransactionStatus.IDLE:
                    # In the middle of something, since whoever used it was cancelled or failed.
                    await greenlet_spawn(held.invalidate)
                held.close()
        finally:
            self._free.release()

    async def _wait(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            await asyncio.wait_for(self._free.acquire(), self.url.pool_timeout)
        except asyncio.TimeoutError:
            raise failures.pool_timeout(self.url.pool_timeout, self.url.connection_limit) from None

    async def _connect(self) -> PoolProxiedConnection:
        try:
            return await greenlet_spawn(self._engine.sync_engine.raw_connection)
        except (DBAPIError, DisconnectionError, psycopg.Error, OSError) as error:
            # Without what it came from: LiteLLM prints each error several times, and in an outage that takes time.
            raise failures.from_connecting(error, self.url.connect) from None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A transaction that is committed at its end, and rolled back by an exception."""
        async with self.connection() as connection:
            await begin(connection)
            try:
                yield Bound(connection)
            except BaseException:
                if connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                    await rollback(connection)
                raise
            await commit(connection)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


class Bound(Session):
    """A session on one connection that is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self.held = connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The one connection."""
        yield self.held

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """This one: Prisma knows no transactions in transactions."""
        yield self


async def _execute(connection: Connection, sql: str, parameters: Sequence[Any]) -> psycopg.AsyncRawCursor[Row]:
    cursor: psycopg.AsyncRawCursor[Row] = psycopg.AsyncRawCursor(connection)
    try:
        return await cursor.execute(sql, parameters)
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can carry and UTF-8 cannot
        raise data_error(DataError, None, f"Text that is no Unicode: {error.reason}") from error


async def begin(connection: Connection, isolation: str | None = None) -> None:
    """Open a transaction."""
    await _control(connection, f"BEGIN ISOLATION LEVEL {isolation}" if isolation else "BEGIN")


async def commit(connection: Connection) -> None:
    """Commit a transaction. Raises DataError where PostgreSQL refuses: a deferred key, a serialization failure."""
    await _control(connection, "COMMIT")


async def rollback(connection: Connection) -> None:
    """Undo a transaction."""
    await _control(connection, "ROLLBACK")


async def _control(connection: Connection, sql: str) -> None:
    try:
        await _execute(connection, sql, ())
    except psycopg.Error as error:
        raise _failure(error, connection, None) from error


def _failure(error: psycopg.Error, connection: Connection, model: Model | None) -> PrismaError:
    return failures.lost(error) if connection.closed else failures.from_statement(error, model)
