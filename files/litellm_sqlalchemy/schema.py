"""The schema as a whole: create, upgrade and check it. One at a time, whoever else runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from litellm_sqlalchemy import partitions
from litellm_sqlalchemy.models import Base

VERSION_TABLE = "request_log_version"

EXIT_DIFFERENT = 3
"""The exit code of a check that found differences."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did, or would do."""

    revision_before: str | None
    revision_after: str | None
    partitions_created: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """True where anything was, or would be, different afterwards."""
        return self.revision_before != self.revision_after or bool(self.partitions_created)


def upgrade(engine: Engine, days_ahead: int, *, dry_run: bool = False) -> Upgrade:
    """Bring the schema and its partitions up to date in one transaction; a dry run only says what would be done."""
    head = _script().get_current_head()
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": partitions.ADVISORY_LOCK})
        before = _revision(connection)
        _refuse_unknown(before)
        if dry_run:
            return Upgrade(before, head, [pair.suffix for pair in partitions.missing(connection, days_ahead)])
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        created = partitions.ensure(connection, days_ahead)
        return Upgrade(before, _revision(connection), created)


def differences(engine: Engine) -> list[str]:
    """How the database differs from the models, one sentence each; empty where it does not."""
    with engine.connect() as connection:
        revision, head = _revision(connection), _script().get_current_head()
        if revision is None:
            return ["the schema does not exist: run db_init.py"]
        found = []
        _refuse_unknown(revision)
        if revision != head:
            found.append(f"the schema is at revision {revision}, this release wants {head}: run db_init.py")
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "include_object": is_ours, "version_table": VERSION_TABLE},
        )
        found += [f"schema drift: {_sentence(change)}" for change in compare_metadata(context, Base.metadata)]
        incomplete = partitions.missing(connection, days_ahead=1)
        found += [f"partition {pair.suffix} or a key of it is missing: run db_init.py" for pair in incomplete]
        return found


def _refuse_unknown(revision: str | None) -> None:
    known = {script.revision for script in _script().walk_revisions()}
    if revision is not None and revision not in known:
        raise ValueError(
            f"the schema is at revision {revision}, which this release does not know: a newer release made it; "
            "deploy that one, or restore a backup from before it"
        )


def is_ours(_object: Any, name: str | None, kind: str, reflected: bool, _compare_to: Any) -> bool:
    """Alembic's include_object: the two parents and what hangs on them, not their partitions nor others' tables."""
    if kind == "table":
        return not reflected or name in Base.metadata.tables
    return True


def _sentence(change: Any) -> str:
    if isinstance(change, list):
        return "; ".join(_sentence(part) for part in change)
    return " ".join(str(getattr(part, "name", part)) for part in change if part is not None)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()
