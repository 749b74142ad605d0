"""The pool policy: how this project connects to PostgreSQL."""

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.engine import URL

from litellm_sqlalchemy.settings import Settings

# The same from the other end: a session whose client vanished in a transaction would hold its keys for two hours, and
# the next session would wait for them. A wait for a lock becomes an error, which is logged and tried again.
_SERVER_SETTINGS = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=20000"
    " -c lock_timeout=30000"
)


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
        "options": _SERVER_SETTINGS,
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
