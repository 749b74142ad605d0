"""Raw queries: values of PostgreSQL's types as results and as parameters, and errors."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from conformance.catalogue import Cell, Example
from conformance.conftest import Conformance
from conformance.sides import Step

ANY_TABLE = "LiteLLM_Config"
RESULTS = [
    "1::int2", "2147483647::int4", "9007199254740993::int8", "1.5::float4", "0.1::float8", "12.3400::numeric",
    "'NaN'::numeric", "true", "'text'::text", "'v'::varchar(9)", "'c'::char(3)",
    "timestamp '2026-01-02 03:04:05.678901'", "timestamptz '2026-01-02 03:04:05+02'", "date '2026-01-02'",
    "time '03:04:05'", """'{"a": [1, null]}'::json""", """'{"b": 2, "a": 1}'::jsonb""", "'null'::jsonb", "null::text",
    "null::jsonb", "'\\x00ff'::bytea", "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", "array[1, 2, null]::int4[]",
    "array['a', null, 'b \"c\"']::text[]", "array[]::text[]", "array[1.5]::numeric[]", "array[true]",
    "array[timestamp '2026-01-02 03:04:05']", "count(*)", "sum(1::int8)", "avg(1::int4)", "sum(0.5::float8)",
]  # fmt: skip
PARAMETERS: list[tuple[str, Any]] = [
    ("$1::text", 'it\'s "q" \\ ünï'),
    ("$1::int4", 7),
    ("$1::int8", 9007199254740991),
    ("$1::float8", 0.1),
    ("$1::float8", 1),
    ("$1::numeric", 2.5),
    ("$1::numeric", Decimal("12.340")),
    ("$1::bool", True),
    ("$1::text", None),
    ("$1::timestamp", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)),
    ("$1::timestamptz", "2026-01-02T03:04:05Z"),
    ("$1::date", "2026-01-02"),
    ("$1::jsonb", '{"a": 1}'),
    ("$1::text[]", ["a", 'b, "c"', ""]),
    ("$1::text[]", ("a", "b")),
    ("$1::text[]", []),
    ("$1::int4[]", [1, 2, 3]),
    ("'b' = ANY($1::text[])", ["a", "b"]),
    ("$1::float8[]", [0.5, 1.5]),
]
FAILING = [
    "SELECT * FROM nowhere", "SELECT nowhere FROM \"LiteLLM_Config\"", "SELECT 1/0", "SELEC 1",
    "INSERT INTO \"LiteLLM_Config\" (param_name) SELECT param_name FROM \"LiteLLM_Config\"",
    "INSERT INTO \"LiteLLM_Config\" (param_name) VALUES (NULL)", "SELECT 'x'::int4", "SELECT nowhere(1)",
    "SET LOCAL lock_timeout = 'x'",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def table_as_it_was(conformance: Conformance) -> None:
    """A trigger of LiteLLM's counts the statements on MCP servers there; Prisma makes other statements than ours."""
    for copy in conformance.copies:
        copy.restore({ANY_TABLE})


def same_on_both(conformance: Conformance, name: str, *steps: Step) -> None:
    differences = list(conformance.comparison.run([(Cell(ANY_TABLE, "raw", name), Example(list(steps)))]))
    assert not differences, "\n".join(map(str, differences))


@pytest.mark.parametrize("expression", RESULTS)
def test_value_of_a_result(conformance: Conformance, expression: str) -> None:
    same_on_both(
        conformance,
        expression,
        {"raw": ["query_raw", f"SELECT {expression} AS found"]},
        {"raw": ["query_first", f"SELECT {expression} AS found"]},
    )


@pytest.mark.parametrize(("expression", "value"), PARAMETERS)
def test_value_of_a_parameter(conformance: Conformance, expression: str, value: Any) -> None:
    same_on_both(conformance, expression, {"raw": ["query_raw", f"SELECT {expression} AS found", value]})


@pytest.mark.parametrize("sql", FAILING)
def test_error_of_a_statement(conformance: Conformance, sql: str) -> None:
    same_on_both(conformance, sql, {"raw": ["query_raw", sql]}, {"raw": ["execute_raw", sql]})


def test_rows_and_counts(conformance: Conformance) -> None:
    insert = 'INSERT INTO "LiteLLM_Config" (param_name, param_value) VALUES ($1, $2::jsonb), ($3, NULL)'
    same_on_both(
        conformance,
        "rows and counts",
        {"raw": ["execute_raw", insert, "raw-1", '{"a": 1}', "raw-2"]},
        {"raw": ["query_raw", 'SELECT * FROM "LiteLLM_Config" WHERE param_name LIKE $1 ORDER BY 1', "raw-%"]},
        {
            "raw": [
                "query_raw",
                'UPDATE "LiteLLM_Config" SET reload_revision = 5 WHERE param_name = $1 RETURNING *',
                "raw-1",
            ]
        },
        {"raw": ["query_first", 'SELECT * FROM "LiteLLM_Config" WHERE param_name = $1', "nowhere"]},
        {"raw": ["execute_raw", 'DELETE FROM "LiteLLM_Config" WHERE param_name LIKE $1', "raw-%"]},
        {"raw": ["execute_raw", "CREATE TEMPORARY TABLE IF NOT EXISTS something (a int)"]},
    )
