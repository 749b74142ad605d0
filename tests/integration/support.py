"""Databases, exchanges and processes for the tests against a real PostgreSQL."""

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import Result
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.exchange import encode, microseconds
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Spool

FILES = Path(__file__).resolve().parents[2] / "files"
DAYS_AHEAD = 3

Run = Callable[..., Result]


def until(condition: Callable[[], Any], patience: float = 15.0) -> Any:
    """Wait for a condition and return its value; fail where it stays false, ``patience`` in seconds."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s in vain"
        time.sleep(0.02)
    return value


@dataclass
class Database:
    """A database of a test's own."""

    url: URL
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = make_engine(Settings(url=self.address, connect_timeout=5))  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """The URL as a service gets it."""
        return self.url.render_as_string(hide_password=False)

    def as_role(self, name: str, password: str) -> "Database":
        """The same database for another role."""
        return Database(self.url.set(username=name, password=password))

    def query(self, sql: str, **parameters: Any) -> list[Any]:
        """The rows of a statement, in a transaction of its own."""
        with self.engine.begin() as connection:
            result = connection.execute(text(sql), parameters)
            return list(result.all()) if result.returns_rows else []

    def value(self, sql: str, **parameters: Any) -> Any:
        """The one value of a query."""
        ((value,),) = self.query(sql, **parameters)
        return value

    def counts(self) -> tuple[int, int, int]:
        """How many requests, responses and whole pairs there are."""
        ((*counts,),) = self.query(
            "SELECT count(q.id), count(p.id), count(*) FILTER (WHERE q.id IS NOT NULL AND p.id IS NOT NULL)"
            " FROM requests q FULL JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
        )
        return counts[0], counts[1], counts[2]

    def tables(self) -> set[str]:
        """The names of all tables."""
        return {
            name
            for (name,) in self.query(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            )
        }

    @contextmanager
    def meanwhile(self, sql: str) -> Iterator[Connection]:
        """A transaction that stays open after a statement, and is rolled back."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(sql))
            yield connection
            connection.rollback()

    def close(self) -> None:
        self.engine.dispose()


class Server:
    """The PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._engine = create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        self._databases: list[str] = []
        self._roles: list[str] = []

    def run(self, sql: str) -> list[Any]:
        """Run a statement outside of a transaction."""
        with self._engine.connect() as connection:
            result = connection.execute(text(sql))
            return list(result.all()) if result.returns_rows else []

    def create(self, template: Database | None = None) -> Database:
        """Create a database, as a copy of another one or empty."""
        name = f"test_{secrets.token_hex(6)}"
        self._databases.append(name)
        if template is not None:
            template.close()
        self.run(f"CREATE DATABASE {name} TEMPLATE {template.url.database if template else 'template0'}")
        return Database(self.url.set(database=name))

    def create_role(self) -> tuple[str, str]:
        """Create a role that may log in and nothing else; its name and password."""
        name, password = f"test_{secrets.token_hex(6)}", secrets.token_hex(12)
        self._roles.append(name)
        self.run(f"CREATE ROLE {name} LOGIN NOINHERIT PASSWORD '{password}'")
        return name, password

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is still connected."""
        database.close()
        self.run(f"DROP DATABASE IF EXISTS {database.url.database} WITH (FORCE)")
        self._databases.remove(str(database.url.database))

    def clean(self) -> None:
        """Drop everything that is left."""
        for name in self._databases:
            self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        for name in self._roles:
            self.run(f"DROP ROLE IF EXISTS {name}")


def python(*command: str) -> list[str]:
    """A command line: db_init.py, or a command of litellm-db."""
    if command and command[0] == "db_init.py":
        return [sys.executable, str(FILES / "db_init.py"), *command[1:]]
    return [sys.executable, "-m", "litellm_sqlalchemy", *command]


def settings_environment(database: Database | None = None, **settings: Any) -> dict[str, str]:
    """Settings by their names, as variables; LiteLLM's tables, which take seconds, only where they are asked for."""
    given = {"litellm_tables": False} | ({} if database is None else {"url": database.address, "connect_timeout": 5})
    return {f"LITELLM_DB_{name.upper()}": str(value) for name, value in (given | settings).items()}


def command_environment(database: Database | None = None, **settings: Any) -> dict[str, str]:
    """The environment of a process with these settings."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM_DB_")}
    own = {"PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"}
    return others | own | settings_environment(database, **settings)


def printed(result: Result) -> Any:
    """The JSON that a command printed."""
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def is_sentence(result: Result) -> bool:
    """Whether a command ended by its own will rather than with a traceback."""
    return result.exception is None or isinstance(result.exception, SystemExit)


@dataclass
class Writer:
    """Writes exchanges to a spool as the gateway does."""

    spool: Spool
    at: int = field(default_factory=lambda: time.time_ns() // 1000)

    def write(
        self,
        request_id: str = "call",
        *,
        at: Any = None,
        request: dict[str, Any] | None = None,
        outcome: dict[str, Any] | None = None,
        accounting: dict[str, Any] | None = None,
    ) -> int:
        """A finished exchange, by default a success of this moment; its seq."""
        created_at = self.at if at is None else microseconds(at)
        asked = {"route": "/v1/chat/completions", "model": "gpt-4o", "payload": {"model": "gpt-4o"}}
        answered = {"outcome": "success", "status_code": 200, "ended_at": created_at + 1_500, "response": {"id": "x"}}
        counted = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.1}
        seq, _ = self.spool.open("worker", created_at, request_id, encode(asked | (request or {})))
        self.spool.finish(seq, encode(answered | (outcome or {})), 0)
        self.spool.account(seq, encode(counted | (accounting or {})))
        return seq

    def write_many(self, count: int, prefix: str = "call") -> list[str]:
        """So many exchanges; their ids."""
        ids = [f"{prefix}-{n}" for n in range(count)]
        for request_id in ids:
            self.write(request_id)
        return ids


@contextmanager
def running(shipper: Shipper) -> Iterator[Shipper]:
    """A shipper at work in a thread, as its service runs it."""
    thread = threading.Thread(target=shipper.run)
    thread.start()
    try:
        yield shipper
    finally:
        shipper.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()
