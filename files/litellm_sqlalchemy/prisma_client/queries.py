"""SELECT statements: of records, and of how many there are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Select, and_, func, select

from litellm_sqlalchemy.prisma_client.errors import DataError, data_error, invalid_argument
from litellm_sqlalchemy.prisma_client.filters import Filters, unknown_field
from litellm_sqlalchemy.prisma_client.ordering import Key, from_cursor, identity_keys, order_keys
from litellm_sqlalchemy.prisma_client.statements import Binder, Slot, Statement, StatementCache, shape, slotted
from litellm_sqlalchemy.prisma_client.tables import Model, Schema


class Query(NamedTuple):
    """What of a model is asked for. ``take`` counts from the end where it is negative."""

    where: Any = None
    order: Any = None
    take: int | None = None
    skip: int | None = None
    cursor: dict[str, Any] | None = None
    distinct: Any = None

    def shape(self, found: list[Any]) -> tuple[Any, ...]:
        """What a statement depends on, hashable; the values are appended to ``found``."""
        return (
            shape(self.where, found),
            shape(self.cursor, found),
            repr(self.order),
            repr(self.distinct),
            self.take is not None and (self.take < 0) + 1,
            bool(self.skip),
        )

    def slotted(self) -> "Query":
        """The query with a Slot for each value that ``shape`` finds in it."""
        where, taken = slotted(self.where)
        cursor, _ = slotted(self.cursor, taken)
        return self._replace(where=where, cursor=cursor)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_argument(f"take and skip are whole numbers, not {value!r}")
    return value


def not_negative(value: Any) -> int:
    """The number of records to skip."""
    if _whole(value) < 0:
        raise data_error(
            DataError, None, f"Invalid value for skip argument: Value can only be positive, found: {value}"
        )
    return int(value)


def magnitude(value: Any) -> int:
    """The number of records to take, from whichever end."""
    return abs(_whole(value))


class Pages:
    """Which rows of a model, in which order."""

    def __init__(self, filters: Filters, model: Model, query: Query, within: Sequence[str] = ()) -> None:
        """``within``: fields by which the rows belong to others, whose pages are their own."""
        self._filters = filters
        self._model = model
        self._query = query
        self.backwards = query.take is not None and query.take < 0
        self.keys: list[Key] = order_keys(filters, model, query.order) if query.order else []
        if query.take is not None or query.skip or query.cursor:
            # As Prisma does: a page is well defined only by a unique order.
            self.keys += identity_keys(model)
        self.conditions = [] if query.where is None else [filters.where(model, query.where)]
        if query.cursor:
            self.conditions.append(from_cursor(filters, model, query.cursor, self.keys, within, self.backwards))

    def order(self) -> list[Any]:
        """The ORDER BY."""
        return [key.clause(backwards=self.backwards) for key in self.keys]

    def limited(self, statement: Select[Any], take: Slot, skip: Slot) -> Select[Any]:
        """With LIMIT and OFFSET."""
        binder = self._filters.binder
        if self._query.take is not None:
            statement = statement.limit(binder.bind(take, BigInteger(), magnitude))
        if self._query.skip:
            statement = statement.offset(binder.bind(skip, BigInteger(), not_negative))
        return statement

    def distinct(self) -> Select[Any]:
        """The first row of each group of the same values, in the order of the whole."""
        rows, order = self.rows(*self.conditions)
        return select(*self._model.columns(rows)).order_by(*order)

    def rows(self, *conditions: Any, partition: Sequence[Any] = ()) -> tuple[Any, list[Any]]:
        """The rows as a subquery, with its ORDER BY; of each part, ``distinct`` leaves the first of each group."""
        keys = {f"_key{index}": key for index, key in enumerate(self.keys)}
        labelled = [key.expression.label(label) for label, key in keys.items()]
        statement = select(*self._model.columns(), *labelled).where(and_(True, *conditions))
        if self._query.distinct:
            number = func.row_number().over(
                partition_by=[*partition, *self._distinct_columns()], order_by=self.order() or None
            )
            inner = statement.add_columns(number.label("_number")).subquery()
            statement = select(*inner.c).where(inner.c["_number"] == 1)
        rows = statement.subquery()
        order = [
            Key(rows.c[label], "desc" if key.descending else "asc", key.nulls).clause(backwards=self.backwards)
            for label, key in keys.items()
        ]
        return rows, order

    def _distinct_columns(self) -> list[Any]:
        names = self._query.distinct
        names = [names] if isinstance(names, str) else list(names)
        if unknown := [name for name in names if name not in self._model.scalars]:
            raise unknown_field(self._model, f"distinct.{unknown[0]}")
        return [self._model.column(name) for name in names]


class Queries:
    """Makes and keeps the statements that read."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._cache = StatementCache()

    def find_unique(self, model: Model, where: Any) -> tuple[Statement, list[Any]]:
        """The one record with a unique key."""
        found: list[Any] = []
        key = (model.name, shape(where, found))

        def make() -> Statement:
            binder = Binder()
            condition = Filters(self._schema, binder).unique(model, slotted(where)[0])
            return binder.compile(select(*model.columns()).where(condition))

        return self._cache.get(key, make), found

    def find_many(self, model: Model, query: Query) -> tuple[Statement, list[Any]]:
        """Records; where ``take`` is negative, in the reverse of the order."""
        key, found = self._key("find_many", model, query)
        return self._cache.get(key, lambda: self._find_many(model, query, len(found))), found

    def count(self, model: Model, query: Query, fields: tuple[str, ...]) -> tuple[Statement, list[Any]]:
        """How many records there are, and in how many of them the fields are not null."""
        key, found = self._key(("count", fields), model, query)
        return self._cache.get(key, lambda: self._count(model, query, fields, len(found))), found

    @staticmethod
    def _key(operation: Any, model: Model, query: Query) -> tuple[Any, list[Any]]:
        found: list[Any] = []
        key = (operation, model.name, query.shape(found))
        return key, [*found, query.take, query.skip]

    def _find_many(self, model: Model, query: Query, slots: int) -> Statement:
        binder = Binder()
        pages = Pages(Filters(self._schema, binder), model, query.slotted())
        if query.distinct:
            statement = pages.distinct()
        else:
            statement = select(*model.columns()).where(and_(True, *pages.conditions)).order_by(*pages.order())
        return binder.compile(pages.limited(statement, Slot(slots - 2), Slot(slots - 1)))

    def _count(self, model: Model, query: Query, fields: tuple[str, ...], slots: int) -> Statement:
        binder = Binder()
        pages = Pages(Filters(self._schema, binder), model, query.slotted())
        for name in fields:
            if name != "_all" and name not in model.scalars:
                raise unknown_field(model, f"_count.{name}")
        statement = select(*model.columns()).where(and_(True, *pages.conditions))
        rows = pages.limited(statement.order_by(*pages.order()), Slot(slots - 2), Slot(slots - 1)).subquery()
        counts = [func.count() if name == "_all" else func.count(rows.c[model.scalars[name].column]) for name in fields]
        return binder.compile(select(*counts).select_from(rows))
