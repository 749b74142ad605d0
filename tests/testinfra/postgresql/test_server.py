"""The server itself: its version, how its cluster was made, and that what runs is what its files say.

A file that was written but never loaded is the quietest of mistakes; so settings are asked of the server, and where
they come from.
"""

import re
from typing import Any

import pytest


@pytest.fixture(scope="module")
def settings(sql: Any) -> dict[str, str]:
    """Every setting in force."""
    return {row[0]: ",".join(row[1:]) for row in sql("SELECT name, setting FROM pg_settings")}


def test_version_is_17_or_later(settings: dict[str, str]) -> None:
    assert int(settings["server_version_num"]) >= 170000


def test_cluster_has_data_checksums(settings: dict[str, str]) -> None:
    """They were switched on as the cluster was made; later it costs a stop."""
    assert settings["data_checksums"] == "on"


def test_database_is_utf8_and_sorts_the_same_after_an_upgrade(sql: Any) -> None:
    """The system's own locales change between its releases, and break indexes on text with it."""
    assert sql(
        "SELECT pg_encoding_to_char(encoding), datlocprovider, datlocale, datdba::regrole"
        " FROM pg_database WHERE datname = 'litellm_db'"
    ) == [["UTF8", "b", "C.UTF-8", "litellm_owner"]]


def test_nothing_waits_for_a_reload_or_a_restart(sql: Any) -> None:
    assert sql("SELECT name FROM pg_settings WHERE pending_restart") == []
    assert sql("SELECT sourcefile, name, error FROM pg_file_settings WHERE error IS NOT NULL") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password_encryption", "scram-sha-256"),
        ("default_toast_compression", "lz4"),
        ("wal_compression", "lz4"),
        ("TimeZone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_connections", "on"),
        ("log_statement", "ddl"),
        ("log_parameter_max_length", "0"),
    ],
)
def test_setting_comes_from_our_file(sql: Any, configuration: str, name: str, value: str) -> None:
    """From the drop-in, not from a postgresql.conf that someone has edited."""
    assert sql(f"SELECT setting, sourcefile FROM pg_settings WHERE name = '{name}'") == [
        [value, f"{configuration}/conf.d/litellm.conf"]
    ]


def test_memory_follows_from_the_host(sql: Any, settings: dict[str, str], inventory: Any, database_name: str) -> None:
    memory = inventory.value(database_name, "postgresql_memory_mb", None)
    if memory is None:
        pytest.skip("this inventory leaves the memory to the host's facts")
    pages = int(settings["shared_buffers"])
    assert pages * 8 // 1024 == min(max(int(memory) // 4, 128), 8192)


def test_server_listens_where_clients_reach_it_and_nowhere_else(
    database: Any, settings: dict[str, str], inventory: Any, database_name: str, gateway_name: str
) -> None:
    wanted = {"localhost"} | ({inventory.address(database_name)} if database_name != gateway_name else set())
    assert {address.strip() for address in settings["listen_addresses"].split(",")} == wanted
    listening = database.check_output("ss --listening --tcp --numeric --no-header 'sport = :%s'", settings["port"])
    addresses = {line.split()[3].rsplit(":", 1)[0] for line in listening.splitlines()}
    assert addresses <= {"127.0.0.1", "[::1]", inventory.address(database_name)}


def test_server_runs_unprivileged_and_starts_at_boot(database: Any) -> None:
    unit = database.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    assert database.service("postgresql").is_enabled
    assert database.service(unit).is_running
    pid = database.check_output("systemctl show --property=MainPID --value %s", unit)
    assert database.check_output("ps -o user= -p %s", pid) == "postgres"
    assert "network-online.target" in database.check_output("systemctl show --property=After --value %s", unit)


@pytest.mark.disruptive
def test_server_that_was_killed_comes_back(database: Any, sql: Any) -> None:
    """As after a visit of the kernel's memory killer; the shipper waits meanwhile."""
    unit = database.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    before = database.check_output("systemctl show --property=MainPID --value %s", unit)
    database.check_output("kill -KILL %s", before)
    database.check_output(
        "for i in $(seq 120); do"
        " [ $(systemctl show --property=MainPID --value %s) != %s ] && pg_isready --quiet && exit 0; sleep 0.5;"
        " done; exit 1",
        unit,
        before,
    )
    assert sql("SELECT 1") == [["1"]]


def test_files_belong_to_postgres_and_are_closed_to_others(database: Any, configuration: str) -> None:
    for name in ("pg_hba.conf", "pg_ident.conf"):
        file = database.file(f"{configuration}/{name}")
        assert (file.user, file.group, file.mode) == ("postgres", "postgres", 0o640)
    data = database.check_output("ls -d /var/lib/postgresql/*/main")
    assert database.file(data).mode == 0o700
    (log,) = database.check_output("ls /var/log/postgresql/*-main.log").splitlines()
    assert database.file(log).mode == 0o640


def test_no_copy_of_a_former_file_is_left(database: Any, configuration: str) -> None:
    """The role keeps one only until PostgreSQL has read the new one without a mistake."""
    names = set(database.check_output("ls -A %s", configuration).split())
    assert not [name for name in names if re.search(r"~$|\.bak$|\.\d{4}-\d\d-\d\d@", name)]


def test_log_is_rotated(database: Any) -> None:
    assert database.package("logrotate").is_installed
    assert "/var/log/postgresql/*.log" in database.file("/etc/logrotate.d/postgresql-common").content_string
    assert database.service("logrotate.timer").is_enabled


def test_what_the_service_sends_stays_out_of_the_log(database: Any, as_service: Any) -> None:
    """A statement that fails is logged with its text by default, and here the text would be someone's prompt."""
    answers = as_service(
        "SELECT 'prompt-in-a-mistake' FROM nowhere",
        "SELECT CAST('prompt-in-a-value' AS int)",
        "DO $$ BEGIN RAISE WARNING 'prompt-in-a-notice'; END $$",
    )
    assert [answer.get("sqlstate") for answer in answers[:2]] == ["42P01", "22P02"]
    log = database.check_output("tail -n 400 /var/log/postgresql/*-main.log")
    assert "connection authorized: user=litellm_user database=litellm_db" in log
    assert "prompt-in-a-mistake" not in log
