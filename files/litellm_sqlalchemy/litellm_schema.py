"""LiteLLM's own tables in our database: its migrations, its views, and the indexes that it builds besides."""

import logging
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, Engine, text

from litellm_sqlalchemy import litellm_migrations as migrations
from litellm_sqlalchemy import litellm_views as views
from litellm_sqlalchemy.litellm_drift import drift


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did, or would do."""

    release: str
    """The version of litellm-proxy-extras."""
    migrations_applied: list[str]
    views_created: list[str]
    indexes_built: list[str]
    migrations_edited: list[str] = field(default_factory=list)
    migrations_retired: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """True where anything was, or would be, different afterwards."""
        return bool(self.migrations_applied or self.views_created or self.indexes_built)


def upgrade(engine: Engine, *, dry_run: bool = False) -> Upgrade:
    """Apply LiteLLM's migrations, then what they leave out; the caller holds Prisma's lock."""
    planned = _plan(engine)
    if dry_run or not planned.changed:
        return planned
    migrations.apply(engine)
    with engine.begin() as connection:
        views.create(connection)
    if planned.indexes_built:
        _build_indexes(engine)
    return planned


def differences(engine: Engine) -> list[str]:
    """What an upgrade would change, one sentence each; empty where it would change nothing."""
    try:
        planned = _plan(engine)
    except ValueError as error:
        return [str(error)]
    found = []
    if not planned.migrations_applied:
        with engine.connect() as connection:
            found += drift(connection)
    if pending := planned.migrations_applied:
        found.append(f"{len(pending)} migrations of LiteLLM are pending, the first is {pending[0]}: run db_init.py")
    found += [f"LiteLLM's view {name} is missing: run db_init.py" for name in planned.views_created]
    found += [f"LiteLLM's index {name} is missing or invalid: run db_init.py" for name in planned.indexes_built]
    return found


def baseline(engine: Engine) -> None:
    """Record every migration as carried out, for tables that `prisma db push` made; the caller holds Prisma's lock.

    ValueError where the tables are not those of this release.
    """
    with engine.begin() as connection:
        if migrations.recorded(connection):
            raise ValueError("there are records of migrations already: this database needs no baseline")
        if found := drift(connection):
            raise ValueError(
                f"the tables are not those of this release of LiteLLM: {'; '.join(found[:3])} ({len(found)} in all). "
                "Run `prisma db push` with the LiteLLM of this release where they came from, then try again"
            )
        migrations.make_ledger(connection)
        for migration in migrations.released():
            migrations.record_applied(connection, migration)


def _plan(engine: Engine) -> Upgrade:
    with engine.connect() as connection:
        history = migrations.history(connection)
        return Upgrade(
            release=version("litellm-proxy-extras"),
            migrations_applied=[migration.name for migration in history.pending],
            views_created=views.missing(connection),
            indexes_built=_missing_indexes(connection),
            migrations_edited=history.edited,
            migrations_retired=history.retired,
        )


def _missing_indexes(connection: Connection) -> list[str]:
    valid = connection.execute(
        text(
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indisvalid AND relnamespace = current_schema()::regnamespace"
        )
    ).scalars()
    return sorted({index.name for index in _request_log_indexes().REQUEST_LOG_INDEXES} - set(valid))


def _build_indexes(engine: Engine) -> None:
    """LiteLLM's own routine: it neither blocks writers nor fails on a partitioned LiteLLM_SpendLogs."""
    with engine.connect() as connection:
        schema = str(connection.execute(text("SELECT current_schema()")).scalar_one())
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    if not _request_log_indexes().ensure_request_log_indexes(url, schema):
        with engine.connect() as connection:
            names = ", ".join(_missing_indexes(connection))
        raise ValueError(f"LiteLLM's indexes {names} could not be built, the reason is above: run db_init.py again")


@cache
def _request_log_indexes() -> Any:
    """LiteLLM's module of that name. Its logging imports LiteLLM if it can: seconds of work, for nothing here."""
    absent = "litellm" not in sys.modules
    if absent:
        sys.modules["litellm"] = None  # type: ignore[assignment]
    try:
        module = import_module("litellm_proxy_extras.request_log_indexes")
    finally:
        if absent:
            del sys.modules["litellm"]
    logging.getLogger("litellm_proxy_extras").setLevel(logging.WARNING)
    return module
