"""db_init.py and `litellm-db` on a real database: what they print, how they exit, and what they leave behind."""

import json
import subprocess
from datetime import datetime, timezone
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from integration.support import (
    DAYS_AHEAD,
    Database,
    Run,
    Server,
    Writer,
    command_environment,
    is_sentence,
    printed,
    python,
)
from litellm_sqlalchemy import schema
from litellm_sqlalchemy.database import upgrade
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import Settings

pytestmark = pytest.mark.alters_schema

TODAY = f"{datetime.now(timezone.utc):%Y%m%d}"


# Create, upgrade, check


def test_first_run_creates_and_second_changes_nothing(empty: Database) -> None:
    """As Ansible runs it."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = command_environment(empty, partition_days_ahead=2)
        return subprocess.run(
            python("db_init.py", *arguments), env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    first = run()
    assert (first.returncode, first.stderr) == (0, "")
    report = json.loads(first.stdout)
    assert (report["changed"], report["dry_run"]) == (True, False)
    assert (report["revision_before"], report["revision_after"]) == (None, "0001")
    assert report["partitions_created"][0] == "default"
    assert f"p{TODAY}" in report["partitions_created"]
    assert len(report["partitions_created"]) == 5

    second = run()
    assert second.returncode == 0
    assert json.loads(second.stdout) == {
        "changed": False,
        "dry_run": False,
        "revision_before": "0001",
        "revision_after": "0001",
        "partitions_created": [],
        "litellm": None,
        "privileges": [],
    }
    assert run("--check").returncode == 0
    empty.query("DROP INDEX ix_requests_model")
    check = run("--check")
    assert check.returncode == EXIT_DIFFERENT
    assert "ix_requests_model" in json.loads(check.stdout)["differences"][0]


def test_check_of_what_was_created_finds_nothing(database: Database, run: Run) -> None:
    check = run("db_init.py", "--check", database=database)
    assert (check.exit_code, printed(check)) == (0, {"changed": False, "differences": []})


def test_run_with_more_days_ahead_creates_only_those(database: Database, run: Run) -> None:
    report = printed(run("db_init.py", database=database, partition_days_ahead=DAYS_AHEAD + 2))
    assert report["changed"] is True
    assert report["revision_before"] == report["revision_after"]
    assert len(report["partitions_created"]) == 2


def test_dry_run_says_what_would_be_done_and_does_nothing(empty: Database, run: Run) -> None:
    dry = run("db_init.py", "--dry-run", database=empty, partition_days_ahead=2)
    assert dry.exit_code == 0
    assert empty.tables() == set()
    done = printed(run("db_init.py", database=empty, partition_days_ahead=2))
    assert printed(dry) == done | {"dry_run": True}
    again = printed(run("db_init.py", "--dry-run", database=empty, partition_days_ahead=2))
    assert (again["changed"], again["partitions_created"]) == (False, [])


def test_check_of_a_database_without_a_schema_says_so(empty: Database, run: Run) -> None:
    check = run("db_init.py", "--check", database=empty)
    assert check.exit_code == EXIT_DIFFERENT
    assert "db_init.py" in printed(check)["differences"][0]
    assert empty.tables() == set()


DRIFTS = {
    "column_added": ("ALTER TABLE requests ADD COLUMN extra integer", "extra"),
    "column_dropped": ("ALTER TABLE responses DROP COLUMN response_model", "response_model"),
    "type_changed": ("ALTER TABLE responses ALTER COLUMN cost TYPE double precision", "cost"),
    "zone_lost": ("ALTER TABLE requests ALTER COLUMN end_time TYPE timestamp", "end_time"),
    "null_allowed": ("ALTER TABLE requests ALTER COLUMN route DROP NOT NULL", "route"),
    "index_dropped": ("DROP INDEX ix_requests_model", "ix_requests_model"),
    "index_added": ("CREATE INDEX surplus ON requests (user_id)", "surplus"),
    "unique_dropped": ("ALTER TABLE requests DROP CONSTRAINT uq_requests_request_id_created_at", "uq_requests"),
    "table_dropped": ("DROP TABLE responses CASCADE", "responses"),
    "pair_dropped": (f"DROP TABLE requests_p{TODAY}, responses_p{TODAY}", f"p{TODAY}"),
    "half_a_pair_dropped": (f"DROP TABLE responses_p{TODAY} CASCADE", f"p{TODAY}"),
    "pair_detached": (
        f"ALTER TABLE requests DETACH PARTITION requests_p{TODAY}; ALTER TABLE requests_p{TODAY} RENAME TO other",
        f"p{TODAY}",
    ),
    "default_dropped": ("DROP TABLE requests_default, responses_default", "default"),
    "key_dropped": (f"ALTER TABLE responses_p{TODAY} DROP CONSTRAINT fk_responses_p{TODAY}_requests", f"p{TODAY}"),
    "key_back_dropped": (f"ALTER TABLE requests_p{TODAY} DROP CONSTRAINT fk_requests_p{TODAY}_responses", f"p{TODAY}"),
}
MENDED = ["pair_dropped", "half_a_pair_dropped", "default_dropped", "key_dropped", "key_back_dropped"]


@pytest.mark.parametrize(("drift", "named"), DRIFTS.values(), ids=DRIFTS.keys())
def test_check_sees_drift(drift: str, named: str, database: Database) -> None:
    assert schema.differences(database.engine) == []
    database.query(drift)
    found = schema.differences(database.engine)
    assert any(named in difference for difference in found), found


@pytest.mark.parametrize("drift", MENDED)
def test_next_run_mends_partitions(drift: str, database: Database) -> None:
    database.query(DRIFTS[drift][0])
    assert schema.upgrade(database.engine, DAYS_AHEAD).changed
    assert schema.differences(database.engine) == []
    assert not schema.upgrade(database.engine, DAYS_AHEAD).changed


def test_check_that_finds_drift_exits_with_3(database: Database, run: Run) -> None:
    database.query("DROP INDEX ix_requests_model")
    for arguments in (("db_init.py", "--check"), ("check",)):
        check = run(*arguments, database=database)
        assert check.exit_code == EXIT_DIFFERENT
        assert any("ix_requests_model" in difference for difference in printed(check)["differences"])


def test_tables_of_others_are_no_drift(database: Database) -> None:
    database.query("CREATE TABLE somebody_elses (id integer PRIMARY KEY)")
    assert schema.differences(database.engine) == []


# Going wrong


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["upgrade", "check"])
def test_schema_of_a_newer_release_is_left_alone(arguments: tuple[str, ...], database: Database, run: Run) -> None:
    database.query("UPDATE request_log_version SET version_num = '9999'")
    result = run("db_init.py", *arguments, database=database)
    assert result.exit_code == 1
    assert "9999" in printed(result)["error"]
    assert printed(result)["changed"] is False
    assert is_sentence(result)


def test_failed_run_changes_nothing(empty: Database, run: Run) -> None:
    """The second of the two tables cannot be created."""
    empty.query("CREATE TABLE responses (id integer)")
    result = run("db_init.py", database=empty)
    assert result.exit_code == 1
    assert "responses" in printed(result)["error"]
    assert empty.tables() == {"responses"}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "LITELLM_DB_URL"),
        ({"url": "nonsense with hunter2-hunter2"}, "URL"),
        ({"url": "postgresql+psycopg2://u:hunter2-hunter2@127.0.0.1:1/x"}, "refused"),
        ({"url": "postgresql+psycopg2://u@127.0.0.1:1/x", "pool_size": "none"}, "LITELLM_DB_POOL_SIZE"),
    ],
    ids=["no_url", "bad_url", "nobody_there", "bad_setting"],
)
def test_failure_is_a_sentence_in_json(environment: dict[str, str], named: str, run: Run) -> None:
    result = run("db_init.py", **environment)
    assert result.exit_code == 1
    report = printed(result)
    assert report["changed"] is False
    assert named in report["error"]
    assert "hunter2" not in result.output
    assert is_sentence(result)


# Two at once


def at_once(commands: list[list[str]], database: Database) -> list[Any]:
    """What commands print that are started together, each in a process of its own."""
    environment = command_environment(database)
    processes = [
        subprocess.Popen(one, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in commands
    ]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(commands), outputs
    return [json.loads(output) for output, _ in outputs]


def test_two_runs_at_once_both_succeed_and_one_changes(empty: Database) -> None:
    reports = at_once([python("db_init.py")] * 3, empty)
    assert sorted(report["changed"] for report in reports) == [False, False, True]
    assert schema.differences(empty.engine) == []


def test_timer_and_deployment_at_once_both_succeed(database: Database) -> None:
    reports = at_once([python("partitions"), python("db_init.py"), python("partitions")], database)
    assert sorted(report["changed"] for report in reports) == [False, False, True]


# Back and forth


def downgrade(database: Database) -> None:
    config = schema._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def test_downgrade_and_upgrade_lead_back_to_the_same_schema(database: Database) -> None:
    before = described(database)
    downgrade(database)
    assert database.tables() == {schema.VERSION_TABLE}
    assert schema.differences(database.engine) != []
    assert schema.upgrade(database.engine, DAYS_AHEAD).revision_before is None
    assert schema.differences(database.engine) == []
    assert described(database) == before


def described(database: Database) -> list[Any]:
    """Every column, constraint and index, as PostgreSQL itself writes them."""
    return [
        *database.query(
            "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,"
            " col_description(attrelid, attnum) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
            " AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace) ORDER BY 1, 2"
        ),
        *database.query(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
        ),
        *database.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"),
    ]


# The rights of the service


@pytest.fixture
def service(server: Server, empty: Database) -> Database:
    """The database as the roles postgresql and schema leave it: an owner of the tables, and a role that adds rows."""
    owner, owners_password = server.create_role()
    user, users_password = server.create_role()
    by_default = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
    server.run(f"ALTER DATABASE {empty.url.database} OWNER TO {owner}")
    for statement in (
        f"REVOKE ALL ON DATABASE {empty.url.database} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {empty.url.database} TO {user}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {user}",
        f"GRANT ALL ON SCHEMA public TO {owner}",
        f"{by_default} GRANT SELECT ON TABLES TO {user}",
        f"{by_default} GRANT USAGE, SELECT ON SEQUENCES TO {user}",
    ):
        empty.query(statement)
    owned = empty.as_role(owner, owners_password)
    settings = Settings(litellm_tables=False, service_role=user, partition_days_ahead=DAYS_AHEAD)
    assert upgrade(owned.engine, settings)["privileges"]
    owned.close()
    return empty.as_role(user, users_password)


def test_service_can_ship_and_check(service: Database, run: Run, writer: Writer) -> None:
    writer.write_many(5)
    shipped = run("ship", "--once", database=service, spool=writer.spool.path)
    assert shipped.exit_code == 0, shipped.stderr
    assert shipped.stdout == "5 exchanges shipped\n"
    assert service.counts() == (5, 5, 5)
    for arguments in (("check",), ("db_init.py", "--check")):
        check = run(*arguments, database=service)
        assert (check.exit_code, printed(check)["differences"]) == (0, []), check.stderr
    service.close()


def test_service_can_change_neither_the_schema_nor_a_row(service: Database, run: Run) -> None:
    for statement in (
        "UPDATE requests SET model = 'other'",
        "DELETE FROM requests",
        "CREATE TABLE mine (id integer)",
        "DROP TABLE responses CASCADE",
        "TRUNCATE responses CASCADE",
        "ALTER TABLE requests ADD COLUMN extra integer",
        "CREATE INDEX surplus ON requests (user_id)",
    ):
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            service.query(statement)
    result = run("db_init.py", database=service, partition_days_ahead=DAYS_AHEAD + 1)
    assert result.exit_code == 1
    assert "error" in printed(result)
    service.close()


# litellm-db


def test_ping_shows_how_the_service_connects(database: Database, run: Run) -> None:
    report = printed(run("ping", database=database))
    assert report["server_version"].startswith("17")
    assert (report["require_auth"], report["password_encryption"]) == ("scram-sha-256", "scram-sha-256")
    assert report["database"] == database.url.database
    assert report["pool"]["size"] == 5
    assert report["pool"]["pre_ping"] is True


def test_partitions_are_made_once(database: Database, run: Run) -> None:
    for changed, created in ((True, 2), (False, 0)):
        result = run("partitions", "--days-ahead", str(DAYS_AHEAD + 2), database=database)
        assert result.exit_code == 0
        assert (printed(result)["changed"], len(printed(result)["created"])) == (changed, created)


@pytest.mark.parametrize("arguments", [("partitions",), ("expire",), ("check",), ("ship", "--once")], ids=" ".join)
def test_command_on_a_database_without_a_schema_says_so(
    arguments: tuple[str, ...], empty: Database, run: Run, writer: Writer
) -> None:
    writer.write()
    result = run(*arguments, database=empty, keep_days=1, spool=writer.spool.path)
    assert result.exit_code in (1, EXIT_DIFFERENT)
    assert "does not exist" in result.output
    assert is_sentence(result)


def test_connections_of_the_package_are_named(database: Database) -> None:
    with database.engine.connect() as connection:
        name = connection.execute(text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"))
        assert name.scalar_one() == "litellm-request-log"
