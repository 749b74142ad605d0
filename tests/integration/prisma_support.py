"""What the tests of the database client share."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from prisma import Prisma

Client = Prisma


class Run(Protocol):
    """Runs a coroutine function with a connected client of a database without rows; returns what it returns."""

    def __call__(self, work: Callable[[Client], Awaitable[Any]], **parameters: Any) -> Any:
        """``parameters`` are those of the URL."""


def prisma_url(address: str, **parameters: Any) -> str:
    """The URL of a database as Prisma writes it."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return address.replace("postgresql+psycopg2://", "postgresql://", 1) + (f"?{query}" if query else "")
