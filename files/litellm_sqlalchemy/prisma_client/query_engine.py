"""What stands where prisma-client-py has its query engine.

LiteLLM wraps the engine of a client to count the operations that are under way and to name them in its metrics; so
every operation goes through ``query``, with a text that names it as Prisma's queries do.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from litellm_sqlalchemy.prisma_client import connections
from litellm_sqlalchemy.prisma_client.connections import Pool, Session
from litellm_sqlalchemy.prisma_client.errors import TransactionError, TransactionExpiredError
from litellm_sqlalchemy.prisma_client.url import DatabaseUrl

Operation = Callable[[Session], Awaitable[Any]]


class Query(str):
    """An operation, and the text by which LiteLLM's metrics know it."""

    __slots__ = ("operation",)
    operation: Operation

    @classmethod
    def of(cls, text: str, operation: Operation) -> "Query":
        """An operation with its text."""
        query = cls(text)
        query.operation = operation
        return query


class _Transaction:
    """An open transaction on a connection of its own, which ends when its time is up."""

    def __init__(self, held: Any, connection: Any, timeout: float) -> None:
        self.held = held
        self.session = connections.Bound(connection)
        self.timeout = timeout
        self.lock = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self.started = loop.time()
        self.ended: str | None = None
        self.timer = loop.call_later(timeout, self._expire)
        self.expiry: asyncio.Task[None] | None = None

    def _expire(self) -> None:
        self.expiry = asyncio.get_running_loop().create_task(self._end_expired())

    async def _end_expired(self) -> None:
        async with self.lock:  # a statement that is under way is let finish, as Prisma does
            if self.ended is None:
                self.ended = "expired"
                await self.release(keep=False)

    async def release(self, *, keep: bool) -> None:
        """Commit or roll back, and give the connection back."""
        self.timer.cancel()
        try:
            if keep:
                await connections.commit(self.session.held)
            elif not self.session.held.closed:
                await connections.rollback(self.session.held)
        finally:
            await self.held.__aexit__(None, None, None)

    def refuse(self, what: str) -> TransactionError:
        """Why nothing more can be done in this transaction."""
        if self.ended == "expired":
            passed = int((asyncio.get_running_loop().time() - self.started) * 1000)
            return TransactionExpiredError(
                f"Transaction already closed: A {what} cannot be executed on an expired transaction. The timeout for"
                f" this transaction was {int(self.timeout * 1000)} ms, however {passed} ms passed since the start of"
                " the transaction. Consider increasing the interactive transaction timeout or doing less work in the"
                " transaction."
            )
        return TransactionExpiredError(
            f"Transaction already closed: A {what} cannot be executed on a transaction that was {self.ended}."
        )


class QueryEngine:
    """Runs operations on a pool of connections, and those of a transaction on its one connection."""

    # There is no process: LiteLLM leaves an engine alone whose process has no id.
    process = SimpleNamespace(pid=0)

    def __init__(self, url: DatabaseUrl) -> None:
        self.pool = Pool(url)
        self._transactions: dict[str, _Transaction] = {}
        self._ids = itertools.count(1)

    async def connect(self) -> None:
        """Make sure that the database answers. Raises DatabaseUnreachableError."""
        async with self.pool.connection():
            pass

    async def aclose(self) -> None:
        """Close all connections."""
        for transaction in list(self._transactions.values()):
            await self._finish(transaction, keep=False)
        self._transactions.clear()
        await self.pool.close()

    async def query(self, content: str, *, tx_id: str | None) -> Any:
        """Run the operation of a Query."""
        assert isinstance(content, Query)
        if tx_id is None:
            return await content.operation(self.pool)
        transaction = self._transaction(tx_id)
        async with transaction.lock:
            if transaction.ended is not None:
                raise transaction.refuse("query")
            return await content.operation(transaction.session)

    async def start_transaction(self, *, content: "TransactionOptions | str") -> str:
        """Open a transaction. Raises TransactionError where no connection is free in time."""
        assert isinstance(content, TransactionOptions)
        held = self.pool.connection()
        try:
            connection = await asyncio.wait_for(held.__aenter__(), content.max_wait)
        except asyncio.TimeoutError:
            raise TransactionError("Transaction API error: Unable to start a transaction in the given time.") from None
        try:
            await connections.begin(connection, content.isolation)
        except BaseException:
            await held.__aexit__(None, None, None)
            raise
        tx_id = str(next(self._ids))
        self._transactions[tx_id] = _Transaction(held, connection, content.timeout)
        return tx_id

    async def commit_transaction(self, tx_id: str) -> None:
        """Commit. Raises TransactionExpiredError where its time was up."""
        await self._end(tx_id, "commit", keep=True)

    async def rollback_transaction(self, tx_id: str) -> None:
        """Roll back. Raises TransactionExpiredError where its time was up."""
        await self._end(tx_id, "rollback", keep=False)

    def _transaction(self, tx_id: str) -> _Transaction:
        transaction = self._transactions.get(tx_id)
        if transaction is None:
            raise TransactionExpiredError("Transaction already closed: it was committed or rolled back before.")
        return transaction

    async def _end(self, tx_id: str, what: str, *, keep: bool) -> None:
        transaction = self._transaction(tx_id)
        async with transaction.lock:
            self._transactions.pop(tx_id, None)
            if transaction.ended is not None:
                raise transaction.refuse(what)
            await self._finish(transaction, keep=keep)

    @staticmethod
    async def _finish(transaction: _Transaction, *, keep: bool) -> None:
        if transaction.ended is None:
            transaction.ended = "committed" if keep else "rolled back"
            await transaction.release(keep=keep)


class TransactionOptions(str):
    """How long a transaction may take, in seconds, and how isolated it is."""

    __slots__ = ("isolation", "max_wait", "timeout")
    timeout: float
    max_wait: float
    isolation: str | None

    @classmethod
    def of(cls, *, timeout: float, max_wait: float, isolation: str | None) -> "TransactionOptions":
        """The options, with the text that LiteLLM's wrapper passes on."""
        options = cls(f"transaction of at most {timeout} s")
        options.timeout, options.max_wait, options.isolation = timeout, max_wait, isolation
        return options
