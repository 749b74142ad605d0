"""The database host: its server, statements as postgres, and the rows of the request log."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from faults.machine import CommandError, Conversation, Machine

START_PATIENCE = 60.0
APPLICATION = "litellm-request-log"
_PSQL = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``requests`` with what matters of its response; ``outcome`` is None where there is no response."""

    marker: str
    request_id: str
    status: int | None
    outcome: str | None
    latency_ms: float | None
    has_cost: bool
    age: float


class Database(Machine):
    """A machine of the group postgresql."""

    def __init__(self, podman: str, container: str, address: str, database: str, port: int) -> None:
        super().__init__(podman, container, address)
        self._psql = ["runuser", "-u", "postgres", "--", *_PSQL, f"--dbname={database}", f"--port={port}"]

    @cached_property
    def unit(self) -> str:
        """The systemd unit of the server."""
        version, cluster = self.run("pg_lsclusters --no-header").split()[:2]
        return f"postgresql@{version}-{cluster}.service"

    def sql(self, statements: str) -> str:
        """Run statements as postgres, each on its own; returns what they print."""
        return self.run('exec "$@"', *self._psql, data=statements)

    def query(self, query: str) -> list[Any]:
        """The rows of a query that gives one JSON value a row.

        As base64, since psql drops some characters that are rightly stored.
        """
        packed = f"SELECT translate(encode(convert_to(v::text, 'UTF8'), 'base64'), E'\\n', '') FROM ({query}) AS r(v);"
        return [json.loads(b64decode(line)) for line in self.sql(packed).splitlines()]

    def rows(self, prefix: str, since: float) -> list[Row]:
        """The rows of all calls whose marker begins with a prefix, and which were accepted since a moment."""
        found = self.query(
            f"SELECT jsonb_build_array(coalesce(substring(q.payload::text from '{prefix}[0-9]+'), q.request_id),"
            " q.request_id, q.status_code, p.content->>'outcome', p.latency_ms, p.cost IS NOT NULL,"
            " extract(epoch FROM now() - q.created_at))"
            " FROM requests q LEFT JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
            f" WHERE q.created_at >= to_timestamp({since})"
            f" AND (q.request_id LIKE '{prefix}%' OR q.payload::text LIKE '%{prefix}%')"
        )
        return [Row(*row) for row in found]

    def orphans(self, since: float) -> int:
        """How many requests have no response, or responses no request."""
        (count,) = self.query(
            "SELECT to_jsonb(count(*)) FROM requests q"
            " FULL JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
            f" WHERE coalesce(q.created_at, p.created_at) >= to_timestamp({since}) AND (q.id IS NULL OR p.id IS NULL)"
        )
        return int(count)

    def wait_until_ready(self) -> None:
        """Wait until the server takes statements."""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                self.sql("SELECT 1;")
            except CommandError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def start(self) -> None:
        """Start the server and wait for it."""
        self.run('systemctl start "$1"', self.unit, patience=START_PATIENCE)
        self.wait_until_ready()

    def stop(self) -> None:
        """Stop the server as a reboot would."""
        self.run('systemctl stop "$1"', self.unit, patience=START_PATIENCE)

    @contextmanager
    def busy(self, table: str = "requests") -> Iterator["Session"]:
        """A lock that no insert passes: who stores a batch waits in the middle of its transaction.

        At ``responses``, it has stored its requests already.
        """
        with Session(self._enter(*self._psql)) as session:
            session.say(f"BEGIN; LOCK TABLE {table} IN SHARE MODE;")
            yield session

    def wait_for(self, condition: str, patience: float = 15.0) -> None:
        """Wait until a connection of the shipper meets a condition on pg_stat_activity."""
        deadline = time.monotonic() + patience
        query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION}' AND {condition};"
        while self.sql(query) == "0":
            if time.monotonic() > deadline:
                raise CommandError(f"no connection of the shipper was seen with {condition}")
            time.sleep(0.05)


class Session(Conversation):
    """A session of psql that stays open; what it has not committed is rolled back at its end."""

    def say(self, statements: str) -> None:
        """Run statements and wait until they are done."""
        self.tell(f"{statements}\n\\echo done")
        while self.hear() != "done":
            pass
