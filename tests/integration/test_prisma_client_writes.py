"""What the client writes, seen in the tables of a real PostgreSQL."""

import asyncio
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from integration.prisma_support import Client, Run
from integration.support import Database
from litellm_sqlalchemy.prisma_client.errors import (
    DataError,
    FieldNotFoundError,
    ForeignKeyViolationError,
    MissingRequiredValueError,
    UniqueViolationError,
)
from prisma import Base64, Json

BUDGET = {"created_by": "t", "updated_by": "t"}


def test_create_fills_in_defaults(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> Any:
        return await client.litellm_budgettable.create(data={"max_budget": 1, **BUDGET})

    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    budget = run_client(work)
    assert uuid.UUID(budget.budget_id).version == 4
    assert budget.max_budget == 1.0
    assert budget.allowed_models == []
    assert before <= budget.created_at <= datetime.now(timezone.utc)
    assert budget.created_at == budget.updated_at
    assert budget.created_at.microsecond % 1000 == 0
    ((created, models),) = litellm_database.query('SELECT created_at, allowed_models FROM "LiteLLM_BudgetTable"')
    assert created == budget.created_at.replace(tzinfo=None)
    assert models == []


def test_values_come_back_as_they_went_in(run_client: Run) -> None:
    moment = datetime(2026, 5, 1, 12, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))

    async def work(client: Client) -> list[Any]:
        key = await client.litellm_verificationtoken.create(
            data={
                "token": "ä\"'\\{}, \t\n€😀",
                "models": ['a"b', "c\\d", "", "{e},NULL", "ü"],
                "aliases": {"plain": ["object"]},
                "budget_limits": None,
                "metadata": Json({"deep": [1, 2.5, None, True, {"x": "ÿ"}], "big": 2**80}),
                "tpm_limit": 2**62,
                "max_budget": 0.1 + 0.2,
                "expires": moment,
            }
        )
        content = await client.litellm_managedfilecontenttable.create(data={"content": Base64.encode(b"\x00\xff")})
        return [key, content]

    key, content = run_client(work)
    assert key.token == "ä\"'\\{}, \t\n€😀"
    assert key.models == ['a"b', "c\\d", "", "{e},NULL", "ü"]
    assert key.metadata == {"deep": [1, 2.5, None, True, {"x": "ÿ"}], "big": 2**80}
    assert key.aliases == {"plain": ["object"]}
    assert key.budget_limits is None
    assert key.tpm_limit == 2**62
    assert key.max_budget == 0.1 + 0.2
    assert key.expires == datetime(2026, 5, 1, 10, 0, 0, 123_000, tzinfo=timezone.utc)
    assert content.content.decode() == b"\x00\xff"


def test_update_sets_and_counts(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        keys = client.litellm_verificationtoken
        await keys.create(data={"token": "a", "spend": 10.0, "tpm_limit": 7, "models": ["x"], "key_alias": "k"})
        changes: list[dict[str, Any]] = [
            {"spend": {"increment": 2.5}, "tpm_limit": {"decrement": 1}},
            {"spend": {"multiply": 2}, "tpm_limit": {"divide": 4}},
            {"spend": {"divide": 4}, "tpm_limit": {"set": 9}},
            {"models": {"push": "y"}},
            {"models": {"push": ["z", "z"]}},
            {"models": {"set": []}, "key_alias": None},
            {"rpm_limit": {"increment": 1}},
        ]
        updated = [await keys.update(where={"token": "a"}, data=change) for change in changes]
        return [(key.spend, key.tpm_limit, key.rpm_limit, key.models, key.key_alias) for key in updated]

    assert run_client(work) == [
        (12.5, 6, None, ["x"], "k"),
        (25.0, 1, None, ["x"], "k"),
        (6.25, 9, None, ["x"], "k"),
        (6.25, 9, None, ["x", "y"], "k"),
        (6.25, 9, None, ["x", "y", "z", "z"], "k"),
        (6.25, 9, None, [], None),
        (6.25, 9, None, [], None),
    ]


def test_push_into_a_list_that_was_never_set(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> list[str]:
        await client.litellm_verificationtoken.create(data={"token": "a"})
        assert litellm_database.value('SELECT models FROM "LiteLLM_VerificationToken"') is None
        key = await client.litellm_verificationtoken.update(where={"token": "a"}, data={"models": {"push": "x"}})
        return list(key.models)

    assert run_client(work) == ["x"]


def test_update_notes_its_time(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> list[bool]:
        budget = await client.litellm_budgettable.create(data={"budget_id": "b", **BUDGET})
        litellm_database.query("""UPDATE "LiteLLM_BudgetTable" SET updated_at = '2020-01-01'""")
        same = await client.litellm_budgettable.update(where={"budget_id": "b"}, data={})
        many = await client.litellm_budgettable.update_many(where={}, data={"max_budget": 2.0})
        later = await client.litellm_budgettable.find_unique(where={"budget_id": "b"})
        assert many == 1
        return [
            same.updated_at.year == 2020,
            later.updated_at >= budget.updated_at,
            later.created_at == budget.created_at,
        ]

    assert run_client(work) == [True, True, True]


def test_update_and_delete_of_nothing(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        keys = client.litellm_verificationtoken
        return [
            await keys.update(where={"token": "a"}, data={"spend": 1.0}),
            await keys.delete(where={"token": "a"}),
            await keys.update_many(where={"token": "a"}, data={"spend": 1.0}),
            await keys.delete_many(where={"token": "a"}),
            await keys.update(where={"token": "a"}, data={"litellm_budget_table": {"disconnect": True}}),
        ]

    assert run_client(work) == [None, None, 0, 0, None]


def test_delete_returns_what_was_there(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await client.litellm_budgettable.create(data={"budget_id": "b", **BUDGET})
        await client.litellm_verificationtoken.create(data={"token": "a", "budget_id": "b"})
        gone = await client.litellm_verificationtoken.delete(
            where={"token": "a"}, include={"litellm_budget_table": True}
        )
        return [gone.token, gone.litellm_budget_table.budget_id, await client.litellm_verificationtoken.count()]

    assert run_client(work) == ["a", "b", 0]


def test_update_many_and_delete_many_say_how_many(run_client: Run) -> None:
    async def work(client: Client) -> list[int]:
        keys = client.litellm_verificationtoken
        return [
            await keys.create_many(data=[{"token": token} for token in "abcde"]),
            await keys.update_many(where={"token": {"in": ["a", "b", "z"]}}, data={"spend": {"increment": 1}}),
            await keys.delete_many(where={"spend": 1.0}),
            await keys.delete_many(),
        ]

    assert run_client(work) == [5, 2, 2, 3]


def test_create_many(run_client: Run, litellm_database: Database) -> None:
    """Rows that set different fields, lists of different lengths, and duplicates."""
    rows: list[dict[str, Any]] = [
        {"token": "a", "models": ["x", 'y"z'], "metadata": '{"n": 1}', "key_alias": "alias"},
        {"token": "b", "models": [], "metadata": Json({"n": 2}), "spend": 1.5},
        {"token": "c", "expires": datetime(2026, 1, 1, tzinfo=timezone.utc), "blocked": True, "key_alias": None},
    ]

    async def work(client: Client) -> list[Any]:
        keys = client.litellm_verificationtoken
        created = await keys.create_many(data=rows)
        with pytest.raises(UniqueViolationError):
            await keys.create_many(data=[{"token": "d"}, {"token": "a", "key_alias": "again"}])
        after_failure = await keys.count()
        again = await keys.create_many(data=[*rows, {"token": "d"}], skip_duplicates=True)
        return [created, after_failure, again, await keys.find_many(order={"token": "asc"})]

    created, after_failure, again, (a, b, c, d) = run_client(work)
    assert (created, after_failure, again) == (3, 3, 1)
    assert (a.models, a.metadata, a.key_alias, a.spend) == (["x", 'y"z'], {"n": 1}, "alias", 0.0)
    assert (b.models, b.metadata, b.spend) == ([], {"n": 2}, 1.5)
    assert (c.expires, c.blocked, c.key_alias) == (datetime(2026, 1, 1, tzinfo=timezone.utc), True, None)
    assert d.metadata == {}
    assert a.created_at is not None


def test_create_many_of_many(run_client: Run) -> None:
    """More values than a statement may have parameters."""

    async def work(client: Client) -> int:
        return await client.litellm_verificationtoken.create_many(data=[{"token": str(n)} for n in range(5000)])

    assert run_client(work) == 5000


@pytest.mark.parametrize("key", ["token", "other"])
def test_upsert(run_client: Run, key: str) -> None:
    """In one statement where the key of the record to create is the one looked for, and in a transaction otherwise."""
    data: dict[str, Any] = {
        "create": {"token": "a" if key == "token" else "b", "spend": 1.0},
        "update": {"spend": {"increment": 2.0}, "token": "a"},
    }

    async def work(client: Client) -> list[float]:
        first = await client.litellm_verificationtoken.upsert(where={"token": "a"}, data=data)
        if key == "other":
            await client.litellm_verificationtoken.update(where={"token": "b"}, data={"token": "a"})
        second = await client.litellm_verificationtoken.upsert(where={"token": "a"}, data=data)
        return [first.spend, second.spend]

    assert run_client(work) == [1.0, 3.0]


def test_upsert_by_several_fields_with_nothing_to_update(run_client: Run) -> None:
    where = {"user_id_team_id": {"user_id": "u", "team_id": "t"}}
    data: dict[str, Any] = {"create": {"user_id": "u", "team_id": "t", "spend": 3.0}, "update": {}}

    async def work(client: Client) -> list[float]:
        members = client.litellm_teammembership
        return [(await members.upsert(where=where, data=data)).spend for _ in range(2)]

    assert run_client(work) == [3.0, 3.0]


def test_nested_writes_of_the_record_that_is_referred_to(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        keys = client.litellm_verificationtoken
        include = {"litellm_budget_table": True}
        await client.litellm_budgettable.create(data={"budget_id": "b", **BUDGET})

        async def step(argument: Any) -> Any:
            key = await keys.update(where={"token": "a"}, data={"litellm_budget_table": argument}, include=include)
            return key.litellm_budget_table and (key.budget_id, key.litellm_budget_table.max_budget)

        created = await keys.create(
            data={"token": "a", "litellm_budget_table": {"create": {"budget_id": "n", "max_budget": 1.0, **BUDGET}}},
            include=include,
        )
        assert (
            await keys.update(where={"token": "a"}, data={"litellm_budget_table": {"connect": {"budget_id": "-"}}})
            is None
        )
        return [
            (created.budget_id, created.litellm_budget_table.max_budget),
            await step({"connect": {"budget_id": "b"}}),
            await step({"update": {"max_budget": 5.0}}),
            await step({"disconnect": True}),
            await step({"connect_or_create": {"where": {"budget_id": "b"}, "create": {"budget_id": "b", **BUDGET}}}),
            await step({"upsert": {"create": {"budget_id": "q", **BUDGET}, "update": {"max_budget": 6.0}}}),
            await step({"delete": True}),
            await step({"upsert": {"create": {"budget_id": "q", **BUDGET}, "update": {"max_budget": 6.0}}}),
            sorted(budget.budget_id for budget in await client.litellm_budgettable.find_many()),
        ]

    assert run_client(work) == [
        ("n", 1.0),
        ("b", None),
        ("b", 5.0),
        None,
        ("b", 5.0),
        ("b", 6.0),
        None,
        ("q", None),
        ["n", "q"],
    ]


def test_nested_writes_of_the_records_that_refer(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        await client.litellm_verificationtoken.create_many(data=[{"token": token} for token in "xyz"])
        await client.litellm_budgettable.create(
            data={
                "budget_id": "b",
                "keys": {"create": [{"token": "a"}, {"token": "c"}], "connect": {"token": "x"}},
                **BUDGET,
            }
        )

        async def step(argument: Any) -> str:
            budget = await client.litellm_budgettable.update(
                where={"budget_id": "b"}, data={"keys": argument}, include={"keys": {"order_by": {"token": "asc"}}}
            )
            return "".join(f"{key.token}{key.spend:g}" if key.spend else key.token for key in budget.keys)

        return [
            await step({"connect": [{"token": "y"}]}),
            await step({"disconnect": [{"token": "a"}]}),
            await step({"set": [{"token": "a"}, {"token": "z"}]}),
            await step({"update": {"where": {"token": "a"}, "data": {"spend": 2.0}}}),
            await step({"update_many": {"where": {}, "data": {"spend": {"increment": 1}}}}),
            await step({"upsert": {"where": {"token": "n"}, "create": {"token": "n"}, "update": {"spend": 9.0}}}),
            await step({"connect_or_create": {"where": {"token": "m"}, "create": {"token": "m"}}}),
            await step({"create_many": {"data": [{"token": "o"}, {"token": "m"}], "skip_duplicates": True}}),
            await step({"delete": {"token": "a"}}),
            await step({"delete_many": {"spend": 0}}),
            "".join(sorted(key.token for key in await client.litellm_verificationtoken.find_many())),
        ]

    assert run_client(work) == ["acxy", "cxy", "az", "a2z", "a3z1", "a3nz1", "a3mnz1", "a3mnoz1", "mnoz1", "z1", "cxyz"]


def test_one_to_one_is_taken_from_whoever_had_it(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        teams = client.litellm_teamtable
        await client.litellm_modeltable.create(data={"id": 7, **BUDGET})
        connect = {"litellm_model_table": {"connect": {"id": 7}}}
        await teams.create(data={"team_id": "a", **connect})
        await teams.create(data={"team_id": "b", **connect})
        await teams.create(data={"team_id": "c"})
        await teams.update(where={"team_id": "c"}, data=connect)
        return [(team.team_id, team.model_id) for team in await teams.find_many(order={"team_id": "asc"})]

    assert run_client(work) == [("a", None), ("b", None), ("c", 7)]


def test_nested_writes_of_what_is_not_connected_or_must_be(run_client: Run) -> None:
    async def work(client: Client) -> list[str | None]:
        budgets = client.litellm_budgettable
        organization = {"organization_id": "o", "organization_alias": "o", "models": [], **BUDGET}
        await budgets.create(data={"budget_id": "b", "organization": {"create": organization}, **BUDGET})
        await client.litellm_verificationtoken.create(data={"token": "a"})
        codes = []
        for change in (
            {"keys": {"delete": [{"token": "a"}]}},
            {"organization": {"disconnect": [{"organization_id": "o"}]}},
            {"organization": {"set": []}},
        ):
            with pytest.raises(DataError) as caught:
                await budgets.update(where={"budget_id": "b"}, data=change)
            assert type(caught.value) is DataError
            codes.append(caught.value.code)
        return codes

    assert run_client(work) == ["P2017", "P2011", "P2011"]


def test_nested_write_that_fails_leaves_nothing(run_client: Run) -> None:
    async def work(client: Client) -> list[int]:
        ((session,),) = [row.values() for row in await client.query_raw("SELECT pg_backend_pid()")]
        await client.litellm_verificationtoken.create(data={"token": "a"})
        with pytest.raises(UniqueViolationError):
            await client.litellm_budgettable.create(
                data={"keys": {"create": [{"token": "b"}, {"token": "a"}]}, **BUDGET}
            )
        ((same,),) = [row.values() for row in await client.query_raw("SELECT pg_backend_pid()")]
        assert same == session
        return [await client.litellm_budgettable.count(), await client.litellm_verificationtoken.count()]

    assert run_client(work, connection_limit=1) == [0, 1]


@pytest.mark.parametrize(
    ("data", "error", "code", "meta"),
    [
        ({"token": "a"}, UniqueViolationError, "P2002", {"target": ["token"]}),
        (
            {"token": "b", "budget_id": "nope"},
            ForeignKeyViolationError,
            "P2003",
            {"field_name": "LiteLLM_VerificationToken_budget_id_fkey (index)"},
        ),
        ({}, MissingRequiredValueError, "P2009", None),
        ({"token": None}, MissingRequiredValueError, "P2009", None),
        ({"token": "b", "metadata": None}, MissingRequiredValueError, "P2009", None),
        ({"token": "b", "nope": 1}, FieldNotFoundError, "P2009", None),
        ({"token": "b", "metadata": "no JSON"}, DataError, "P2009", None),
        ({"token": "b", "spend": "1"}, DataError, "P2009", None),
        ({"token": "b", "spend": {"increment": 1}}, DataError, "P2009", None),
        ({"token": "b", "tpm_limit": 2**63}, DataError, "P2020", None),
        ({"token": "b", "rotation_count": 2**31}, DataError, "P2020", None),
        ({"token": "b", "models": "x"}, DataError, "P2009", None),
        ({"token": "b\0"}, DataError, None, None),
        ({"token": "b\ud800"}, DataError, None, None),
    ],
)
def test_errors(
    run_client: Run, data: Any, error: type[DataError], code: str | None, meta: dict[str, Any] | None
) -> None:
    async def work(client: Client) -> None:
        await client.litellm_verificationtoken.create(data={"token": "a"})
        with pytest.raises(error) as caught:
            await client.litellm_verificationtoken.create(data=data)
        assert type(caught.value) is error
        assert caught.value.code == code
        if meta is not None:
            assert caught.value.meta is not None
            assert meta.items() <= caught.value.meta.items()
        assert await client.litellm_verificationtoken.count() == 1

    run_client(work)


def test_delete_of_what_is_referred_to(run_client: Run) -> None:
    async def work(client: Client) -> None:
        await client.litellm_usertable.create(data={"user_id": "u"})
        await client.litellm_invitationlink.create(
            data={
                "user_id": "u",
                "expires_at": datetime.now(timezone.utc),
                "created_at": datetime.now(timezone.utc),
                "created_by": "u",
                "updated_at": datetime.now(timezone.utc),
                "updated_by": "u",
            }
        )
        with pytest.raises(ForeignKeyViolationError) as caught:
            await client.litellm_usertable.delete(where={"user_id": "u"})
        assert caught.value.code == "P2003"

    run_client(work)


def test_records_are_each_callers_own(run_client: Run) -> None:
    """LiteLLM changes records; those who asked for the same at the same moment must not see it."""

    async def work(client: Client) -> None:
        keys = client.litellm_verificationtoken
        await keys.create(data={"token": "a", "models": ["x"], "metadata": '{"n": {}}'})
        first, second = await asyncio.gather(*[keys.find_unique(where={"token": "a"}) for _ in range(2)])
        first.metadata["n"]["changed"] = True
        first.models.append("y")
        first.spend = 5.0
        assert (second.metadata, second.models, second.spend) == ({"n": {}}, ["x"], 0.0)

    run_client(work)


def test_enum(run_client: Run) -> None:
    async def work(client: Client) -> list[Any]:
        jobs = client.litellm_cronjob
        job: dict[str, Any] = {
            "pod_id": "p",
            "last_updated": datetime.now(timezone.utc),
            "ttl": datetime.now(timezone.utc),
        }
        created = await jobs.create(data={"cronjob_id": "a", **job})
        await jobs.create_many(data=[{"cronjob_id": "b", "status": "ACTIVE", **job}])
        await jobs.update_many(where={"status": "INACTIVE"}, data={"status": "ACTIVE"})
        with pytest.raises(DataError, match="one of ACTIVE, INACTIVE"):
            await jobs.create(data={"cronjob_id": "c", "status": "ASLEEP", **job})
        return [created.status, await jobs.count(where={"status": {"in": ["ACTIVE"]}})]

    assert run_client(work) == ["INACTIVE", 2]


def test_one_to_one_that_must_be(run_client: Run) -> None:
    async def work(client: Client) -> list[str | None]:
        agent = {"agent_card_params": "{}", **BUDGET}
        identity = {"provider": "p", "issuer": "i", "tenant_id": "t", "client_id": "c"}
        for name in "ab":
            own = {**identity, "client_id": name}
            await client.litellm_agentstable.create(
                data={"agent_id": name, "agent_name": name, "identity": {"create": own}, **agent}
            )
        codes = []
        for change in ({"connect": {"agent_id": "b"}}, {"create": identity}, {"disconnect": True}):
            with pytest.raises(DataError) as caught:
                await client.litellm_agentstable.update(where={"agent_id": "a"}, data={"identity": change})
            codes.append(caught.value.code)
        return codes

    assert run_client(work) == ["P2014", "P2014", "P2014"]
