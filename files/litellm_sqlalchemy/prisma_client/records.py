"""Results: one pydantic model for each model of the schema, made straight from rows.

What PostgreSQL hands out needs no validation, so records are built without it.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from litellm_sqlalchemy.prisma_client.tables import Model, Schema


class Record(BaseModel):
    """Base of all records. Relations that were not included are None, and not among the fields that are set."""

    model_config = ConfigDict(
        use_enum_values=True,
        arbitrary_types_allowed=True,
        populate_by_name=True,
        defer_build=True,
        protected_namespaces=(),
    )


Row = Sequence[Any]


class Records:
    """The classes, by the names of the models."""

    def __init__(self, schema: Schema) -> None:
        self.classes: dict[str, type[Record]] = {}
        self._makers: dict[str, Callable[[Iterable[Row]], list[Any]]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a field may be named like a method of pydantic's
            for model in schema.models.values():
                self.classes[model.name] = _record_class(model)
        for model in schema.models.values():
            self._makers[model.name] = _maker(model, self.classes[model.name])

    def make(self, model: Model, rows: Iterable[Row]) -> list[Any]:
        """The records of rows that have the model's columns in the order of the schema."""
        return self._makers[model.name](rows)


def _record_class(model: Model) -> type[Record]:
    fields: dict[str, Any] = {}
    for scalar in model.scalars.values():
        if scalar.is_optional:
            fields[scalar.name] = (scalar.python_type | None, None)
        else:
            fields[scalar.name] = (scalar.python_type, ...)
    for relation in model.relations.values():
        # The class of the other model may not be there yet; and what is put here was made by this module.
        fields[relation.name] = (list[Any] | None if relation.is_list else Any, None)
    record: type[Record] = create_model(model.name, __base__=Record, __module__="prisma.models", **fields)
    record.__prisma_model__ = model.name  # type: ignore[attr-defined]
    return record


def _maker(model: Model, record: type[Record]) -> Callable[[Iterable[Row]], list[Any]]:
    names = tuple(model.scalars)
    decoders = [(scalar.name, scalar.decode) for scalar in model.scalars.values() if scalar.decode is not None]
    lists = frozenset(scalar.name for scalar in model.scalars.values() if scalar.is_list)
    absent = dict.fromkeys(model.relations)
    set_fields = frozenset(names)
    new, put = record.__new__, object.__setattr__

    def make(rows: Iterable[Row]) -> list[Any]:
        records = []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            for name, decode in decoders:
                value = values[name]
                if value is not None or name in lists:
                    values[name] = decode(value)
            values.update(absent)
            made = new(record)
            put(made, "__dict__", values)
            put(made, "__pydantic_fields_set__", set(set_fields))
            put(made, "__pydantic_extra__", None)
            put(made, "__pydantic_private__", None)
            records.append(made)
        return records

    return make


def put_relation(record: Record, name: str, value: Any) -> None:
    """Give a record the records it is related to."""
    record.__dict__[name] = value
    record.__pydantic_fields_set__.add(name)
