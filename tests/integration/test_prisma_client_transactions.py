"""Transactions, batches and concurrency of the client against a real PostgreSQL."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from integration.prisma_support import Client, Run
from integration.support import Database
from litellm_sqlalchemy.prisma_client import failures
from litellm_sqlalchemy.prisma_client.connections import Pool
from litellm_sqlalchemy.prisma_client.errors import (
    ClientNotConnectedError,
    DataError,
    RecordNotFoundError,
    TransactionError,
    TransactionExpiredError,
    TransactionNotStartedError,
    UniqueViolationError,
)
from litellm_sqlalchemy.prisma_client.statements import Statement


def tokens(database: Database) -> str:
    rows = database.query('SELECT token FROM "LiteLLM_VerificationToken" ORDER BY token')
    return "".join(token for (token,) in rows)


def test_transaction_is_committed_at_its_end(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        async with client.tx() as tx:
            await tx.litellm_verificationtoken.create(data={"token": "a"})
            await tx.execute_raw("""INSERT INTO "LiteLLM_VerificationToken" (token) VALUES ('b')""")
            assert await tx.litellm_verificationtoken.count() == 2
            assert await client.litellm_verificationtoken.count() == 0
        assert await client.litellm_verificationtoken.count() == 2

    run_client(work)
    assert tokens(litellm_database) == "ab"


def test_transaction_is_rolled_back_by_an_exception(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            async with client.tx() as tx:
                await tx.litellm_verificationtoken.create(data={"token": "a"})
                await tx.litellm_verificationtoken.create_many(data=[{"token": "b"}])
                raise ZeroDivisionError
        with pytest.raises(UniqueViolationError):
            async with client.tx() as tx:
                await tx.litellm_verificationtoken.create(data={"token": "a"})
                await tx.litellm_verificationtoken.create(data={"token": "a"})
        await client.litellm_verificationtoken.create(data={"token": "c"})

    run_client(work, connection_limit=1)
    assert tokens(litellm_database) == "c"


def test_transaction_by_hand(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(TransactionNotStartedError):
            await client.tx().commit()
        for token, end in (("a", "commit"), ("b", "rollback")):
            manager = client.tx()
            tx = await manager.start()
            assert tx.is_transaction()
            await tx.litellm_verificationtoken.create(data={"token": token})
            await getattr(manager, end)()
            with pytest.raises(TransactionExpiredError, match="already closed"):
                await tx.litellm_verificationtoken.count()

    run_client(work)
    assert tokens(litellm_database) == "a"


def test_transaction_that_takes_too_long(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(TransactionExpiredError, match="expired transaction"):
            async with client.tx(timeout=timedelta(milliseconds=100)) as tx:
                await tx.litellm_verificationtoken.create(data={"token": "a"})
                await asyncio.sleep(0.3)
                assert await client.litellm_verificationtoken.count() == 0
                await tx.litellm_verificationtoken.create(data={"token": "b"})
        with pytest.raises(TransactionExpiredError, match="A commit cannot"):
            async with client.tx(timeout=timedelta(milliseconds=100)) as tx:
                await tx.query_raw("SELECT 1 FROM pg_sleep(0.3)")
        # Its connection is free again.
        await client.litellm_verificationtoken.create(data={"token": "c"})

    run_client(work, connection_limit=2)
    assert tokens(litellm_database) == "c"


def test_transaction_waits_for_a_connection_no_longer_than_it_may(run_client: Run) -> None:
    async def work(client: Client) -> None:
        async with client.tx() as tx:
            with pytest.raises(TransactionError, match="Unable to start a transaction in the given time"):
                async with client.tx(max_wait=timedelta(milliseconds=50)):
                    pass
            await tx.litellm_verificationtoken.count()
        async with client.tx(max_wait=timedelta(milliseconds=50)) as tx:
            await tx.litellm_verificationtoken.count()

    run_client(work, connection_limit=1)


def test_isolation_level(run_client: Run) -> None:
    async def work(client: Client) -> list[str]:
        levels = []
        for level in (None, "RepeatableRead", "SERIALIZABLE"):
            async with client.tx(isolation_level=level) as tx:
                levels.append((await tx.query_first("SHOW transaction_isolation"))["transaction_isolation"])
        with pytest.raises(DataError, match="Chaos"):
            client.tx(isolation_level="Chaos")
        return levels

    assert run_client(work) == ["read committed", "repeatable read", "serializable"]


def test_transaction_in_a_transaction_is_another_one(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            async with client.tx() as outer:
                await outer.litellm_verificationtoken.create(data={"token": "a"})
                with pytest.warns(UserWarning, match="already in a transaction"):
                    async with outer.tx() as inner:
                        await inner.litellm_verificationtoken.create(data={"token": "b"})
                raise ZeroDivisionError

    run_client(work)
    assert tokens(litellm_database) == "b"


def test_batch_is_all_or_nothing(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        async with client.batch_() as batch:
            batch.litellm_verificationtoken.create(data={"token": "a", "spend": 1.0})
            batch.litellm_verificationtoken.create_many(data=[{"token": "b"}, {"token": "c"}, {"token": "d"}])
            batch.litellm_verificationtoken.update(where={"token": "a"}, data={"spend": {"increment": 1}})
            batch.litellm_verificationtoken.update_many(where={"token": "b"}, data={"spend": 5.0})
            batch.litellm_verificationtoken.upsert(
                where={"token": "e"}, data={"create": {"token": "e"}, "update": {"spend": 1.0}}
            )
            batch.litellm_verificationtoken.delete(where={"token": "c"})
            batch.litellm_verificationtoken.delete_many(where={"token": "d"})
            batch.execute_raw('UPDATE "LiteLLM_VerificationToken" SET spend = spend + $1', 10)
            assert await client.litellm_verificationtoken.count() == 0
        failing = client.batch_()
        failing.litellm_verificationtoken.create(data={"token": "x"})
        failing.litellm_verificationtoken.update(where={"token": "nobody"}, data={"spend": 1.0})
        with pytest.raises(RecordNotFoundError):
            await failing.commit()
        with pytest.raises(ZeroDivisionError):
            async with client.batch_() as batch:
                batch.litellm_verificationtoken.create(data={"token": "y"})
                raise ZeroDivisionError

    run_client(work)
    rows = litellm_database.query('SELECT token, spend FROM "LiteLLM_VerificationToken" ORDER BY token')
    assert [tuple(row) for row in rows] == [("a", 12.0), ("b", 15.0), ("e", 10.0)]


def test_batch_in_a_transaction(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            async with client.tx() as tx:
                async with tx.batch_() as batch:
                    batch.litellm_verificationtoken.create(data={"token": "a"})
                assert await tx.litellm_verificationtoken.count() == 1
                raise ZeroDivisionError

    run_client(work)
    assert tokens(litellm_database) == ""


def test_fifty_tasks_count_exactly(run_client: Run) -> None:
    async def work(client: Client) -> list[float]:
        keys = client.litellm_verificationtoken
        await keys.create(data={"token": "a"})

        async def spend(number: int) -> None:
            for _ in range(4):
                match number % 4:
                    case 0:
                        await keys.update(where={"token": "a"}, data={"spend": {"increment": 1}})
                    case 1:
                        await keys.update_many(where={"token": "a"}, data={"spend": {"increment": 1}})
                    case 2:
                        async with client.batch_() as batch:
                            batch.litellm_verificationtoken.update(
                                where={"token": "a"}, data={"spend": {"increment": 1}}
                            )
                    case _:
                        data: Any = {"create": {"token": "a"}, "update": {"spend": {"increment": 1}}}
                        await keys.upsert(where={"token": "a"}, data=data)

        await asyncio.gather(*[spend(number) for number in range(50)])
        return [(await keys.find_unique(where={"token": "a"})).spend]

    assert run_client(work, connection_limit=5) == [200.0]


@pytest.mark.parametrize("created", ["a", "b"])
def test_upserts_of_one_record_at_the_same_moment(run_client: Run, created: str) -> None:
    """In one statement, and in a transaction where the key to create is another than the one looked for."""

    async def work(client: Client) -> int:
        keys = client.litellm_verificationtoken
        # Connections that are there already, or the first upsert would be done before the others have begun.
        await asyncio.gather(*[client.query_raw("SELECT 1 FROM pg_sleep(0.1)") for _ in range(5)])
        data: Any = {"create": {"token": created, "key_alias": "x"}, "update": {"spend": {"increment": 1}}}
        where: Any = {"token": "a"} if created == "a" else {"token": "b", "key_alias": "x"}
        await asyncio.gather(*[keys.upsert(where=where, data=data) for _ in range(20)])
        return int((await keys.find_unique(where={"token": created})).spend)

    assert run_client(work, connection_limit=5) == 19


def test_answers_of_the_same_moment_come_from_one_statement(run_client: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = []
    rows = Pool.rows

    async def counted(pool: Pool, statement: Statement, found: Any, model: Any) -> Any:
        statements.append(statement.sql)
        return await rows(pool, statement, found, model)

    async def work(client: Client) -> list[str | None]:
        keys = client.litellm_verificationtoken
        await keys.create_many(data=[{"token": token} for token in "abc"])
        monkeypatch.setattr(Pool, "rows", counted)
        found = await asyncio.gather(*[keys.find_unique(where={"token": token}) for token in "abcabz"])
        return [key and key.token for key in found]

    assert run_client(work) == ["a", "b", "c", "a", "b", None]
    assert len(statements) == 1


def test_one_who_gives_up_takes_nothing_from_the_others(run_client: Run) -> None:
    async def work(client: Client) -> str:
        keys = client.litellm_verificationtoken
        await keys.create(data={"token": "a"})
        first, second = (asyncio.create_task(keys.find_unique(where={"token": "a"})) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return str((await second).token)

    assert run_client(work) == "a"


def test_cancelled_statement_leaves_a_usable_pool(run_client: Run) -> None:
    async def work(client: Client) -> int:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.query_raw("SELECT 1 FROM pg_sleep(5)"), 0.1)
            with pytest.raises(asyncio.TimeoutError):
                async with client.tx() as tx:
                    await asyncio.wait_for(tx.query_raw("SELECT 1 FROM pg_sleep(5)"), 0.1)
        return int((await client.query_first("SELECT 1 AS one"))["one"])

    assert run_client(work, connection_limit=2) == 1


def test_deadlock_is_told(run_client: Run) -> None:
    async def work(client: Client) -> list[str | None]:
        keys = client.litellm_verificationtoken
        await keys.create_many(data=[{"token": "a"}, {"token": "b"}])
        met = asyncio.Barrier(2)

        async def cross(first: str, second: str) -> str | None:
            try:
                async with client.tx(timeout=timedelta(seconds=20)) as tx:
                    await tx.litellm_verificationtoken.update(where={"token": first}, data={"spend": 1.0})
                    await met.wait()
                    await tx.litellm_verificationtoken.update(where={"token": second}, data={"spend": 1.0})
            except DataError as error:
                return f"{error.code}: {error}"
            return None

        return sorted(await asyncio.gather(cross("a", "b"), cross("b", "a")), key=str)

    assert run_client(work) == [None, f"P2034: {failures.CONFLICT}"]


def test_serialization_failure_is_told(run_client: Run) -> None:
    async def work(client: Client) -> str | None:
        keys = client.litellm_verificationtoken
        await keys.create(data={"token": "a"})
        with pytest.raises(DataError) as caught:
            async with client.tx(isolation_level="RepeatableRead") as tx:
                await tx.litellm_verificationtoken.count()
                await keys.update(where={"token": "a"}, data={"spend": 1.0})
                await tx.litellm_verificationtoken.update(where={"token": "a"}, data={"spend": 2.0})
        assert type(caught.value) is DataError
        return caught.value.code

    assert run_client(work) == "P2034"


def test_lock_timeout_is_told_as_litellm_reads_it(run_client: Run, litellm_database: Database, handler: Any) -> None:

    async def work(client: Client) -> bool:
        await client.litellm_verificationtoken.create(data={"token": "a"})
        locked = litellm_database.meanwhile('SELECT 1 FROM "LiteLLM_VerificationToken" FOR UPDATE')
        with locked, pytest.raises(DataError) as caught:
            async with client.tx() as tx:
                await tx.execute_raw("SET LOCAL lock_timeout = '100ms'")
                await tx.litellm_verificationtoken.update(where={"token": "a"}, data={"spend": 2.0})
        return bool(handler.is_lock_timeout_error(caught.value) and handler.postgres_sqlstate(caught.value) == "55P03")

    assert run_client(work)


def test_pool_is_bounded_and_serves_who_came_first(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        order: list[int] = []

        async def ask(number: int) -> None:
            await client.query_raw("SELECT 1 FROM pg_sleep(0.02)")
            order.append(number)

        await asyncio.gather(*[ask(number) for number in range(12)])
        assert order == sorted(order)
        sessions = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'litellm'"
        )
        assert litellm_database.value(sessions) == 1

        holder = client.tx()
        await holder.start()
        with pytest.raises(DataError) as caught:
            await client.litellm_verificationtoken.count()
        assert caught.value.code == "P2024"
        await holder.rollback()

    run_client(work, connection_limit=1, pool_timeout=2)


def test_client_that_is_not_connected() -> None:
    async def work() -> None:
        client = Client(datasource={"url": "postgresql://nowhere/x"})
        assert not client.is_connected()
        with pytest.raises(ClientNotConnectedError):
            await client.litellm_verificationtoken.count()

    asyncio.run(work())
