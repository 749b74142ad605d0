"""``Prisma``: the client that LiteLLM makes, with prisma-client-py's methods."""

import asyncio
import importlib.util
import json
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from litellm_sqlalchemy.prisma_client.actions import Actions
from litellm_sqlalchemy.prisma_client.batch import Batch
from litellm_sqlalchemy.prisma_client.connections import Session
from litellm_sqlalchemy.prisma_client.errors import ClientNotConnectedError
from litellm_sqlalchemy.prisma_client.failures import DatabaseUnreachableError
from litellm_sqlalchemy.prisma_client.operations import Operations
from litellm_sqlalchemy.prisma_client.query_engine import Operation, Query, QueryEngine
from litellm_sqlalchemy.prisma_client.raw import parameter, plain_rows
from litellm_sqlalchemy.prisma_client.schema_file import SchemaError, read_schema
from litellm_sqlalchemy.prisma_client.tables import Schema
from litellm_sqlalchemy.prisma_client.transactions import MAX_WAIT, TIMEOUT, TransactionManager
from litellm_sqlalchemy.prisma_client.url import DatabaseUrlError, read_url

_log = logging.getLogger(__name__)
# asyncio itself does not keep tasks alive.
_CLOSING: set[asyncio.Task[None]] = set()


def schema_path() -> Path:
    """The ``schema.prisma`` of the installed LiteLLM."""
    found = importlib.util.find_spec("litellm")
    if found is None or not found.submodule_search_locations:
        raise SchemaError("LiteLLM is not installed, so there is no schema.prisma")
    return Path(found.submodule_search_locations[0]) / "proxy" / "schema.prisma"


@lru_cache
def operations_of(path: Path) -> Operations:
    """What all clients of a process share: the tables, the records' classes, the compiled statements."""
    return Operations(Schema(read_schema(path)))


class Prisma:
    """A client. ``datasource={"url": …}`` names another database than DATABASE_URL does."""

    def __init__(
        self,
        *,
        use_dotenv: bool = True,  # noqa: ARG002 - prisma-client-py's arguments
        log_queries: bool = False,  # noqa: ARG002
        auto_register: bool = False,  # noqa: ARG002
        datasource: Mapping[str, Any] | None = None,
        connect_timeout: int | timedelta = 10,
        http: Any = None,  # noqa: ARG002
    ) -> None:
        self._operations = operations_of(schema_path())
        self._datasource = datasource
        self._connect_timeout = connect_timeout
        self._tx_id: str | None = None
        # LiteLLM puts a wrapper here, by this name.
        self.__engine: QueryEngine | None = None

    def __getattr__(self, name: str) -> Actions:
        operations: Operations | None = self.__dict__.get("_operations")
        model = operations.schema.by_attribute.get(name) if operations is not None else None
        if model is None or operations is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return Actions(self, model, operations)

    def __del__(self) -> None:
        """LiteLLM replaces a client without closing it. Nothing is under way any more: that would hold the client."""
        engine = self.__dict__.get("_Prisma__engine")
        if engine is not None and self._tx_id is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return  # the connections go with the process
            closing = loop.create_task(engine.aclose())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    @property
    def _engine(self) -> QueryEngine:
        if self.__engine is None:
            raise ClientNotConnectedError
        return self.__engine

    def is_connected(self) -> bool:
        """Whether ``connect`` was called, and ``disconnect`` not yet."""
        return self.__engine is not None

    def is_transaction(self) -> bool:
        """Whether this client is a transaction."""
        return self._tx_id is not None

    async def connect(self, timeout: int | float | timedelta | None = None) -> None:  # noqa: ARG002
        """Open the pool.

        A primary that is not there is no error: LiteLLM would go on without a database until it is restarted, while
        the pool connects by itself when the database is back. A replica that is not there is one, since LiteLLM then
        reads from the primary: DatabaseUnreachableError. So is what will not mend itself: EngineError.
        """
        if self.__engine is None:
            url = (self._datasource or {}).get("url") or os.environ.get("DATABASE_URL")
            if not url:
                raise DatabaseUrlError("DATABASE_URL is not set")
            self.__engine = QueryEngine(read_url(url))
        try:
            await self.__engine.connect()
        except DatabaseUnreachableError as error:
            if self._datasource is not None:
                raise
            _log.warning("%s", error)

    async def disconnect(self, timeout: float | timedelta | None = None) -> None:  # noqa: ARG002
        """Close all connections."""
        if self.__engine is not None:
            engine, self.__engine = self.__engine, None
            await engine.aclose()

    async def __aenter__(self) -> "Prisma":
        await self.connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self.is_connected():
            await self.disconnect()

    async def run(self, text: str, operation: Operation) -> Any:
        """Run an operation, named for LiteLLM's metrics."""
        return await self._engine.query(Query.of(text, operation), tx_id=self._tx_id)

    async def query_raw(self, query: str, *args: Any, model: Any = None) -> list[Any]:
        """The rows of a raw query as dictionaries, or as a pydantic model's objects."""

        async def operation(session: Session) -> list[Any]:
            cursor = await session.raw(query, [parameter(value) for value in args])
            return plain_rows(cursor, await cursor.fetchall()) if cursor.description else []

        rows: list[Any] = await self.run(_raw_text("queryRaw", query), operation)
        return rows if model is None else [model.model_validate(row) for row in rows]

    async def query_first(self, query: str, *args: Any, model: Any = None) -> Any:
        """The first row of a raw query, or None."""
        rows = await self.query_raw(query, *args, model=model)
        return rows[0] if rows else None

    async def execute_raw(self, query: str, *args: Any) -> int:
        """Run a raw statement; returns how many rows it changed."""

        async def operation(session: Session) -> int:
            return max((await session.raw(query, [parameter(value) for value in args])).rowcount, 0)

        count: int = await self.run(_raw_text("executeRaw", query), operation)
        return count

    def batch_(self) -> Batch:
        """Collects write operations for one transaction."""
        return Batch(self, self._operations)

    def tx(
        self,
        *,
        max_wait: int | timedelta = MAX_WAIT,
        timeout: int | timedelta = TIMEOUT,
        isolation_level: str | None = None,
    ) -> TransactionManager:
        """A transaction as a context manager; times as timedelta or in milliseconds."""
        return TransactionManager(self, max_wait=max_wait, timeout=timeout, isolation_level=isolation_level)

    def in_transaction(self, tx_id: str) -> "Prisma":
        """A client whose operations belong to a transaction."""
        client = Prisma(datasource=self._datasource)
        client.__engine = self.__engine
        client._tx_id = tx_id
        return client


def _raw_text(method: str, sql: str) -> str:
    return f"result: {method} query: {json.dumps(sql)}"
