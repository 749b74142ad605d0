"""``include``: the records that records are related to, one query a relation."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, and_, any_, func, literal_column, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from litellm_sqlalchemy.prisma_client.connections import Pool, Session
from litellm_sqlalchemy.prisma_client.errors import UnknownRelationalFieldError
from litellm_sqlalchemy.prisma_client.filters import Filters, unknown_field
from litellm_sqlalchemy.prisma_client.loader import loader
from litellm_sqlalchemy.prisma_client.queries import Pages, Query, magnitude, not_negative
from litellm_sqlalchemy.prisma_client.records import Record, Records, put_relation
from litellm_sqlalchemy.prisma_client.statements import Binder, Slot, Statement, StatementCache
from litellm_sqlalchemy.prisma_client.tables import Model, Relation, Schema

_ARGUMENTS = frozenset({"where", "order", "order_by", "orderBy", "take", "skip", "cursor", "distinct", "include"})


class Includes:
    """Loads relations into records."""

    def __init__(self, schema: Schema, records: Records) -> None:
        self._schema = schema
        self._records = records
        self._cache = StatementCache()

    def check(self, model: Model, include: Any) -> None:
        """Refuse what cannot be included, before anything is done. Raises DataError."""
        for name, argument in (include or {}).items():
            if name not in model.relations:
                raise UnknownRelationalFieldError(model.name, name)
            if not isinstance(argument, dict | bool):
                raise TypeError(f"Expected `bool` or `dict` include value but got {type(argument)} instead.")
            if isinstance(argument, dict):
                if unknown := set(argument) - _ARGUMENTS:
                    raise unknown_field(model, f"include.{name}.{min(unknown)}")
                self.check(self._schema.models[model.relations[name].other], argument.get("include"))

    async def load(self, session: Session, model: Model, records: Sequence[Record], include: Any) -> None:
        """Put the relations that ``include`` names into the records."""
        for name, argument in (include or {}).items():
            if argument is not False:
                arguments = argument if isinstance(argument, dict) else {}
                await self._load(session, model.relations[name], records, arguments)

    async def _load(
        self, session: Session, relation: Relation, records: Sequence[Record], arguments: dict[str, Any]
    ) -> None:
        other = self._schema.models[relation.other]
        if (
            isinstance(session, Pool)
            and len(records) == 1
            and relation.holds_key
            and len(relation.columns) == 1
            and not set(arguments) - {"include"}
        ):
            await self._load_one(session, relation, records[0], arguments.get("include"))
            return
        ours = [pair[0] for pair in relation.columns]
        keys = {key for record in records if None not in (key := tuple(record.__dict__[name] for name in ours))}
        related: dict[Any, list[Record]] = defaultdict(list)
        if keys:
            query = Query(
                arguments.get("where"),
                arguments.get("order_by") or arguments.get("orderBy") or arguments.get("order"),
                arguments.get("take"),
                arguments.get("skip"),
                arguments.get("cursor"),
                arguments.get("distinct"),
            )
            statement, found = self._statement(relation, query, sorted(keys, key=repr))
            rows = await session.rows(statement, found, other)
            if query.take is not None and query.take < 0:
                rows.reverse()
            loaded = self._records.make(other, rows)
            await self.load(session, other, loaded, arguments.get("include"))
            theirs = [pair[1] for pair in relation.columns]
            for record in loaded:
                related[tuple(record.__dict__[name] for name in theirs)].append(record)
        for record in records:
            matches = related.get(tuple(record.__dict__[name] for name in ours), [])
            put_relation(record, relation.name, matches if relation.is_list else next(iter(matches), None))

    async def _load_one(self, session: Pool, relation: Relation, record: Record, include: Any) -> None:
        """The one record that a record refers to, together with what others ask for at this moment."""
        other = self._schema.models[relation.other]
        ((ours, theirs),) = relation.columns
        value = record.__dict__[ours]
        row = None if value is None else await loader(session, other, theirs).row(value)
        loaded = self._records.make(other, [] if row is None else [row])
        await self.load(session, other, loaded, include)
        put_relation(record, relation.name, loaded[0] if loaded else None)

    def _statement(self, relation: Relation, query: Query, keys: list[Any]) -> tuple[Statement, list[Any]]:
        found: list[Any] = []
        key = (relation.model, relation.name, query.shape(found))
        slots = len(found)
        statement = self._cache.get(key, lambda: self._make(relation, query, slots))
        columns = [list(column) for column in zip(*keys, strict=True)]
        return statement, [*found, query.take, query.skip, *columns]

    def _make(self, relation: Relation, query: Query, slots: int) -> Statement:
        binder = Binder()
        filters = Filters(self._schema, binder)
        model = self._schema.models[relation.other]
        within = [theirs for _, theirs in relation.columns]
        pages = Pages(filters, model, query.slotted(), within)
        theirs = [model.scalars[name] for _, name in relation.columns]
        wanted = [
            binder.bind(Slot(slots + 2 + index), ARRAY(scalar.item_type), lambda value: value)
            for index, scalar in enumerate(theirs)
        ]
        columns = [model.column(scalar.name) for scalar in theirs]
        if len(columns) == 1:
            belongs = columns[0] == any_(wanted[0])
        else:
            rows = func.unnest(*wanted).table_valued(*[f"key{index}" for index in range(len(columns))]).render_derived()
            belongs = tuple_(*columns).in_(select(*rows.c))
        if not (query.take is not None or query.skip or query.distinct):
            condition = and_(belongs, *pages.conditions)
            return binder.compile(select(*model.columns()).where(condition).order_by(*pages.order()))
        # A page of each parent's records.
        rows, order = pages.rows(belongs, *pages.conditions, partition=columns)
        parents = [rows.c[column.name] for column in columns]
        number = func.row_number().over(partition_by=parents, order_by=order or None)
        numbered = select(*model.columns(rows), number.label("_row")).subquery()
        row = numbered.c["_row"]
        first = binder.bind(Slot(slots + 1), BigInteger(), not_negative) if query.skip else literal_column("0")
        limits = [row > first]
        if query.take is not None:
            limits.append(row <= first + binder.bind(Slot(slots), BigInteger(), magnitude))
        statement = select(*model.columns(numbered)).where(*limits)
        return binder.compile(statement.order_by(*[numbered.c[column.name] for column in columns], row))
