"""Statements are made once for a shape of arguments, and run with the values of each call."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.prisma_client import statements
from litellm_sqlalchemy.prisma_client.client import operations_of, schema_path
from litellm_sqlalchemy.prisma_client.errors import DataError
from litellm_sqlalchemy.prisma_client.queries import Query
from litellm_sqlalchemy.prisma_client.statements import MAX_STATEMENTS, Slot, StatementCache, shape, slotted

values = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
arguments = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "mode", "OR"]), inner)
)


def slots(tree: Any) -> list[int]:
    """The places of values in a tree, in the order in which it is walked."""
    if isinstance(tree, Slot):
        return [tree.index]
    if isinstance(tree, dict):
        return [index for value in tree.values() for index in slots(value)]
    return [index for item in tree for index in slots(item)] if isinstance(tree, list) else []


@given(arguments)
def test_each_value_has_its_slot(argument: Any) -> None:
    found: list[Any] = []
    hash(shape(argument, found))
    tree, taken = slotted(argument)
    assert slots(tree) == list(range(len(found)))
    assert taken == len(found)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"a": "x"}, {"a": "y"}, True),
        ({"a": {"in": ["x"]}}, {"a": {"in": ["x", "y", "z"]}}, True),
        ({"a": "x"}, {"a": None}, False),
        ({"a": "x"}, {"b": "x"}, False),
        ({"a": {"in": ["x"]}}, {"a": {"in": []}}, False),
        ({"a": {"in": ["x"]}}, {"a": {"in": ["x", None]}}, False),
        ({"a": True}, {"a": False}, False),
        ({"OR": [{"a": 1}]}, {"OR": [{"a": 1}, {"a": 2}]}, False),
        ({"a": {"equals": "x", "mode": "insensitive"}}, {"a": {"equals": "x", "mode": "default"}}, False),
    ],
)
def test_shape(first: Any, second: Any, same: bool) -> None:
    assert (shape(first, []) == shape(second, [])) is same


def test_statement_is_made_once_for_a_shape() -> None:
    operations = operations_of(schema_path())
    model = operations.schema.models["LiteLLM_VerificationToken"]

    def find(token: Any, **query: Any) -> tuple[statements.Statement, list[Any]]:
        statement, found = operations.queries.find_many(model, Query({"token": token}, **query))
        return statement, statement.parameters(found)

    first, parameters = find("a", take=5)
    second, others = find("b", take=6)
    assert first is second
    assert (parameters, others) == (["a", 5], ["b", 6])
    assert first.sql.endswith('ORDER BY "LiteLLM_VerificationToken".token ASC \n LIMIT $2::BIGINT')
    assert find("a", take=-5)[0] is not first
    assert find({"contains": "a"}, take=5)[0] is not first
    with pytest.raises(DataError):
        find(5, take=5)


def test_values_never_become_part_of_a_statement() -> None:
    operations = operations_of(schema_path())
    model = operations.schema.models["LiteLLM_VerificationToken"]
    hostile = "x'; DROP TABLE y; --"
    where = {
        "OR": [{"token": {"contains": hostile}}, {"models": {"has": hostile}}, {"token": {"in": [hostile]}}],
        "metadata": {"path": [hostile], "string_contains": hostile},
    }
    statement, found = operations.queries.find_many(model, Query(where))
    assert "DROP" not in statement.sql
    assert str(statement.parameters(found)).count("DROP") == 5
    created, found = operations.writes.create(model, {"token": hostile})
    assert "DROP" not in created.sql
    assert hostile in created.parameters(found)


def test_cache_is_bounded() -> None:
    cache = StatementCache()
    made = []
    for key in [*range(MAX_STATEMENTS + 1), 0, MAX_STATEMENTS]:
        cache.get(key, lambda key=key: made.append(key) or object())  # type: ignore[misc]
    assert made == [*range(MAX_STATEMENTS + 1), 0]
