"""Cells of the operations that read."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import strategies as st

from call_sites.datamodel import Field, Model
from conformance.catalogue import Arguments, Cells, Domain, Draw, Example, call, fields_of_kind, json_path
from conformance.wire import Json

STRINGS = ["contains", "startswith", "endswith", "equals", "in", "not_in", "lt", "gte", "not"]
"""Operators that `mode` is combined with."""


def reads(domain: Domain, model: Model) -> Cells:
    """All of them."""
    yield from _unique(domain, model)
    yield from _filters(domain, model)
    yield from _logic(domain, model)
    yield from _relations(domain, model)
    yield from _orders(domain, model)
    yield from _pages(domain, model)
    yield from _includes(domain, model)
    yield from _counts(domain, model)


def _unique(domain: Domain, model: Model) -> Cells:
    for operation in ("find_unique", "find_unique_or_raise"):
        for key in model.keys:

            def by_key(draw: Draw, operation: str = operation, key: tuple[str, ...] = key) -> Example:
                rows = [row for row in domain.rows[model.name] if all(row[name] is not None for name in key)]
                row = draw(st.sampled_from(rows))
                return Example([call(model, operation, where=domain.key(model, row, key))])

            def missing(draw: Draw, operation: str = operation, key: tuple[str, ...] = key) -> Example:
                row = dict(draw(domain.row(model)))
                for name in key:
                    row[name] = draw(domain.value(model, model.fields[name]))
                last = model.fields[key[-1]]
                row[last.name] = {"String": "nowhere", "Int": -99, "BigInt": -99}.get(last.type, row[last.name])
                return Example([call(model, operation, where=domain.key(model, row, key))])

            yield operation, f"by {', '.join(key)}", by_key
            yield operation, f"by {', '.join(key)}, missing", missing

        def narrowed(draw: Draw, operation: str = operation) -> Example:
            where = {**domain.key(model, draw(domain.row(model))), **domain.scalar_filter(draw, model)}
            return Example([call(model, operation, where=where)])

        yield operation, "by a key and a filter", narrowed

    yield "find_unique", "unknown field", lambda draw: Example([call(model, "find_unique", where={"nowhere": 1})])
    yield "find_unique", "no key", lambda draw: Example([call(model, "find_unique", where={})])


def _filters(domain: Domain, model: Model) -> Cells:  # noqa: PLR0912 - a kind of cell each
    for kind, fields in fields_of_kind(model.scalars).items():
        operators = sorted({one for field in fields for one in domain.operators(model, "where", field)} - {"mode"})

        def find(draw: Draw, make: Any, fields: list[Field] = fields) -> Example:
            field = draw(st.sampled_from(fields))
            where = {field.name: make(draw, field)}
            return Example([call(model, "find_many", where=where, order=domain.total_order(model))])

        def operated(draw: Draw, field: Field, operator: str) -> Any:
            return {operator: domain.condition(draw, model, field, operator)}

        def negated(draw: Draw, field: Field, operators: list[str] = operators) -> Any:
            return {"not": operated(draw, field, draw(st.sampled_from(sorted({*operators} - {"not", "search"}))))}

        def insensitive(draw: Draw, field: Field, operator: str) -> Any:
            given = domain.condition(draw, model, field, operator)
            swapped = [one.swapcase() for one in given] if isinstance(given, list) else given.swapcase()
            return {operator: swapped, "mode": "insensitive"}

        for operator in operators:
            yield "find_many", f"{kind} {operator}", partial(find, make=partial(operated, operator=operator))
            if operator in STRINGS and "mode" in domain.operators(model, "where", fields[0]):
                make = partial(insensitive, operator=operator)
                yield "find_many", f"{kind} {operator} insensitive", partial(find, make=make)
        if "not_in" in operators:
            yield "find_many", f"{kind} not, with an operator in it", partial(find, make=negated)
        for operator in ("in", "not_in"):
            if operator in operators:
                yield (
                    "find_many",
                    f"{kind} {operator} nothing",
                    partial(find, make=lambda draw, field, o=operator: {o: []}),
                )
        if "has_every" in operators:
            for operator in ("has_every", "has_some", "hasSome", "equals"):
                yield (
                    "find_many",
                    f"{kind} {operator} nothing",
                    partial(find, make=lambda draw, field, o=operator: {o: []}),
                )
        if "gte" in operators:

            def between(draw: Draw, field: Field) -> Any:
                return {"gte": draw(domain.value(model, field)), "lt": draw(domain.value(model, field))}

            yield "find_many", f"{kind} gte and lt", partial(find, make=between)
        yield "find_many", f"{kind} value", partial(find, make=lambda draw, field: draw(domain.value(model, field)))
        yield "find_many", f"{kind} null", partial(find, make=lambda draw, field: None)
        for operator in ("equals", "not"):
            if operator in operators:
                yield (
                    "find_many",
                    f"{kind} {operator} null",
                    partial(find, make=lambda draw, field, o=operator: {o: None}),
                )
        if kind.rstrip("?") == "Json":
            for operator in ("equals", "not"):

                def at_path(draw: Draw, field: Field, operator: str = operator) -> Any:
                    whole = draw(domain.value(model, field))
                    found = draw(st.sampled_from([1, False, "deep", None, 0.5, [1, 2, 3]]))
                    return {"path": json_path(whole), operator: Json(found)}

                yield "find_many", f"{kind} path, {operator}", partial(find, make=at_path)
        if kind.rstrip("?") == "String":
            for operator, spelt in (("startswith", "startsWith"), ("endswith", "endsWith"), ("not_in", "notIn")):

                def spelled(draw: Draw, field: Field, operator: str = operator, spelt: str = spelt) -> Any:
                    return {spelt: domain.condition(draw, model, field, operator)}

                yield "find_many", f"{kind} {spelt}", partial(find, make=spelled)

    def malformed(draw: Draw, filter_: Any) -> Example:
        field = draw(st.sampled_from([field for field in model.scalars if field.type != "Json"]))
        return Example([call(model, "find_many", where={field.name: filter_}, order=domain.total_order(model))])

    yield "find_many", "unknown operator", partial(malformed, filter_={"nowhere": 1})
    yield "find_many", "wrong type", partial(malformed, filter_={"equals": {"a": 1}})


def _logic(domain: Domain, model: Model) -> Cells:
    def find(draw: Draw, where: Any) -> Example:
        return Example([call(model, "find_many", where=where(draw), order=domain.total_order(model))])

    def several(draw: Draw) -> list[Arguments]:
        return [domain.scalar_filter(draw, model) for _ in range(draw(st.integers(1, 3)))]

    for word in ("AND", "OR", "NOT"):
        yield "find_many", f"{word} of several", partial(find, where=lambda draw, w=word: {w: several(draw)})
        yield "find_many", f"{word} of none", partial(find, where=lambda draw, w=word: {w: []})
        yield (
            "find_many",
            f"{word} of an object",
            partial(find, where=lambda draw, w=word: {w: domain.scalar_filter(draw, model)}),
        )

    def nested(draw: Draw) -> Arguments:
        inner = {draw(st.sampled_from(["AND", "OR", "NOT"])): several(draw), **domain.scalar_filter(draw, model)}
        return {draw(st.sampled_from(["OR", "AND", "NOT"])): [inner, *several(draw)]}

    yield "find_many", "AND, OR, NOT in each other", partial(find, where=nested)
    yield "find_many", "no filter", lambda draw: Example([call(model, "find_many")], ordered=False)
    yield "find_many", "where null", lambda draw: Example([call(model, "find_many", where=None)], ordered=False)
    yield "find_many", "an empty filter", partial(find, where=lambda draw: {})
    yield "find_many", "unknown field", partial(find, where=lambda draw: {"nowhere": 1})

    def wheres(draw: Draw, operation: str) -> Example:
        return Example(
            [call(model, operation, where=domain.scalar_filter(draw, model), order=domain.total_order(model))]
        )

    yield "find_first", "filter and order", partial(wheres, operation="find_first")
    yield "find_first_or_raise", "filter and order", partial(wheres, operation="find_first_or_raise")


def _relations(domain: Domain, model: Model) -> Cells:
    for relation in model.relations:
        other = domain.models[relation.type]
        operators = ["every", "none", "some"] if relation.is_list else ["is", "is_not"]

        def find(draw: Draw, make: Any, name: str = relation.name) -> Example:
            return Example([call(model, "find_many", where={name: make(draw)}, order=domain.total_order(model))])

        for operator in operators:
            yield (
                "find_many",
                f"{relation.name} {operator}",
                partial(find, make=lambda draw, o=operator, other=other: {o: domain.scalar_filter(draw, other)}),
            )
            yield (
                "find_many",
                f"{relation.name} {operator} anything",
                partial(find, make=lambda draw, o=operator: {o: {}}),
            )
        if not relation.is_list:
            yield (
                "find_many",
                f"{relation.name}'s fields",
                partial(find, make=lambda draw, other=other: domain.scalar_filter(draw, other)),
            )
            for operator in operators:
                yield (
                    "find_many",
                    f"{relation.name} {operator} null",
                    partial(find, make=lambda draw, o=operator: {o: None}),
                )
            yield "find_many", f"{relation.name} null", partial(find, make=lambda draw: None)

        def deeper(draw: Draw, other: Model = other, operator: str = operators[-1]) -> Any:
            inner = [one for one in other.relations if one.type != model.name] or other.relations
            if not inner:
                return {operator: domain.scalar_filter(draw, other)}
            chosen = draw(st.sampled_from(inner))
            word = "some" if chosen.is_list else "is"
            return {operator: {chosen.name: {word: domain.scalar_filter(draw, domain.models[chosen.type])}}}

        yield "find_many", f"{relation.name}, then a relation of it", partial(find, make=deeper)


def _orders(domain: Domain, model: Model) -> Cells:
    for kind, fields in fields_of_kind(model.scalars).items():
        for direction in ("asc", "desc"):

            def ordered(draw: Draw, fields: list[Field] = fields, direction: str = direction) -> Example:
                field = draw(st.sampled_from(fields))
                order = [{field.name: direction}, *domain.total_order(model)]
                return Example([call(model, "find_many", order=order)])

            yield "find_many", f"order by {kind} {direction}", ordered

    def alone(draw: Draw) -> Example:
        (name, *_) = model.keys[0]
        return Example([call(model, "find_many", order={name: "desc"})], ordered=len(model.keys[0]) == 1)

    yield "find_many", "order that is no list", alone
    yield (
        "find_many",
        "order by an unknown field",
        lambda draw: Example([call(model, "find_many", order={"nowhere": "asc"})]),
    )
    yield (
        "find_many",
        "order in an unknown direction",
        lambda draw: Example([call(model, "find_many", order={model.keys[0][0]: "up"})]),
    )


def _pages(domain: Domain, model: Model) -> Cells:
    def page(draw: Draw, operation: str, parts: tuple[str, ...]) -> Example:
        given: Arguments = {"order": domain.total_order(model)}
        if "order" in parts:
            field = draw(st.sampled_from([field for field in model.scalars if field.type != "Json"]))
            given["order"] = [{field.name: draw(st.sampled_from(["desc", "asc"]))}, *given["order"]]
        if "take" in parts:
            given["take"] = draw(st.sampled_from([2, 1, 0, 100]))
        if "backwards" in parts:
            given["take"] = -draw(st.integers(1, 4))
        if "skip" in parts:
            given["skip"] = draw(st.sampled_from([1, 2, 0, 50]))
        if "cursor" in parts:
            given["cursor"] = domain.key(model, draw(domain.row(model)))
        if "distinct" in parts:
            fields = [field.name for field in model.scalars if field.type != "Json" and not field.is_list]
            given["distinct"] = draw(st.lists(st.sampled_from(fields), min_size=1, max_size=2, unique=True))
        if "where" in parts:
            given["where"] = domain.scalar_filter(draw, model)
        if operation == "find_first":
            given.pop("take", None)
        return Example([call(model, operation, **given)])

    for parts in (
        ("take",), ("backwards",), ("skip",), ("take", "skip"), ("take", "skip", "where", "order"), ("cursor",),
        ("cursor", "take"), ("cursor", "take", "skip"), ("cursor", "backwards"), ("cursor", "take", "order"),
        ("distinct",), ("distinct", "take", "skip"), ("distinct", "where", "order"),
    ):  # fmt: skip
        yield "find_many", ", ".join(parts), partial(page, operation="find_many", parts=parts)
    for parts in (("skip",), ("cursor",), ("distinct",), ("where", "order", "skip")):
        yield "find_first", ", ".join(parts), partial(page, operation="find_first", parts=parts)
    yield (
        "find_many",
        "negative skip",
        lambda draw: Example([call(model, "find_many", skip=-1, order=domain.total_order(model))]),
    )


def _includes(domain: Domain, model: Model) -> Cells:
    for relation in model.relations:
        other = domain.models[relation.type]

        def included(draw: Draw, operation: str, options: Any, name: str = relation.name) -> Example:
            given: Arguments = {"include": {name: options(draw) if callable(options) else options}}
            if operation == "find_unique":
                given["where"] = domain.key(model, draw(domain.row(model)))
            else:
                given["order"] = domain.total_order(model)
            return Example([call(model, operation, **given)])

        # Without an order of its own, a list of related rows comes as it lies.
        plain = {"order_by": domain.total_order(other)} if relation.is_list else True
        for operation in ("find_many", "find_first", "find_unique"):
            yield operation, f"include {relation.name}", partial(included, operation=operation, options=plain)
        yield "find_many", f"include {relation.name}: false", partial(included, operation="find_many", options=False)

        def deeper(draw: Draw, other: Model = other, relation: Field = relation) -> Any:
            options: Arguments = {"order_by": domain.total_order(other)} if relation.is_list else {}
            if other.relations:
                chosen = draw(st.sampled_from(other.relations))
                target = domain.models[chosen.type]
                options["include"] = {chosen.name: {"order_by": domain.total_order(target)} if chosen.is_list else True}
            return options or True

        yield "find_many", f"include {relation.name}, include", partial(included, operation="find_many", options=deeper)
        if relation.is_list:
            for option in ("take", "skip", "where", "cursor", "distinct", "take and skip", "take backwards"):

                def chosen_rows(draw: Draw, option: str = option, other: Model = other) -> Any:
                    options: Arguments = {"order_by": domain.total_order(other)}
                    if option.startswith("take"):
                        options["take"] = draw(st.integers(1, 2)) * (-1 if "backwards" in option else 1)
                    if "skip" in option:
                        options["skip"] = 1
                    if option == "where":
                        options["where"] = domain.scalar_filter(draw, other)
                    if option == "cursor":
                        options["cursor"] = domain.key(other, draw(domain.row(other)))
                    if option == "distinct":
                        fields = [one.name for one in other.scalars if one.type != "Json" and not one.is_list]
                        options["distinct"] = [draw(st.sampled_from(fields))]
                    return options

                yield (
                    "find_many",
                    f"include {relation.name}, {option}",
                    partial(included, operation="find_many", options=chosen_rows),
                )
    yield (
        "find_many",
        "include an unknown field",
        lambda draw: Example([call(model, "find_many", include={"nowhere": True})]),
    )


def _counts(domain: Domain, model: Model) -> Cells:
    yield "count", "all", lambda draw: Example([call(model, "count")])
    yield "count", "where", lambda draw: Example([call(model, "count", where=domain.scalar_filter(draw, model))])
    yield "count", "take, skip", lambda draw: Example([call(model, "count", take=3, skip=draw(st.integers(0, 5)))])
    yield (
        "count",
        "cursor",
        lambda draw: Example([call(model, "count", cursor=domain.key(model, draw(domain.row(model))))]),
    )
    yield "count", "select _all", lambda draw: Example([call(model, "count", select={"_all": True})])

    def selected(draw: Draw) -> Example:
        names = draw(st.lists(st.sampled_from([field.name for field in model.scalars]), min_size=1, max_size=3))
        return Example([call(model, "count", select={**dict.fromkeys(names, True), "_all": draw(st.booleans())})])

    yield "count", "select fields", selected
