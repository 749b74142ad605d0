"""INSERT, UPDATE and DELETE statements of ``data``: values, atomic number operations, lists."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, cast, delete, func, insert, literal_column, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from litellm_sqlalchemy.prisma_client import values
from litellm_sqlalchemy.prisma_client.cuid import cuid
from litellm_sqlalchemy.prisma_client.errors import invalid_argument, invalid_data, missing_value
from litellm_sqlalchemy.prisma_client.filters import Filters, unknown_field
from litellm_sqlalchemy.prisma_client.schema_file import Function
from litellm_sqlalchemy.prisma_client.statements import Binder, Slot, Statement, StatementCache, shape, slotted
from litellm_sqlalchemy.prisma_client.tables import Model, Scalar, Schema

_ARITHMETIC = {"increment": "+", "decrement": "-", "multiply": "*", "divide": "/"}
_NUMBERS = frozenset({"Int", "BigInt", "Float", "Decimal"})
_GENERATORS = {"uuid": lambda: str(uuid.uuid4()), "cuid": cuid}


class Writes:
    """Makes and keeps the statements that write."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._cache = StatementCache()

    def create(self, model: Model, data: dict[str, Any]) -> tuple[Statement, list[Any]]:
        """Insert one record and return it."""
        found: list[Any] = []
        key = ("create", model.name, shape(data, found))

        def make() -> Statement:
            binder = Binder()
            assigned = self._created(model, slotted(data)[0], binder)
            return binder.compile(_insert(model, assigned).returning(*model.columns()))

        return self._cache.get(key, make), found

    def update(self, model: Model, where: Any, data: dict[str, Any], *, unique: bool) -> tuple[Statement, list[Any]]:
        """Update one record and return it, or all that match."""
        found: list[Any] = []
        key = ("update", unique, model.name, shape(where, found), shape(data, found))

        def make() -> Statement:
            binder = Binder()
            slotted_where, taken = slotted(where)
            condition = self._condition(model, slotted_where, binder, unique=unique)
            assigned = self._updated(model, slotted(data, taken)[0], binder)
            statement = update(model.table).values(assigned).where(condition)
            return binder.compile(statement.returning(*model.columns()) if unique else statement)

        return self._cache.get(key, make), found

    def release(self, model: Model, where: Any, names: Sequence[str]) -> tuple[Statement, list[Any]]:
        """Set the fields of a key to null, and nothing else."""
        found: list[Any] = []
        key = ("release", model.name, shape(where, found), tuple(names))

        def make() -> Statement:
            binder = Binder()
            condition = self._condition(model, slotted(where)[0], binder, unique=False)
            nulls = {model.scalars[name].column: _null(model.scalars[name]) for name in names}
            return binder.compile(update(model.table).values(nulls).where(condition))

        return self._cache.get(key, make), found

    def delete(self, model: Model, where: Any, *, unique: bool) -> tuple[Statement, list[Any]]:
        """Delete one record and return it, or all that match."""
        found: list[Any] = []
        key = ("delete", unique, model.name, shape(where, found))

        def make() -> Statement:
            binder = Binder()
            statement = delete(model.table).where(self._condition(model, slotted(where)[0], binder, unique=unique))
            return binder.compile(statement.returning(*model.columns()) if unique else statement)

        return self._cache.get(key, make), found

    def upsert(
        self, model: Model, key_fields: Sequence[str], create: dict[str, Any], change: dict[str, Any]
    ) -> tuple[Statement, list[Any]]:
        """Insert a record, or update the one that has its unique key, in one statement; return it."""
        found: list[Any] = []
        key = ("upsert", model.name, tuple(key_fields), shape(create, found), shape(change, found))

        def make() -> Statement:
            binder = Binder()
            slotted_create, taken = slotted(create)
            statement = _insert(model, self._created(model, slotted_create, binder))
            assigned = self._updated(model, slotted(change, taken)[0], binder)
            keys = [model.column(name) for name in key_fields]
            # Without anything to update, the key is set to itself: DO NOTHING would not return the record.
            upsert = statement.on_conflict_do_update(
                index_elements=keys, set_=assigned or {keys[0].name: statement.excluded[keys[0].name]}
            )
            return binder.compile(upsert.returning(*model.columns()))

        return self._cache.get(key, make), found

    def create_many(
        self, model: Model, names: Sequence[str], records: Sequence[dict[str, Any]], *, skip_duplicates: bool
    ) -> tuple[Statement, list[Any]]:
        """Insert records that all set the same fields: one array a column, so any number is one statement."""
        key = ("create_many", model.name, tuple(names), skip_duplicates)

        def make() -> Statement:
            return self._create_many(model, names, skip_duplicates=skip_duplicates)

        columns = [
            [_array_text(record[name]) if model.scalars[name].is_list else record[name] for record in records]
            for name in names
        ]
        return self._cache.get(key, make), columns

    def _create_many(self, model: Model, names: Sequence[str], *, skip_duplicates: bool) -> Statement:
        binder = Binder()
        scalars = [model.scalars[name] for name in names]
        arrays = []
        for index, scalar in enumerate(scalars):
            type_ = values.SQL_TYPES["String"] if scalar.is_list else scalar.item_type
            arrays.append(binder.bind(Slot(index), ARRAY(type_), list))
        rows = func.unnest(*arrays).table_valued(*[f"c{index}" for index in range(len(scalars))]).render_derived()
        columns = [
            cast(column, scalar.sql_type) if scalar.is_list else column
            for column, scalar in zip(rows.c, scalars, strict=True)
        ]
        statement = postgresql.insert(model.table).from_select(
            [scalar.column for scalar in scalars], select(*columns), include_defaults=False
        )
        return binder.compile(statement.on_conflict_do_nothing() if skip_duplicates else statement)

    def with_defaults(self, model: Model, data: Any, moment: Any) -> dict[str, Any]:
        """A record of ``create_many`` with its defaults, encoded."""
        if not isinstance(data, dict):
            raise invalid_argument(f"The data of {model.name} must be objects")
        if unknown := set(data) - set(model.scalars):
            raise unknown_field(model, f"data.{min(unknown)}")
        record: dict[str, Any] = {}
        for name, scalar in model.scalars.items():
            if name in data:
                given = data[name]
                if scalar.is_list and isinstance(given, dict) and set(given) == {"set"}:
                    given = given["set"]
                if given is None and scalar.is_optional:
                    record[name] = None
                else:
                    record[name] = scalar.encode_data(given)
                continue
            default = scalar.default
            if isinstance(default, Function) and default.name in _GENERATORS:
                record[name] = _GENERATORS[default.name]()
            elif scalar.is_updated_at or (isinstance(default, Function) and default.name == "now"):
                record[name] = moment
            elif default is not None and not isinstance(default, Function):
                record[name] = scalar.encode_data(default)
            elif default is None and not scalar.is_optional and not scalar.is_list:
                raise missing_value(f"data.{name}")
        return record

    def _condition(self, model: Model, where: Any, binder: Binder, *, unique: bool) -> ColumnElement[bool]:
        filters = Filters(self._schema, binder)
        return filters.unique(model, where) if unique else filters.where(model, where or {})

    def _created(self, model: Model, data: dict[str, Any], binder: Binder) -> dict[str, Any]:
        """The columns of a new record."""
        if unknown := [name for name in data if name not in model.scalars]:
            raise unknown_field(model, f"data.{unknown[0]}")
        assigned = {}
        for name, scalar in model.scalars.items():
            if name in data:
                assigned[scalar.column] = self._set(scalar, data[name], binder)
            elif (value := self._default(scalar, binder)) is not None:
                assigned[scalar.column] = value
        return assigned

    def _default(self, scalar: Scalar, binder: Binder) -> Any:
        default = scalar.default
        if scalar.is_updated_at or (isinstance(default, Function) and default.name == "now"):
            return binder.now(scalar.sql_type)
        if scalar.is_generated:
            return None
        if isinstance(default, Function):
            return binder.generated(_GENERATORS[default.name], scalar.sql_type)
        if default is not None:
            return binder.bind(default, scalar.sql_type, scalar.encode_data)
        if not scalar.is_optional and not scalar.is_list:
            raise missing_value(f"data.{scalar.name}")
        return None

    def _set(self, scalar: Scalar, given: Any, binder: Binder) -> Any:
        """The value of a column that is set."""
        if isinstance(given, dict) and set(given) == {"set"}:
            given = given["set"]
        if given is None:
            if not scalar.is_optional:
                raise missing_value(f"data.{scalar.name}")
            return _null(scalar)
        if isinstance(given, dict):
            raise invalid_data(
                invalid_argument(f"Argument `data.{scalar.name}`: an object where {scalar.type} was expected")
            )
        return binder.bind(given, scalar.sql_type, scalar.encode_data)

    def _updated(self, model: Model, data: dict[str, Any], binder: Binder) -> dict[str, Any]:
        """The columns that an update sets; with a time for those that note the last update."""
        assigned: dict[str, Any] = {}
        for name, given in data.items():
            if name not in model.scalars:
                raise unknown_field(model, f"data.{name}")
            scalar = model.scalars[name]
            assigned[scalar.column] = self._change(scalar, model.column(name), given, binder)
        for scalar in model.scalars.values():
            if assigned and scalar.is_updated_at and scalar.name not in data:
                assigned[scalar.column] = binder.now(scalar.sql_type)
        return assigned

    def _change(self, scalar: Scalar, column: Any, given: Any, binder: Binder) -> Any:
        if not isinstance(given, dict) or set(given) == {"set"}:
            return self._set(scalar, given, binder)
        if len(given) != 1:
            raise invalid_argument(f"Argument `data.{scalar.name}`: one operation was expected, not {sorted(given)}")
        ((operation, operand),) = given.items()
        if operation in _ARITHMETIC and scalar.type in _NUMBERS and not scalar.is_list:
            if operand is None:
                raise missing_value(f"data.{scalar.name}.{operation}")
            return column.op(_ARITHMETIC[operation])(binder.bind(operand, scalar.sql_type, scalar.encode_data))
        if operation == "push" and scalar.is_list:
            return column.op("||")(binder.bind(operand, scalar.sql_type, _pushed(scalar)))
        raise unknown_operation(scalar, operation)


def unknown_operation(scalar: Scalar, operation: str) -> Exception:
    """An operation that a field of this type does not have."""
    return invalid_data(
        invalid_argument(f"Could not find the operation `{operation}` for {scalar.name} of type {scalar.type}")
    )


def _null(scalar: Scalar) -> Any:
    return cast(literal_column("NULL"), scalar.sql_type)


def _insert(model: Model, assigned: dict[str, Any]) -> postgresql.Insert:
    statement = postgresql.insert(model.table)
    return statement.values(assigned) if assigned else statement


def _pushed(scalar: Scalar) -> values.Encoder:
    def encode(given: Any) -> Any:
        return scalar.encode_data(given if isinstance(given, list | tuple | set) else [given])

    return encode


def _array_text(items: Any) -> str | None:
    """PostgreSQL's text of an array: a column of arrays of different lengths can be handed over in no other way."""
    if items is None:
        return None
    quoted = []
    for item in items:
        shown = {True: "t", False: "f"}.get(item, str(item)) if isinstance(item, bool) else str(item)
        escaped = shown.replace("\\", "\\\\").replace('"', '\\"')
        quoted.append(f'"{escaped}"')
    return "{" + ",".join(quoted) + "}"


__all__ = ["Writes", "insert", "text", "unknown_operation"]
