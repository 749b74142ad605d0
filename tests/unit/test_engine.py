"""The engine: the pool of the specification, and a libpq that trusts nothing weaker than SCRAM."""

from typing import Any

import psycopg2.extensions
import pytest
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.settings import Settings

URL = "postgresql+psycopg2://litellm_user:hunter2-hunter2@192.168.10.19:5432/litellm_db"


class NotNowError(Exception):
    """Instead of a connection."""


def parameters(url: str = URL, **settings: Any) -> dict[str, Any]:
    """What libpq would be given for a connection."""
    engine = make_engine(Settings(url=url, **settings))
    seen: dict[str, Any] = {}

    @event.listens_for(engine, "do_connect")
    def instead(_dialect: Any, _record: Any, _arguments: Any, given: dict[str, Any]) -> None:
        seen.update(given)
        raise NotNowError

    with pytest.raises(NotNowError):
        engine.connect()
    return seen


@pytest.mark.acceptance("AC-2")
def test_pool_is_the_specified_one() -> None:
    engine = make_engine(Settings(url=URL))  # type: ignore[arg-type]
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool._recycle, pool._pre_ping, pool._timeout) == (5, 5, 1800, True, 30)


def test_pool_is_the_configured_one() -> None:
    engine = make_engine(Settings(url=URL, pool_size=2, max_overflow=0, pool_recycle=60, connect_timeout=3))  # type: ignore[arg-type]
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool._recycle, pool._timeout) == (2, 0, 60, 3)


def test_connection_is_made_as_the_url_says() -> None:
    given = parameters()
    assert {name: given[name] for name in ("host", "port", "user", "password", "dbname")} == {
        "host": "192.168.10.19",
        "port": 5432,
        "user": "litellm_user",
        "password": "hunter2-hunter2",
        "dbname": "litellm_db",
    }
    assert given["connect_timeout"] == 30
    assert given["application_name"] == "litellm-request-log"


def test_peer_that_vanished_is_noticed_within_half_a_minute() -> None:
    given = parameters()
    assert given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"] <= 30
    assert given["tcp_user_timeout"] <= 30_000


@pytest.mark.acceptance("AC-2")
def test_password_is_given_to_nobody_who_asks_for_it_weakly() -> None:
    assert parameters()["require_auth"] == "scram-sha-256"


def test_owner_comes_in_over_the_socket_without_a_password() -> None:
    given = parameters("postgresql+psycopg2://litellm_owner@/litellm_db?host=/var/run/postgresql&port=5432")
    assert given["host"] == "/var/run/postgresql"
    assert "require_auth" not in given
    assert "password" not in given


@pytest.mark.parametrize(
    ("name", "value"),
    [("connect_timeout", "7"), ("require_auth", "md5"), ("application_name", "mine"), ("tcp_user_timeout", "5")],
)
def test_url_has_the_last_word(name: str, value: str) -> None:
    assert parameters(f"{URL}?{name}={value}")[name] == value


def test_libpq_knows_every_parameter() -> None:
    given = parameters(f"{URL}?sslmode=verify-full&target_session_attrs=read-write")
    parsed = psycopg2.extensions.parse_dsn(psycopg2.extensions.make_dsn(**given))
    assert parsed["sslmode"] == "verify-full"
    assert set(parsed) == set(given)
