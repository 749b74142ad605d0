"""Two copies of one database, and what is in their tables."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg2

from call_sites.datamodel import Model

SEED = "seed"
"""The schema that keeps the rows that the tables are put back to."""
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CUID = re.compile(r"c[a-z0-9]{24}")

Dump = dict[str, list[Any]]


def masked(value: Any, since: datetime) -> Any:  # noqa: PLR0911 - a kind of value each
    """A value with what a client or the database makes up itself, ids and moments, replaced."""
    match value:
        case str() if UUID.fullmatch(value):
            return "<uuid>"
        case str() if CUID.fullmatch(value):
            return "<cuid>"
        case datetime():
            known = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return "<now>" if since <= known <= since + timedelta(hours=6) else known
        case dict():
            return {key: masked(inner, since) for key, inner in value.items()}
        case list() | tuple():
            return [masked(inner, since) for inner in value]
        case memoryview():
            return bytes(value)
    return value


@dataclass
class Copy:
    """One of the databases, as seen from outside of the clients."""

    dsn: str
    models: dict[str, Model]
    since: datetime
    seed: Dump = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connection = psycopg2.connect(self.dsn)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()

    def keep(self) -> None:
        """Remember the rows that are there as those to put back."""
        self._cursor.execute(f"CREATE SCHEMA {SEED}")
        for name in self.models:
            self._cursor.execute(f'CREATE TABLE {SEED}."{name}" AS TABLE public."{name}"')

    def read(self, names: set[str]) -> Dump:
        """The rows of some tables, in an order that does not depend on ids made up."""
        found: Dump = {}
        for name in sorted(names):
            columns = ", ".join(f'"{one.column}"' for one in self.models[name].scalars)
            self._cursor.execute(f'SELECT {columns} FROM "{name}"')
            found[name] = sorted((masked(list(row), self.since) for row in self._cursor.fetchall()), key=repr)
        return found

    def learn(self) -> None:
        """Note what the tables hold at first."""
        self.seed = self.read(set(self.models))
        self._digests = self._digest(set(self.models))

    def _digest(self, names: set[str]) -> dict[str, str]:
        query = " UNION ALL ".join(
            f"SELECT '{name}', coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM \"{name}\" t"
            for name in names
        )
        self._cursor.execute(query)
        return dict(self._cursor.fetchall())

    def changed(self, names: set[str]) -> set[str]:
        """Those of some tables that are not as at first."""
        return {name for name, digest in self._digest(names).items() if digest != self._digests[name]}

    def restore(self, names: set[str]) -> None:
        """Put tables back as they were at first."""
        statements = ["SET session_replication_role = replica"]
        for name in names:
            statements += [f'DELETE FROM "{name}"', f'INSERT INTO "{name}" SELECT * FROM {SEED}."{name}"']
        self._cursor.execute("; ".join([*statements, "SET session_replication_role = DEFAULT"]))

    def reset_sequences(self) -> None:
        """Have numbers given from the same place again."""
        self._cursor.execute(
            "SELECT setval(oid::regclass, 1000, false) FROM pg_class"
            " WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
