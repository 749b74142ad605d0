"""A worker's pen: writes exchanges to the spool, keeps to its limits, and never raises into a request.

An outcome that the disk will not take is kept in memory and tried again; a request that it will not take is dropped
and counted, or refused where the inventory says that what cannot be logged must not be served.
"""

import logging
import sqlite3
import time
from collections.abc import Callable

from litellm_sqlalchemy.exchange import Document, encode
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.spool import Spool

NO_ROOM = "The request log has no room left, and this gateway does not serve what it cannot log. Try again later."

_SPOOL_ERRORS = (sqlite3.Error, OSError, ValueError)
# What is left of a document that cannot be written as JSON.
_PLAIN = ("route", "model", "key_hash", "user_id", "outcome", "status_code", "ended_at", "cost", "total_tokens")
_MANY_AWAITING = 1024
_WAITING_BYTES = 64 * 1024 * 1024
_LOOK_SECONDS = 0.25
_COMPLAIN_SECONDS = 10.0

logger = logging.getLogger(__name__)


class NoRoomError(Exception):
    """A request cannot be logged and must therefore not be served."""


class RateLimit:
    """A token bucket: so many a second on average, ten seconds' worth at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * 10)
        self._tokens = self._most
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Take a token, if there is one."""
        now = time.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Recorder:
    """Writes the exchanges of one worker."""

    def __init__(
        self,
        spool: Spool,
        worker: str,
        redactor: Redactor,
        settings: Settings,
        soon: Callable[[Callable[[], None]], object] = lambda flush: flush(),
    ) -> None:
        """``soon`` calls a function within a few milliseconds; without one, everything is written at once."""
        self._spool = spool
        self._worker = worker
        self._redactor = redactor
        self._grace = round(settings.accounting_grace * 1_000_000)
        self._max_bytes = settings.spool_max_bytes
        self._reserve_bytes = settings.spool_reserve_bytes
        self._refusals = RateLimit(settings.refusals_per_second)
        self._awaiting: dict[int, int] = {}
        self._soon = soon
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._waiting_bytes = 0
        self._flush_is_due = False
        self._uncounted = {"dropped": 0, "unlogged_refusals": 0}
        self._failing = False
        self._full = False
        self._looked_at = 0.0
        self._complained_at = -_COMPLAIN_SECONDS
        self.must_log = settings.spool_when_full == "refuse"

    def refuses(self) -> bool:
        """True while what cannot be logged must not be served and there is no room."""
        return self.must_log and (self._failing or self._is_full())

    def may_log_refusal(self) -> bool:
        """Whether a refused stranger is logged; where it is not, it is counted."""
        if self._refusals.allows():
            return True
        self._uncounted["unlogged_refusals"] += 1
        return False

    def open(self, created_at: int, request_id: str, request: Document) -> tuple[int, int] | None:
        """See Spool.open; None where there is no room or the spool failed: it may be tried again, or dropped."""
        if self._is_full():
            self._complain(f"it holds {self._max_bytes} bytes, or its disk has less than {self._reserve_bytes} left")
        else:
            try:
                opened = self._spool.open(self._worker, created_at, request_id, self._text(request))
            except _SPOOL_ERRORS as error:
                self._failing = True
                self._complain(error)
            else:
                self._failing = False
                return opened
        return None

    def drop(self) -> None:
        """Count an exchange that was served and could not be logged."""
        self._uncounted["dropped"] += 1

    def finish(self, seq: int, outcome: Document, *, awaits_accounting: bool) -> None:
        """See Spool.finish."""
        ship_after = 0
        if awaits_accounting:
            ship_after = outcome["ended_at"] + self._grace
            self._awaiting[seq] = ship_after
            if len(self._awaiting) > _MANY_AWAITING:
                self.awaiting_accounting()
        document = self._text(outcome)
        self._write(len(document), lambda: self._spool.finish(seq, document, ship_after))

    def account(self, seq: int, accounting: Document) -> None:
        """See Spool.account."""
        self._awaiting.pop(seq, None)
        document = self._text(accounting)
        self._write(len(document), lambda: self._spool.account(seq, document))

    def awaiting_accounting(self) -> int:
        """How many finished exchanges may still get their tokens and cost."""
        now = time.time_ns() // 1000
        self._awaiting = {seq: until for seq, until in self._awaiting.items() if until > now}
        return len(self._awaiting)

    def catch_up(self) -> None:
        """Write what is waiting, and the counts; called every second and at the end."""
        try:
            self._spool.follow()
            self._write_waiting()
            for counter, number in self._uncounted.items():
                if number:
                    self._spool.count(counter, number)
                    self._uncounted[counter] -= number
        except _SPOOL_ERRORS as error:
            self._complain(error)
        else:
            self._failing = False

    def _write(self, size: int, write: Callable[[], None]) -> None:
        """Write it soon, together with what else is known by then: an outcome and its accounting are one commit."""
        if self._waiting_bytes + size > _WAITING_BYTES:
            self._flush()
        if self._waiting and self._waiting_bytes + size > _WAITING_BYTES:
            # The request itself is in the spool: it will be closed as interrupted when this worker ends.
            self._complain("too much is waiting in memory already")
            return
        self._waiting.append((size, write))
        self._waiting_bytes += size
        if not self._flush_is_due:
            self._flush_is_due = True
            self._soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            self._write_waiting()
        except _SPOOL_ERRORS as error:
            self._complain(error)

    def _write_waiting(self) -> None:
        if self._waiting:
            self._spool.write_together([write for _, write in self._waiting])
            self._waiting.clear()
            self._waiting_bytes = 0

    def _is_full(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            try:
                self._full = (
                    self._spool.used_bytes() >= self._max_bytes or self._spool.free_bytes() < self._reserve_bytes
                )
            except _SPOOL_ERRORS as error:
                self._complain(error)
        return self._full

    def _text(self, document: Document) -> bytes:
        """JSON without secrets; the names at the top are ours and stay."""
        try:
            return encode({name: self._redactor.redact(value) for name, value in document.items()})
        except (ValueError, TypeError, RecursionError) as error:
            # Whatever a client or LiteLLM put in there, the exchange itself is logged.
            self._complain(error)
            return encode({**{name: document[name] for name in _PLAIN if name in document}, "payload": {}})

    def _complain(self, reason: object) -> None:
        """One line every ten seconds at most: a full disk must not be filled with complaints."""
        if time.monotonic() - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            name = f"{type(reason).__name__}: " if isinstance(reason, Exception) else ""
            logger.error("the spool takes nothing: %s%s", name, reason)
