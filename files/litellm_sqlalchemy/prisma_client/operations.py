"""The operations on models, in terms of sessions: what each does, and with which statements."""

from collections.abc import Sequence
from typing import Any

from litellm_sqlalchemy.prisma_client import values
from litellm_sqlalchemy.prisma_client.aggregates import Aggregates, Groups
from litellm_sqlalchemy.prisma_client.connections import Pool, Session
from litellm_sqlalchemy.prisma_client.errors import (
    UniqueViolationError,
    record_not_found,
)
from litellm_sqlalchemy.prisma_client.includes import Includes
from litellm_sqlalchemy.prisma_client.loader import loader
from litellm_sqlalchemy.prisma_client.nested import NestedWrites, parted
from litellm_sqlalchemy.prisma_client.queries import Queries, Query
from litellm_sqlalchemy.prisma_client.records import Record, Records
from litellm_sqlalchemy.prisma_client.tables import Model, Schema
from litellm_sqlalchemy.prisma_client.writes import Writes


class Operations:
    """All operations, for all models of a schema; holds the compiled statements."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.records = Records(schema)
        self.queries = Queries(schema)
        self.includes = Includes(schema, self.records)
        self.writes = Writes(schema)
        self.aggregates = Aggregates(schema)
        self.nested = NestedWrites(self)

    async def find_unique(self, session: Session, model: Model, where: Any, include: Any) -> Record | None:
        """The record with a unique key."""
        self.includes.check(model, include)
        name = _plain_key(model, where) if isinstance(session, Pool) else None
        if name is not None and isinstance(session, Pool):
            row = await loader(session, model, name).row(where[name])
            rows = [] if row is None else [row]
        else:
            statement, found = self.queries.find_unique(model, where)
            rows = await session.rows(statement, found, model)
        records = self.records.make(model, rows)
        await self.includes.load(session, model, records, include)
        return records[0] if records else None

    async def find_many(self, session: Session, model: Model, query: Query, include: Any) -> list[Any]:
        """The records that match."""
        self.includes.check(model, include)
        statement, found = self.queries.find_many(model, query)
        rows = await session.rows(statement, found, model)
        if query.take is not None and query.take < 0:
            rows.reverse()
        records = self.records.make(model, rows)
        await self.includes.load(session, model, records, include)
        return records

    async def find_first(self, session: Session, model: Model, where: Any) -> Record | None:
        """The first that matches."""
        return next(iter(await self.find_many(session, model, Query(where, take=1), None)), None)

    async def count(self, session: Session, model: Model, query: Query, fields: tuple[str, ...]) -> dict[str, int]:
        """How many records match, and in how many of them the fields are not null."""
        statement, found = self.queries.count(model, query, fields)
        (row,) = await session.rows(statement, found, model)
        return dict(zip(fields, row, strict=True))

    async def group_by(self, session: Session, model: Model, groups: Groups) -> list[dict[str, Any]]:
        """Groups of records."""
        statement, found = self.aggregates.group_by(model, groups)
        return self.aggregates.results(model, groups, await session.rows(statement, found, model))

    async def create(self, session: Session, model: Model, data: Any, include: Any) -> Record:
        """Create a record, with what is nested in its data."""
        self.includes.check(model, include)
        own, relations = parted(model, data)
        if not relations:
            (record,) = await self._written(session, model, self.writes.create(model, own))
        else:
            async with session.transaction() as inner:
                keys = await self.nested.before(inner, model, relations)
                (record,) = await self._written(inner, model, self.writes.create(model, {**own, **keys}))
                await self.nested.after(inner, model, record, _made(model, relations))
        await self.includes.load(session, model, [record], include)
        return record  # type: ignore[no-any-return]

    async def create_many(self, session: Session, model: Model, data: Any, *, skip_duplicates: bool) -> int:
        """Create records; returns how many."""
        moment = values.now()
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for item in data if isinstance(data, list | tuple) else [data]:
            record = self.writes.with_defaults(model, item, moment)
            groups.setdefault(tuple(record), []).append(record)
        statements = [
            self.writes.create_many(model, names, records, skip_duplicates=skip_duplicates)
            for names, records in groups.items()
        ]
        if len(statements) == 1:
            return await session.count(*statements[0], model)
        created = 0
        if statements:
            async with session.transaction() as inner:
                for statement, found in statements:
                    created += await inner.count(statement, found, model)
        return created

    async def update(self, session: Session, model: Model, where: Any, data: Any, include: Any) -> Record | None:
        """Update the record with a unique key; None where there is none."""
        self.includes.check(model, include)
        own, relations = parted(model, data)
        if not own and not relations:
            return await self.find_unique(session, model, where, include)
        if not relations:
            records = await self._written(session, model, self.writes.update(model, where, own, unique=True))
        else:
            async with session.transaction() as inner:
                records = await self._update_related(inner, model, where, own, relations)
        await self.includes.load(session, model, records, include)
        return records[0] if records else None

    async def _update_related(
        self, session: Session, model: Model, where: Any, own: dict[str, Any], relations: dict[str, Any]
    ) -> list[Record]:
        record = await self.find_unique(session, model, where, None)
        if record is None:
            return []
        keys = await self.nested.before(session, model, relations)
        keys.update(await self.nested.after(session, model, record, relations))
        where = self._identity(model, record)
        if own or keys:
            return await self._written(session, model, self.writes.update(model, where, {**own, **keys}, unique=True))
        updated = await self.find_unique(session, model, where, None)
        return [] if updated is None else [updated]

    @staticmethod
    def _identity(model: Model, record: Record) -> dict[str, Any]:
        key = {name: getattr(record, name) for name in model.identity}
        if len(key) == 1:
            return key
        return {name: key for name, fields in model.uniques.items() if fields == model.identity}

    async def update_or_raise(self, session: Session, model: Model, where: Any, data: Any, include: Any) -> Record:
        """Update; raises RecordNotFoundError."""
        record = await self.update(session, model, where, data, include)
        if record is None:
            raise record_not_found("Record to update not found.")
        return record

    async def delete_or_raise(self, session: Session, model: Model, where: Any, include: Any) -> Record:
        """Delete; raises RecordNotFoundError."""
        record = await self.delete(session, model, where, include)
        if record is None:
            raise record_not_found("Record to delete does not exist.")
        return record

    async def update_many(self, session: Session, model: Model, where: Any, data: Any) -> int:
        """Update all records that match; returns how many."""
        if not data:
            return (await self.count(session, model, Query(where), ("_all",)))["_all"]
        statement, found = self.writes.update(model, where, data, unique=False)
        return await session.count(statement, found, model)

    async def release(self, session: Session, model: Model, where: Any, names: Sequence[str]) -> int:
        """Let records go that refer to others. Raises DataError where they must refer to one: P2011."""
        statement, found = self.writes.release(model, where, names)
        return await session.count(statement, found, model)

    async def disconnect(self, session: Session, model: Model, where: Any, names: Sequence[str]) -> int:
        """Let records go, and note the time in them."""
        released = await self.release(session, model, where, names) if _required(model, names) else None
        return released if released is not None else await self.update_many(session, model, where, dict.fromkeys(names))

    async def delete(self, session: Session, model: Model, where: Any, include: Any) -> Record | None:
        """Delete the record with a unique key; None where there is none."""
        self.includes.check(model, include)
        if include:
            async with session.transaction() as inner:
                record = await self.find_unique(inner, model, where, include)
                if record is not None:
                    await self._written(inner, model, self.writes.delete(model, where, unique=True))
                return record
        records = await self._written(session, model, self.writes.delete(model, where, unique=True))
        return records[0] if records else None

    async def delete_many(self, session: Session, model: Model, where: Any) -> int:
        """Delete all records that match; returns how many."""
        statement, found = self.writes.delete(model, where, unique=False)
        return await session.count(statement, found, model)

    async def upsert(
        self, session: Session, model: Model, where: Any, create: Any, change: Any, include: Any
    ) -> Record:
        """Update the record with a unique key, or create it."""
        self.includes.check(model, include)
        new, new_relations = parted(model, create)
        changed, changed_relations = parted(model, change)
        key_fields = None if new_relations or changed_relations else _conflict(model, where, new)
        if key_fields is not None:
            (record,) = await self._written(session, model, self.writes.upsert(model, key_fields, new, changed))
            await self.includes.load(session, model, [record], include)
            return record  # type: ignore[no-any-return]
        try:
            return await self._upserted(session, model, where, create, change, include)
        except UniqueViolationError:
            # Another one has created it in between; in a transaction, PostgreSQL would not let us go on.
            updated = await self.update(session, model, where, change, include)
            if updated is None:
                raise
            return updated

    async def _upserted(
        self, session: Session, model: Model, where: Any, create: Any, change: Any, include: Any
    ) -> Record:
        async with session.transaction() as inner:
            updated = await self.update(inner, model, where, change, include)
            return updated if updated is not None else await self.create(inner, model, create, include)

    async def _written(self, session: Session, model: Model, statement: tuple[Any, list[Any]]) -> list[Any]:
        return self.records.make(model, await session.rows(*statement, model))


def _required(model: Model, names: Sequence[str]) -> bool:
    return not all(model.scalars[name].is_optional for name in names)


def _plain_key(model: Model, where: Any) -> str | None:
    """The unique field that a ``where`` names, if it names nothing else."""
    if not isinstance(where, dict) or len(where) != 1:
        return None
    ((name, value),) = where.items()
    return name if model.uniques.get(name) == (name,) and value is not None and not isinstance(value, dict) else None


def _made(model: Model, relations: dict[str, Any]) -> dict[str, Any]:
    """Of a new record's relations, those that are still to be written."""
    return {name: argument for name, argument in relations.items() if not model.relations[name].holds_key}


def _conflict(model: Model, where: Any, create: dict[str, Any]) -> Sequence[str] | None:
    """The unique key by which PostgreSQL itself can tell whether the record is there."""
    if not isinstance(where, dict) or len(where) != 1:
        return None
    ((name, value),) = where.items()
    fields = model.uniques.get(name)
    if fields is None:
        return None
    given = {name: value} if fields == (name,) else value
    if not isinstance(given, dict) or set(given) != set(fields):
        return None
    same = all(field in create and create[field] == given[field] and given[field] is not None for field in fields)
    return fields if same else None
