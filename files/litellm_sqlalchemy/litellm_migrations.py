"""LiteLLM's own SQL migrations, applied and recorded as `prisma migrate deploy` does: either continues the other.

The files are those of the package litellm-proxy-extras, ``migrations/NAME/migration.sql``. The records, a row a file in
``_prisma_migrations``, are those of Prisma's schema engine.
"""

import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

PRISMA_LOCK = 72707369
"""The advisory lock of Prisma's schema engine: whoever migrates with Prisma waits for us, and we for them."""

LOCK_PATIENCE = 60.0
"""Seconds to wait for it; LiteLLM's migrations take one."""

_LEDGER = """
CREATE TABLE _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    finished_at TIMESTAMPTZ,
    migration_name VARCHAR(255) NOT NULL,
    logs TEXT,
    rolled_back_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)
"""

# Errors that are nobody's mistake, by SQLSTATE: a lock or a statement that took too long, a deadlock, a server that
# went away. What was begun has been rolled back, so there is nothing to record.
_PASSING = ("55P03", "57014", "40P01", "57P01", "57P02", "57P03", None)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, its SQL, and the hexadecimal SHA-256 of the file."""

    name: str
    script: str
    checksum: str

    @property
    def alone(self) -> bool:
        """Whether PostgreSQL takes it outside of a transaction only."""
        return bool(re.search(r"^[^-]*\bCONCURRENTLY\b", self.script, re.MULTILINE | re.IGNORECASE))


@dataclass(frozen=True, slots=True)
class History:
    """What is recorded, against the files of this release."""

    pending: list[Migration]
    edited: list[str]
    """Applied, but LiteLLM has changed the file since; Prisma does not run it again, nor do we."""
    retired: list[str]
    """Applied, but LiteLLM no longer ships the file."""


@contextmanager
def prisma_lock(engine: Engine) -> Iterator[None]:
    """Hold Prisma's lock; ValueError where somebody else keeps it for ``LOCK_PATIENCE``."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + LOCK_PATIENCE
        # Asked for again and again: CREATE INDEX CONCURRENTLY of whoever has the lock would wait for one that waits.
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": PRISMA_LOCK}).scalar_one():
            if time.monotonic() > deadline:
                raise ValueError(
                    f"another migration has been under way for {LOCK_PATIENCE} s: somebody holds Prisma's advisory "
                    f"lock {PRISMA_LOCK} (pg_locks names the session). Run db_init.py again when it has finished"
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            # The session goes back to the pool, and must not take the lock there.
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": PRISMA_LOCK})


def package(name: str) -> Path:
    """The directory of an installed package, found without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the package {name} is not installed: roles/schema/files has the lists of packages")
    return Path(next(iter(spec.submodule_search_locations)))


def released() -> list[Migration]:
    """The migrations of the installed litellm-proxy-extras, in Prisma's order: that of their names."""
    found = []
    for path in sorted((package("litellm_proxy_extras") / "migrations").glob("*/migration.sql")):
        content = path.read_bytes()
        found.append(Migration(path.parent.name, content.decode(), hashlib.sha256(content).hexdigest()))
    if not found:
        raise ValueError("the installed litellm-proxy-extras has no migrations/*/migration.sql")
    return found


def history(connection: Connection) -> History:
    """The state of the database; ValueError with what to do where a migration must not be tried."""
    files = {migration.name: migration for migration in released()}
    if not recorded(connection):
        if tables := litellm_tables(connection):
            raise ValueError(
                f"there are {tables} tables of LiteLLM but no record of migrations: `prisma db push` made them. "
                "`db_init.py --baseline` compares them with this release and makes the records; see docs/RUNBOOK.md"
            )
        return History(list(files.values()), [], [])
    records = connection.execute(
        text(
            "SELECT migration_name AS name, checksum, finished_at, started_at, coalesce(logs, '') AS logs"
            " FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY started_at"
        )
    ).all()
    for record in records:
        if record.finished_at is None:
            raise ValueError(
                f"LiteLLM's migration {record.name}, begun {record.started_at:%Y-%m-%d %H:%M} UTC, failed or was "
                f"interrupted: {_reason(record.logs)}. Mend that; then `db_init.py --rolled-back {record.name}` has it "
                f"tried again, or `--applied {record.name}` where its SQL was carried out by hand"
            )
    applied = {record.name: record.checksum for record in records}
    unknown = sorted(applied.keys() - files.keys())
    # Prisma's names begin with the time that they were made at. Baselines of LiteLLM's own, such as 0_init, do not.
    newer = [name for name in unknown if re.match(r"\d{14}_", name) and name > max(files)]
    if newer:
        raise ValueError(
            f"a newer LiteLLM has migrated this database: {newer[-1]} is unknown to this release, whose newest is "
            f"{max(files)}. Deploy that LiteLLM, or restore a backup from before it"
        )
    return History(
        pending=[migration for name, migration in files.items() if name not in applied],
        edited=[name for name, checksum in applied.items() if name in files and files[name].checksum != checksum],
        retired=unknown,
    )


def apply(engine: Engine) -> list[str]:
    """Apply what is pending, in order, and return the names; the caller holds the lock.

    A file and its record are one transaction. One that fails is recorded as Prisma records it, and ends the run.
    """
    with engine.begin() as connection:
        pending = history(connection).pending
        if not recorded(connection):
            make_ledger(connection)
    for migration in pending:
        _apply(engine, migration)
    return [migration.name for migration in pending]


def resolve(engine: Engine, name: str, *, applied: bool) -> None:
    """`prisma migrate resolve`: have a failed migration count as rolled back, or as applied by other means."""
    files = {migration.name: migration for migration in released()}
    if name not in files:
        raise ValueError(f"this release of LiteLLM has no migration {name}")
    with engine.begin() as connection:
        failed = connection.execute(
            text(
                "UPDATE _prisma_migrations SET rolled_back_at = now()"
                " WHERE migration_name = :name AND finished_at IS NULL AND rolled_back_at IS NULL"
            ),
            {"name": name},
        )
        if not failed.rowcount:
            raise ValueError(f"{name} is not recorded as failed: there is nothing to resolve")
        if applied:
            record_applied(connection, files[name])


def make_ledger(connection: Connection) -> None:
    """Create the table of the records."""
    connection.execute(text(_LEDGER))


def record_applied(connection: Connection, migration: Migration) -> None:
    """A record of a migration that was carried out by other means, as `prisma migrate resolve --applied` makes it."""
    connection.execute(
        text(
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs, started_at, finished_at)"
            " VALUES (:id, :checksum, :name, '', now(), now())"
        ),
        {"id": str(uuid.uuid4()), "checksum": migration.checksum, "name": migration.name},
    )


def litellm_tables(connection: Connection) -> int:
    """How many tables of LiteLLM there are."""
    query = (
        "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        r" AND relkind IN ('r', 'p') AND relname LIKE 'LiteLLM\_%'"
    )
    return int(connection.execute(text(query)).scalar_one())


def _apply(engine: Engine, migration: Migration) -> None:
    record = {"id": str(uuid.uuid4()), "checksum": migration.checksum, "name": migration.name}
    begin = text(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at)"
        " VALUES (:id, :checksum, :name, clock_timestamp())"
    )
    finish = text(
        "UPDATE _prisma_migrations SET finished_at = clock_timestamp(), applied_steps_count = 1 WHERE id = :id"
    )
    fail = text(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs) VALUES (:id, :checksum, :name, :logs)"
        " ON CONFLICT (id) DO UPDATE SET logs = excluded.logs"
    )
    isolation = {"isolation_level": "AUTOCOMMIT"} if migration.alone else {}
    try:
        with engine.connect().execution_options(**isolation) as connection, connection.begin():
            connection.execute(begin, record)
            # No parameters, so that PostgreSQL takes the file as it is, with all its statements.
            connection.exec_driver_sql(migration.script, execution_options={"no_parameters": True})
            connection.execute(finish, record)
    except DBAPIError as error:
        if migration.alone or _sqlstate(error) not in _PASSING:
            with engine.begin() as connection:
                connection.execute(fail, record | {"logs": _logs(migration, error)})
            raise ValueError(f"LiteLLM's migration {migration.name} failed: {str(error.orig).strip()}") from error
        raise


def _logs(migration: Migration, error: DBAPIError) -> str:
    """What Prisma writes into the record of a migration that failed."""
    return (
        "A migration failed to apply. New migrations cannot be applied before the error is recovered from. Read more "
        "about how to resolve migration issues in a production database: https://pris.ly/d/migrate-resolve\n\n"
        f"Migration name: {migration.name}\n\nDatabase error code: {_sqlstate(error)}\n\n"
        f"Database error:\nERROR: {str(error.orig).strip()}\n"
    )


def _reason(logs: str) -> str:
    """The database's own words in the logs of a failed migration."""
    _, _, said = logs.partition("Database error:\n")
    return said.strip().partition("\n")[0].removeprefix("ERROR: ") or "it left no reason"


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None)


def recorded(connection: Connection) -> bool:
    """Whether there are records of migrations at all."""
    return bool(connection.execute(text("SELECT to_regclass('_prisma_migrations') IS NOT NULL")).scalar_one())
