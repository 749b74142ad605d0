"""``DATABASE_URL`` as Prisma writes it: ``postgresql://user:password@host:port/database?connection_limit=…``.

The parameters are described at https://www.prisma.io/docs/orm/overview/databases/postgresql.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# Parameters that PostgreSQL's own library knows by the same name.
_LIBPQ = frozenset({"sslmode", "sslcert", "sslkey", "sslrootcert", "application_name", "options", "channel_binding"})
# Of Prisma's engine alone; nothing here answers to them.
_DROPPED = frozenset({"statement_cache_size", "sslaccept", "sslidentity", "sslpassword", "single_use_connections"})
_CONNECT: Mapping[str, Any] = {
    "application_name": "litellm",
    "connect_timeout": 5,
    # A peer that vanishes is noticed in about 25 s rather than after the kernel's two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SSLMODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


class DatabaseUrlError(ValueError):
    """The URL cannot be understood."""


@dataclass(frozen=True)
class DatabaseUrl:
    """Where the database is, and how many connections there may be; times in seconds, None without a limit."""

    connect: Mapping[str, Any]
    connection_limit: int
    pool_timeout: float | None = 10.0
    max_connection_lifetime: float | None = None
    prepares: bool = True


def _number(name: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise DatabaseUrlError(f"DATABASE_URL: {name}={text} must be a whole number of at least {least}")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < math.inf:
        raise DatabaseUrlError(f"DATABASE_URL: {name}={text} must be a number of seconds")
    return seconds


def read_url(text: str) -> DatabaseUrl:
    """Read a URL. Raises DatabaseUrlError with the parameter that is wrong, and never shows the password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise DatabaseUrlError(f"DATABASE_URL is no URL: {error}") from error
    if parts.scheme not in ("postgresql", "postgres"):
        raise DatabaseUrlError(f"DATABASE_URL must begin with postgresql://, not {parts.scheme}://")
    if not parts.path.strip("/"):
        raise DatabaseUrlError("DATABASE_URL names no database: postgresql://user:password@host:port/database")
    schema = "public"
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    connect: dict[str, Any] = {"dbname": unquote(parts.path[1:]), **_CONNECT}
    for name, value in (
        ("host", parts.hostname),
        ("port", port),
        ("user", parts.username),
        ("password", parts.password),
    ):
        if value is not None:
            connect[name] = unquote(value) if isinstance(value, str) else value
    url: dict[str, Any] = {"connection_limit": (os.cpu_count() or 1) * 2 + 1}
    for name, value in given.items():
        if name == "sslmode" and value not in _SSLMODES:
            raise DatabaseUrlError(f"DATABASE_URL: sslmode={value} is none of {', '.join(sorted(_SSLMODES))}")
        if name == "host":  # the directory of a socket
            connect["host"] = value
        elif name in _LIBPQ:
            connect[name] = value
        elif name == "schema":
            schema = value
        elif name == "connection_limit":
            url[name] = _number(name, value, 1)
        elif name in ("pool_timeout", "max_connection_lifetime"):
            url[name] = _seconds(name, value) or None
        elif name == "connect_timeout":
            connect[name] = math.ceil(_seconds(name, value))
        elif name == "socket_timeout":
            connect["tcp_user_timeout"] = int(_seconds(name, value) * 1000)
        elif name == "max_idle_connection_lifetime":
            _seconds(name, value)  # a pinged pool has no need of it
        elif name == "pgbouncer":
            # Statements prepared in one session are not there in the next.
            url["prepares"] = value != "true"
        elif name not in _DROPPED:
            raise DatabaseUrlError(f"DATABASE_URL: the parameter {name} is not known")
    if schema != "public":
        quoted = schema.replace("\\", "\\\\").replace(" ", "\\ ").replace('"', '""')
        connect["options"] = f'{connect.get("options", "")} -c search_path="{quoted}"'.strip()
    return DatabaseUrl(connect=connect, **url)
