"""PostgreSQL that is there and does not let the shipper in, or has no tables for it."""

import time

from faults.registry import fault
from faults.stage import Stage

SECONDS = 10


@fault("password-changed")
def password_changed(stage: Stage) -> None:
    """Somebody changes the password in the database only: rows wait until it is right again."""
    user = stage.lab.database_user
    verifier = stage.database.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}';")
    with stage.load():
        try:
            stage.database.sql(
                f"ALTER ROLE {user} PASSWORD 'another one, for some seconds';"
                f" SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}';"
            )
            time.sleep(SECONDS)
        finally:
            stage.database.sql(f"ALTER ROLE {user} PASSWORD '{verifier}';")
        stage.over()
    stage.expect(
        "password authentication failed" in stage.gateway.journal(stage.began, "litellm-shipper"),
        "the shipper did not notice",
    )
    stage.settle()


@fault("schema-not-migrated")
def schema_not_migrated(stage: Stage) -> None:
    """The gateway is deployed before the schema is: rows wait until there are tables."""
    with stage.load():
        try:
            _rename(stage, "{0} RENAME TO {0}_not_migrated")
            time.sleep(SECONDS)
        finally:
            _rename(stage, "{0}_not_migrated RENAME TO {0}")
        stage.over()
    stage.expect(not stage.gateway.set_aside(), "exchanges were set aside for want of tables")
    stage.settle()


def _rename(stage: Stage, change: str) -> None:
    stage.database.sql("".join(f"ALTER TABLE IF EXISTS {change.format(table)};" for table in ("requests", "responses")))
