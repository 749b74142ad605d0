"""Arguments of a call, made up from their shape and from the kinds of the model's fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from call_sites.datamodel import Field, Model
from call_sites.shapes import ANY, LOGIC, Shape

VALUES: dict[str, Any] = {
    "String": "x",
    "Int": 1,
    "BigInt": 1,
    "Float": 1.5,
    "Boolean": True,
    "DateTime": datetime(2026, 1, 1, tzinfo=timezone.utc),
}
PLAIN: dict[str, Any] = {"take": 1, "skip": 1, "skip_duplicates": True, "count": True}
LISTS = {"in", "notIn", "not_in", "has_some", "hasSome", "has_every", "hasEvery", "equals", "set", "path"}
WRITES = {"create", "update", "connect", "disconnect", "connect_or_create", "upsert", "delete", "set"}


class UnknownFieldError(Exception):
    """A key that is no field, where a field must stand."""


class Synthesis:
    """Makes arguments up."""

    def __init__(self, models: dict[str, Model], json: Callable[[Any], Any], base64: Callable[[bytes], Any]) -> None:
        self._models = models
        self._json = json
        self._base64 = base64

    def argument(self, model: Model, name: str, shape: Shape) -> Any:  # noqa: PLR0911 - a case each
        """The value of an argument."""
        match name:
            case "where" | "cursor" | "having":
                return self.where(model, shape)
            case "data":
                return [self.data(model, shape.element)] if shape.element is not None else self.data(model, shape)
            case "include":
                return self.include(model, shape)
            case "order":
                return self.order(model, shape)
            case "by" | "distinct":
                return [next(iter(model.fields))]
            case "sum" | "avg" | "min" | "max":
                return {key: True for key in shape.keys if key in model.fields} or None
        return PLAIN.get(name)

    def value(self, field: Field) -> Any:
        """A value of a field's kind."""
        if field.type == "Json":
            return self._json({})
        if field.type == "Bytes":
            return self._base64(b"x")
        one = VALUES.get(field.type, "INACTIVE")
        return [one] if field.is_list else one

    def where(self, model: Model, shape: Shape) -> Any:
        """A filter."""
        made: dict[str, Any] = {}
        for key, inner in shape.keys.items():
            if key in LOGIC:
                parts = self._parts(inner)
                made[key] = (
                    [self.where(model, part) for part in parts] if parts or not inner.keys else self.where(model, inner)
                )
            elif key in model.key_names:
                made[key] = {name: self.value(model.fields[name]) for name in model.key_names[key]}
            elif key in model.fields:
                made[key] = self._condition(model, model.fields[key], inner)
            elif key != ANY:
                raise UnknownFieldError(f"{model.name}.{key}")
        return made

    @staticmethod
    def _parts(shape: Shape) -> list[Shape]:
        """The elements of a list, or of a list in it: of a variable that is now the one, now the other."""
        parts = []
        while shape.element is not None:
            shape = shape.element
            parts.append(shape)
        return [part for part in parts if part.keys] or parts[:1]

    def _condition(self, model: Model, field: Field, shape: Shape) -> Any:
        if field.is_relation:
            other = self._models[field.type]
            return {
                operator: self.where(other, inner)
                if operator not in other.fields
                else self.where(other, shape)[operator]
                for operator, inner in shape.keys.items()
            }
        # A variable that holds now a value, now a filter of its own.
        operators = {key: inner for key, inner in shape.keys.items() if key != ANY and key not in model.fields}
        if operators:
            return {operator: self._operand(field, operator, inner) for operator, inner in operators.items()}
        return None if shape.leaves == {"null"} and field.optional else self.value(field)

    def _operand(self, field: Field, operator: str, shape: Shape) -> Any:
        if shape.keys:
            return {inner: self._operand(field, inner, of) for inner, of in shape.keys.items() if inner != ANY}
        if shape.leaves == {"null"}:
            return None
        if operator == "mode":
            return "insensitive"
        if operator in {"is_empty", "isEmpty"}:
            return True
        one = self.value(field)
        if field.type == "Json":
            return ["a"] if operator == "path" else one
        single = one[0] if isinstance(one, list) else one
        return [single] if operator in LISTS and (field.is_list or operator != "equals") else single

    def data(self, model: Model, shape: Shape) -> Any:
        """What is written."""
        made: dict[str, Any] = {}
        for key, inner in shape.keys.items():
            if key == ANY:
                continue
            if key not in model.fields:
                raise UnknownFieldError(f"{model.name}.{key}")
            field = model.fields[key]
            operators = {name: of for name, of in inner.keys.items() if name != ANY}
            if field.is_relation:
                made[key] = {name: self._write(self._models[field.type], name, of) for name, of in operators.items()}
            elif field.type == "Json" and "Json" not in inner.leaves:
                made[key] = "{}"
            elif operators and field.type != "Json":
                for name in operators:
                    made[key] = {name: self.value(field)}
            else:
                made[key] = self.value(field)
        return made

    def _write(self, other: Model, operator: str, shape: Shape) -> Any:
        if operator in {"create", "update"}:
            return (
                {**self.required(other), **self.data(other, shape)} if operator == "create" else self.data(other, shape)
            )
        if operator in {"disconnect", "delete"} and not shape.keys:
            return True
        return self.where(other, shape)

    def required(self, model: Model) -> dict[str, Any]:
        """What a new row must have."""
        return {
            field.name: self.value(field)
            for field in model.scalars
            if not (field.optional or field.is_list or field.has_default)
        }

    def include(self, model: Model, shape: Shape) -> Any:
        """What is fetched along."""
        made: dict[str, Any] = {}
        for key, inner in shape.keys.items():
            if key not in model.fields:
                raise UnknownFieldError(f"{model.name}.{key}")
            other = self._models[model.fields[key].type]
            options: dict[str, Any] = {}
            for option, of in inner.keys.items():
                if option == "include":
                    options[option] = self.include(other, of)
                elif option in {"order_by", "order"}:
                    options[option] = self.order(other, of)
                else:
                    options[option] = self.where(other, of) if option in {"where", "cursor"} else PLAIN.get(option, 1)
            made[key] = options or True
        return made

    def order(self, model: Model, shape: Shape) -> Any:
        """An ordering."""
        if shape.element is not None:
            found = [self.order(model, part) for part in self._parts(shape)]
            return [one for part in found for one in (part if isinstance(part, list) else [part])]
        made: dict[str, Any] = {}
        for key, inner in shape.keys.items():
            if key.startswith("_"):
                made[key] = {name: "asc" for name in inner.keys if name in model.fields}
            elif key in model.fields:
                made[key] = {option: "first" if option == "nulls" else "asc" for option in inner.keys} or "asc"
            elif key != ANY:
                raise UnknownFieldError(f"{model.name}.{key}")
        # One field an object, as prisma-client-py's types have it.
        return [{key: value} for key, value in made.items()] if len(made) > 1 else made
