"""pg_hba.conf and pg_ident.conf: from lists in the inventory to lines that admit exactly those, and nobody else."""

from typing import Any

import pytest

ROLE, HOST = "postgresql", "postgresql1"


def rules(deployment: Any, inventory: str = "production", host: str = HOST, **given: Any) -> list[list[str]]:
    """The lines of pg_hba.conf that are no comments, by their words."""
    text = deployment(inventory).render(ROLE, "pg_hba.conf.j2", host, **given)
    assert text.endswith("\n"), "the last line would be lost to whoever appends one"
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_file_of_production_is_three_lines(deployment: Any) -> None:
    assert rules(deployment) == [
        ["local", "all", "postgres", "peer"],
        ["local", "litellm_db", "litellm_owner", "peer", "map=schema_owner"],
        ["hostssl", "litellm_db", "litellm_user", "192.168.10.18/32", "scram-sha-256"],
    ]


def test_connections_in_clear_are_admitted_only_where_somebody_says_so(deployment: Any) -> None:
    assert {rule[0] for rule in rules(deployment)} == {"local", "hostssl"}
    assert rules(deployment, postgresql_tls=False)[2][0] == "host"


def test_client_certificate_is_asked_for_beside_the_password(deployment: Any) -> None:
    asked = rules(deployment, postgresql_client_certificates=True)[2]
    assert asked[0] == "hostssl"
    assert asked[4:] == ["scram-sha-256", "clientcert=verify-full"]
    assert (
        "clientcert=verify-full" not in rules(deployment, postgresql_client_certificates=True, postgresql_tls=False)[2]
    )


def test_gateway_on_the_same_host_comes_in_by_loopback(deployment: Any) -> None:
    assert rules(deployment, "single", "litellm1")[2:] == [
        ["hostssl", "litellm_db", "litellm_user", "127.0.0.1/32", "scram-sha-256"]
    ]


def test_nobody_comes_in_by_the_network_where_there_are_no_clients(deployment: Any) -> None:
    assert {rule[0] for rule in rules(deployment, postgresql_client_addresses=[])} == {"local"}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("192.168.10.18", "192.168.10.18/32"),
        ("10.0.7.0/24", "10.0.7.0/24"),
        ("fd00::18", "fd00::18/128"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1/128"),
        ("fd00::/8", "fd00::/8"),
        ("gateway.example", "gateway.example"),
        (".example", ".example"),
    ],
)
def test_single_addresses_are_networks_of_one(deployment: Any, given: str, written: str) -> None:
    """A bare address in pg_hba.conf would be read as the name of a host, and its mask as the method."""
    assert rules(deployment, postgresql_client_addresses=[given])[2][3] == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("litellm_db", "litellm_db"),
        ("all", '"all"'),
        ("replication", '"replication"'),
        ("Mixed", '"Mixed"'),
        ("with-dash", '"with-dash"'),
        ("+group", '"+group"'),
    ],
)
def test_names_are_names_and_never_words_of_the_file(deployment: Any, name: str, written: str) -> None:
    """A database named "all" must not open every database."""
    service = rules(deployment, postgresql_database=name)[2]
    assert service[1] == written
    assert rules(deployment, postgresql_user=name)[2][2] == written


def test_further_entries_come_last_and_as_they_are(deployment: Any) -> None:
    entries = [
        {"type": "hostssl", "database": "all", "user": "+readers", "address": "10.0.9.0/24", "method": "scram-sha-256"},
        {"type": "local", "database": "litellm_db", "user": "reporting", "method": "reject"},
    ]
    assert rules(deployment, postgresql_hba_entries=entries)[3:] == [
        ["hostssl", "all", "+readers", "10.0.9.0/24", "scram-sha-256"],
        ["local", "litellm_db", "reporting", "reject"],
    ]


def test_passwords_are_asked_for_by_scram_only(deployment: Any) -> None:
    """The role's argument_specs refuse any other method in an entry of the inventory."""
    specs = deployment().loader.load_from_file("roles/postgresql/meta/argument_specs.yml")
    entry = specs["argument_specs"]["main"]["options"]["postgresql_hba_entries"]["options"]
    assert set(entry["method"]["choices"]) == {"scram-sha-256", "cert", "reject"}
    for rule in rules(deployment):
        assert "scram-sha-256" in rule or (rule[0] == "local" and "peer" in rule)


def test_owner_is_the_system_user_postgres(deployment: Any) -> None:
    text = deployment().render(ROLE, "pg_ident.conf.j2", HOST)
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == [["schema_owner", "postgres", '"litellm_owner"']]
    assert text.endswith("\n")


@pytest.mark.parametrize("template", ["pg_hba.conf.j2", "pg_ident.conf.j2"])
def test_comment_above_a_line_names_its_variable(deployment: Any, template: str) -> None:
    """server.sql takes from it which variable a mistake comes from, and vars/main.yml where to mend that."""
    sources = set(deployment().evaluate("_postgresql_access_sources", HOST, ROLE))
    text = deployment().render(ROLE, template, HOST)
    named = {word.strip(".,") for line in text.splitlines() if line.startswith("#") for word in line.split()}
    assert {name for name in named if name.startswith("postgresql_")} & sources
