"""The pool policy: how this project connects to PostgreSQL."""

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.engine import URL

from litellm_sqlalchemy.settings import Settings


def _connect_args(url: URL, settings: Settings) -> dict[str, str | int]:
    """libpq parameters; what the URL itself names is left to the URL."""
    wanted: dict[str, str | int] = {
        "connect_timeout": settings.connect_timeout,
        "application_name": "litellm-request-log",
        # A peer that vanishes is noticed in about 25 s rather than after the kernel's two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    if url.password is not None:
        # Refuse a server that asks for the password in any weaker way.
        wanted["require_auth"] = "scram-sha-256"
    return {name: value for name, value in wanted.items() if name not in url.query}


def make_engine(settings: Settings) -> Engine:
    """An engine with the pool of the settings: pre-ping on, connections recycled."""
    url = make_url(settings.require_url())
    return create_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_recycle=settings.pool_recycle,
        pool_pre_ping=True,
        pool_timeout=settings.connect_timeout,
        connect_args=_connect_args(url, settings),
    )
