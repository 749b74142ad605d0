"""The URL by which the gateway reaches PostgreSQL: by TLS, with the server checked, unless somebody says otherwise."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

ROLE, HOST = "litellm", "gateway1"


def parameters(deployment: Any, **extra: Any) -> dict[str, str]:
    """The URL's libpq parameters, in an inventory with these variables."""
    secrets = {"database_password": "Pq7r/Tn2v?Xw9y#", "litellm_master_key": "sk-Hk3mNp5qRs8tVw2xYz4bCd6f"}
    url = urlsplit(str(deployment(extra={**secrets, **extra}).evaluate("_litellm_database_url", HOST, ROLE)))
    assert (url.hostname, url.port, url.path) == ("192.168.10.19", 5432, "/litellm_db")
    return {name: values[0] for name, values in parse_qs(url.query).items()}


def test_server_is_checked_against_the_authority(deployment: Any) -> None:
    assert parameters(deployment) == {"sslmode": "verify-full", "sslrootcert": "/etc/ssl/litellm/postgresql-ca.crt"}


def test_client_certificate_comes_along_where_the_server_asks_for_it(deployment: Any) -> None:
    given = parameters(deployment, postgresql_client_certificates=True)
    assert given["sslcert"] == "/etc/ssl/litellm/database_client.crt"
    assert given["sslkey"] == "/etc/ssl/litellm/database_client.key"


def test_both_ends_go_in_clear_by_one_variable(deployment: Any) -> None:
    assert parameters(deployment, postgresql_tls=False, postgresql_client_certificates=True) == {}


def test_names_of_a_host_are_in_its_certificate(deployment: Any) -> None:
    names = deployment().evaluate("postgresql_certificate_names", "postgresql1", "postgresql")
    assert names == ["192.168.10.19", "postgresql1", "localhost", "127.0.0.1"]
    more = deployment().evaluate(
        "postgresql_certificate_names", "postgresql1", "postgresql", extra_names=["db.example"]
    )
    assert "db.example" in more
