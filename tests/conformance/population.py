"""Rows for every model, the same in every run: values that tell filters apart, nulls, and references that hold."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import Any

from call_sites.datamodel import Field, Model
from conformance.wire import Bytes, Json

ROWS = 6

POOL: dict[str, list[Any]] = {
    "String": ["alpha", "Alpha beta", "a%b", "a_b", "", "ünï çödé", 'it\'s "q" \\ /', "100", "zeta", "beta"],
    "Int": [0, 1, -1, 7, 42, 2147483647],
    "BigInt": [0, 1, -5, 42, 9007199254740993, -9007199254740993],
    "Float": [0.0, 1.5, -2.25, 0.1, 1e-9, 123456789.125],
    "Boolean": [True, False],
    "DateTime": [
        datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc),
        datetime(2025, 12, 31, 23, 59, 59, 999000, tzinfo=timezone.utc),
        datetime(2024, 2, 29, tzinfo=timezone.utc),
        datetime(2026, 6, 1, 12, tzinfo=timezone.utc),
    ],
    "Json": [
        Json({"a": 1, "b": [1, 2, 3]}),
        Json({}),
        Json([]),
        Json({"a": {"b": "deep"}, "scim_active": False}),
        Json("a text"),
        Json(5),
        Json({"a": None}),
        Json({"tags": ["x", "y"], "spend": 0.5, "s": "ünï \\ \" '"}),
    ],
    "Bytes": [Bytes(b"alpha"), Bytes(b""), Bytes(bytes(range(256)))],
}
LISTS: dict[str, list[list[Any]]] = {
    "String": [["alpha"], [], ["alpha", "beta"], ["beta", "alpha", "alpha"], ['it\'s, "q" {\\}', ""], ["zeta"]],
}

Row = dict[str, Any]


def enum_values(field: Field, enums: dict[str, list[str]]) -> list[Any]:
    """What a field of an enumeration may be."""
    return list(enums.get(field.type, []))


def pool(field: Field, enums: dict[str, list[str]]) -> list[Any]:
    """Values of a field's kind."""
    if field.is_list:
        return LISTS.get(field.type) or [[], POOL[field.type][:1]]
    return POOL.get(field.type) or enum_values(field, enums)


def in_order(models: dict[str, Model]) -> list[Model]:
    """The models so that what is referred to comes first."""
    ordered: list[Model] = []

    def visit(model: Model, above: tuple[str, ...] = ()) -> None:
        if model in ordered or model.name in above:
            return
        for relation, _ in model.foreign_keys().values():
            visit(models[relation.type], (*above, model.name))
        ordered.append(model)

    for model in models.values():
        visit(model)
    return ordered


def populate(models: dict[str, Model], enums: dict[str, list[str]]) -> dict[str, list[Row]]:
    """Rows by model; every field has its value, so that nothing depends on a clock."""
    chance = random.Random(17)
    rows: dict[str, list[Row]] = {}
    for model in in_order(models):
        unique = {name for key in model.keys for name in key}
        foreign = model.foreign_keys()
        rows[model.name] = []
        for number in range(ROWS):
            row: Row = {}
            for field in model.scalars:
                if field.name in foreign:
                    relation, other = foreign[field.name]
                    parents = rows.get(relation.type, [])
                    row[field.name] = _reference(chance, field, parents, other, number, unique=field.name in unique)
                elif field.name in unique:
                    row[field.name] = _distinct(model, field, number, enums)
                elif field.optional and chance.random() < 0.3:
                    row[field.name] = None
                else:
                    row[field.name] = chance.choice(pool(field, enums))
            rows[model.name].append(row)
    return rows


def _reference(
    chance: random.Random, field: Field, parents: list[Row], other: str, number: int, *, unique: bool
) -> Any:
    if unique:
        # Some parents stay without, where the reference is what is unique.
        return parents[number][other] if not field.optional or number % 2 == 0 else None
    if not parents or (field.optional and chance.random() < 0.35):
        return None
    return chance.choice(parents)[other]


def _distinct(model: Model, field: Field, number: int, enums: dict[str, list[str]]) -> Any:
    match field.type:
        case "String":
            return f"{model.name.removeprefix('LiteLLM_').lower()[:12]}-{field.name[:6]}-{number}"
        case "Int" | "BigInt":
            return number + 1
        case "DateTime":
            return datetime(2026, 3, number + 1, tzinfo=timezone.utc)
        case "Boolean":
            return number % 2 == 0
    return pool(field, enums)[number % len(pool(field, enums))]
