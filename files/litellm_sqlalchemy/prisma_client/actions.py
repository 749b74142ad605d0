"""``client.litellm_usertable.find_many(…)``: the operations of a model, with prisma-client-py's arguments."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from litellm_sqlalchemy.prisma_client.aggregates import Groups
from litellm_sqlalchemy.prisma_client.errors import RecordNotFoundError, invalid_argument, record_not_found
from litellm_sqlalchemy.prisma_client.operations import Operations
from litellm_sqlalchemy.prisma_client.queries import Query
from litellm_sqlalchemy.prisma_client.query_engine import Operation
from litellm_sqlalchemy.prisma_client.tables import Model

if TYPE_CHECKING:
    from litellm_sqlalchemy.prisma_client.client import Prisma


class Actions:
    """The operations of one model on one client, or in its transaction."""

    __slots__ = ("_client", "_model", "_operations")

    def __init__(self, client: "Prisma", model: Model, operations: Operations) -> None:
        self._client = client
        self._model = model
        self._operations = operations

    async def _run(self, method: str, operation: Operation) -> Any:
        return await self._client.run(f"result: {method}", operation)

    async def find_unique(self, where: Any, include: Any = None) -> Any:
        """The record with a unique key, or None."""
        return await self._run(
            f"findUnique{self._model.name}",
            lambda session: self._operations.find_unique(session, self._model, where, include),
        )

    async def find_unique_or_raise(self, where: Any, include: Any = None) -> Any:
        """The record with a unique key. Raises RecordNotFoundError."""
        record = await self.find_unique(where, include)
        if record is None:
            raise record_not_found(f"No {self._model.name} found")
        return record

    async def find_many(
        self,
        take: int | None = None,
        skip: int | None = None,
        where: Any = None,
        cursor: Any = None,
        include: Any = None,
        order: Any = None,
        distinct: Any = None,
    ) -> list[Any]:
        """The records that match."""
        query = Query(where, order, take, skip, cursor, distinct)
        result: list[Any] = await self._run(
            f"findMany{self._model.name}",
            lambda session: self._operations.find_many(session, self._model, query, include),
        )
        return result

    async def find_first(
        self,
        skip: int | None = None,
        where: Any = None,
        cursor: Any = None,
        include: Any = None,
        order: Any = None,
        distinct: Any = None,
    ) -> Any:
        """The first record that matches, or None."""
        query = Query(where, order, 1, skip, cursor, distinct)
        records = await self._run(
            f"findFirst{self._model.name}",
            lambda session: self._operations.find_many(session, self._model, query, include),
        )
        return records[0] if records else None

    async def find_first_or_raise(
        self,
        skip: int | None = None,
        where: Any = None,
        cursor: Any = None,
        include: Any = None,
        order: Any = None,
        distinct: Any = None,
    ) -> Any:
        """The first record that matches. Raises RecordNotFoundError."""
        record = await self.find_first(skip, where, cursor, include, order, distinct)
        if record is None:
            raise record_not_found(f"No {self._model.name} found")
        return record

    async def create(self, data: Any, include: Any = None) -> Any:
        """Create a record and return it."""
        return await self._run(
            f"createOne{self._model.name}",
            lambda session: self._operations.create(session, self._model, data, include),
        )

    async def create_many(self, data: Any, *, skip_duplicates: bool | None = None) -> int:
        """Create records; returns how many."""
        count: int = await self._run(
            f"createMany{self._model.name}",
            lambda session: self._operations.create_many(
                session, self._model, data, skip_duplicates=bool(skip_duplicates)
            ),
        )
        return count

    async def update(self, data: Any, where: Any, include: Any = None) -> Any:
        """Update the record with a unique key and return it; None where there is none."""
        try:
            return await self._run(
                f"updateOne{self._model.name}",
                lambda session: self._operations.update(session, self._model, where, data, include),
            )
        except RecordNotFoundError:  # as prisma-client-py: even where it is another record that is missing
            return None

    async def update_many(self, data: Any, where: Any) -> int:
        """Update all records that match; returns how many."""
        count: int = await self._run(
            f"updateMany{self._model.name}",
            lambda session: self._operations.update_many(session, self._model, where, data),
        )
        return count

    async def upsert(self, where: Any, data: Any, include: Any = None) -> Any:
        """Update the record with a unique key, or create it; returns it."""
        create, change = data.get("create"), data.get("update")
        if create is None or change is None:
            raise invalid_argument("An upsert needs data for `create` and for `update`")
        return await self._run(
            f"upsertOne{self._model.name}",
            lambda session: self._operations.upsert(session, self._model, where, create, change, include),
        )

    async def delete(self, where: Any, include: Any = None) -> Any:
        """Delete the record with a unique key and return it; None where there is none."""
        return await self._run(
            f"deleteOne{self._model.name}",
            lambda session: self._operations.delete(session, self._model, where, include),
        )

    async def delete_many(self, where: Any = None) -> int:
        """Delete all records that match; returns how many."""
        count: int = await self._run(
            f"deleteMany{self._model.name}",
            lambda session: self._operations.delete_many(session, self._model, where),
        )
        return count

    async def count(
        self,
        select: Mapping[str, bool] | None = None,
        take: int | None = None,
        skip: int | None = None,
        where: Any = None,
        cursor: Any = None,
    ) -> Any:
        """How many records match; with ``select``, in how many of them each of the fields is not null."""
        fields = tuple(name for name, wanted in (select or {}).items() if wanted is True) or ("_all",)
        query = Query(where, None, take, skip, cursor)
        counts = await self._run(
            f"aggregate{self._model.name}",
            lambda session: self._operations.count(session, self._model, query, fields),
        )
        return counts["_all"] if select is None else counts

    async def group_by(
        self,
        by: Any,
        *,
        where: Any = None,
        take: int | None = None,
        skip: int | None = None,
        avg: Any = None,
        sum: Any = None,  # noqa: A002 - prisma-client-py's names
        min: Any = None,  # noqa: A002
        max: Any = None,  # noqa: A002
        having: Any = None,
        count: Any = None,
        order: Any = None,
    ) -> list[dict[str, Any]]:
        """Groups of records with the same values of the fields ``by``."""
        if order is None and (take is not None or skip is not None):
            raise TypeError(
                f"Missing argument: 'order' which is required when '{'skip' if take is None else 'take'}' is present"
            )
        wanted = {
            "_avg": avg,
            "_min": min,
            "_sum": sum,
            "_max": max,
            "_count": {"_all": True} if count is True else count,
        }
        aggregates = tuple(
            (name, tuple(field for field, selected in fields.items() if selected is True))
            for name, fields in wanted.items()
            if fields
        )
        groups = Groups((by,) if isinstance(by, str) else tuple(by), aggregates, where, having, order, take, skip)
        result: list[dict[str, Any]] = await self._run(
            f"groupBy{self._model.name}",
            lambda session: self._operations.group_by(session, self._model, groups),
        )
        return result

    async def query_raw(self, query: str, *args: Any) -> list[Any]:
        """The records that a raw query returns."""
        rows: list[Any] = await self._client.query_raw(
            query, *args, model=self._operations.records.classes[self._model.name]
        )
        return rows

    async def query_first(self, query: str, *args: Any) -> Any:
        """The first record that a raw query returns, or None."""
        rows = await self.query_raw(query, *args)
        return rows[0] if rows else None
