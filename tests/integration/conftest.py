"""Tests against a real PostgreSQL 17, in databases of their own that are made and dropped as they are needed.

LITELLM_TEST_DATABASE_URL names a database of a role that may create databases and roles; nothing in it is touched.
By default that is the scratch server of the lab, which molecule/default/tasks/scratch_database.yml installs.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from integration.support import DAYS_AHEAD, Database, Server, Writer, command_environment, python
from litellm_sqlalchemy.schema import upgrade
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Spool

SCRATCH_URL = "postgresql+psycopg2://scratch:scratch@192.168.10.20/scratch"

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    url = os.environ.get("LITELLM_TEST_DATABASE_URL", SCRATCH_URL)
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


@pytest.fixture
def database(server: Server, template: Database) -> Iterator[Database]:
    """A database with the schema and no rows."""
    database = server.create(template)
    yield database
    server.drop(database)


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    """A database without anything."""
    database = server.create()
    yield database
    server.drop(database)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a command of the product in a process of its own, with a database and other settings."""

    def running(
        *command: str, database: Database | None = None, **environment: Any
    ) -> "subprocess.CompletedProcess[str]":
        given = command_environment(database, **environment)
        return subprocess.run(
            python(*command), env=given, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return running


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.sqlite3")
    yield spool
    spool.close()


@pytest.fixture
def writer(spool: Spool) -> Writer:
    return Writer(spool)


@pytest.fixture
def shipper(spool: Spool, database: Database) -> Shipper:
    return Shipper(spool, database.engine, batch_size=50, accounting_grace=30.0)
