"""The client while PostgreSQL goes away, refuses, and comes back."""

import asyncio
import gc
import threading
from typing import Any

import httpx
import pytest

from integration.prisma_support import Client, Run, prisma_url
from integration.relay import Relay
from integration.support import Database, until
from litellm_sqlalchemy.prisma_client.errors import DataError, EngineError
from litellm_sqlalchemy.prisma_client.failures import ConnectionLostError, DatabaseUnreachableError
from prisma import Prisma

SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'litellm'"


def sessions(database: Database) -> int:
    return int(database.value(f"SELECT count(*) {SESSIONS}"))


def test_killed_sessions_are_replaced(run_client: Run, litellm_database: Database) -> None:
    """As after a restart of PostgreSQL: sessions that rested are found dead before they are used."""

    async def work(client: Client) -> list[int]:
        await asyncio.gather(*[client.query_raw("SELECT 1 FROM pg_sleep(0.05)") for _ in range(3)])
        before = sessions(litellm_database)
        litellm_database.query(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
        await asyncio.sleep(1.1)
        return [before, *[await client.litellm_verificationtoken.count() for _ in range(4)]]

    assert run_client(work, connection_limit=3) == [3, 0, 0, 0, 0]


def test_session_killed_under_a_statement(run_client: Run, litellm_database: Database, handler: Any) -> None:
    async def work(client: Client) -> None:
        asleep = asyncio.create_task(client.query_raw("SELECT 1 FROM pg_sleep(20)"))
        await asyncio.sleep(0.3)
        litellm_database.query(f"SELECT pg_terminate_backend(pid) {SESSIONS} AND state = 'active'")
        with pytest.raises(ConnectionLostError) as caught:
            await asleep
        assert isinstance(caught.value, httpx.ReadError)
        assert not isinstance(caught.value, httpx.ConnectError)
        assert handler.is_database_connection_error(caught.value)
        assert handler.is_database_transport_error(caught.value)
        assert await client.litellm_verificationtoken.count() == 0

    run_client(work, connection_limit=1)


def test_session_killed_in_a_transaction(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> int:
        with pytest.raises(ConnectionLostError):
            async with client.tx() as tx:
                await tx.litellm_verificationtoken.create(data={"token": "a"})
                litellm_database.query(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
                await asyncio.sleep(0.1)
                await tx.litellm_verificationtoken.create(data={"token": "b"})
        return int(await client.litellm_verificationtoken.count())

    assert run_client(work, connection_limit=1) == 0


def test_database_that_is_away_and_comes_back(
    litellm_database: Database, handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, and later, without a reconnection of LiteLLM's making."""
    relay = Relay(litellm_database.url)
    monkeypatch.setenv("DATABASE_URL", prisma_url(relay.url.render_as_string(hide_password=False)))

    async def work() -> None:
        relay.cut()
        client = Prisma()
        await client.connect()
        for _ in range(3):
            with pytest.raises(DatabaseUnreachableError) as caught:
                await client.litellm_verificationtoken.count()
            assert isinstance(caught.value, httpx.ConnectError)
            assert handler.is_database_connection_error(caught.value)
            assert handler.is_database_transport_error(caught.value)
            assert not handler.is_prisma_data_error(caught.value)
        relay.mend()
        assert await client.litellm_verificationtoken.count() == 0
        relay.cut()
        for _ in range(3):
            with pytest.raises((DatabaseUnreachableError, ConnectionLostError)):
                await client.litellm_verificationtoken.count()
        relay.mend()
        assert await client.litellm_verificationtoken.count() == 0
        await client.disconnect()

    try:
        asyncio.run(work())
    finally:
        relay.close()


def test_replica_that_is_not_there_is_told_at_once() -> None:
    """LiteLLM then reads from the primary."""

    async def work() -> None:
        replica = Prisma(datasource={"url": "postgresql://nobody@127.0.0.1:1/nowhere"})
        with pytest.raises(DatabaseUnreachableError):
            await replica.connect()

    asyncio.run(work())


def test_wrong_password_is_no_outage(litellm_database: Database, handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = litellm_database.url.set(password="wrong").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", prisma_url(url))

    async def work() -> None:
        with pytest.raises(EngineError, match="Authentication failed") as caught:
            await Prisma().connect()
        assert not handler.is_database_connection_error(caught.value)
        assert handler.is_permanent_database_fault(caught.value)
        assert "wrong" not in str(caught.value)

    asyncio.run(work())


def test_server_without_a_free_session(litellm_database: Database, handler: Any) -> None:
    litellm_database.query("DROP ROLE IF EXISTS lone")
    litellm_database.query("CREATE ROLE lone LOGIN PASSWORD 'lone' CONNECTION LIMIT 1")
    url = litellm_database.url.set(username="lone", password="lone").render_as_string(hide_password=False)

    async def work() -> None:
        async with Prisma(datasource={"url": prisma_url(url)}), Prisma(datasource={"url": prisma_url(url)}):
            pass

    with pytest.raises(DataError) as caught:
        asyncio.run(work())
    litellm_database.query("DROP ROLE lone")
    assert handler.is_database_capacity_error(caught.value)
    assert not handler.is_database_transport_error(caught.value)


def test_read_only_session_is_told_as_litellm_reads_it(run_client: Run, handler: Any) -> None:
    async def work(client: Client) -> bool:
        await client.execute_raw("SET default_transaction_read_only = on")
        with pytest.raises(DataError) as caught:
            await client.litellm_verificationtoken.create(data={"token": "a"})
        return bool(handler.is_read_only_transaction_error(caught.value))

    assert run_client(work, connection_limit=1)


def test_client_that_is_dropped_gives_its_connections_back(litellm_database: Database) -> None:
    """LiteLLM replaces a client, for a new token say, without closing it; what is under way is finished."""

    async def work() -> None:
        url = prisma_url(litellm_database.address)
        client: Prisma | None = Prisma(datasource={"url": url})
        assert client is not None
        await client.connect()
        under_way = asyncio.create_task(client.query_raw("SELECT 1 AS one FROM pg_sleep(0.3)"))
        await asyncio.sleep(0.1)
        client = None
        gc.disable()  # without the help of the collector
        try:
            assert await under_way == [{"one": 1}]
            del under_way
            await asyncio.sleep(0.2)
            left = await asyncio.to_thread(sessions, litellm_database)
        finally:
            gc.enable()
        assert left == 0

    asyncio.run(work())


def test_disconnect_closes_all(run_client: Run, litellm_database: Database) -> None:
    async def work(client: Client) -> None:
        await asyncio.gather(*[client.query_raw("SELECT 1 FROM pg_sleep(0.05)") for _ in range(3)])
        assert sessions(litellm_database) == 3

    run_client(work, connection_limit=3)
    until(lambda: sessions(litellm_database) == 0)


def test_each_thread_and_process_has_a_pool_of_its_own(run_client: Run, litellm_database: Database) -> None:
    """As in workers that are forked after the client's module was loaded."""
    counts: list[int] = []

    async def work(client: Client) -> None:
        counts.append(await client.litellm_verificationtoken.count())

    threads = [threading.Thread(target=run_client, args=(work,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [0, 0, 0]
