"""Cells of transactions and batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from call_sites.datamodel import Model
from conformance.catalogue import Cells, Domain, Draw, Example, call
from conformance.sides import Step
from conformance.writes import Rows


def sessions(domain: Domain, model: Model) -> Cells:
    """All of them."""
    rows = Rows(domain)

    def some_writes(draw: Draw) -> list[Step]:
        return [
            call(model, "create", data=rows.new(draw, model)),
            call(model, "delete_many", where=domain.scalar_filter(draw, model)),
            call(model, "create_many", data=[rows.new(draw, model)], skip_duplicates=True),
        ]

    def transaction(draw: Draw, **more: Any) -> Example:
        steps = [*some_writes(draw), call(model, "count")]
        return Example([{"tx": steps, **more}, call(model, "count")])

    yield "tx", "commits", transaction
    yield "tx", "rolls back", lambda draw: transaction(draw, fail=True)
    yield (
        "tx",
        "with a timeout",
        lambda draw: transaction(draw, options={"timeout": timedelta(seconds=20), "max_wait": timedelta(seconds=20)}),
    )

    def broken(draw: Draw) -> Example:
        taken = {**rows.new(draw, model), **{name: draw(domain.row(model))[name] for name in model.keys[0]}}
        steps = [*some_writes(draw), call(model, "create", data=taken)]
        return Example([{"tx": steps, "fail": True}, call(model, "count")])

    yield "tx", "a write of it fails", broken
    yield "batch_", "commits", lambda draw: Example([{"batch": some_writes(draw)}, call(model, "count")])
    yield "batch_", "of nothing", lambda draw: Example([{"batch": []}, call(model, "count")])

    def failing(draw: Draw) -> Example:
        taken = {**rows.new(draw, model), **{name: draw(domain.row(model))[name] for name in model.keys[0]}}
        return Example([{"batch": [*some_writes(draw), call(model, "create", data=taken)]}, call(model, "count")])

    yield "batch_", "one fails", failing

    def every_operation(draw: Draw) -> Example:
        row = draw(domain.row(model))
        key = domain.key(model, row)
        plain = [field for field in model.scalars if not any(field.name in one for one in model.keys)][:1]
        change = {field.name: draw(domain.value(model, field)) for field in plain}
        return Example(
            [
                {
                    "batch": [
                        call(model, "update", where=key, data=change),
                        call(model, "update_many", where=domain.scalar_filter(draw, model), data=change),
                        call(model, "upsert", where=key, data={"create": rows.new(draw, model), "update": change}),
                        call(model, "delete", where=domain.key(model, draw(st.sampled_from(domain.rows[model.name])))),
                    ]
                }
            ]
        )

    yield "batch_", "every operation", every_operation

    def batch_in_transaction(draw: Draw) -> Example:
        return Example([{"tx": [{"batch": some_writes(draw)}, call(model, "count")], "fail": draw(st.booleans())}])

    yield "batch_", "in a transaction", batch_in_transaction
