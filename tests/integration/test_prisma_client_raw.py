"""Raw queries of the client: what goes in, and what comes out."""

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from integration.prisma_support import Client, Run
from litellm_sqlalchemy.prisma_client.errors import RawQueryError
from prisma import Json


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1::int2", 1),
        ("1::int4", 1),
        ("9007199254740993::int8", 9007199254740993),
        ("1.50::numeric", 1.5),
        ("0.1::float8", 0.1),
        ("true", True),
        ("'ä'::text", "ä"),
        ("'ab'::varchar(5)", "ab"),
        ("NULL::int4", None),
        ("'2026-01-02'::date", "2026-01-02"),
        ("'12:13:14'::time", "12:13:14"),
        ("'2026-01-02 03:04:05'::timestamp", "2026-01-02T03:04:05+00:00"),
        ("'2026-01-02 03:04:05.678'::timestamp", "2026-01-02T03:04:05.678+00:00"),
        ("'2026-01-02 03:04:05.678901'::timestamp", "2026-01-02T03:04:05.678901+00:00"),
        ("'2026-01-02 03:04:05+02'::timestamptz", "2026-01-02T01:04:05+00:00"),
        ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
        ("""'"text"'::json""", "text"),
        ("'null'::jsonb", None),
        ("'9b2d7b5e-7d1c-4f3e-8f4e-0c5d6e7f8a9b'::uuid", "9b2d7b5e-7d1c-4f3e-8f4e-0c5d6e7f8a9b"),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("ARRAY['a', NULL, 'b']", ["a", None, "b"]),
        ("ARRAY[1.5::numeric]", [1.5]),
        ("ARRAY['2026-01-02'::timestamp]", ["2026-01-02T00:00:00+00:00"]),
        ("""ARRAY['{"a": 1}'::jsonb]""", [{"a": 1}]),
        ("'\\x00ff'::bytea", "AP8="),
        ("count(*)", 1),
        ("sum(1.5)", 1.5),
    ],
)
def test_values_of_rows(run_client: Run, expression: str, value: Any) -> None:
    async def work(client: Client) -> Any:
        return await client.query_raw(f"SELECT {expression} AS value")

    ((row),) = run_client(work)
    assert row == {"value": value}
    assert type(row["value"]) is type(value)


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        ("a", "text", "a"),
        (1, "integer", "1"),
        (2**31, "bigint", "2147483648"),
        (1.5, "numeric", "1.5"),
        (Decimal("1.50"), "text", "1.50"),
        (True, "boolean", "true"),
        (["a", 'b"c'], "text[]", '{a,"b\\"c"}'),
        (("a",), "text[]", "{a}"),
        ([1, 2], "integer[]", "{1,2}"),
        ({"a": None}, "jsonb", '{"a": null}'),
        (Json([1]), "text", "[1]"),
        (datetime.fromisoformat("2026-01-02T03:04:05.678901"), "text", "2026-01-02T03:04:05.678000+00:00"),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "text", "2026-01-01T23:00:00+00:00"),
    ],
)
def test_types_of_parameters(run_client: Run, value: Any, type_: str, text: str) -> None:
    async def work(client: Client) -> Any:
        return await client.query_first("SELECT pg_typeof($1)::text AS type, $1::text AS text", value)

    assert run_client(work) == {"type": type_, "text": text}


def test_arrays_empty_and_null(run_client: Run) -> None:
    async def work(client: Client) -> Any:
        return await client.query_first(
            "SELECT 'a' = ANY($1::text[]) AS empty, $2::text IS NULL AS missing, 'a' = ANY($3) AS found",
            (),
            None,
            ("a", "b"),
        )

    assert run_client(work) == {"empty": False, "missing": True, "found": True}


def test_column_that_is_there_twice(run_client: Run) -> None:
    """LiteLLM's own view of a key has some; the last one counts."""

    async def work(client: Client) -> Any:
        return await client.query_raw("""SELECT '{"a": 1}'::jsonb AS x, '{"a": 2}'::jsonb AS x""")

    assert run_client(work) == [{"x": {"a": 2}}]


def test_how_many_rows_were_changed(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        insert = 'INSERT INTO "LiteLLM_VerificationToken" (token, expires) VALUES ($1, $2::timestamptz)'
        moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
        return [
            [await client.execute_raw(insert, token, moment) for token in "ab"],
            await client.execute_raw('UPDATE "LiteLLM_VerificationToken" SET spend = $1', 3),
            (await client.litellm_verificationtoken.find_first()).expires == moment,
            await client.execute_raw("DO $$ BEGIN END $$"),
            await client.query_raw('DELETE FROM "LiteLLM_VerificationToken" WHERE token = $1', "a"),
            await client.query_raw('DELETE FROM "LiteLLM_VerificationToken" RETURNING token'),
            await client.query_first('SELECT token FROM "LiteLLM_VerificationToken"'),
        ]

    assert run_client(work) == [[1, 1], 2, True, 0, [], [{"token": "b"}], None]


def test_records_of_a_raw_query(run_client: Run) -> None:
    async def work(client: Client) -> Any:
        await client.litellm_verificationtoken.create(data={"token": "a", "metadata": '{"n": 1}'})
        return await client.litellm_verificationtoken.query_raw(
            'SELECT * FROM "LiteLLM_VerificationToken" WHERE token = $1', "a"
        )

    (key,) = run_client(work)
    assert (key.token, key.metadata, key.models) == ("a", {"n": 1}, [])
    assert key.created_at.tzinfo is not None


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELECT * FROM nowhere", "42P01", 'relation "nowhere" does not exist'),
        ("SELECT nothing", "42703", 'column "nothing" does not exist'),
        ("SELEC 1", "42601", 'ERROR: syntax error at or near "SELEC"'),
        ("SELECT 1 / 0", "22012", "ERROR: division by zero"),
        ("SELECT lower(1)", "42883", "ERROR: function lower(integer) does not exist\nHINT: No function matches"),
    ],
)
def test_errors_have_postgresqls_code_and_message(run_client: Run, sql: str, code: str, message: str) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(RawQueryError) as caught:
            await client.query_raw(sql)
        assert caught.value.code == "P2010"
        assert caught.value.meta is not None
        assert caught.value.meta["code"] == code
        assert str(caught.value).startswith(message)
        assert caught.value.meta["message"] == str(caught.value)
        with pytest.raises(RawQueryError):
            await client.execute_raw(sql)

    run_client(work)


def test_schema_change_under_a_prepared_statement(run_client: Run) -> None:
    """A migration while the gateway runs: LiteLLM knows the error, and the statement works from then on."""

    async def work(client: Client) -> int:
        await client.execute_raw("CREATE TEMPORARY TABLE changing (a int)")
        for _ in range(10):
            await client.query_raw("SELECT * FROM changing")
        await client.execute_raw("ALTER TABLE changing ADD b int")
        return len(await client.query_raw("SELECT * FROM changing"))

    assert run_client(work, connection_limit=1) == 0


def test_pgbouncer_leaves_nothing_prepared(run_client: Run) -> None:
    async def work(client: Client) -> list[int]:
        for _ in range(10):
            await client.litellm_verificationtoken.find_many(where={"token": "a"})
        return [(await client.query_first("SELECT count(*)::int4 AS n FROM pg_prepared_statements"))["n"]]

    assert run_client(work, connection_limit=1, pgbouncer="true") == [0]
    assert run_client(work, connection_limit=1) != [0]
