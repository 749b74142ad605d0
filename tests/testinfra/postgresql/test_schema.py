"""The schema as db_init.py left it, and the timer that keeps partitions ready.

Without a partition for tomorrow every row of tomorrow would land in the default one, and nothing would fail: so the
horizon is looked at, and the unit is run, as the user and in the sandbox that the timer gives it.
"""

import json
import re
from typing import Any

import pytest

URL = "postgresql+psycopg2://litellm_owner@/litellm_db?host=/var/run/postgresql&port={port}"
PYTHON = "/opt/litellm/schema-venv/bin/python"


@pytest.fixture(scope="module")
def port(inventory: Any, database_name: str) -> int:
    """The server's port."""
    return int(inventory.value(database_name, "postgresql_port", 5432))


def test_schema_is_as_the_models_say(database: Any, port: int) -> None:
    done = database.run(
        "cd / && runuser -u postgres -- env LITELLM_DB_URL=%s %s /opt/litellm/lib/db_init.py --check",
        URL.format(port=port),
        PYTHON,
    )
    assert done.rc == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["differences"] == []


def test_another_run_changes_nothing(database: Any) -> None:
    report = json.loads(database.check_output("litellm-schema init"))
    assert report["changed"] is False
    assert report["litellm"]["migrations_applied"] == []


def test_litellms_migrations_are_recorded_as_prisma_records_them(database: Any, sql: Any) -> None:
    """Every file of the installed release, by its own SHA-256: a LiteLLM with Prisma finds nothing to do."""
    directory = "/opt/litellm/schema-venv/lib/python3*/site-packages/litellm_proxy_extras/migrations"
    lines = database.check_output(f"cd {directory} && sha256sum -- */migration.sql").splitlines()
    shipped = sorted([path.partition("/")[0], checksum] for checksum, path in (line.split(None, 1) for line in lines))
    assert len(shipped) > 200
    rows = sql(
        "SELECT migration_name, checksum FROM _prisma_migrations"
        " WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL AND applied_steps_count = 1"
    )
    assert sorted(rows) == shipped
    assert sql("SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL") == [["0"]]


def test_litellms_tables_and_views_are_there(sql: Any) -> None:
    tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'LiteLLM\\_%' AND relkind = 'r'"
    ((count,),) = sql(tables)
    assert int(count) > 90
    assert sql("SELECT count(*) FROM pg_views WHERE schemaname = 'public'") == [["8"]]
    assert sql('SELECT count(*) FROM "LiteLLM_VerificationTokenView" WHERE false') == [["0"]]


def test_there_are_partitions_for_the_coming_days(sql: Any, inventory: Any, database_name: str) -> None:
    days = int(inventory.value(database_name, "schema_partition_days_ahead", 14))
    for table in ("requests", "responses"):
        assert sql(
            f"SELECT to_regclass('{table}_p' || to_char(now() + interval '{days} days', 'YYYYMMDD')) IS NULL"
        ) == [["f"]]


def test_default_partitions_are_empty(sql: Any) -> None:
    """A row in one means that its day had no partition, and would keep that one from being made."""
    for table in ("requests_default", "responses_default"):
        assert sql(f"SELECT count(*) FROM {table}") == [["0"]]


def test_timer_will_run(database: Any) -> None:
    timer = database.service("litellm-partitions.timer")
    assert timer.is_enabled
    assert timer.is_running
    following = database.check_output(
        "systemctl show --property=NextElapseUSecRealtime --value litellm-partitions.timer"
    )
    assert re.search(r"\d\d:\d\d:\d\d", following)


def test_unit_makes_partitions_in_its_sandbox(database: Any) -> None:
    """Started by hand, it succeeds, and says in the journal what it did."""
    database.check_output("systemctl start litellm-partitions.service")
    assert database.check_output("systemctl show --property=Result --value litellm-partitions.service") == "success"
    journal = database.check_output("journalctl --unit=litellm-partitions --output=cat --no-pager --lines=20")
    said = [json.loads(line) for line in journal.splitlines() if line.startswith("{")]
    assert [report["created"] for report in said if "created" in report][-1] == []


def test_unit_is_unprivileged_and_sealed_off(database: Any) -> None:
    """It needs a socket, nothing else: no network, no capability, no file to write."""
    shown = database.check_output(
        "systemctl show --property=User,PrivateNetwork,ProtectSystem,CapabilityBoundingSet,NoNewPrivileges"
        " litellm-partitions.service"
    )
    assert set(shown.splitlines()) == {
        "User=postgres",
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
    }
    security = database.check_output("systemd-analyze security --no-pager litellm-partitions.service | tail -n 1")
    assert float(re.findall(r"\d+\.\d", security)[0]) < 2.0


def test_unit_holds_no_password(database: Any) -> None:
    unit = database.check_output("systemctl cat litellm-partitions.service")
    assert "litellm_owner@/litellm_db" in unit
    assert not re.search(r"://[^/@\s]*:[^/@\s]*@", unit)
