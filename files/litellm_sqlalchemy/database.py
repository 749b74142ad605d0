"""The database as a whole: the request log, LiteLLM's own tables, and who may do what with either."""

from typing import Any

from sqlalchemy import Engine

from litellm_sqlalchemy import litellm_migrations, litellm_schema, privileges, schema
from litellm_sqlalchemy.settings import Settings


def upgrade(
    engine: Engine,
    settings: Settings,
    *,
    dry_run: bool = False,
    rolled_back: str | None = None,
    applied: str | None = None,
    baseline: bool = False,
) -> dict[str, Any]:
    """Bring everything up to date and report it; the last three set LiteLLM's records right first."""
    if dry_run:
        return _upgrade(engine, settings, dry_run=True)
    with litellm_migrations.prisma_lock(engine):
        for name in filter(None, (rolled_back, applied)):
            litellm_migrations.resolve(engine, name, applied=name == applied)
        if baseline:
            litellm_schema.baseline(engine)
        return _upgrade(engine, settings, dry_run=False)


def differences(engine: Engine, settings: Settings) -> list[str]:
    """How the database differs from what this release expects, one sentence each; empty where it does not."""
    found = schema.differences(engine)
    if settings.litellm_tables:
        found += litellm_schema.differences(engine)
    if settings.service_role:
        with engine.connect() as connection:
            missing = privileges.statements(connection, settings.service_role)
        found += [f"a privilege is not as it should be: {statement}" for statement in missing]
    return found


def _upgrade(engine: Engine, settings: Settings, *, dry_run: bool) -> dict[str, Any]:
    # LiteLLM's part is looked at first: where it must not be touched, nothing is.
    litellm = litellm_schema.upgrade(engine, dry_run=True) if settings.litellm_tables else None
    log = schema.upgrade(engine, settings.partition_days_ahead, dry_run=dry_run)
    if litellm and not dry_run:
        litellm = litellm_schema.upgrade(engine)
    granted: list[str] = []
    if settings.service_role:
        with engine.begin() as connection:
            change = privileges.statements if dry_run else privileges.grant
            granted = change(connection, settings.service_role)
    return {
        "changed": log.changed or bool(litellm and litellm.changed) or bool(granted),
        "dry_run": dry_run,
        "revision_before": log.revision_before,
        "revision_after": log.revision_after,
        "partitions_created": log.partitions_created,
        "litellm": litellm
        and {
            "release": litellm.release,
            "migrations_applied": litellm.migrations_applied,
            "migrations_edited": litellm.migrations_edited,
            "migrations_retired": litellm.migrations_retired,
            "views_created": litellm.views_created,
            "indexes_built": litellm.indexes_built,
        },
        "privileges": granted,
    }
