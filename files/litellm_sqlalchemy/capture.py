"""What a client sent and what it saw: an ASGI layer around the gateway that records each exchange in the spool.

The layer frames an exchange (body, status, answer, disconnects); the LiteLLM callback fills it in (key, attempts,
tokens, cost). They meet in ``current``, a context variable that LiteLLM's tasks inherit from the request's.
Nothing here ever raises into a request.
"""

import gzip
import hashlib
import logging
import re
import sqlite3
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from litellm_sqlalchemy.exchange import CLIENT_CLOSED_REQUEST, Document, cut, decode, encode
from litellm_sqlalchemy.redaction import Redactor, redact_fields
from litellm_sqlalchemy.spool import Spool

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_STREAM_BYTES = 1_048_576
"""Bytes kept of a raw event stream; only used where LiteLLM gives no assembled answer."""

CALL_ID_HEADER = b"x-litellm-call-id"

# Where LiteLLM looks for a key, in its order: litellm/proxy/auth/user_api_key_auth.py
_KEY_HEADERS = (b"x-litellm-api-key", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key")
_SPOOL_ERRORS = (sqlite3.Error, OSError, ValueError)
_MANY_AWAITING = 1024
_FIRST_ERROR = 400

logger = logging.getLogger(__name__)

current: ContextVar["OpenExchange | None"] = ContextVar("litellm_sqlalchemy_exchange", default=None)


def _now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class OpenExchange:
    """An exchange under way: filled in by the layer and by the callback, written as soon as anything is known."""

    def __init__(self, scope: Scope, recorder: "Recorder") -> None:
        self._recorder = recorder
        self._headers = dict(scope["headers"])
        self._body: list[bytes] = []
        self._answer: list[bytes] = []
        self._answer_bytes = 0
        self._answer_headers: dict[bytes, bytes] = {}
        self._seq: int | None = None
        self._finished = False
        self._disconnected = False
        self.created_at = _now()
        self.route: str = scope["path"]
        self.client_address: str | None = scope["client"][0] if scope.get("client") else None
        self.request_id: str | None = None
        self.model: str | None = None
        self.identity: Document = {"api_key": self._presented_key()}
        self.authenticated = False
        self.attempts: list[Document] = []
        self.error: Document | None = None
        self.status: int | None = None
        self.first_byte_at: int | None = None
        self.accounting: Document | None = None

    # Called by the callback

    def admit(self, request_id: str | None, model: Any, identity: Document) -> None:
        """Write the request: it has passed authentication and is about to go to a provider."""
        if self._seq is not None:
            return
        self.request_id = request_id
        self.identify(model, identity, authenticated=True)
        self._open(self._payload())

    def identify(self, model: Any, identity: Document, *, authenticated: bool) -> None:
        """Note who asked for what; what is known already stays where the new word is None."""
        self.model = cut(model) or self.model
        self.identity |= {name: value for name, value in identity.items() if value is not None}
        self.authenticated = self.authenticated or authenticated

    def account(self, accounting: Document) -> None:
        """Write tokens and cost, the first time they come."""
        if self.accounting is not None:
            return
        self.accounting = accounting
        if self._seq is not None:
            self._recorder.account(self._seq, accounting)

    # Called by the layer

    def add_body(self, chunk: bytes) -> None:
        """Keep a piece of the request body."""
        self._body.append(chunk)

    def start_answer(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Note the status and the headers that the client gets."""
        self.status = status
        self._answer_headers = {name.lower(): value for name, value in headers}

    def note_disconnect(self) -> None:
        """The client has left; that only matters before it had all of its answer."""
        self._disconnected = self._disconnected or not self._finished

    def add_answer(self, chunk: bytes, *, last: bool) -> None:
        """Keep a piece of the answer; the last one ends the exchange."""
        if self.first_byte_at is None and chunk:
            self.first_byte_at = _now()
        self._answer_bytes += len(chunk)
        if not self.is_stream or self._answer_bytes <= MAX_STREAM_BYTES:
            self._answer.append(chunk)
        if last:
            self.finish()

    def finish(self, failure: BaseException | None = None) -> None:
        """Write the outcome: the client has its answer, or will never have one."""
        if self._finished:
            return
        self._finished = True
        if failure is not None and self.error is None:
            self.error = {"class": type(failure).__name__, "message": cut(failure)}
        left = self._disconnected
        # Without a status the server below answers with 500.
        status = CLIENT_CLOSED_REQUEST if left else self.status or 500
        awaits_accounting = self._seq is not None and self.accounting is None and (left or status < _FIRST_ERROR)
        if self._seq is None:
            # Of what a stranger sent, nothing goes to the disk but its size.
            refused = {"omitted": "refused before authentication", "bytes": sum(map(len, self._body))}
            self._open(self._payload() if self.authenticated or status < _FIRST_ERROR else refused)
        if self._seq is None:
            return
        ended_at = _now()
        outcome = {
            "outcome": "client_disconnected" if left else "success" if status < _FIRST_ERROR else "failure",
            "status_code": status,
            "ended_at": ended_at,
            "first_token_ms": self._first_token_ms(),
            "stream": self.is_stream,
            "response": self._answer_document(),
            "error": self.error,
            "attempts": self.attempts,
        }
        self._recorder.finish(self._seq, outcome, awaits_accounting=awaits_accounting)

    # How the pieces become documents

    @property
    def is_stream(self) -> bool:
        """True where the answer is an event stream."""
        return self._answer_headers.get(b"content-type", b"").startswith(b"text/event-stream")

    def _open(self, payload: Any) -> None:
        header = self._answer_headers.get(CALL_ID_HEADER) or self._headers.get(CALL_ID_HEADER)
        request_id = self.request_id or (header.decode("latin-1") if header else None) or str(uuid.uuid4())
        opened = self._recorder.open(
            self.created_at,
            cut(request_id) or "",
            {
                "route": self.route,
                "model": self.model,
                "payload": payload,
                "client_address": self.client_address,
                **self.identity,
            },
        )
        if opened is not None:
            self._seq, self.created_at = opened
            if self.accounting is not None:
                self._recorder.account(self._seq, self.accounting)

    def _presented_key(self) -> str | None:
        """The hash of the key in the headers, as LiteLLM computes it; for what is refused before LiteLLM tells."""
        for name in _KEY_HEADERS:
            if name in self._headers:
                key = re.sub(rb"^(Bearer|Basic)\s+", b"", self._headers[name], flags=re.IGNORECASE)
                return hashlib.sha256(key).hexdigest()
        return None

    def _first_token_ms(self) -> float | None:
        if self.first_byte_at is None or not self.is_stream:
            return None
        return (self.first_byte_at - self.created_at) / 1000

    def _payload(self) -> Any:
        body = b"".join(self._body)
        content_type = self._headers.get(b"content-type", b"application/json").decode("latin-1")
        if not body:
            return {}
        if "json" not in content_type:
            return {"content_type": content_type, "bytes": len(body)}
        value = _parsed(body)
        return value if isinstance(value, dict) else {"body": value}

    def _answer_document(self) -> Any:
        body = b"".join(self._answer)
        if not body:
            return None
        if self.is_stream:
            # The assembled answer comes with the accounting; the raw events only matter where that never comes.
            return None if self.accounting is not None else {"events": body.decode("utf-8", "replace")}
        content_type = self._answer_headers.get(b"content-type", b"").decode("latin-1")
        if self._answer_headers.get(b"content-encoding") == b"gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                return {"content_type": content_type, "bytes": len(body)}
        if "json" not in content_type:
            return {"content_type": content_type, "bytes": len(body)}
        return _parsed(body)


def _parsed(body: bytes) -> Any:
    """The JSON of a body without credential fields, or as much of its text as is reasonable."""
    try:
        return redact_fields(decode(body))
    except ValueError:
        return {"unparsed": body[:MAX_STREAM_BYTES].decode("utf-8", "replace")}


class Recorder:
    """Writes exchanges to the spool on behalf of one worker; failures are logged and counted, never raised."""

    def __init__(self, spool: Spool, worker: str, redactor: Redactor, accounting_grace: float) -> None:
        """``accounting_grace``: seconds that a finished exchange waits for its tokens and cost."""
        self._spool = spool
        self._worker = worker
        self._redactor = redactor
        self._grace = round(accounting_grace * 1_000_000)
        self._awaiting: dict[int, int] = {}
        self.failures = 0

    def open(self, created_at: int, request_id: str, request: Document) -> tuple[int, int] | None:
        """See Spool.open; None where the spool failed."""
        try:
            return self._spool.open(self._worker, created_at, request_id, self._text(request))
        except _SPOOL_ERRORS as error:
            self._failed(request_id, error)
            return None

    def finish(self, seq: int, outcome: Document, *, awaits_accounting: bool) -> None:
        """See Spool.finish."""
        ship_after = 0
        if awaits_accounting:
            ship_after = outcome["ended_at"] + self._grace
            self._awaiting[seq] = ship_after
            if len(self._awaiting) > _MANY_AWAITING:
                self.awaiting_accounting()
        try:
            self._spool.finish(seq, self._text(outcome), ship_after)
        except _SPOOL_ERRORS as error:
            self._failed(seq, error)

    def account(self, seq: int, accounting: Document) -> None:
        """See Spool.account."""
        self._awaiting.pop(seq, None)
        try:
            self._spool.account(seq, self._text(accounting))
        except _SPOOL_ERRORS as error:
            self._failed(seq, error)

    def awaiting_accounting(self) -> int:
        """How many finished exchanges may still get their tokens and cost."""
        now = _now()
        self._awaiting = {seq: until for seq, until in self._awaiting.items() if until > now}
        return len(self._awaiting)

    def _text(self, document: Document) -> bytes:
        return self._redactor.redact_text(encode(document))

    def _failed(self, exchange: object, error: Exception) -> None:
        self.failures += 1
        logger.error("exchange %s was not spooled: %s: %s", exchange, type(error).__name__, error)


class CaptureMiddleware:
    """The ASGI layer: everything on a logged path becomes an exchange, everything else passes untouched."""

    def __init__(self, app: ASGIApp, recorder: Recorder, is_logged: Callable[[str], bool]) -> None:
        """``is_logged`` tells by the path of the URL."""
        self._app = app
        self._recorder = recorder
        self._is_logged = is_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection; see the ASGI specification."""
        if scope["type"] != "http" or scope["method"] in ("OPTIONS", "HEAD") or not self._is_logged(scope["path"]):
            await self._app(scope, receive, send)
            return
        exchange = OpenExchange(scope, self._recorder)

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                exchange.add_body(message.get("body", b""))
            elif message["type"] == "http.disconnect":
                exchange.note_disconnect()
            return message

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.start_answer(message["status"], message.get("headers", []))
            # A client that leaves before its answer is only known to the server: LiteLLM does not ask for it.
            # `disconnected` is what uvicorn calls it.
            if getattr(getattr(receive, "__self__", None), "disconnected", False):
                exchange.note_disconnect()
            await send(message)
            if message["type"] == "http.response.body":
                exchange.add_answer(message.get("body", b""), last=not message.get("more_body", False))

        token = current.set(exchange)
        try:
            await self._app(scope, receive_and_note, send_and_note)
        except BaseException as error:
            exchange.finish(error)
            raise
        else:
            exchange.finish()
        finally:
            current.reset(token)
