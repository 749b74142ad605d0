"""``where``: Prisma's filters as SQL conditions.

Nulls are as in SQL and in Prisma: ``not`` and ``NOT`` leave out rows where the field is null. ``contains`` and its
like do not escape ``%`` and ``_``, since Prisma does not either.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, any_, false, func, literal_column, not_, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from litellm_sqlalchemy.prisma_client import values
from litellm_sqlalchemy.prisma_client.errors import DataError, data_error, invalid_argument, missing_value
from litellm_sqlalchemy.prisma_client.statements import Binder
from litellm_sqlalchemy.prisma_client.tables import Model, Relation, Scalar, Schema

Condition = ColumnElement[bool]

# prisma-client-py's names of operators, as the query engine has them.
ALIASES: Mapping[str, str] = {
    "startswith": "startsWith",
    "endswith": "endsWith",
    "has_every": "hasEvery",
    "has_some": "hasSome",
    "is_empty": "isEmpty",
    "not_in": "notIn",
    "is_not": "isNot",
}
_LIKE = {"contains": "%{}%", "startsWith": "{}%", "endsWith": "%{}"}
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_JSON_LIKE = {"string_contains": "%{}%", "string_starts_with": "{}%", "string_ends_with": "%{}"}


def as_list(argument: Any) -> list[Any]:
    """One or several, as several."""
    return argument if isinstance(argument, list) else [argument]


class Filters:
    """Makes the conditions of one statement."""

    def __init__(self, schema: Schema, binder: Binder) -> None:
        self.schema = schema
        self.binder = binder

    def where(self, model: Model, where: Any, source: Any = None) -> Condition:
        """The condition of a ``where``, on the model's table or on an alias of it."""
        return self._all(self._conditions(model, where, model.table if source is None else source))

    def unique(self, model: Model, where: dict[str, Any], source: Any = None) -> Condition:
        """The condition of a ``where`` that must name a unique key."""
        source = model.table if source is None else source
        conditions: list[Condition] = []
        rest = {}
        named = False
        for name, value in where.items():
            fields = model.uniques.get(name)
            if fields is None or (fields == (name,) and isinstance(value, dict)):
                rest[name] = value
                continue
            named = True
            parts = {name: value} if fields == (name,) else value
            if not isinstance(parts, dict):
                raise invalid_argument(f"Argument `where.{name}` of {model.name}: an object was expected")
            if unknown := set(parts) - set(fields):
                raise unknown_field(model, f"where.{name}.{min(unknown)}")
            for part in fields:
                if parts.get(part) is None:
                    raise missing_value(f"where.{name}.{part}" if part != name else f"where.{name}", "P2012")
                conditions.append(self._equals(model.scalars[part], model.column(part, source), parts[part]))
        if not named:
            raise invalid_argument(
                f"Argument `where` of type {model.name}WhereUniqueInput needs at least one of"
                f" {', '.join(model.uniques)}"
            )
        if rest:
            conditions.append(self.where(model, rest, source))
        return self._all(conditions)

    @staticmethod
    def _all(conditions: Iterable[Condition]) -> Condition:
        return and_(true(), *conditions)

    def _conditions(self, model: Model, where: Any, source: Any) -> Iterable[Condition]:
        if not isinstance(where, dict):
            raise invalid_argument(f"A filter of {model.name} must be an object")
        for name, value in where.items():
            if name == "AND":
                yield self._all(self.where(model, part, source) for part in as_list(value))
            elif name == "OR":
                if not isinstance(value, list):
                    raise unknown_field(model, "where.OR")
                yield or_(false(), *[self.where(model, part, source) for part in value])
            elif name == "NOT":
                yield self._all(not_(self.where(model, part, source)) for part in as_list(value))
            elif name in model.scalars:
                yield self.scalar(model.scalars[name], model.column(name, source), value)
            elif name in model.relations:
                yield self._relation(model.relations[name], source, value)
            elif isinstance(value, dict) and len(model.uniques.get(name, ())) > 1:
                yield self.unique(model, {name: value}, source)
            else:
                raise unknown_field(model, f"where.{name}")

    def scalar(self, scalar: Scalar, column: Any, argument: Any) -> Condition:
        """The condition on one column."""
        if scalar.is_list:
            return self._list(scalar, column, argument)
        if scalar.type == "Json":
            return self._json(scalar, column, argument)
        if not isinstance(argument, dict):
            return self._equals(scalar, column, argument)
        insensitive = argument.get("mode") == "insensitive"
        return self._all(
            self._operator(scalar, column, ALIASES.get(name, name), value, insensitive)
            for name, value in argument.items()
            if name != "mode"
        )

    def _equals(self, scalar: Scalar, column: Any, value: Any, *, insensitive: bool = False) -> Condition:
        if value is None:
            if not scalar.is_optional:
                raise missing_value(scalar.name)
            return column.is_(None)  # type: ignore[no-any-return]
        if isinstance(value, list):
            raise invalid_argument(f"Argument `{scalar.name}`: a list where {scalar.type} was expected")
        parameter = self.binder.bind(value, scalar.item_type, scalar.encode_item)
        return column.op("ILIKE", is_comparison=True)(parameter) if insensitive else column == parameter  # type: ignore[no-any-return]

    def _operator(self, scalar: Scalar, column: Any, name: str, value: Any, insensitive: bool) -> Condition:
        match name:
            case "equals":
                return self._equals(scalar, column, value, insensitive=insensitive)
            case "not":
                if isinstance(value, dict):
                    mode = {"mode": "insensitive"} if insensitive else {}
                    return not_(self.scalar(scalar, column, {**value, **mode}))
                return not_(self._equals(scalar, column, value, insensitive=insensitive))
            case "in" | "notIn":
                return self._in(scalar, column, name, value, insensitive)
            case "lt" | "lte" | "gt" | "gte":
                parameter = self.binder.bind(value, scalar.item_type, scalar.encode_item)
                if insensitive:
                    column, parameter = func.lower(column), func.lower(parameter)
                return column.op(_COMPARISONS[name], is_comparison=True)(parameter)  # type: ignore[no-any-return]
            case "contains" | "startsWith" | "endsWith" if scalar.type == "String":
                pattern = self._pattern(scalar, value, _LIKE[name])
                return column.op("ILIKE" if insensitive else "LIKE", is_comparison=True)(pattern)  # type: ignore[no-any-return]
        raise invalid_argument(f"Could not find the filter `{name}` for the field {scalar.name} of type {scalar.type}")

    def _in(self, scalar: Scalar, column: Any, name: str, value: Any, insensitive: bool) -> Condition:
        if value is None:
            condition = self._equals(scalar, column, None)
        elif isinstance(value, list) and not value:
            condition = false()
        else:
            encode = values.list_encoder(scalar.encode_item, scalar.name)
            if insensitive:
                column = func.lower(column)
                encode_any = encode

                def encode(value: Any) -> list[Any]:
                    return [item.lower() for item in encode_any(value)]

            condition = column == any_(self.binder.bind(value, ARRAY(scalar.item_type), encode))
        return condition if name == "in" else not_(condition)

    def _pattern(self, scalar: Scalar, value: Any, pattern: str) -> Any:
        encode: Callable[[Any], Any] = scalar.encode_item if scalar.type == "String" else str

        def encode_pattern(given: Any) -> str:
            return pattern.format(encode(given))

        return self.binder.bind(value, Text(), encode_pattern)

    def _list(self, scalar: Scalar, column: Any, argument: Any) -> Condition:
        if not isinstance(argument, dict):
            raise _not_an_object(scalar, argument)
        return self._all(
            self._list_operator(scalar, column, ALIASES.get(name, name), value) for name, value in argument.items()
        )

    def _list_operator(self, scalar: Scalar, column: Any, name: str, value: Any) -> Condition:
        array = ARRAY(scalar.item_type)
        match name:
            case "equals":
                if value is None:
                    return column.is_(None)  # type: ignore[no-any-return]
                return column == self.binder.bind(value, array, scalar.encode)  # type: ignore[no-any-return]
            case "has":
                if value is None:
                    raise missing_value(f"{scalar.name}.has")
                item = self.binder.bind(value, array, lambda given: [scalar.encode_item(given)])
                return column.op("@>", is_comparison=True)(item)  # type: ignore[no-any-return]
            case "hasEvery" | "hasSome":
                operator = "@>" if name == "hasEvery" else "&&"
                return column.op(operator, is_comparison=True)(self.binder.bind(value, array, scalar.encode))  # type: ignore[no-any-return]
            case "isEmpty":
                empty = self.binder.bind([], array, scalar.encode)
                return column == empty if value else column != empty  # type: ignore[no-any-return]
        raise invalid_argument(f"Could not find the filter `{name}` for the list {scalar.name}")

    def _json(self, scalar: Scalar, column: Any, argument: Any) -> Condition:
        if not isinstance(argument, dict):
            raise _not_an_object(scalar, argument)
        text = None
        if (path := argument.get("path")) is not None:
            keys = self.binder.bind(path, ARRAY(Text()), values.list_encoder(str, f"{scalar.name}.path"))
            text = column.op("#>>")(keys).cast(Text())
            column = column.op("#>", return_type=JSONB())(keys)
        return self._all(
            self._json_operator(scalar, column, text, name, value)
            for name, value in argument.items()
            if name not in ("path", "mode")
        )

    def _json_operator(self, scalar: Scalar, column: Any, text: Any, name: str, value: Any) -> Condition:
        if isinstance(value, dict | list):
            raise data_error(DataError, "P2009", f"Argument `where.{scalar.name}.{name}`: wrap it in prisma.Json")
        kind = func.jsonb_typeof(column)
        encode = scalar.encode_item
        match name:
            case "equals":
                if text is not None and value is None:
                    raise missing_value(f"{scalar.name}.equals")
                return self._equals(scalar, column, value)
            case "not":
                return not_(self._equals(scalar, column, value))
            case "string_contains" | "string_starts_with" | "string_ends_with":
                if text is None:
                    text = column.op("#>>")(literal_column("ARRAY[]::text[]")).cast(Text())
                pattern = self._pattern(scalar, value, _JSON_LIKE[name])
                return and_(text.op("LIKE", is_comparison=True)(pattern), kind == "string")
            case "array_contains":
                return and_(
                    column.op("@>", is_comparison=True)(self.binder.bind(value, JSONB(), encode)), kind == "array"
                )
            case "array_starts_with" | "array_ends_with":
                index: Any = literal_column("0" if name == "array_starts_with" else "-1")
                end = column.op("->", return_type=JSONB())(index)
                return and_(end == self.binder.bind(value, JSONB(), encode), kind == "array")
            case "lt" | "lte" | "gt" | "gte":
                bound = self.binder.bind(value, JSONB(), encode)
                return and_(column.op(_COMPARISONS[name], is_comparison=True)(bound), kind == func.jsonb_typeof(bound))
        raise invalid_argument(f"Could not find the filter `{name}` for the Json {scalar.name}")

    def _relation(self, relation: Relation, source: Any, argument: Any) -> Condition:
        if argument is None:
            argument = {"is": None}
        if isinstance(argument, dict) and None in argument.values() and relation.holds_key and not relation.is_optional:
            raise missing_value(f"where.{relation.name}")
        if not isinstance(argument, dict):
            raise invalid_argument(f"The filter of the relation {relation.name} must be an object")
        words = {"some", "every", "none"} if relation.is_list else {"is", "isNot"}
        named = {ALIASES.get(name, name): value for name, value in argument.items()}
        if not set(named) <= words:
            if relation.is_list:
                raise invalid_argument(f"The filter of the relation {relation.name} must be one of {sorted(words)}")
            named = {"is": argument}
        return self._all(self._related(relation, source, name, value) for name, value in named.items())

    def _related(self, relation: Relation, source: Any, name: str, where: Any) -> Condition:
        model = self.schema.models[relation.other]
        own = self.schema.models[relation.model]
        related = model.table.alias()
        joined = self._all(
            model.column(theirs, related) == own.column(ours, source) for ours, theirs in relation.columns
        )
        condition = true() if where is None else self.where(model, where, related)
        if name == "every":
            condition = not_(condition)
        exists = select(literal_column("1")).select_from(related).where(joined, condition).exists()
        if where is None:  # to be related to nothing at all
            return not_(exists) if name == "is" else exists
        return not_(exists) if name in ("every", "none", "isNot") else exists


def _not_an_object(scalar: Scalar, argument: Any) -> Exception:
    """Lists and Json are filtered by operators alone."""
    if argument is None:
        return missing_value(f"where.{scalar.name}", "P2012")
    return invalid_argument(f"Could not find field at `where.{scalar.name}`: an object was expected")


def unknown_field(model: Model, path: str) -> Exception:
    """An argument that names no field."""
    return invalid_argument(f"Could not find field at `{model.name}.{path}`")
