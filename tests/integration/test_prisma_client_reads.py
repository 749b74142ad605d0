"""The client's queries against a real PostgreSQL, on the tables that LiteLLM's own migrations make."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from integration.prisma_support import Client, Run
from litellm_sqlalchemy.prisma_client.errors import (
    DataError,
    FieldNotFoundError,
    MissingRequiredValueError,
    RecordNotFoundError,
    UnknownRelationalFieldError,
)
from prisma import Json

T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)

KEYS: list[dict[str, Any]] = [
    {"token": "a", "key_alias": "Alpha", "spend": 1.0, "models": ["x", "y"], "expires": T0, "max_budget": 1.0},
    {"token": "b", "key_alias": "beta%", "spend": 2.0, "models": [], "metadata": '{"team": {"name": "Blue", "n": 2}}'},
    {"token": "c", "key_alias": None, "spend": 3.0, "models": ["y"], "metadata": '{"tags": ["one", "two"]}'},
    {"token": "d", "spend": 4.0, "user_id": "u1", "expires": T0 + timedelta(days=1), "blocked": True},
]


async def fill(client: Client) -> None:
    await client.litellm_budgettable.create(
        data={"budget_id": "small", "max_budget": 1.0, "created_by": "t", "updated_by": "t"}
    )
    for key in KEYS:
        await client.litellm_verificationtoken.create(
            data={**key, **({"budget_id": "small"} if key["token"] < "c" else {})}
        )


@pytest.mark.parametrize(
    ("where", "tokens"),
    [
        (None, "abcd"),
        ({}, "abcd"),
        ({"token": "a"}, "a"),
        ({"token": {"equals": "a"}}, "a"),
        ({"token": {"not": "a"}}, "bcd"),
        ({"token": {"in": ["a", "d", "z"]}}, "ad"),
        ({"token": {"in": []}}, ""),
        ({"token": {"not_in": ["a", "d"]}}, "bc"),
        ({"token": {"notIn": []}}, "abcd"),
        ({"spend": {"gt": 1, "lte": 3}}, "bc"),
        ({"spend": {"gte": 2, "lt": 3}}, "b"),
        ({"expires": {"lt": T0 + timedelta(hours=1)}}, "a"),
        ({"expires": {"gt": "2026-01-01T12:00:00Z"}}, "d"),
        ({"key_alias": {"contains": "lph"}}, "a"),
        ({"key_alias": {"contains": "LPH"}}, ""),
        ({"key_alias": {"contains": "LPH", "mode": "insensitive"}}, "a"),
        ({"key_alias": {"startswith": "Al"}}, "a"),
        ({"key_alias": {"startsWith": "al", "mode": "insensitive"}}, "a"),
        ({"key_alias": {"endswith": "ta%"}}, "b"),
        ({"key_alias": {"equals": "ALPHA", "mode": "insensitive"}}, "a"),
        ({"key_alias": {"in": ["ALPHA", "x"], "mode": "insensitive"}}, "a"),
        # nulls: neither equal to anything nor different from anything
        ({"key_alias": None}, "cd"),
        ({"key_alias": {"not": None}}, "ab"),
        ({"key_alias": {"not": "Alpha"}}, "b"),
        ({"NOT": {"key_alias": "Alpha"}}, "b"),
        ({"NOT": [{"key_alias": "Alpha"}, {"token": "b"}]}, ""),
        ({"key_alias": {"not": {"startswith": "A"}}}, "b"),
        ({"blocked": True}, "d"),
        ({"blocked": {"not": True}}, ""),
        # together
        ({"AND": [{"spend": {"gt": 1}}, {"spend": {"lt": 4}}]}, "bc"),
        ({"AND": []}, "abcd"),
        ({"OR": [{"token": "a"}, {"user_id": "u1"}]}, "ad"),
        ({"OR": []}, ""),
        ({"NOT": []}, "abcd"),
        ({"spend": {"gt": 1}, "OR": [{"expires": None}, {"expires": {"lt": T0}}]}, "bc"),
        # lists
        ({"models": {"has": "y"}}, "ac"),
        ({"models": {"has_every": ["x", "y"]}}, "a"),
        ({"models": {"hasSome": ["x", "z"]}}, "a"),
        ({"models": {"is_empty": True}}, "b"),
        ({"models": {"isEmpty": False}}, "ac"),
        ({"models": {"equals": ["y"]}}, "c"),
        ({"NOT": {"models": {"has": "x"}}}, "bc"),
        # JSON
        ({"metadata": {"path": ["team", "name"], "equals": Json("Blue")}}, "b"),
        ({"metadata": {"path": ["team", "name"], "string_contains": "lu"}}, "b"),
        ({"metadata": {"path": ["team", "name"], "string_starts_with": "Bl"}}, "b"),
        ({"metadata": {"path": ["team", "name"], "string_ends_with": "ue"}}, "b"),
        ({"metadata": {"path": ["team", "n"], "gte": Json(2)}}, "b"),
        ({"metadata": {"path": ["team", "n"], "gt": Json(2)}}, ""),
        ({"metadata": {"path": ["tags"], "array_contains": Json(["two"])}}, "c"),
        ({"metadata": {"path": ["tags"], "array_starts_with": Json("one")}}, "c"),
        ({"metadata": {"path": ["tags"], "array_ends_with": Json("one")}}, ""),
        ({"metadata": {"equals": '{"tags": ["one", "two"]}'}}, "c"),
        ({"metadata": {"not": "{}"}}, "bc"),
        # relations
        ({"litellm_budget_table": {"is": {"max_budget": {"gt": 0}}}}, "ab"),
        ({"litellm_budget_table": {"max_budget": 1.0}}, "ab"),
        ({"litellm_budget_table": {"is_not": {"max_budget": 1.0}}}, "cd"),
        ({"litellm_budget_table": None}, "cd"),
        ({"litellm_budget_table": {"is": None}}, "cd"),
        ({"litellm_budget_table": {"isNot": None}}, "ab"),
    ],
)
def test_where(run_client: Run, where: Any, tokens: str) -> None:
    async def work(client: Client) -> tuple[str, int]:
        await fill(client)
        found = await client.litellm_verificationtoken.find_many(where=where, order={"token": "asc"})
        return "".join(key.token for key in found), await client.litellm_verificationtoken.count(where=where)

    assert run_client(work) == (tokens, len(tokens))


@pytest.mark.parametrize(
    ("where", "budgets"),
    [
        ({"keys": {"some": {"spend": {"gt": 1}}}}, ["small"]),
        ({"keys": {"some": {"spend": {"gt": 9}}}}, []),
        ({"keys": {"every": {"spend": {"gt": 0}}}}, ["empty", "small"]),
        ({"keys": {"every": {"spend": {"gt": 1}}}}, ["empty"]),
        ({"keys": {"none": {"spend": {"gt": 1}}}}, ["empty"]),
        ({"keys": {"none": {}}}, ["empty"]),
    ],
)
def test_where_of_related_lists(run_client: Run, where: Any, budgets: list[str]) -> None:
    async def work(client: Client) -> list[str]:
        await fill(client)
        await client.litellm_budgettable.create(data={"budget_id": "empty", "created_by": "t", "updated_by": "t"})
        return [
            row.budget_id for row in await client.litellm_budgettable.find_many(where=where, order={"budget_id": "asc"})
        ]

    assert run_client(work) == budgets


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        ({"order": {"spend": "desc"}}, "dcba"),
        ({"order": [{"blocked": {"sort": "asc", "nulls": "first"}}, {"token": "desc"}]}, "cbad"),
        ({"order": [{"key_alias": "asc"}, {"token": "asc"}]}, "abcd"),
        ({"order": [{"key_alias": {"sort": "desc", "nulls": "last"}}, {"token": "desc"}]}, "badc"),
        ({"order": [{"litellm_budget_table": {"max_budget": "asc"}}, {"token": "desc"}]}, "badc"),
        ({"take": 2, "order": {"spend": "asc"}}, "ab"),
        ({"take": 2, "skip": 1, "order": {"spend": "asc"}}, "bc"),
        ({"take": -2, "order": {"spend": "asc"}}, "cd"),
        ({"take": 2}, "ab"),  # a page without an order is one by the key
        ({"skip": 3}, "d"),
        ({"take": 0}, ""),
        ({"cursor": {"token": "b"}, "take": 2}, "bc"),
        ({"cursor": {"token": "b"}, "skip": 1, "take": 1}, "c"),
        ({"cursor": {"token": "b"}, "take": -2}, "ab"),
        ({"cursor": {"token": "c"}, "order": {"spend": "desc"}}, "cba"),
        ({"cursor": {"token": "z"}}, ""),
        ({"distinct": ["budget_id"], "order": {"token": "asc"}}, "ac"),
        ({"distinct": ["budget_id"], "order": {"token": "desc"}}, "db"),
        ({"distinct": ["budget_id"], "order": {"token": "asc"}, "skip": 1, "take": 1}, "c"),
    ],
)
def test_pages(run_client: Run, arguments: dict[str, Any], tokens: str) -> None:
    async def work(client: Client) -> str:
        await fill(client)
        return "".join(key.token for key in await client.litellm_verificationtoken.find_many(**arguments))

    assert run_client(work) == tokens


def test_find_first_is_the_first_by_the_key(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await fill(client)
        keys = client.litellm_verificationtoken
        return [
            (await keys.find_first()).token,
            (await keys.find_first(where={"spend": {"gt": 1}}, order={"spend": "desc"})).token,
            (await keys.find_first(skip=1)).token,
            await keys.find_first(where={"token": "z"}),
        ]

    assert run_client(work) == ["a", "d", "b", None]


def test_or_raise(run_client: Run) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(RecordNotFoundError) as caught:
            await client.litellm_verificationtoken.find_unique_or_raise(where={"token": "z"})
        assert caught.value.code == "P2025"
        with pytest.raises(RecordNotFoundError):
            await client.litellm_verificationtoken.find_first_or_raise(where={"token": "z"})

    run_client(work)


def test_find_unique_by_several_fields(run_client: Run) -> None:
    async def work(client: Client) -> tuple[float, Any]:
        members = client.litellm_teammembership
        await members.create(data={"user_id": "u", "team_id": "t", "spend": 2.0})
        found = await members.find_unique(where={"user_id_team_id": {"user_id": "u", "team_id": "t"}})
        return found.spend, await members.find_unique(where={"user_id_team_id": {"user_id": "u", "team_id": "x"}})

    assert run_client(work) == (2.0, None)


def test_find_unique_with_more_conditions(run_client: Run) -> None:
    async def work(client: Client) -> list[bool]:
        await fill(client)
        return [
            await client.litellm_verificationtoken.find_unique(where={"token": "a", "spend": spend}) is not None
            for spend in (1.0, 2.0)
        ]

    assert run_client(work) == [True, False]


def test_includes(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await fill(client)
        key = await client.litellm_verificationtoken.find_unique(
            where={"token": "a"}, include={"litellm_budget_table": True, "object_permission": True}
        )
        bare = await client.litellm_verificationtoken.find_unique(where={"token": "a"})
        budget = await client.litellm_budgettable.find_unique(
            where={"budget_id": "small"},
            include={
                "keys": {
                    "where": {"spend": {"gt": 0}},
                    "order_by": {"spend": "desc"},
                    "take": 1,
                    "include": {"litellm_budget_table": True},
                },
                "projects": True,
                "tags": False,
            },
        )
        assert key.model_fields_set - bare.model_fields_set == {"litellm_budget_table", "object_permission"}
        assert bare.litellm_budget_table is None
        return [
            key.litellm_budget_table.max_budget,
            key.object_permission,
            [kept.token for kept in budget.keys],
            budget.keys[0].litellm_budget_table.budget_id,
            budget.projects,
            budget.tags,
        ]

    assert run_client(work) == [1.0, None, ["b"], "small", [], None]


def test_pages_of_includes_are_each_parents_own(run_client: Run) -> None:
    async def work(client: Client) -> dict[str, list[str]]:
        await fill(client)
        await client.litellm_budgettable.create(data={"budget_id": "other", "created_by": "t", "updated_by": "t"})
        await client.litellm_verificationtoken.update_many(
            where={"token": {"in": ["c", "d"]}}, data={"budget_id": "other"}
        )
        budgets = await client.litellm_budgettable.find_many(
            include={"keys": {"order_by": {"token": "desc"}, "skip": 1, "take": 1}}
        )
        return {budget.budget_id: [key.token for key in budget.keys] for budget in budgets}

    assert run_client(work) == {"small": ["a"], "other": ["c"]}


def test_cursor_and_distinct_of_includes(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await fill(client)
        await client.litellm_budgettable.create(data={"budget_id": "other", "created_by": "t", "updated_by": "t"})
        await client.litellm_verificationtoken.update_many(
            where={"token": {"in": ["c", "d"]}}, data={"budget_id": "other"}
        )

        async def keys(**arguments: Any) -> dict[str, list[str]]:
            include = {"keys": {"order_by": {"token": "asc"}, **arguments}}
            budgets = await client.litellm_budgettable.find_many(include=include)
            return {budget.budget_id: [key.token for key in budget.keys] for budget in budgets}

        return [await keys(cursor={"token": "b"}), await keys(distinct=["soft_budget_cooldown"])]

    assert run_client(work) == [{"small": ["b"], "other": []}, {"small": ["a"], "other": ["c"]}]


def test_count_of_fields(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await fill(client)
        keys = client.litellm_verificationtoken
        return [
            await keys.count(),
            await keys.count(select={"_all": True, "key_alias": True}),
            await keys.count(take=3),
            await keys.count(skip=3),
            await keys.count(cursor={"token": "c"}),
        ]

    assert run_client(work) == [4, {"_all": 4, "key_alias": 2}, 3, 1, 2]


def test_groups(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await fill(client)
        keys = client.litellm_verificationtoken
        return [
            await keys.group_by(
                by=["budget_id"],
                count=True,
                sum={"spend": True, "tpm_limit": True},
                avg={"spend": True},
                min={"token": True},
                max={"expires": True},
                order={"budget_id": "desc"},
            ),
            await keys.group_by(by=["budget_id"], sum={"spend": True}, having={"spend": {"_sum": {"gt": 5}}}),
            await keys.group_by(by=["token"], sum={"spend": True}, order={"_sum": {"spend": "desc"}}, take=1, skip=1),
            await keys.group_by(by=["budget_id"], where={"spend": {"lt": 3}}, count={"key_alias": True}),
        ]

    first, having, page, where = run_client(work)
    assert first == [
        {
            "budget_id": None,
            "_avg": {"spend": 3.5},
            "_min": {"token": "c"},
            "_sum": {"spend": 7.0, "tpm_limit": None},
            "_max": {"expires": "2026-01-02T00:00:00.000Z"},
            "_count": {"_all": 2},
        },
        {
            "budget_id": "small",
            "_avg": {"spend": 1.5},
            "_min": {"token": "a"},
            "_sum": {"spend": 3.0, "tpm_limit": None},
            "_max": {"expires": "2026-01-01T00:00:00.000Z"},
            "_count": {"_all": 2},
        },
    ]
    assert having == [{"budget_id": None, "_sum": {"spend": 7.0}}]
    assert page == [{"token": "c", "_sum": {"spend": 3.0}}]
    assert where == [{"budget_id": "small", "_count": {"key_alias": 2}}]


def test_group_pages_need_an_order(run_client: Run) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(TypeError, match="'order' which is required when 'take'"):
            await client.litellm_verificationtoken.group_by(by=["token"], take=1)

    run_client(work)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"where": {"nope": 1}}, FieldNotFoundError, "where.nope"),
        (
            {"where": {"litellm_budget_table": {"is": {"nope": 1}}}},
            FieldNotFoundError,
            "LiteLLM_BudgetTable.where.nope",
        ),
        ({"where": {"token": {"like": "x"}}}, FieldNotFoundError, "`like`"),
        ({"where": {"token": 1}}, FieldNotFoundError, "int where String"),
        ({"where": {"token": None}}, MissingRequiredValueError, "A value is required but not set"),
        ({"where": {"expires": "yesterday"}}, FieldNotFoundError, "str where DateTime"),
        ({"where": {"spend": {"contains": "1"}}}, FieldNotFoundError, "`contains`"),
        ({"where": {"keys": {"some": {}}}}, FieldNotFoundError, "where.keys"),
        ({"order": {"nope": "asc"}}, FieldNotFoundError, "orderBy.nope"),
        ({"order": {"token": "up"}}, FieldNotFoundError, "asc or desc"),
        ({"include": {"nope": True}}, UnknownRelationalFieldError, "LiteLLM_VerificationToken model"),
        ({"include": {"litellm_budget_table": {"wher": {}}}}, FieldNotFoundError, "include.litellm_budget_table.wher"),
        ({"distinct": ["nope"]}, FieldNotFoundError, "distinct.nope"),
        ({"cursor": {"spend": 1.0}}, FieldNotFoundError, "at least one of token"),
        ({"skip": -1}, DataError, "only be positive"),
        ({"where": {"models": ["x"]}}, FieldNotFoundError, "where.models"),
        ({"where": {"metadata": None}}, MissingRequiredValueError, "where.metadata"),
        ({"where": {"OR": {"token": "a"}}}, FieldNotFoundError, "where.OR"),
        ({"where": {"metadata": {"equals": {"a": 1}}}}, DataError, "wrap it in prisma.Json"),
    ],
)
def test_what_the_schema_does_not_allow_is_refused(
    run_client: Run, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(error, match=message):
            await client.litellm_verificationtoken.find_many(**arguments)

    run_client(work)
