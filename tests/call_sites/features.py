"""What a call uses of the query language: each filter, writing, ordering and inclusion by the kind of field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from call_sites.datamodel import Model
from call_sites.shapes import Shape

LOGIC = {"AND", "OR", "NOT"}
ANY = "*"
"""A key that the source does not show."""


@dataclass(frozen=True, order=True)
class Feature:
    """One thing that is used: in which argument, on what kind of field, which operator."""

    argument: str
    kind: str
    operator: str

    def __str__(self) -> str:
        return f"{self.argument}: {self.kind} {self.operator}"


class Reader:
    """Reads the features out of the arguments of calls."""

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models

    def features(self, model: Model, argument: str, shape: Shape) -> Iterator[Feature]:
        """The features of one argument."""
        match argument:
            case "where" | "cursor" | "having":
                yield from self._where(model, argument, shape)
            case "data":
                yield from self._data(model, shape)
            case "order":
                yield from self._order(model, shape)
            case "include":
                yield from self._include(model, shape)
            case _:
                yield from _plain(argument, shape)

    def _alternatives(self, shape: Shape) -> Iterator[Shape]:
        yield shape
        if shape.element is not None:
            yield from self._alternatives(shape.element)

    def _where(self, model: Model, argument: str, shape: Shape) -> Iterator[Feature]:
        for one in self._alternatives(shape):
            for key, value in one.keys.items():
                if key in LOGIC:
                    yield Feature(argument, "logic", f"{key} {'list' if value.element else 'object'}")
                    yield from self._where(model, argument, value)
                elif key in model.key_names:
                    yield Feature(argument, "key", "of several fields")
                    yield from self._where(model, argument, value)
                elif key in model.fields:
                    field = model.fields[key]
                    if field.is_relation:
                        yield from self._related(argument, self._models[field.type], field.kind, value)
                    else:
                        yield from self._scalar(argument, field.kind, value)
                elif key != ANY:
                    yield Feature(argument, "?", f"{model.name}.{key}")

    def _related(self, argument: str, model: Model, kind: str, shape: Shape) -> Iterator[Feature]:
        kind = "relation[]" if kind.endswith("[]") else "relation"
        for operator, value in shape.keys.items():
            if operator in model.fields:
                yield Feature(argument, kind, "its fields")
                yield from self._where(model, argument, Shape(keys={operator: value}))
            else:
                yield Feature(argument, kind, operator)
                yield from self._where(model, argument, value)
        if "null" in shape.leaves:
            yield Feature(argument, kind, "null")

    def _scalar(self, argument: str, kind: str, shape: Shape) -> Iterator[Feature]:
        for leaf in shape.leaves - {"{}"}:
            yield Feature(argument, kind, "= null" if leaf == "null" else "= value")
        if shape.element is not None:
            yield Feature(argument, kind, "= list")
        for operator, value in shape.keys.items():
            if operator == ANY:
                continue
            if operator in {"not", "equals"} and (value.keys or "null" in value.leaves):
                yield Feature(argument, kind, f"{operator} null") if "null" in value.leaves else Feature(
                    argument, kind, operator
                )
                for inner in value.keys:
                    yield Feature(argument, kind, f"{operator} {inner}")
            else:
                yield Feature(argument, kind, operator)

    def _data(self, model: Model, shape: Shape, prefix: str = "data") -> Iterator[Feature]:
        for one in self._alternatives(shape):
            if prefix == "data" and one.keys.keys() <= {"create", "update"} and one.keys:
                for key, value in one.keys.items():
                    yield from self._data(model, value, f"data.{key}")
                continue
            for key, value in one.keys.items():
                if key == ANY:
                    continue
                if key not in model.fields:
                    yield Feature(prefix, "?", f"{model.name}.{key}")
                    continue
                field = model.fields[key]
                if field.is_relation:
                    kind = "relation[]" if field.is_list else "relation"
                    for operator, inner in value.keys.items():
                        yield Feature(prefix, kind, operator)
                        if operator in {"create", "update", "upsert"}:
                            yield from self._data(self._models[field.type], inner, f"{prefix}.{key}.{operator}")
                        elif operator in {"connect", "disconnect", "delete"} and inner.keys:
                            yield from self._where(self._models[field.type], prefix, inner)
                    continue
                for leaf in value.leaves - {"?"}:
                    yield Feature("data", field.kind, f"= {leaf}")
                if value.element is not None:
                    yield Feature("data", field.kind, "= list")
                if field.type == "Json":
                    if value.keys:
                        yield Feature("data", field.kind, "= an object that is no text")
                    continue
                for operator in value.keys:
                    if operator != ANY:
                        yield Feature("data", field.kind, operator)

    def _order(self, model: Model, shape: Shape) -> Iterator[Feature]:
        if shape.element is not None:
            yield Feature("order", "list", "of orders")
        for one in self._alternatives(shape):
            for key, value in one.keys.items():
                if key == ANY:
                    continue
                if key.startswith("_"):
                    yield Feature("order", "aggregate", key)
                elif key not in model.fields:
                    yield Feature("order", "?", f"{model.name}.{key}")
                elif model.fields[key].is_relation:
                    yield Feature("order", "relation", "its fields")
                elif value.keys:
                    for inner in value.keys:
                        yield Feature("order", "scalar", inner)
                else:
                    yield Feature("order", "scalar", "asc or desc")

    def _include(self, model: Model, shape: Shape, depth: int = 1) -> Iterator[Feature]:
        for key, value in shape.keys.items():
            if key == ANY:
                continue
            if key not in model.fields or not model.fields[key].is_relation:
                yield Feature("include", "?", f"{model.name}.{key}")
                continue
            kind = "relation[]" if model.fields[key].is_list else "relation"
            yield Feature("include", kind, f"true, level {depth}" if not value.keys else f"with options, level {depth}")
            for option, inner in value.keys.items():
                yield Feature("include", kind, option)
                if option == "include":
                    yield from self._include(self._models[model.fields[key].type], inner, depth + 1)
                elif option == "where":
                    yield from self._where(self._models[model.fields[key].type], "where", inner)


def _plain(argument: str, shape: Shape) -> Iterator[Feature]:
    for leaf in shape.leaves:
        yield Feature(argument, "value", leaf)
    if shape.keys:
        yield Feature(argument, "object", "_all" if "_all" in shape.keys else "fields")
    if shape.element is not None:
        yield Feature(argument, "list", "|".join(sorted(shape.element.leaves)) or "?")
