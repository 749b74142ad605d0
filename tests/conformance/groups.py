"""Cells of group_by."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from call_sites.datamodel import Field, Model
from conformance.catalogue import Arguments, Cells, Domain, Draw, Example, call, fields_of_kind

AGGREGATES = ("sum", "avg", "min", "max", "count")
NUMBERS = {"Int", "BigInt", "Float"}


def groups(domain: Domain, model: Model) -> Cells:
    """All of them."""
    groupable = [field for field in model.scalars if field.type not in {"Json", "Bytes"} and not field.is_list]

    def grouped(draw: Draw, by: list[Field], **more: object) -> Example:
        names = [draw(st.sampled_from(by)).name]
        given: Arguments = {"by": names, "order": [{name: "asc"} for name in names]}
        return Example([call(model, "group_by", **{**given, **more})])

    for kind, fields in fields_of_kind(groupable).items():
        yield "group_by", f"by {kind}", partial(grouped, by=fields)

    def by_two(draw: Draw) -> Example:
        names = draw(
            st.lists(st.sampled_from([field.name for field in groupable]), min_size=1, max_size=2, unique=True)
        )
        order = [{name: draw(st.sampled_from(["desc", "asc"]))} for name in names]
        return Example([call(model, "group_by", by=names, order=order, count=True)])

    yield "group_by", "by several", by_two
    yield "group_by", "count", partial(grouped, by=groupable, count=True)
    yield "group_by", "count _all", partial(grouped, by=groupable, count={"_all": True})
    yield (
        "group_by",
        "where",
        lambda draw: grouped(draw, groupable, where=domain.scalar_filter(draw, model), count=True),
    )
    yield "group_by", "take, skip", partial(grouped, by=groupable, take=2, skip=1)
    yield "group_by", "by nothing", lambda draw: Example([call(model, "group_by", by=[])])
    yield (
        "group_by",
        "no order",
        lambda draw: Example(
            [call(model, "group_by", by=[draw(st.sampled_from(groupable)).name], count=True)], ordered=False
        ),
    )

    for aggregate in AGGREGATES:
        allowed = domain.surface[model.name].get(aggregate, {})
        fields = [field for field in model.scalars if field.name in allowed]
        for kind, some in fields_of_kind(fields).items():

            def aggregated(draw: Draw, aggregate: str = aggregate, some: list[Field] = some) -> Example:
                return grouped(draw, groupable, **{aggregate: {draw(st.sampled_from(some)).name: True}})

            yield "group_by", f"{aggregate} of {kind}", aggregated

    numbers = [field for field in model.scalars if field.type in NUMBERS and not field.is_list]
    for aggregate in ("_sum", "_avg", "_min", "_max", "_count") if numbers else ():

        def having(draw: Draw, aggregate: str = aggregate) -> Example:
            field = draw(st.sampled_from(numbers))
            condition = {draw(st.sampled_from(["gt", "lte", "equals", "not"])): draw(st.sampled_from([0, 1, 2, 7]))}
            return grouped(draw, groupable, having={field.name: {aggregate: condition}}, count=True)

        def ordered(draw: Draw, aggregate: str = aggregate) -> Example:
            field, by = draw(st.sampled_from(numbers)), draw(st.sampled_from(groupable)).name
            order = [{aggregate: {field.name: draw(st.sampled_from(["desc", "asc"]))}}, {by: "asc"}]
            return Example([call(model, "group_by", by=[by], order=order)])

        yield "group_by", f"having {aggregate}", having
        yield "group_by", f"order by {aggregate}", ordered

    for kind, some in fields_of_kind(groupable).items():

        def having_value(draw: Draw, some: list[Field] = some) -> Example:
            field = draw(st.sampled_from(some))
            operators = [
                one
                for one in domain.operators(model, "having", field)
                if not one.startswith("_") and one not in {"mode", "search"}
            ]
            operator = draw(st.sampled_from(operators or ["equals"]))
            having = {field.name: {operator: domain.condition(draw, model, field, operator)}}
            return Example(
                [call(model, "group_by", by=[field.name], having=having, order=[{field.name: "asc"}], count=True)]
            )

        yield "group_by", f"having {kind}", having_value
