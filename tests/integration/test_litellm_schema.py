"""LiteLLM's own tables as db_init.py makes them: its migrations, recorded as Prisma records them, views and rights."""

import hashlib
import signal
import subprocess
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from sqlalchemy.exc import ProgrammingError

from integration.support import (
    Database,
    Run,
    Server,
    command_environment,
    is_sentence,
    printed,
    python,
    until,
)
from litellm_sqlalchemy import database as whole
from litellm_sqlalchemy import litellm_migrations
from litellm_sqlalchemy.litellm_migrations import Migration, package, released
from litellm_sqlalchemy.schema import EXIT_DIFFERENT
from litellm_sqlalchemy.settings import Settings

FILES = released()
LATER = "29991231235959_later"


@pytest.fixture(scope="module")
def made(server: Server) -> Database:
    """A database with everything, to be copied."""
    database = server.create()
    whole.upgrade(database.engine, Settings(partition_days_ahead=1))
    return database


@pytest.fixture
def database(server: Server, made: Database) -> Iterator[Database]:
    """A copy of it."""
    own = server.create(made)
    yield own
    server.drop(own)


@pytest.fixture
def init(run: Run, database: Database) -> Any:
    """Runs db_init.py on the copy."""
    return lambda *arguments, **settings: run(
        "db_init.py", *arguments, **{"database": database, "litellm_tables": True, "partition_days_ahead": 1} | settings
    )


@pytest.fixture
def ships(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has this release ship the migrations of LiteLLM, or of an older one, and one more with the given SQL."""

    def shipping(script: str | None, *, name: str = LATER, files: list[Migration] = FILES) -> None:
        more = [] if script is None else [Migration(name, script, hashlib.sha256(script.encode()).hexdigest())]
        monkeypatch.setattr(litellm_migrations, "released", lambda: sorted([*files, *more], key=lambda one: one.name))

    return shipping


# What is made


def test_first_run_makes_everything_and_second_changes_nothing(empty: Database) -> None:
    """As Ansible runs it."""

    def run(*arguments: str) -> Any:
        environment = command_environment(empty, litellm_tables=True, partition_days_ahead=1)
        return subprocess.run(
            python("db_init.py", *arguments), env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    dry, first, second, check = run("--dry-run"), run(), run(), run("--check")
    assert [one.returncode for one in (dry, first, second, check)] == [0, 0, 0, 0]
    assert [one.stderr for one in (dry, first, second, check)] == [""] * 4
    report = printed(first)["litellm"]
    assert report["release"] == version("litellm-proxy-extras")
    assert report["migrations_applied"] == [migration.name for migration in FILES]
    assert len(report["views_created"]) == 8
    assert len(report["indexes_built"]) == 2
    assert printed(dry)["litellm"] == report
    assert printed(second)["changed"] is False
    assert printed(check)["differences"] == []


def test_dry_run_does_nothing(empty: Database, run: Run) -> None:
    assert printed(run("db_init.py", "--dry-run", database=empty, litellm_tables=True))["changed"] is True
    assert empty.tables() == set()


def test_request_log_alone_where_litellms_tables_are_not_wanted(empty: Database, run: Run) -> None:
    assert printed(run("db_init.py", database=empty, litellm_tables=False))["litellm"] is None
    assert not [name for name in empty.tables() if name.startswith(("LiteLLM", "_prisma"))]


def test_records_are_those_of_prisma(database: Database) -> None:
    """One a file: a uuid, the SHA-256 of the file, one step, no logs, and an end that is not before the start."""
    rows = database.query(
        "SELECT id, migration_name, checksum, applied_steps_count, logs, rolled_back_at, finished_at >= started_at"
        " FROM _prisma_migrations ORDER BY started_at"
    )
    assert [row[1] for row in rows] == [migration.name for migration in FILES]
    directory = package("litellm_proxy_extras") / "migrations"
    for identity, name, checksum, *rest in rows:
        assert str(uuid.UUID(identity)) == identity
        assert checksum == hashlib.sha256((directory / name / "migration.sql").read_bytes()).hexdigest()
        assert rest == [1, None, None, True]


def test_table_of_records_is_that_of_prisma(database: Database) -> None:
    """As its schema engine creates it: sql_schema_connector, postgres, create_migrations_table."""
    rows = database.query(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)"
        " WHERE attrelid = '_prisma_migrations'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert [tuple(row) for row in rows] == [
        ("id", "character varying(36)", True, None),
        ("checksum", "character varying(64)", True, None),
        ("finished_at", "timestamp with time zone", False, None),
        ("migration_name", "character varying(255)", True, None),
        ("logs", "text", False, None),
        ("rolled_back_at", "timestamp with time zone", False, None),
        ("started_at", "timestamp with time zone", True, "now()"),
        ("applied_steps_count", "integer", True, "0"),
    ]


def test_views_are_those_that_litellm_looks_for(database: Database) -> None:
    """`check_view_exists` in litellm/proxy/utils.py, which a gateway runs when it starts."""
    source = (package("litellm") / "proxy" / "utils.py").read_text()
    expected = source.split("expected_views: Final = [")[1].split("]")[0]
    names = {name for (name,) in database.query("SELECT viewname FROM pg_views WHERE schemaname = 'public'")}
    assert names == {name.strip().strip('"') for name in expected.split(",") if name.strip()}


# Going on where somebody stopped


def test_only_what_is_pending_is_applied(empty: Database, run: Run, ships: Any) -> None:
    """Whether Prisma or an older release stopped there: the records are the same."""
    ships(None, files=FILES[:150])
    assert len(litellm_migrations.apply(empty.engine)) == 150
    ships(None)
    check = run("db_init.py", "--check", database=empty, litellm_tables=True)
    assert check.exit_code == EXIT_DIFFERENT
    assert f"the first is {FILES[150].name}" in str(printed(check)["differences"])
    report = printed(run("db_init.py", database=empty, litellm_tables=True))["litellm"]
    assert report["migrations_applied"] == [migration.name for migration in FILES[150:]]
    assert run("db_init.py", "--check", database=empty, litellm_tables=True).exit_code == 0


def test_killed_run_leaves_nothing_half_done(empty: Database, run: Run) -> None:
    """A file and its record are one transaction: the next run goes on as if nothing had been."""
    environment = command_environment(empty, litellm_tables=True, partition_days_ahead=1)
    process = subprocess.Popen(python("db_init.py"), env=environment, stdout=subprocess.DEVNULL)
    count = "SELECT count(*) FROM _prisma_migrations"
    until(lambda: "_prisma_migrations" in empty.tables() and empty.value(count) >= 20, patience=60)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    done = empty.value(count)
    assert 20 <= done < len(FILES)
    report = printed(run("db_init.py", database=empty, litellm_tables=True))["litellm"]
    assert report["migrations_applied"] == [migration.name for migration in FILES[-len(report["migrations_applied"]) :]]
    assert empty.value(count) == len(FILES)


def test_edited_and_retired_files_are_reported_and_left(database: Database, init: Any) -> None:
    """LiteLLM has edited most of its files after their release, and removed some; Prisma goes on, and so do we."""
    database.query("UPDATE _prisma_migrations SET checksum = 'other' WHERE migration_name = :name", name=FILES[3].name)
    database.query(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES"
        " ('1', 'c', '20251115120021_baseline_diff', now()), ('2', 'c', '0_init', now())"
    )
    report = printed(init())
    assert report["changed"] is False
    assert report["litellm"]["migrations_edited"] == [FILES[3].name]
    assert report["litellm"]["migrations_retired"] == ["0_init", "20251115120021_baseline_diff"]


def test_database_of_a_newer_litellm_is_refused(database: Database, init: Any) -> None:
    database.query(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('1', 'c', :name, now())",
        name=LATER,
    )
    result = init()
    assert (result.exit_code, is_sentence(result)) == (1, True)
    assert "a newer LiteLLM" in printed(result)["error"]
    assert LATER in printed(result)["error"]
    assert LATER in str(printed(init("--check"))["differences"])


# Migrations that fail

BAD = 'CREATE TABLE "LiteLLM_Later" (id integer); SELECT 1/0;'
GOOD = 'CREATE TABLE "LiteLLM_Later" (id integer);'


@pytest.fixture
def failed(database: Database, init: Any, ships: Any) -> str:
    """The copy after a migration has failed; what db_init.py said."""
    ships(BAD)
    result = init()
    assert (result.exit_code, is_sentence(result)) == (1, True)
    return str(printed(result)["error"])


def test_failed_migration_leaves_its_record_and_nothing_else(failed: str, database: Database) -> None:
    assert failed == f"LiteLLM's migration {LATER} failed: division by zero"
    assert "LiteLLM_Later" not in database.tables()
    ((finished, rolled_back, steps, logs),) = database.query(
        "SELECT finished_at, rolled_back_at, applied_steps_count, logs FROM _prisma_migrations"
        " WHERE migration_name = :name",
        name=LATER,
    )
    assert (finished, rolled_back, steps) == (None, None, 0)
    assert f"Migration name: {LATER}" in logs
    assert "Database error code: 22012" in logs
    assert "ERROR: division by zero" in logs


@pytest.mark.usefixtures("failed")
def test_nothing_runs_on_a_failed_migration_and_the_way_out_is_said(database: Database, init: Any, ships: Any) -> None:
    ships(GOOD)
    result = init()
    assert (result.exit_code, is_sentence(result)) == (1, True)
    for expected in (LATER, "division by zero", f"--rolled-back {LATER}", f"--applied {LATER}"):
        assert expected in printed(result)["error"]
    assert "LiteLLM_Later" not in database.tables()
    assert LATER in str(printed(init("--check"))["differences"])


@pytest.mark.usefixtures("failed")
def test_failed_migration_counts_as_rolled_back_and_is_tried_again(database: Database, init: Any, ships: Any) -> None:
    ships(GOOD)
    report = printed(init("--rolled-back", LATER))
    assert report["litellm"]["migrations_applied"] == [LATER]
    assert "LiteLLM_Later" in database.tables()
    rows = database.query(
        "SELECT rolled_back_at IS NULL, finished_at IS NULL FROM _prisma_migrations WHERE migration_name = :name"
        " ORDER BY started_at",
        name=LATER,
    )
    assert [tuple(row) for row in rows] == [(False, True), (True, False)]


@pytest.mark.usefixtures("failed")
def test_failed_migration_counts_as_applied(database: Database, init: Any) -> None:
    """As `prisma migrate resolve --applied` records it: the failure rolled back, and a record without steps."""
    report = printed(init("--applied", LATER))
    assert report["litellm"]["migrations_applied"] == []
    rows = database.query(
        "SELECT rolled_back_at IS NULL, finished_at IS NULL, applied_steps_count, logs = '' FROM _prisma_migrations"
        " WHERE migration_name = :name ORDER BY finished_at NULLS FIRST",
        name=LATER,
    )
    assert [tuple(row) for row in rows] == [(False, True, 0, False), (True, False, 0, True)]


@pytest.mark.parametrize("option", ["--rolled-back", "--applied"])
def test_only_a_failed_migration_is_resolved(option: str, init: Any) -> None:
    for name, said in ((FILES[0].name, "not recorded as failed"), ("nonsense", "no migration nonsense")):
        result = init(option, name)
        assert (result.exit_code, is_sentence(result)) == (1, True)
        assert said in printed(result)["error"]


def test_index_that_is_built_concurrently_is_applied_outside_of_a_transaction(
    database: Database, init: Any, ships: Any
) -> None:
    ships('-- Not\nCREATE INDEX CONCURRENTLY "later" ON "LiteLLM_SpendLogs" ("model");')
    assert printed(init())["litellm"]["migrations_applied"] == [LATER]
    assert database.value("SELECT count(*) FROM pg_indexes WHERE indexname = 'later'") == 1


def test_lock_that_is_not_had_in_time_leaves_no_failure_behind(database: Database, init: Any, ships: Any) -> None:
    """Nothing is wrong with the migration: it was rolled back, and the next run tries it again."""
    ships('ALTER TABLE "LiteLLM_UserTable" ADD COLUMN later integer;')
    url = database.url.update_query_dict({"options": "-c lock_timeout=300"}).render_as_string(hide_password=False)
    with database.meanwhile('SELECT 1 FROM "LiteLLM_UserTable"'):
        result = init(url=url)
        assert (result.exit_code, is_sentence(result)) == (1, True)
        assert "lock timeout" in printed(result)["error"]
    assert database.value("SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL") == 0
    assert printed(init())["litellm"]["migrations_applied"] == [LATER]


# Tables that `prisma db push` made


def test_tables_without_records_are_refused_until_they_have_a_baseline(database: Database, init: Any) -> None:
    database.query("DROP TABLE _prisma_migrations")
    result = init()
    assert (result.exit_code, is_sentence(result)) == (1, True)
    assert "--baseline" in printed(result)["error"]
    report = printed(init("--baseline"))
    assert report["litellm"]["migrations_applied"] == []
    rows = database.query("SELECT DISTINCT applied_steps_count, logs, finished_at IS NULL FROM _prisma_migrations")
    assert [tuple(row) for row in rows] == [(0, "", False)]
    assert database.value("SELECT count(*) FROM _prisma_migrations") == len(FILES)
    assert printed(init("--check"))["differences"] == []


def test_baseline_of_other_tables_is_refused(database: Database, init: Any) -> None:
    database.query("DROP TABLE _prisma_migrations")
    database.query('ALTER TABLE "LiteLLM_TeamTable" DROP COLUMN spend CASCADE')
    database.query('ALTER TABLE "LiteLLM_UserTable" ALTER COLUMN tpm_limit TYPE integer')
    result = init("--baseline")
    assert (result.exit_code, is_sentence(result)) == (1, True)
    assert "LiteLLM_TeamTable.spend is missing" in printed(result)["error"]
    assert "LiteLLM_UserTable.tpm_limit is INTEGER and should be BIGINT" in printed(result)["error"]
    assert "_prisma_migrations" not in database.tables()


def test_baseline_where_there_are_records_is_refused(init: Any) -> None:
    result = init("--baseline")
    assert (result.exit_code, is_sentence(result)) == (1, True)
    assert "needs no baseline" in printed(result)["error"]


# What goes missing

DRIFTS = {
    "view": ('DROP VIEW "MonthlyGlobalSpend"', "MonthlyGlobalSpend", True),
    "index": ('DROP INDEX "LiteLLM_SpendLogs_litellm_call_id_idx"', "LiteLLM_SpendLogs_litellm_call_id_idx", True),
    "column": ('ALTER TABLE "LiteLLM_BudgetTable" DROP COLUMN max_budget', "LiteLLM_BudgetTable.max_budget", False),
    "table": ('DROP TABLE "LiteLLM_TagTable"', "LiteLLM_TagTable", False),
}


@pytest.mark.parametrize(("drift", "named", "mended"), DRIFTS.values(), ids=DRIFTS.keys())
def test_check_names_what_is_missing_and_the_next_run_mends_what_it_can(
    drift: str, named: str, mended: bool, database: Database, init: Any
) -> None:
    database.query(drift)
    check = init("--check")
    assert check.exit_code == EXIT_DIFFERENT
    assert named in str(printed(check)["differences"])
    assert printed(init())["changed"] is mended
    assert init("--check").exit_code == (0 if mended else EXIT_DIFFERENT)


# Two at once


def test_whoever_holds_prismas_lock_is_waited_for(
    database: Database, init: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm_migrations, "LOCK_PATIENCE", 0.3)
    with database.meanwhile("SELECT pg_advisory_xact_lock(72707369)"):
        result = init()
        assert (result.exit_code, is_sentence(result)) == (1, True)
        assert "somebody holds Prisma's advisory" in printed(result)["error"]
    assert init().exit_code == 0


def test_prisma_waits_while_migrations_are_applied(database: Database, init: Any, ships: Any) -> None:
    """The lock is seen from inside a migration."""
    ships(
        'CREATE TABLE "LiteLLM_Later" AS SELECT count(*) AS held FROM pg_locks'
        " WHERE locktype = 'advisory' AND objid = 72707369 AND granted AND pid <> pg_backend_pid()"
    )
    assert init().exit_code == 0
    assert database.value('SELECT held FROM "LiteLLM_Later"') == 1


def test_two_runs_at_once_both_succeed_and_one_changes(empty: Database) -> None:
    environment = command_environment(empty, litellm_tables=True, partition_days_ahead=1)
    processes = [
        subprocess.Popen(python("db_init.py"), env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sorted('"changed": true' in output for output in outputs) == [False, True]
    assert empty.value("SELECT count(*) FROM _prisma_migrations") == len(FILES)


# The rights of the service


@pytest.fixture
def service(server: Server, database: Database, init: Any) -> Iterator[Database]:
    """The copy as its service sees it."""
    user, password = server.create_role()
    database.query(f"GRANT USAGE ON SCHEMA public TO {user}")
    assert printed(init(service_role=user))["privileges"]
    own = database.as_role(user, password)
    yield own
    own.close()


ALLOWED = {
    "add-a-key": "INSERT INTO \"LiteLLM_VerificationToken\" (token) VALUES ('t')",
    "change-a-key": 'UPDATE "LiteLLM_VerificationToken" SET spend = 1',
    "remove-a-key": 'DELETE FROM "LiteLLM_VerificationToken"',
    "draw-a-number": "SELECT nextval('\"LiteLLM_ModelTable_id_seq\"')",
    "read-a-view": 'SELECT * FROM "MonthlyGlobalSpend"',
    "read-the-records": "SELECT * FROM _prisma_migrations",
    "read-the-log": "SELECT * FROM requests",
}
DENIED = {
    "change-the-log": "UPDATE requests SET model = 'other'",
    "remove-from-the-log": "DELETE FROM responses",
    "add-to-a-partition": "INSERT INTO requests_default DEFAULT VALUES",
    "change-the-records": "UPDATE _prisma_migrations SET logs = ''",
    "add-a-record": "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', 'c', 'n')",
    "change-the-version": "UPDATE request_log_version SET version_num = '0'",
    "add-to-the-version": "INSERT INTO request_log_version VALUES ('0')",
    "truncate": 'TRUNCATE "LiteLLM_VerificationToken"',
    "alter": 'ALTER TABLE "LiteLLM_VerificationToken" ADD COLUMN mine integer',
    "create": 'CREATE TABLE "LiteLLM_Mine" (id integer)',
    "create-a-view": "CREATE VIEW mine AS SELECT 1",
}


def test_service_may_do_what_litellm_does(service: Database) -> None:
    for statement in ALLOWED.values():
        service.query(statement)


def test_service_may_do_nothing_else(service: Database) -> None:
    for statement in DENIED.values():
        with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
            service.query(statement)


def test_privileges_that_are_wrong_are_seen_and_set_right(service: Database, database: Database, init: Any) -> None:
    role = service.url.username
    assert printed(init(service_role=role))["changed"] is False
    database.query(f"GRANT DELETE ON requests TO {role}")
    database.query(f'REVOKE UPDATE ON "LiteLLM_UserTable" FROM {role}')
    check = init("--check", service_role=role)
    assert check.exit_code == EXIT_DIFFERENT
    expected = [f'GRANT UPDATE ON TABLE "LiteLLM_UserTable" TO {role}', f"REVOKE DELETE ON TABLE requests FROM {role}"]
    assert [one.partition(": ")[2] for one in printed(check)["differences"]] == expected
    assert printed(init(service_role=role))["privileges"] == expected
    assert init("--check", service_role=role).exit_code == 0


def test_table_of_somebody_elses_is_for_reading(service: Database, database: Database, init: Any) -> None:
    database.query("CREATE TABLE surplus (id integer)")
    assert printed(init(service_role=service.url.username))["privileges"] == [
        f"GRANT SELECT ON TABLE surplus TO {service.url.username}"
    ]
