"""``tx()``: transactions that a caller opens, which end when their time is up."""

import logging
import re
import warnings
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from litellm_sqlalchemy.prisma_client.errors import PrismaError, TransactionNotStartedError, invalid_argument
from litellm_sqlalchemy.prisma_client.query_engine import TransactionOptions

if TYPE_CHECKING:
    from litellm_sqlalchemy.prisma_client.client import Prisma

MAX_WAIT = timedelta(seconds=2)
TIMEOUT = timedelta(seconds=5)
_LEVELS = {
    "readuncommitted": "READ UNCOMMITTED",
    "readcommitted": "READ COMMITTED",
    "repeatableread": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}
_log = logging.getLogger(__name__)


def _seconds(time: int | timedelta) -> float:
    return time.total_seconds() if isinstance(time, timedelta) else time / 1000


def _isolation(level: str | None) -> str | None:
    """Prisma's name of an isolation level, ``RepeatableRead``, or SQL's."""
    if level is None:
        return None
    known = _LEVELS.get(re.sub(r"[ _]", "", level).lower())
    if known is None:
        raise invalid_argument(f"The isolation level {level} is none of {', '.join(_LEVELS.values())}")
    return known


class TransactionManager:
    """Gives out a client whose operations are one transaction; rolls back where its context is left by an exception."""

    def __init__(
        self, client: "Prisma", *, max_wait: int | timedelta, timeout: int | timedelta, isolation_level: str | None
    ) -> None:
        self._client = client
        self._options = TransactionOptions.of(
            timeout=_seconds(timeout), max_wait=_seconds(max_wait), isolation=_isolation(isolation_level)
        )
        self._tx_id: str | None = None

    async def start(self) -> "Prisma":
        """Open the transaction."""
        if self._client.is_transaction():
            warnings.warn(
                "The current client is already in a transaction. This can lead to surprising behaviour.",
                UserWarning,
                stacklevel=3,
            )
        self._tx_id = await self._client._engine.start_transaction(content=self._options)  # noqa: SLF001
        return self._client.in_transaction(self._tx_id)

    async def commit(self) -> None:
        """Commit it."""
        await self._client._engine.commit_transaction(self._started())  # noqa: SLF001

    async def rollback(self) -> None:
        """Undo it."""
        await self._client._engine.rollback_transaction(self._started())  # noqa: SLF001

    def _started(self) -> str:
        if self._tx_id is None:
            raise TransactionNotStartedError
        return self._tx_id

    async def __aenter__(self) -> "Prisma":
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.commit()
            return
        try:
            await self.rollback()
        except PrismaError as error:
            _log.warning("A transaction that failed could not be rolled back: %s", error)
