"""conf.d/litellm.conf: whatever the inventory says arrives in PostgreSQL's own syntax, and the memory fits the host.

A value that is quoted wrongly is found by the server when it is too late; one that is quoted too well changes its
meaning. What the server itself makes of the file is looked at on the deployed host (tests/testinfra/postgresql).
"""

import re
from typing import Any

import pytest
from ansible_engine import FACTS

ROLE, HOST = "postgresql", "postgresql1"


def settings(deployment: Any, inventory: str = "production", host: str = HOST, **given: Any) -> dict[str, str]:
    """The rendered file's settings, values as they are written."""
    text = deployment(inventory).render(ROLE, "settings.conf.j2", host, **given)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(" = " in line for line in lines), text
    return dict(line.split(" = ", 1) for line in lines)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "on"),
        (False, "off"),
        (0, "0"),
        (-1, "-1"),
        (1.1, "1.1"),
        ("64MB", "'64MB'"),
        ("", "''"),
        ("it's", "'it''s'"),
        ("C:\\temp", "'C:\\\\temp'"),
        ("two\nlines", "'two\\nlines'"),
        ("%m [%p] # no comment", "'%m [%p] # no comment'"),
        (["a", "b c"], "'a, b c'"),
    ],
    ids=["on", "off", "zero", "negative", "fraction", "unit", "empty", "quote", "backslash", "newline", "hash", "list"],
)
def test_values_are_written_as_postgresql_reads_them(deployment: Any, value: object, written: str) -> None:
    assert settings(deployment, postgresql_settings={"some.setting": value})["some.setting"] == written


def test_settings_of_the_inventory_win(deployment: Any) -> None:
    assert settings(deployment)["max_wal_size"] == "'2GB'"
    assert settings(deployment, postgresql_settings={"max_wal_size": "8GB"})["max_wal_size"] == "'8GB'"


def test_null_leaves_postgresqls_default(deployment: Any) -> None:
    assert "random_page_cost" in settings(deployment)
    assert "random_page_cost" not in settings(deployment, postgresql_settings={"random_page_cost": None})


def test_settings_are_sorted_and_end_with_a_newline(deployment: Any) -> None:
    """So that a change in the inventory is a change of one line on the host."""
    text = deployment().render(ROLE, "settings.conf.j2", HOST, postgresql_settings={"a": 1, "zz": 2})
    names = [line.split(" = ")[0] for line in text.splitlines() if " = " in line]
    assert names == sorted(names)
    assert text.endswith("\n")
    assert "\n\n" not in text


def test_passwords_are_for_scram_and_toast_is_lz4(deployment: Any) -> None:
    rendered = settings(deployment)
    assert rendered["password_encryption"] == "'scram-sha-256'"
    assert rendered["default_toast_compression"] == "'lz4'"


def test_tls_is_on_and_1_2_at_least(deployment: Any) -> None:
    rendered = settings(deployment)
    assert rendered["ssl"] == "on"
    assert rendered["ssl_min_protocol_version"] == "'TLSv1.2'"
    assert rendered["ssl_cert_file"] == "'/etc/ssl/litellm/postgresql.crt'"
    assert settings(deployment, postgresql_tls=False)["ssl"] == "off"


def test_client_certificates_are_checked_against_their_authority(deployment: Any) -> None:
    """An empty ssl_ca_file would let no client certificate in, and clientcert in pg_hba.conf would be an error."""
    assert settings(deployment)["ssl_ca_file"] == "''"
    asked = settings(deployment, postgresql_client_certificates=True)
    assert asked["ssl_ca_file"] == "'/etc/ssl/litellm/database_client-ca.crt'"


def test_values_of_statements_stay_out_of_the_log(deployment: Any) -> None:
    """They are prompts and answers."""
    rendered = settings(deployment)
    assert rendered["log_statement"] == "'ddl'"
    assert rendered["log_parameter_max_length"] == rendered["log_parameter_max_length_on_error"] == "0"
    assert "log_min_duration_statement" not in rendered


@pytest.mark.parametrize(
    ("inventory", "host", "addresses"),
    [
        ("production", "postgresql1", "'localhost, 192.168.10.19'"),
        ("staging", "postgresql1", "'localhost, 192.0.2.19'"),
        ("single", "litellm1", "'localhost'"),
    ],
)
def test_server_listens_where_its_clients_are(deployment: Any, inventory: str, host: str, addresses: str) -> None:
    """A gateway on the same host needs no address of the network."""
    assert settings(deployment, inventory, host)["listen_addresses"] == addresses


@pytest.mark.parametrize(
    ("memory", "connections", "derived"),
    [
        (256, 100, {"shared_buffers": 128, "effective_cache_size": 256, "work_mem": 4, "maintenance_work_mem": 64}),
        (1024, 100, {"shared_buffers": 256, "effective_cache_size": 768, "work_mem": 4, "maintenance_work_mem": 64}),
        (
            4096,
            100,
            {"shared_buffers": 1024, "effective_cache_size": 3072, "work_mem": 10, "maintenance_work_mem": 256},
        ),
        (
            16384,
            50,
            {"shared_buffers": 4096, "effective_cache_size": 12288, "work_mem": 64, "maintenance_work_mem": 1024},
        ),
        (262144, 99, {"shared_buffers": 8192, "effective_cache_size": 196608, "work_mem": 64}),
    ],
)
def test_memory_follows_from_the_hosts(deployment: Any, memory: int, connections: int, derived: dict[str, int]) -> None:
    """A quarter, but neither so little that nothing works nor so much that the system's cache serves better."""
    rendered = settings(deployment, postgresql_memory_mb=memory, postgresql_max_connections=connections)
    assert {name: rendered[name] for name in derived} == {name: f"'{size}MB'" for name, size in derived.items()}


def test_memory_is_the_facts_unless_the_inventory_says_less(deployment: Any) -> None:
    assert settings(deployment)["shared_buffers"] == f"'{FACTS['memtotal_mb'] // 4}MB'"
    assert settings(deployment, "single", "litellm1")["shared_buffers"] == f"'{FACTS['memtotal_mb'] // 8}MB'"


def test_role_needs_no_setting_that_it_refuses(deployment: Any) -> None:
    """Each of the refused settings has a sentence, and none of them is free-standing in the role's own."""
    refused = deployment().evaluate("_postgresql_settings_elsewhere", HOST, ROLE)
    assert all(re.match(r"(postgresql|certificates)_\w+|nothing, since ", instead) for instead in refused.values())
