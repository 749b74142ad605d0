"""What is compared: a cell for each model, operation and feature of the query language, and how to draw its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from call_sites.datamodel import Field, Model
from conformance.population import Row, pool
from conformance.sides import Step
from conformance.wire import Json

Draw = Callable[[SearchStrategy[Any]], Any]
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One thing that must be the same."""

    model: str
    operation: str
    feature: str

    def __str__(self) -> str:
        return f"{self.model}.{self.operation}: {self.feature}"


@dataclass(frozen=True)
class Example:
    """Steps that both clients run."""

    steps: list[Step]
    ordered: bool = True
    """Whether the order of a list in the result means anything."""


Build = Callable[[Draw], Example]
Cells = Iterator[tuple[str, str, Build]]
"""Operation, feature, and how to draw an example."""


@dataclass
class Domain:
    """The models, what their types allow, and the rows that are there."""

    models: dict[str, Model]
    enums: dict[str, list[str]]
    surface: dict[str, dict[str, dict[str, list[str]]]]
    rows: dict[str, list[Row]]

    def operators(self, model: Model, part: str, field: Field) -> list[str]:
        """The operators that prisma-client-py's types have for a field."""
        return self.surface[model.name].get(part, {}).get(field.name, [])

    def value(self, model: Model, field: Field) -> SearchStrategy[Any]:
        """A value for a field: mostly one that some row has."""
        present = [row[field.name] for row in self.rows[model.name] if row[field.name] is not None]
        values = [*present, *pool(field, self.enums)]
        # Another one first for every field: the first example is drawn in each run.
        turn = crc32(f"{model.name}.{field.name}".encode()) % len(values)
        return st.sampled_from(values[turn:] + values[:turn])

    def element(self, model: Model, field: Field) -> SearchStrategy[Any]:
        """An element of a list field."""
        return st.sampled_from(["alpha", "beta", "zeta", "nowhere", 'it\'s, "q" {\\}', ""])

    def key(self, model: Model, row: Row, names: tuple[str, ...] | None = None) -> Arguments:
        """The ``where`` that names a row by one of its unique keys."""
        names = names or next(key for key in model.keys if all(row[name] is not None for name in key))
        values = {name: row[name] for name in names}
        return values if len(names) == 1 else {self.key_name(model, names): values}

    def key_name(self, model: Model, names: tuple[str, ...]) -> str:
        """The name of a key of several fields."""
        return next(name for name, fields in model.key_names.items() if fields == names)

    def total_order(self, model: Model) -> list[Arguments]:
        """An ordering that leaves nothing open."""
        return [{name: "asc"} for name in model.keys[0]]

    def row(self, model: Model) -> SearchStrategy[Row]:
        """A row that is there."""
        rows = self.rows[model.name]
        turn = crc32(model.name.encode()) % len(rows)
        return st.sampled_from(rows[turn:] + rows[:turn])

    def condition(self, draw: Draw, model: Model, field: Field, operator: str) -> Any:
        """What a filter's operator is given."""
        match operator:
            case "in" | "not_in":
                return draw(st.lists(self.value(model, field), min_size=1, max_size=3))
            case "contains" | "startswith" | "endswith" | "search":
                whole = draw(self.value(model, field))
                return draw(st.sampled_from([whole[:3], whole[1:4], whole[-3:], whole, whole.swapcase(), "%", "_", ""]))
            case "has":
                return draw(self.element(model, field))
            case "has_every" | "has_some":
                return draw(st.lists(self.element(model, field), min_size=1, max_size=2))
            case "is_empty":
                return draw(st.booleans())
        return draw(self.value(model, field))

    def scalar_filter(self, draw: Draw, model: Model) -> Arguments:
        """A filter of some field."""
        field = draw(st.sampled_from([field for field in model.scalars if field.type != "Json"]))
        operators = [one for one in self.operators(model, "where", field) if one not in {"mode", "search"}]
        if not operators:
            return {field.name: draw(self.value(model, field))}
        operator = draw(st.sampled_from(operators))
        return {field.name: {operator: self.condition(draw, model, field, operator)}}


def fields_of_kind(fields: list[Field]) -> dict[str, list[Field]]:
    """Fields by kind and whether they may be null."""
    found: dict[str, list[Field]] = {}
    for field in fields:
        found.setdefault(field.kind + ("?" if field.optional else ""), []).append(field)
    return found


def call(model: Model, operation: str, **arguments: Any) -> Step:
    """The step that calls an operation."""
    return {"call": [model.accessor, operation], "arguments": arguments}


def json_path(value: Json) -> list[str]:
    """A path into a Json that leads somewhere, if there is one."""
    path, inner = [], value.data
    while isinstance(inner, dict) and inner:
        key = next(iter(inner))
        path.append(key)
        inner = inner[key]
    return path or ["a"]
