"""Tests against a real PostgreSQL 17, in databases of their own that are made and dropped as they are needed.

LITELLM_TEST_DATABASE_URL names a database of a role that may create databases and roles; nothing in it is touched.
`make integration` names the scratch server of the lab (molecule/default/tasks/scratch_database.yml). There
is no default: without the lab, whoever has its address would be asked.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from db_init import main as db_init
from integration.prisma_support import Run as RunClient
from integration.prisma_support import prisma_url
from integration.support import DAYS_AHEAD, Database, Run, Server, Writer, settings_environment
from litellm_sqlalchemy import litellm_schema
from litellm_sqlalchemy.cli import main as litellm_db
from litellm_sqlalchemy.schema import upgrade
from litellm_sqlalchemy.settings import get_settings
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Spool
from prisma import Prisma

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alters_schema: gets a database of its own")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    url = os.environ.get("LITELLM_TEST_DATABASE_URL")
    if not url:
        pytest.exit("LITELLM_TEST_DATABASE_URL names no PostgreSQL 17 to test with: see make integration", returncode=2)
    server = Server(url)
    try:
        ((version,),) = server.run("SHOW server_version_num")
    except OperationalError as error:
        shown = make_url(url).render_as_string()
        pytest.exit(f"There is no PostgreSQL at {shown} (LITELLM_TEST_DATABASE_URL): {error.orig}", returncode=2)
    assert int(version) >= 170_000
    yield server
    server.clean()


@pytest.fixture(scope="session")
def template(server: Server) -> Database:
    """A database with the schema, to be copied."""
    database = server.create()
    upgrade(database.engine, DAYS_AHEAD)
    return database


@pytest.fixture(scope="session")
def shared(server: Server, template: Database) -> Database:
    """A database for the tests that only write rows."""
    return server.create(template)


@pytest.fixture
def database(
    request: pytest.FixtureRequest, server: Server, template: Database, shared: Database
) -> Iterator[Database]:
    """A database with the schema and no rows; one of its own for a test that alters the schema."""
    if request.node.get_closest_marker("alters_schema"):
        own = server.create(template)
        yield own
        server.drop(own)
    else:
        yield shared
        shared.query("DELETE FROM requests")
        assert shared.counts() == (0, 0, 0)


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    """A database without anything."""
    database = server.create()
    yield database
    server.drop(database)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs db_init.py or a command of litellm-db with a database and other settings, in this process: it is quicker."""

    def running(*command: str, database: Database | None = None, **environment: Any) -> Result:
        for name in [name for name in os.environ if name.startswith("LITELLM_DB_")]:
            monkeypatch.delenv(name)
        for name, value in settings_environment(database, **environment).items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        program, arguments = (db_init, command[1:]) if command[0] == "db_init.py" else (litellm_db, command)
        return CliRunner().invoke(program, arguments)

    yield running
    get_settings.cache_clear()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite3")
    yield spool
    spool.close()


@pytest.fixture
def writer(spool: Spool) -> Writer:
    return Writer(spool)


@pytest.fixture
def shippers_spool(spool: Spool) -> Iterator[Spool]:
    """The same spool as another process sees it."""
    own = Spool(spool.path)
    yield own
    own.close()


@pytest.fixture
def shipper(shippers_spool: Spool, database: Database) -> Shipper:
    return Shipper(shippers_spool, database.engine, batch_size=50, accounting_grace=30.0)


@pytest.fixture(scope="session")
def litellm_template(server: Server) -> Database:
    """A database with LiteLLM's own tables, to be copied."""
    database = server.create()
    litellm_schema.upgrade(database.engine)
    return database


@pytest.fixture(scope="session")
def litellm_shared(server: Server, litellm_template: Database) -> Database:
    """A database for the tests of the client, which only write rows."""
    return server.create(litellm_template)


@pytest.fixture
def litellm_database(litellm_shared: Database) -> Iterator[Database]:
    """A database with LiteLLM's own tables and no rows."""
    yield litellm_shared
    tables = litellm_shared.query(
        "SELECT format('%I', relname) FROM pg_stat_user_tables WHERE n_tup_ins > 0 AND relname LIKE 'LiteLLM%'"
    )
    if tables:
        litellm_shared.query(f"TRUNCATE {', '.join(name for (name,) in tables)} CASCADE")


@pytest.fixture(scope="session")
def handler() -> Any:
    """LiteLLM's own judgement of database errors."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler  # noqa: PLC0415 - it takes seconds

    return PrismaDBExceptionHandler


@pytest.fixture
def run_client(litellm_database: Database) -> RunClient:
    """Runs a coroutine function with a connected client."""

    def running(work: Callable[[Prisma], Awaitable[Any]], **parameters: Any) -> Any:
        async def connected() -> Any:
            url = prisma_url(litellm_database.address, **parameters)
            async with Prisma(datasource={"url": url}) as client:
                return await work(client)

        return asyncio.run(connected())

    return running
