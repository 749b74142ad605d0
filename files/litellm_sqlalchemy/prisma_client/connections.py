"""Connections to PostgreSQL: an async SQLAlchemy engine, and how statements run on it.

The pool, its pings and its reconnections are SQLAlchemy's. Statements run on psycopg's own connection: they are
compiled already, and what SQLAlchemy adds to each execution costs more than the rest of it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads
from psycopg.types.string import StrDumper
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from litellm_sqlalchemy.prisma_client import failures
from litellm_sqlalchemy.prisma_client.statements import Statement
from litellm_sqlalchemy.prisma_client.tables import Model
from litellm_sqlalchemy.prisma_client.url import DatabaseUrl

Row = tuple[Any, ...]


class Session(Protocol):
    """Runs statements: each on its own, or all in one transaction."""

    async def rows(self, statement: Statement, found: Sequence[Any], model: Model | None) -> list[Row]:
        """The rows that a statement returns."""

    async def count(self, statement: Statement, found: Sequence[Any], model: Model | None) -> int:
        """How many rows a statement changed."""

    async def raw(self, sql: str, parameters: Sequence[Any]) -> psycopg.AsyncRawCursor[Row]:
        """A statement of a caller's own."""

    def transaction(self) -> AbstractAsyncContextManager["Session"]:
        """A session in which all or nothing is done."""


def make_engine(url: DatabaseUrl) -> AsyncEngine:
    """An engine with the pool that the URL asks for."""
    engine = create_async_engine(
        URL.create("postgresql+psycopg"),
        connect_args=dict(url.connect),
        isolation_level="AUTOCOMMIT",
        use_native_hstore=False,
        pool_size=url.connection_limit,
        max_overflow=0,
        pool_timeout=url.pool_timeout,
        pool_pre_ping=True,
        pool_recycle=url.max_connection_lifetime or -1,
        pool_use_lifo=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        driver: psycopg.AsyncConnection[Any] = connection.driver_connection
        # Text is text, as Prisma declares it, and not whatever the statement might take it for.
        driver.adapters.register_dumper(str, StrDumper)
        set_json_loads(orjson.loads, driver)
        driver.prepare_threshold = 5 if url.prepares else None

    return engine


async def run(
    connection: psycopg.AsyncConnection[Any], sql: str, parameters: Sequence[Any]
) -> psycopg.AsyncRawCursor[Row]:
    """Run a statement."""
    cursor: psycopg.AsyncRawCursor[Row] = psycopg.AsyncRawCursor(connection)
    await cursor.execute(sql, parameters)  # type: ignore[arg-type]
    return cursor


class Pool:
    """A session in which every statement stands for itself."""

    def __init__(self, url: DatabaseUrl) -> None:
        self.url = url
        self.engine = make_engine(url)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection of the pool's. Raises what LiteLLM takes for an outage where there is none to be had."""
        try:
            connection = await self.engine.connect()
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            raise failures.from_connecting(error, self.url.connect) from error
        try:
            driver = await _driver(connection)
            yield driver
            if driver.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.invalidate()
        except BaseException:
            if driver.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.invalidate()
            raise
        finally:
            await connection.close()

    async def rows(self, statement: Statement, found: Sequence[Any], model: Model | None) -> list[Row]:
        parameters = statement.parameters(found)
        async with self.connection() as connection:
            return await rows(connection, statement, parameters, model)

    async def count(self, statement: Statement, found: Sequence[Any], model: Model | None) -> int:
        parameters = statement.parameters(found)
        async with self.connection() as connection:
            return await count(connection, statement, parameters, model)

    async def raw(self, sql: str, parameters: Sequence[Any]) -> psycopg.AsyncRawCursor[Row]:
        async with self.connection() as connection:
            return await raw(connection, sql, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Session"]:
        async with self.connection() as connection:
            await begin(connection)
            yield Bound(connection)
            await commit(connection)

    async def close(self) -> None:
        await self.engine.dispose()


class Bound:
    """A session on one connection that is in a transaction."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def rows(self, statement: Statement, found: Sequence[Any], model: Model | None) -> list[Row]:
        return await rows(self.connection, statement, statement.parameters(found), model)

    async def count(self, statement: Statement, found: Sequence[Any], model: Model | None) -> int:
        return await count(self.connection, statement, statement.parameters(found), model)

    async def raw(self, sql: str, parameters: Sequence[Any]) -> psycopg.AsyncRawCursor[Row]:
        return await raw(self.connection, sql, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Session"]:
        yield self


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    fairy = await connection.get_raw_connection()
    return fairy.driver_connection  # type: ignore[return-value]


async def rows(
    connection: psycopg.AsyncConnection[Any], statement: Statement, parameters: Sequence[Any], model: Model | None
) -> list[Row]:
    """The rows that a statement returns."""
    try:
        cursor = await run(connection, statement.sql, parameters)
        return await cursor.fetchall()
    except psycopg.Error as error:
        raise _failure(error, connection, model) from error


async def count(
    connection: psycopg.AsyncConnection[Any], statement: Statement, parameters: Sequence[Any], model: Model | None
) -> int:
    """How many rows a statement changed."""
    try:
        return (await run(connection, statement.sql, parameters)).rowcount
    except psycopg.Error as error:
        raise _failure(error, connection, model) from error


async def raw(
    connection: psycopg.AsyncConnection[Any], sql: str, parameters: Sequence[Any]
) -> psycopg.AsyncRawCursor[Row]:
    """A statement of a caller's own."""
    try:
        return await run(connection, sql, parameters)
    except psycopg.Error as error:
        if failures.is_lost(error, connection):
            raise failures.lost(error) from error
        raise failures.from_raw(error) from error


async def begin(connection: psycopg.AsyncConnection[Any], isolation: str | None = None) -> None:
    """Open a transaction."""
    await _control(connection, f"BEGIN ISOLATION LEVEL {isolation}" if isolation else "BEGIN")


async def commit(connection: psycopg.AsyncConnection[Any]) -> None:
    """Commit a transaction. Raises DataError where PostgreSQL refuses: a deferred key, a serialization failure."""
    await _control(connection, "COMMIT")


async def rollback(connection: psycopg.AsyncConnection[Any]) -> None:
    """Undo a transaction."""
    await _control(connection, "ROLLBACK")


async def _control(connection: psycopg.AsyncConnection[Any], sql: str) -> None:
    try:
        await run(connection, sql, ())
    except psycopg.Error as error:
        raise _failure(error, connection, None) from error


def _failure(
    error: psycopg.Error, connection: psycopg.AsyncConnection[Any], model: Model | None
) -> failures.PrismaError:
    return failures.lost(error) if failures.is_lost(error, connection) else failures.from_statement(error, model)


__all__ = ["Bound", "Pool", "Row", "Session", "begin", "commit", "make_engine", "rollback"]
