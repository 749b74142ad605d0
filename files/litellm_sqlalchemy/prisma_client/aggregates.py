"""``group_by``: groups with their counts, sums, averages and extremes, and ``having``."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Double, and_, cast, false, func, not_, or_, select

from litellm_sqlalchemy.prisma_client.errors import invalid_argument
from litellm_sqlalchemy.prisma_client.filters import Condition, Filters, as_list, unknown_field
from litellm_sqlalchemy.prisma_client.ordering import Key
from litellm_sqlalchemy.prisma_client.queries import magnitude, not_negative
from litellm_sqlalchemy.prisma_client.statements import Binder, Slot, Statement, StatementCache, shape, slotted
from litellm_sqlalchemy.prisma_client.tables import Model, Scalar, Schema

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "_count": func.count,
    "_sum": func.sum,
    "_avg": func.avg,
    "_min": func.min,
    "_max": func.max,
}
_NUMBERS = frozenset({"Int", "BigInt", "Float", "Decimal"})


class Groups(NamedTuple):
    """What is asked of the groups. ``aggregates`` maps ``_sum`` and its like to the names of fields."""

    by: tuple[str, ...]
    aggregates: tuple[tuple[str, tuple[str, ...]], ...]
    where: Any = None
    having: Any = None
    order: Any = None
    take: int | None = None
    skip: int | None = None


class Aggregates:
    """Makes and keeps the statements of groups."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._cache = StatementCache()

    def group_by(self, model: Model, groups: Groups) -> tuple[Statement, list[Any]]:
        """The rows of the groups: the fields of ``by``, then the aggregates."""
        found: list[Any] = []
        key = (
            model.name,
            groups.by,
            groups.aggregates,
            shape(groups.where, found),
            shape(groups.having, found),
            repr(groups.order),
            groups.take is not None and (groups.take < 0) + 1,
            bool(groups.skip),
        )
        slots = len(found)
        return self._cache.get(key, lambda: self._make(model, groups, slots)), [*found, groups.take, groups.skip]

    def _make(self, model: Model, groups: Groups, slots: int) -> Statement:
        binder = Binder()
        filters = Filters(self._schema, binder)
        where, taken = slotted(groups.where)
        having, _ = slotted(groups.having, taken)
        if not groups.by:
            raise invalid_argument("Expected a minimum of 1 field to be present, got 0")
        for name in groups.by:
            if name not in model.scalars:
                raise unknown_field(model, f"by.{name}")
        by = [model.column(name) for name in groups.by]
        columns = [aggregate(model, function, name) for function, names in groups.aggregates for name in names]
        keys = [key for part in as_list(groups.order or []) for key in _order(model, groups, part)]
        backwards = groups.take is not None and groups.take < 0
        statement = (
            select(*by, *columns)
            .where(filters.where(model, where or {}))
            .group_by(*by)
            .order_by(*[key.clause(backwards=backwards) for key in keys])
        )
        if having:
            statement = statement.having(_having(filters, model, having))
        if groups.take is not None:
            statement = statement.limit(binder.bind(Slot(slots), BigInteger(), magnitude))
        if groups.skip:
            statement = statement.offset(binder.bind(Slot(slots + 1), BigInteger(), not_negative))
        return binder.compile(statement)

    def results(self, model: Model, groups: Groups, rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        """The groups as dictionaries, with the values that the query engine's JSON would have."""
        if groups.take is not None and groups.take < 0:
            rows = rows[::-1]
        results = []
        for row in rows:
            values = iter(row)
            group: dict[str, Any] = {name: _plain(model.scalars[name], next(values)) for name in groups.by}
            for function, names in groups.aggregates:
                group[function] = {name: _aggregated(function, model.scalars.get(name), next(values)) for name in names}
            results.append(group)
        return results


def aggregate(model: Model, function: str, name: str) -> Any:
    """The SQL of an aggregate."""
    if function == "_count" and name == "_all":
        return func.count()
    scalar = model.scalars.get(name)
    if scalar is None or not _has(scalar, function):
        raise unknown_field(model, f"{function}.{name}")
    column = model.column(name)
    return _FUNCTIONS[function](column)


def _has(scalar: Scalar, function: str) -> bool:
    if function == "_count":
        return True
    return not scalar.is_list and scalar.type != "Json" and (function in ("_min", "_max") or scalar.type in _NUMBERS)


def _order(model: Model, groups: Groups, part: Any) -> list[Key]:
    if not isinstance(part, dict):
        raise invalid_argument("An order must be an object")
    keys: list[Key] = []
    for name, direction in part.items():
        if name in _FUNCTIONS:
            if not isinstance(direction, dict):
                raise invalid_argument(f"Argument `orderBy.{name}`: an object was expected")
            keys.extend(Key(aggregate(model, name, field), way) for field, way in direction.items())
        elif name in groups.by:
            nulls = direction.get("nulls") if isinstance(direction, dict) else None
            keys.append(Key(model.column(name), direction.get("sort") if nulls else direction, nulls))
        else:
            raise invalid_argument(f"Every field used for orderBy must be included in by: {name} is not")
    return keys


def _having(filters: Filters, model: Model, having: Any) -> Condition:
    conditions: list[Condition] = []
    for name, value in having.items():
        if name == "AND":
            conditions.append(and_(True, *[_having(filters, model, part) for part in as_list(value)]))
        elif name == "OR":
            conditions.append(or_(false(), *[_having(filters, model, part) for part in as_list(value)]))
        elif name == "NOT":
            conditions.append(and_(True, *[not_(_having(filters, model, part)) for part in as_list(value)]))
        elif name not in model.scalars:
            raise unknown_field(model, f"having.{name}")
        else:
            conditions.extend(_having_of(filters, model, name, value))
    return and_(True, *conditions)


def _having_of(filters: Filters, model: Model, name: str, value: Any) -> list[Condition]:
    scalar = model.scalars[name]
    if not isinstance(value, dict):
        return [filters.scalar(scalar, model.column(name), value)]
    conditions = []
    for operator, operand in value.items():
        if operator not in _FUNCTIONS:
            conditions.append(filters.scalar(scalar, model.column(name), {operator: operand}))
            continue
        compared: Any = aggregate(model, operator, name)
        kind = scalar
        if operator in ("_count", "_avg"):
            type_ = "BigInt" if operator == "_count" else "Float"
            kind = filters.schema.plain_scalar(type_, name)
            compared = compared if operator == "_count" else cast(compared, Double())
        conditions.append(filters.scalar(kind, compared, operand))
    return conditions


def _plain(scalar: Scalar, value: Any) -> Any:
    """A value as the query engine's JSON has it."""
    if value is not None and scalar.type == "DateTime" and not scalar.is_list:
        return value.isoformat(timespec="milliseconds") + "Z"
    if value is not None and scalar.type == "BigInt":
        return str(value)
    return value


def _aggregated(function: str, scalar: Scalar | None, value: Any) -> Any:
    if scalar is None or function == "_count" or value is None:
        return value
    if function == "_avg":
        return float(value)
    if isinstance(value, Decimal) and scalar.type in ("Int", "BigInt"):
        value = int(value)
    return _plain(scalar, value)
