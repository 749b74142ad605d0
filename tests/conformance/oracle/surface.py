"""Prints what prisma-client-py's types allow: by model and field, the operators of filters and of writes, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

from prisma import models, types


def operators(annotation: Any) -> list[str]:
    """The keys of the dictionaries that a value may be."""
    if is_typeddict(annotation):
        return sorted(get_type_hints(annotation))
    if get_origin(annotation) in {Union, list}:
        return sorted({key for one in get_args(annotation) for key in operators(one)})
    return []


def inputs(model: str) -> dict[str, dict[str, list[str]]]:
    """The operators of each field, by the input that they stand in."""
    return {
        part: {
            field: operators(annotation) for field, annotation in get_type_hints(getattr(types, model + name)).items()
        }
        for part, name in (
            ("where", "WhereInput"),
            ("create", "CreateInput"),
            ("update", "UpdateInput"),
            ("include", "Include"),
            ("having", "ScalarWhereWithAggregatesInput"),
            ("sum", "SumAggregateInput"),
            ("avg", "AvgAggregateInput"),
            ("min", "MinAggregateInput"),
            ("max", "MaxAggregateInput"),
            ("count", "CountAggregateInput"),
        )
        if is_typeddict(getattr(types, model + name))
    }


names = [name for name, value in vars(models).items() if hasattr(value, "__prisma_model__")]
json.dump({name: inputs(name) for name in names if hasattr(types, name + "WhereInput")}, sys.stdout, indent=1)
