"""DATABASE_URL as Prisma writes it."""

from typing import Any

import pytest

from litellm_sqlalchemy.prisma_client.url import DatabaseUrlError, read_url


def test_everything_it_may_say() -> None:
    url = read_url(
        "postgresql://litellm_user:p%40ss%2Fword@db.example:6432/litellm%20db?connection_limit=7&pool_timeout=3.5"
        "&connect_timeout=2.2&sslmode=verify-full&sslrootcert=/ca.pem&application_name=me&socket_timeout=30"
        "&max_connection_lifetime=60&max_idle_connection_lifetime=60.0&pgbouncer=true&statement_cache_size=0"
        "&schema=own&options=-c%20lock_timeout%3D1s"
    )
    assert (url.connection_limit, url.pool_timeout, url.max_connection_lifetime, url.prepares) == (7, 3.5, 60.0, False)
    expected: dict[str, Any] = {
        "host": "db.example",
        "port": 6432,
        "user": "litellm_user",
        "password": "p@ss/word",
        "dbname": "litellm db",
        "connect_timeout": 3,
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
        "application_name": "me",
        "tcp_user_timeout": 30_000,
        "options": '-c lock_timeout=1s -c search_path="own"',
    }
    assert expected.items() <= url.connect.items()


def test_what_it_leaves_out() -> None:
    url = read_url("postgres://localhost/litellm?schema=public&pool_timeout=0")
    assert (url.connection_limit >= 3, url.pool_timeout, url.max_connection_lifetime, url.prepares) == (
        True,
        None,
        None,
        True,
    )
    assert not {"user", "password", "port", "options"} & set(url.connect)
    assert (url.connect["connect_timeout"], url.connect["tcp_user_timeout"]) == (5, 20_000)


def test_socket() -> None:
    assert read_url("postgresql://user@localhost/db?host=/run/postgresql").connect["host"] == "/run/postgresql"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mysql://host/db", "must begin with postgresql://, not mysql://"),
        ("postgresql+psycopg2://u:secret@host/db", "must begin with postgresql://"),
        ("postgresql://u:secret@host", "names no database"),
        ("postgresql://u:secret@host:port/db", "is no URL"),
        ("postgresql://u:secret@host/db?connection_limit=0", "connection_limit=0 must be a whole number of at least 1"),
        ("postgresql://u:secret@host/db?connection_limit=ten", "connection_limit=ten"),
        ("postgresql://u:secret@host/db?pool_timeout=-1", "pool_timeout=-1 must be a number of seconds"),
        ("postgresql://u:secret@host/db?sslmode=on", "sslmode=on is none of"),
        ("postgresql://u:secret@host/db?conection_limit=1", "the parameter conection_limit is not known"),
    ],
)
def test_mistakes_are_named_without_the_password(text: str, complaint: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        read_url(text)
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)
