"""``batch_()``: write operations that are collected, and carried out in one transaction."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from litellm_sqlalchemy.prisma_client.connections import Session
from litellm_sqlalchemy.prisma_client.operations import Operations
from litellm_sqlalchemy.prisma_client.query_engine import Operation
from litellm_sqlalchemy.prisma_client.raw import parameter
from litellm_sqlalchemy.prisma_client.tables import Model

if TYPE_CHECKING:
    from litellm_sqlalchemy.prisma_client.client import Prisma


class BatchActions:
    """The operations of one model, which only take note of what is to be done."""

    __slots__ = ("_add", "_model", "_operations")

    def __init__(self, add: Callable[[Operation], None], model: Model, operations: Operations) -> None:
        self._add = add
        self._model = model
        self._operations = operations

    def create(self, data: Any, include: Any = None) -> None:
        """Create a record."""
        self._add(lambda session: self._operations.create(session, self._model, data, include))

    def create_many(self, data: Any, *, skip_duplicates: bool | None = None) -> None:
        """Create records."""
        skip = bool(skip_duplicates)
        self._add(lambda session: self._operations.create_many(session, self._model, data, skip_duplicates=skip))

    def update(self, data: Any, where: Any, include: Any = None) -> None:
        """Update the record with a unique key. The batch fails where there is none."""
        self._add(lambda session: self._operations.update_or_raise(session, self._model, where, data, include))

    def update_many(self, data: Any, where: Any) -> None:
        """Update all records that match."""
        self._add(lambda session: self._operations.update_many(session, self._model, where, data))

    def upsert(self, where: Any, data: Any, include: Any = None) -> None:
        """Update the record with a unique key, or create it."""
        create, change = data.get("create"), data.get("update")
        self._add(lambda session: self._operations.upsert(session, self._model, where, create, change, include))

    def delete(self, where: Any, include: Any = None) -> None:
        """Delete the record with a unique key. The batch fails where there is none."""
        self._add(lambda session: self._operations.delete_or_raise(session, self._model, where, include))

    def delete_many(self, where: Any = None) -> None:
        """Delete all records that match."""
        self._add(lambda session: self._operations.delete_many(session, self._model, where))


class Batch:
    """Collects operations until ``commit``, or until its context is left without an exception."""

    def __init__(self, client: "Prisma", operations: Operations) -> None:
        self._client = client
        self._operations = operations
        self._collected: list[Operation] = []

    def __getattr__(self, name: str) -> BatchActions:
        model = self._operations.schema.by_attribute.get(name)
        if model is None:
            raise AttributeError(f"There is no model {name}")
        return BatchActions(self._collected.append, model, self._operations)

    def execute_raw(self, query: str, *args: Any) -> None:
        """Run a raw statement."""
        self._collected.append(lambda session: session.raw(query, [parameter(value) for value in args]))

    async def commit(self) -> None:
        """Carry it all out, or nothing of it."""
        collected, self._collected = self._collected, []

        async def operation(session: Session) -> None:
            async with session.transaction() as inner:
                for collected_operation in collected:
                    await collected_operation(inner)

        await self._client.run("batch", operation)

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.commit()
