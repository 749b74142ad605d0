"""Cells of the operations that write."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import strategies as st

from call_sites.datamodel import Field, Model
from conformance.catalogue import Arguments, Cells, Domain, Draw, Example, call, fields_of_kind
from conformance.population import Row

NUMBER_OPERATORS = ("increment", "decrement", "multiply", "divide", "set")


class Rows:
    """Draws new rows."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def new(self, draw: Draw, model: Model, *, full: bool = False, without: frozenset[str] = frozenset()) -> Arguments:
        """The data of a new row, with what must be given or with everything."""
        keys = {name for key in model.keys for name in key}
        foreign = model.foreign_keys()
        data: Arguments = {}
        for field in model.scalars:
            if field.name in without or ("autoincrement" in field.attributes and not full):
                continue
            needed = not (field.optional or field.is_list or field.has_default)
            if field.name in foreign:
                relation, other = foreign[field.name]
                if needed or (full and field.name not in keys):
                    data[field.name] = draw(self._domain.row(self._domain.models[relation.type]))[other]
            elif field.name in keys and field.type in {"String", "Int", "BigInt"}:
                if needed or full or field.type == "String":
                    data[field.name] = self._fresh(draw, field)
            elif needed or full:
                data[field.name] = draw(self._domain.value(model, field))
        return data

    def _fresh(self, draw: Draw, field: Field) -> Any:
        number = draw(st.integers(1, 99_999))
        return f"new-{number}" if field.type == "String" else 5_000 + number

    def checked(self, draw: Draw, model: Model, without: frozenset[str]) -> Arguments:
        """The data of a new row whose references are given as `connect`: Prisma takes no mixture with keys."""
        data = self.new(draw, model, without=without)
        for relation in model.relations:
            own = relation.references[0] if relation.references else ()
            if own and all(name in data for name in own):
                values = dict(zip(relation.references[1], [data.pop(name) for name in own], strict=True))  # type: ignore[index]
                other = self._domain.models[relation.type]
                data[relation.name] = {"connect": self._domain.key(other, values, tuple(values))}
        return data

    def key_of(self, model: Model, data: Arguments) -> Arguments:
        """The ``where`` for a row that is not there: with the key of new data."""
        known: Row = {name: data.get(name) for field in model.scalars for name in [field.name]}
        usable = next((key for key in model.keys if all(known[name] is not None for name in key)), None)
        if usable is None:
            return {model.keys[0][0]: -99 if model.fields[model.keys[0][0]].type == "Int" else "nowhere"}
        return self._domain.key(model, known, usable)


def writes(domain: Domain, model: Model) -> Cells:
    """All of them."""
    rows = Rows(domain)
    yield from _creates(domain, rows, model)
    yield from _updates(domain, rows, model)
    yield from _upserts(domain, rows, model)
    yield from _deletes(domain, model)
    yield from _nested(domain, rows, model)


def _one(model: Model, operation: str, **arguments: Any) -> Example:
    return Example([call(model, operation, **arguments)])


def _creates(domain: Domain, rows: Rows, model: Model) -> Cells:
    yield "create", "what is required", lambda draw: _one(model, "create", data=rows.new(draw, model))
    yield "create", "every field", lambda draw: _one(model, "create", data=rows.new(draw, model, full=True))
    yield (
        "create",
        "a key that is taken",
        lambda draw: _one(
            model,
            "create",
            data={**rows.new(draw, model), **{name: draw(domain.row(model))[name] for name in model.keys[0]}},
        ),
    )
    yield "create", "unknown field", lambda draw: _one(model, "create", data={**rows.new(draw, model), "nowhere": 1})
    yield "create", "nothing", lambda draw: _one(model, "create", data={})
    required = [
        field
        for field in model.scalars
        if not (field.optional or field.is_list or field.has_default or field.type == "Json")
    ]
    for kind, some in fields_of_kind(required).items():

        def lacking(draw: Draw, some: list[Field] = some) -> Example:
            data = rows.new(draw, model)
            data.pop(draw(st.sampled_from(some)).name, None)
            return _one(model, "create", data=data)

        def null(draw: Draw, some: list[Field] = some) -> Example:
            return _one(model, "create", data={**rows.new(draw, model), draw(st.sampled_from(some)).name: None})

        yield "create", f"without a required {kind}", lacking
        yield "create", f"null for a required {kind}", null
    misfit = next(kind for kind in fields_of_kind(model.scalars) if not kind.startswith("Json"))
    for kind, some in fields_of_kind(model.scalars).items():

        def given(draw: Draw, some: list[Field] = some) -> Example:
            field = draw(st.sampled_from(some))
            return _one(model, "create", data={**rows.new(draw, model), field.name: draw(domain.value(model, field))})

        def wrong(draw: Draw, some: list[Field] = some) -> Example:
            return _one(
                model, "create", data={**rows.new(draw, model), draw(st.sampled_from(some)).name: {"nowhere": 1}}
            )

        yield "create", f"{kind} given", given
        if kind in {"Json", "Json?"} or kind == misfit:
            yield "create", f"{kind} of the wrong type", wrong
        if kind.endswith("?"):

            def nothing(draw: Draw, some: list[Field] = some) -> Example:
                return _one(model, "create", data={**rows.new(draw, model), draw(st.sampled_from(some)).name: None})

            yield "create", f"{kind} null", nothing
        if kind.endswith("[]"):

            def put(draw: Draw, some: list[Field] = some) -> Example:
                field = draw(st.sampled_from(some))
                return _one(
                    model,
                    "create",
                    data={**rows.new(draw, model), field.name: {"set": draw(domain.value(model, field))}},
                )

            yield "create", f"{kind} set", put

    foreign = [name for name, (relation, _) in model.foreign_keys().items() if model.fields[name].type == "String"]
    if foreign:
        yield (
            "create",
            "a reference to nothing",
            lambda draw: _one(
                model, "create", data={**rows.new(draw, model), draw(st.sampled_from(foreign)): "nowhere"}
            ),
        )

    def several(draw: Draw, full: bool) -> list[Arguments]:
        return [rows.new(draw, model, full=full) for _ in range(draw(st.integers(1, 3)))]

    yield "create_many", "what is required", lambda draw: _one(model, "create_many", data=several(draw, False))
    yield "create_many", "every field", lambda draw: _one(model, "create_many", data=several(draw, True))
    yield "create_many", "nothing", lambda draw: _one(model, "create_many", data=[])

    def mixed(draw: Draw) -> Example:
        return _one(model, "create_many", data=[rows.new(draw, model), rows.new(draw, model, full=True)])

    yield "create_many", "rows with different fields", mixed
    for skip in (True, False):

        def taken(draw: Draw, skip: bool = skip) -> Example:
            row = draw(domain.row(model))
            again = {**rows.new(draw, model), **{name: row[name] for name in model.keys[0]}}
            return _one(model, "create_many", data=[*several(draw, False), again], skip_duplicates=skip)

        yield "create_many", f"a key that is taken, skip_duplicates {skip}".lower(), taken


def _updates(domain: Domain, rows: Rows, model: Model) -> Cells:
    keys = {name for key in model.keys for name in key}
    foreign = model.foreign_keys()
    plain = [field for field in model.scalars if field.name not in keys and field.name not in foreign]

    def update(draw: Draw, operation: str, data: Any) -> Example:
        if operation == "update":
            return _one(model, "update", where=domain.key(model, draw(domain.row(model))), data=data(draw))
        return _one(model, "update_many", where=domain.scalar_filter(draw, model), data=data(draw))

    for operation in ("update", "update_many"):
        for kind, some in fields_of_kind(plain).items():

            def one(draw: Draw, make: Any, some: list[Field] = some) -> Arguments:
                field = draw(st.sampled_from(some))
                return {field.name: make(draw, field)}

            data = partial(one, make=lambda draw, field: draw(domain.value(model, field)))
            yield operation, f"{kind} given", partial(update, operation=operation, data=data)
            data = partial(one, make=lambda draw, field: None)
            yield operation, f"{kind} null", partial(update, operation=operation, data=data)
            data = partial(one, make=lambda draw, field: {"nowhere": 1})
            if kind.startswith(("Json", "Float", "DateTime")):
                yield operation, f"{kind} unknown operator", partial(update, operation=operation, data=data)
            for operator in sorted({name for field in some for name in domain.operators(model, "update", field)}):

                def operated(draw: Draw, field: Field, operator: str = operator) -> Any:
                    if operator == "push":
                        return {"push": draw(st.lists(domain.element(model, field), min_size=1, max_size=2))}
                    if operator == "set" or field.type not in {"Int", "BigInt", "Float"}:
                        return {operator: draw(domain.value(model, field))}
                    operands = [2, 1, 3, -1, 0] if field.type != "Float" else [0.5, 2.0, 1e-3, -1.25, 3]
                    return {operator: draw(st.sampled_from(operands))}

                data = partial(one, make=operated)
                yield operation, f"{kind} {operator}", partial(update, operation=operation, data=data)
                if operator == "push":

                    def pushed(draw: Draw, field: Field) -> Any:
                        return {"push": draw(domain.element(model, field))}

                    yield (
                        operation,
                        f"{kind} push of one",
                        partial(update, operation=operation, data=partial(one, make=pushed)),
                    )

        def many(draw: Draw) -> Arguments:
            chosen = draw(st.lists(st.sampled_from(plain), min_size=1, max_size=4, unique_by=lambda field: field.name))
            return {field.name: draw(domain.value(model, field)) for field in chosen}

        if plain:
            yield operation, "several fields", partial(update, operation=operation, data=many)
        yield operation, "nothing", partial(update, operation=operation, data=lambda draw: {})
        yield operation, "unknown field", partial(update, operation=operation, data=lambda draw: {"nowhere": 1})
        if foreign:

            def refer(draw: Draw) -> Arguments:
                name = draw(st.sampled_from(sorted(foreign)))
                relation, other = foreign[name]
                return {name: draw(domain.row(domain.models[relation.type]))[other]}

            yield operation, "a foreign key", partial(update, operation=operation, data=refer)

        def rename(draw: Draw) -> Arguments:
            name = draw(st.sampled_from(sorted(keys)))
            return {
                name: draw(st.sampled_from([rows.new(draw, model, full=True).get(name), draw(domain.row(model))[name]]))
            }

        yield operation, "a key", partial(update, operation=operation, data=rename)

    def missing(draw: Draw) -> Example:
        data = {field.name: draw(domain.value(model, field)) for field in plain[:1]}
        return _one(model, "update", where=rows.key_of(model, rows.new(draw, model, full=True)), data=data)

    yield "update", "missing", missing
    for relation in model.relations:

        def with_include(draw: Draw, relation: Field = relation) -> Example:
            data = {field.name: draw(domain.value(model, field)) for field in plain[:1]}
            options = {"order_by": domain.total_order(domain.models[relation.type])} if relation.is_list else True
            return _one(
                model,
                "update",
                where=domain.key(model, draw(domain.row(model))),
                data=data,
                include={relation.name: options},
            )

        yield "update", f"include {relation.name}", with_include
    yield (
        "update_many",
        "no filter",
        lambda draw: _one(
            model, "update_many", where={}, data={field.name: draw(domain.value(model, field)) for field in plain[:2]}
        ),
    )


def _upserts(domain: Domain, rows: Rows, model: Model) -> Cells:
    keys = {name for key in model.keys for name in key}
    plain = [field for field in model.scalars if field.name not in keys and field.name not in model.foreign_keys()]

    def change(draw: Draw) -> Arguments:
        if not plain:
            return {}
        field = draw(st.sampled_from(plain))
        if field.type in {"Int", "BigInt", "Float"} and not field.is_list:
            return {field.name: {draw(st.sampled_from(["increment", "decrement"])): 1}}
        return {field.name: draw(domain.value(model, field))}

    for key in model.keys:

        def there(draw: Draw, key: tuple[str, ...] = key) -> Example:
            candidates = [row for row in domain.rows[model.name] if all(row[name] is not None for name in key)]
            where = domain.key(model, draw(st.sampled_from(candidates)), key)
            return _one(model, "upsert", where=where, data={"create": rows.new(draw, model), "update": change(draw)})

        yield "upsert", f"by {', '.join(key)}, there", there

    def missing(draw: Draw) -> Example:
        data = rows.new(draw, model, full=True)
        return _one(model, "upsert", where=rows.key_of(model, data), data={"create": data, "update": change(draw)})

    def other_key(draw: Draw) -> Example:
        data = rows.new(draw, model, full=True)
        where = rows.key_of(model, rows.new(draw, model, full=True))
        return _one(model, "upsert", where=where, data={"create": data, "update": change(draw)})

    def empty(draw: Draw) -> Example:
        where = domain.key(model, draw(domain.row(model)))
        return _one(model, "upsert", where=where, data={"create": rows.new(draw, model), "update": {}})

    yield "upsert", "missing", missing
    yield "upsert", "missing, made with another key", other_key
    yield "upsert", "there, nothing to update", empty
    for relation in model.relations:

        def included(draw: Draw, relation: Field = relation) -> Example:
            options = {"order_by": domain.total_order(domain.models[relation.type])} if relation.is_list else True
            where = domain.key(model, draw(domain.row(model)))
            data = {"create": rows.new(draw, model), "update": change(draw)}
            return _one(model, "upsert", where=where, data=data, include={relation.name: options})

        yield "upsert", f"include {relation.name}", included


def _deletes(domain: Domain, model: Model) -> Cells:
    yield "delete", "there", lambda draw: _one(model, "delete", where=domain.key(model, draw(domain.row(model))))

    def missing(draw: Draw) -> Example:
        row = dict(draw(domain.row(model)))
        last = model.fields[model.keys[0][-1]]
        row[last.name] = {"String": "nowhere", "Int": -99, "BigInt": -99}.get(last.type, row[last.name])
        return _one(model, "delete", where=domain.key(model, row, model.keys[0]))

    yield "delete", "missing", missing
    for relation in model.relations:

        def included(draw: Draw, relation: Field = relation) -> Example:
            options = {"order_by": domain.total_order(domain.models[relation.type])} if relation.is_list else True
            return _one(
                model, "delete", where=domain.key(model, draw(domain.row(model))), include={relation.name: options}
            )

        yield "delete", f"include {relation.name}", included
    yield "delete_many", "where", lambda draw: _one(model, "delete_many", where=domain.scalar_filter(draw, model))
    yield "delete_many", "all", lambda draw: _one(model, "delete_many")
    yield "delete_many", "an empty filter", lambda draw: _one(model, "delete_many", where={})
    for relation in model.relations:

        def related(draw: Draw, relation: Field = relation) -> Example:
            word = draw(st.sampled_from(["some", "none"] if relation.is_list else ["is", "is_not"]))
            where = {relation.name: {word: domain.scalar_filter(draw, domain.models[relation.type])}}
            return _one(model, "delete_many", where=where)

        yield "delete_many", f"where {relation.name}", related


def _nested(domain: Domain, rows: Rows, model: Model) -> Cells:
    for relation in model.relations:
        other = domain.models[relation.type]
        own = frozenset(relation.references[0]) if relation.references else frozenset()
        back = next((one for one in other.relations if one.type == model.name and one.references), None)
        theirs = frozenset(back.references[0]) if back is not None and not own else frozenset()  # type: ignore[index]

        def operand(draw: Draw, operator: str, other: Model = other, theirs: frozenset[str] = theirs) -> Any:
            match operator:
                case "create":
                    return rows.new(draw, other, without=theirs)
                case "connect" | "disconnect" | "delete" | "set":
                    return domain.key(other, draw(domain.row(other)))
                case "connect_or_create":
                    data = rows.new(draw, other, full=True, without=theirs)
                    taken = draw(st.booleans())
                    where = domain.key(other, draw(domain.row(other))) if taken else rows.key_of(other, data)
                    return {"where": where, "create": data}
                case "update":
                    field = draw(
                        st.sampled_from(
                            [one for one in other.scalars if one.name not in {n for k in other.keys for n in k}]
                        )
                    )
                    return {field.name: draw(domain.value(other, field))}
            raise AssertionError(operator)

        for operator in domain.operators(model, "create", relation):
            for many in (False, True) if relation.is_list else (False,):

                def create(  # noqa: PLR0917 - Python binds the loop's names by defaults
                    draw: Draw,
                    operator: str = operator,
                    many: bool = many,
                    relation: Field = relation,
                    own: frozenset[str] = own,
                    operand: Any = operand,
                ) -> Example:
                    given = [operand(draw, operator), operand(draw, operator)] if many else operand(draw, operator)
                    data = {**rows.checked(draw, model, own), relation.name: {operator: given}}
                    # Without an order of its own, a list of related rows comes as it lies.
                    include = {} if relation.is_list else {"include": {relation.name: True}}
                    return _one(model, "create", data=data, **include)

                yield "create", f"{relation.name} {operator}{' several' if many else ''}", create
        updates = list(domain.operators(model, "update", relation))
        for operator in [*updates, *([] if relation.is_list else ["update"])]:

            def update(
                draw: Draw, operator: str = operator, relation: Field = relation, operand: Any = operand
            ) -> Example:
                row = draw(domain.row(model))
                if not relation.is_list and operator in {"disconnect", "delete"}:
                    given: Any = True
                elif relation.is_list:
                    given = [operand(draw, operator)]
                else:
                    given = operand(draw, operator)
                return _one(model, "update", where=domain.key(model, row), data={relation.name: {operator: given}})

            yield "update", f"{relation.name} {operator}", update
        if not relation.is_list:

            def upserted(
                draw: Draw, relation: Field = relation, operand: Any = operand, own: frozenset[str] = own
            ) -> Example:
                given = {"connect": operand(draw, "connect")}
                data = rows.checked(draw, model, own)
                row = draw(domain.row(model))
                return _one(
                    model,
                    "upsert",
                    where=domain.key(model, row),
                    data={"create": {**data, relation.name: given}, "update": {relation.name: given}},
                )

            yield "upsert", f"{relation.name} connect", upserted
