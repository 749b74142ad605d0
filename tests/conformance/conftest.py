"""Prisma's own client and ours, on two copies of one database, run the same operations.

Prisma's side is prisma-client-py 0.15, unmodified and generated for LiteLLM's schema, over Prisma's query compiler
(WebAssembly, in Node): oracle/install puts both into .cache/conformance. `make conformance` does, and names a
PostgreSQL 17 to make databases in by LITELLM_TEST_DATABASE_URL, as for the integration tests.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import distribution
from pathlib import Path

import pytest

from call_sites import datamodel
from conformance import sides
from conformance.catalogue import Cell, Domain, call
from conformance.comparison import Comparison
from conformance.population import populate
from conformance.world import Copy
from integration.support import Database, Server
from litellm_sqlalchemy import litellm_migrations

SCHEMA = Path(str(distribution("litellm").locate_file("litellm/proxy/schema.prisma")))
MODELS = datamodel.read(SCHEMA)
ENUMS = {
    name: re.findall(r"^\s*(\w+)", body, re.MULTILINE)
    for name, body in re.findall(
        r"^enum (\w+) \{(.*?)^\}", SCHEMA.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--examples", type=int, default=1, help="examples of each cell")
    group.addoption("--seed", type=int, default=None, help="draw other examples than those of CI")
    group.addoption("--against", choices=["ours", "prisma"], default="ours", help="prisma: the oracle against itself")


@dataclass
class Coverage:
    """Which cells there are and which were compared."""

    expected: set[Cell] = field(default_factory=set)
    compared: Counter[Cell] = field(default_factory=Counter)


@dataclass
class Conformance:
    """What the tests share."""

    comparison: Comparison
    domain: Domain
    copies: tuple[Copy, Copy]
    examples: int
    seed: int | None
    coverage: Coverage = field(default_factory=Coverage)


def surface() -> dict[str, dict[str, dict[str, list[str]]]]:
    """What prisma-client-py's types allow; oracle/install has had them printed."""
    path = sides.INSTALLED / "surface.json"
    if not path.exists():
        pytest.exit("Prisma's clients are not installed: make conformance does", returncode=2)
    found: dict[str, dict[str, dict[str, list[str]]]] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    url = os.environ.get("LITELLM_TEST_DATABASE_URL")
    if not url:
        pytest.exit("LITELLM_TEST_DATABASE_URL names no PostgreSQL 17 to test with: see make conformance", returncode=2)
    server = Server(url)
    yield server
    server.clean()


def address(database: Database) -> str:
    """The URL of a database as Prisma wants it."""
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def conformance(server: Server, request: pytest.FixtureRequest) -> Iterator[Conformance]:
    """Both clients on two copies of a database that Prisma itself has filled."""
    template = server.create()
    litellm_migrations.apply(template.engine)
    template.close()
    domain = Domain(MODELS, ENUMS, surface(), populate(MODELS, ENUMS))
    with sides.prisma(address(template)) as first:
        for name, rows in domain.rows.items():
            first.ask([call(MODELS[name], "create", data=without_nulls(row)) for row in rows])
            failed = [one for one in first.answer() if "error" in one]
            assert not failed, f"{name}: {failed[0]['error']['message']}"
    template.close()

    since = datetime.now(timezone.utc).replace(microsecond=0)
    filled = Copy(address(template), MODELS, since)
    filled.keep()
    filled.close()
    databases = server.create(template), server.create(template)
    copies = Copy(address(databases[0]), MODELS, since), Copy(address(databases[1]), MODELS, since)
    for copy in copies:
        copy.learn()
        copy.reset_sequences()
    other = sides.prisma if request.config.getoption("--against") == "prisma" else sides.ours
    options = request.config.getoption
    with sides.prisma(address(databases[0])) as prisma, other(address(databases[1])) as ours:
        yield Conformance(
            Comparison((prisma, ours), copies, MODELS), domain, copies, options("--examples"), options("--seed")
        )
    for copy in copies:
        copy.close()


def without_nulls(row: dict[str, object]) -> dict[str, object]:
    """The fields that have a value: a Json of null would not be the database's null."""
    return {name: value for name, value in row.items() if value is not None}
