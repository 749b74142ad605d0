"""How the gateway reaches PostgreSQL: by TLS, with the server checked, unless somebody says otherwise."""

from typing import Any

ROLE, HOST = "litellm", "gateway1"
SECRETS = {"database_password": "Pq7r/Tn2v?Xw9y#", "litellm_master_key": "sk-Hk3mNp5qRs8tVw2xYz4bCd6f"}
MADE = {
    "litellm_salt_key": "sk-Wd5kNr7tPs3vXz9yBc2fGh4j",
    "litellm_ui_password": "Tn4wQz8rVb2mKx6p",
    "litellm_secrets": {},
}


def tls(deployment: Any, **extra: Any) -> dict[str, str]:
    """What the environment of both services says of TLS, in an inventory with these variables."""
    found = deployment(extra={**SECRETS, **extra}).evaluate("_litellm_unit_environment", HOST, ROLE)
    return {name: value for name, value in found.items() if name.startswith("PGSSL")}


def test_server_is_checked_against_the_authority(deployment: Any) -> None:
    assert tls(deployment) == {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/ssl/litellm/postgresql-ca.crt"}


def test_client_certificate_comes_along_where_the_server_asks_for_it(deployment: Any) -> None:
    given = tls(deployment, postgresql_client_certificates=True)
    assert given["PGSSLCERT"] == "/etc/ssl/litellm/database_client.crt"
    assert given["PGSSLKEY"] == "/etc/ssl/litellm/database_client.key"


def test_both_ends_go_in_clear_by_one_variable(deployment: Any) -> None:
    assert tls(deployment, postgresql_tls=False, postgresql_client_certificates=True) == {}


def test_urls_have_no_parameters_of_their_own(deployment: Any) -> None:
    """LiteLLM rewrites those of TLS into Prisma's, whose sslcert is the authority's certificate, not the client's."""
    for url in ("_litellm_database_url", "_litellm_own_database_url"):
        found = deployment(extra=SECRETS).evaluate(url, HOST, ROLE)
        assert found.endswith("@192.168.10.19:5432/litellm_db")


def test_url_that_litellm_hands_to_a_command_has_no_password(deployment: Any) -> None:
    found = deployment(extra={**SECRETS, **MADE}).evaluate("_litellm_secret_environment", HOST, ROLE)
    assert found["DATABASE_URL"] == "postgresql://litellm_user@192.168.10.19:5432/litellm_db"
    assert found["PGPASSWORD"] == SECRETS["database_password"]


def test_names_of_a_host_are_in_its_certificate(deployment: Any) -> None:
    names = deployment().evaluate("postgresql_certificate_names", "postgresql1", "postgresql")
    assert names == ["192.168.10.19", "postgresql1", "localhost", "127.0.0.1"]
    more = deployment().evaluate(
        "postgresql_certificate_names", "postgresql1", "postgresql", extra_names=["db.example"]
    )
    assert "db.example" in more
