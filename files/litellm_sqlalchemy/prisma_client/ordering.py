"""``order``, ``cursor`` and ``distinct`` of a query."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select

from litellm_sqlalchemy.prisma_client.errors import invalid_argument
from litellm_sqlalchemy.prisma_client.filters import Filters, as_list, unknown_field
from litellm_sqlalchemy.prisma_client.tables import Model, Scalar

DIRECTIONS = ("asc", "desc")


class Key:
    """One thing to order by."""

    def __init__(self, expression: Any, direction: Any, nulls: Any = None, scalar: Scalar | None = None) -> None:
        if direction not in DIRECTIONS:
            raise invalid_argument(f"An order is asc or desc, not {direction!r}")
        if nulls not in (None, "first", "last"):
            raise invalid_argument(f"Nulls come first or last, not {nulls!r}")
        self.expression = expression
        self.descending = direction == "desc"
        self.nulls = nulls
        self.scalar = scalar

    def clause(self, *, backwards: bool = False) -> Any:
        """The ORDER BY of this key."""
        clause = self.expression.desc() if self.descending != backwards else self.expression.asc()
        if self.nulls is None:
            return clause
        return clause.nulls_first() if (self.nulls == "first") != backwards else clause.nulls_last()


def order_keys(filters: Filters, model: Model, order: Any, source: Any = None) -> list[Key]:
    """The keys of an ``order``: an object, or a list of objects with one field each."""
    source = model.table if source is None else source
    keys = []
    for part in as_list(list(order) if isinstance(order, tuple) else order):
        if not isinstance(part, dict):
            raise invalid_argument(f"An order of {model.name} must be an object")
        for name, direction in part.items():
            keys.extend(_keys(filters, model, source, name, direction))
    return keys


def _keys(filters: Filters, model: Model, source: Any, name: str, direction: Any) -> list[Key]:
    if name in model.scalars:
        if isinstance(direction, dict):
            if unknown := set(direction) - {"sort", "nulls"}:
                raise unknown_field(model, f"orderBy.{name}.{min(unknown)}")
            return [Key(model.column(name, source), direction.get("sort"), direction.get("nulls"), model.scalars[name])]
        return [Key(model.column(name, source), direction, scalar=model.scalars[name])]
    if name not in model.relations or not isinstance(direction, dict):
        raise unknown_field(model, f"orderBy.{name}")
    relation = model.relations[name]
    other = filters.schema.models[relation.other]
    related = other.table.alias()
    joined = and_(*[other.column(theirs, related) == model.column(ours, source) for ours, theirs in relation.columns])
    if relation.is_list:
        if set(direction) != {"_count"}:
            raise unknown_field(model, f"orderBy.{name}.{min(direction)}")
        count = select(func.count()).select_from(related).where(joined).scalar_subquery()
        return [Key(count, direction["_count"])]
    return [
        Key(select(key.expression).where(joined).scalar_subquery(), "desc" if key.descending else "asc", key.nulls)
        for key in order_keys(filters, other, direction, related)
    ]


def identity_keys(model: Model, source: Any = None) -> list[Key]:
    """The order by the model's key, which makes pages of rows well defined."""
    return [Key(model.column(name, source), "asc", scalar=model.scalars[name]) for name in model.identity]


def from_cursor(
    filters: Filters,
    model: Model,
    cursor: dict[str, Any],
    keys: list[Key],
    within: Sequence[str],
    backwards: bool,
) -> Any:
    """The condition of being at the cursor's row or after it, in the order of the keys and with the same ``within``."""
    at = model.table.alias()
    found = and_(filters.unique(model, cursor, at), *[model.column(name, at) == model.column(name) for name in within])
    reached: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key in keys:
        if key.scalar is None:
            raise invalid_argument("A cursor needs an order by fields of the model itself")
        bound = select(model.column(key.scalar.name, at)).where(found).correlate(model.table).scalar_subquery()
        column = key.expression
        beyond = column < bound if key.descending != backwards else column > bound
        if key.scalar.is_optional:
            nulls_last = (key.nulls == "last") if key.nulls else not key.descending
            beyond = or_(
                beyond,
                and_(column.is_(None), bound.is_not(None)) if nulls_last != backwards else false(),
                and_(column.is_not(None), bound.is_(None)) if nulls_last == backwards else false(),
            )
            same = column.is_not_distinct_from(bound)
        else:
            same = column == bound
        reached.append(and_(*equal, beyond))
        equal.append(same)
    exists = select(1).select_from(at).where(found).correlate(model.table).exists()
    return and_(exists, or_(*reached, and_(*equal)))
