"""What a client sent and what it saw: an ASGI layer around the gateway that records each exchange in the spool.

The layer frames an exchange (body, status, answer, disconnects); the LiteLLM callback fills it in (key, attempts,
tokens, cost). They meet in ``current``, a context variable that LiteLLM's tasks inherit from the request's.
Nothing here ever raises into a request.
"""

import gzip
import hashlib
import re
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from litellm_sqlalchemy.exchange import CLIENT_CLOSED_REQUEST, Document, cut, decode, encode
from litellm_sqlalchemy.recorder import NO_ROOM, NoRoomError, Recorder
from litellm_sqlalchemy.redaction import MAX_DEPTH, is_too_deep

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_STREAM_BYTES = 1_048_576
"""Bytes kept of a raw event stream, until LiteLLM's assembled answer is there."""

CALL_ID_HEADER = b"x-litellm-call-id"

# Where LiteLLM looks for a key, in its order: litellm/proxy/auth/user_api_key_auth.py
_KEY_HEADERS = (b"x-litellm-api-key", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key")
_SCHEME = re.compile(rb"^(Bearer|Basic)\s+", re.IGNORECASE)
_FIRST_ERROR = 400

current: ContextVar["OpenExchange | None"] = ContextVar("litellm_sqlalchemy_exchange", default=None)


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
        self._refused = False
        self._admitted = False
        self._prepared = False
        self._unlogged = False
        self._counted = False
        self.created_at = time.time_ns() // 1000
        self._started = time.monotonic_ns()
        self.route: str = scope["path"]
        self.client_address: str | None = scope["client"][0] if scope.get("client") else None
        self.request_id: str | None = None
        self.model: str | None = None
        self.identity: Document = {}
        self.authenticated = False
        self.attempts: list[Document] = []
        self.error: Document | None = None
        self.status: int | None = None
        self.first_byte_at: int | None = None
        self.accounting: Document | None = None

    # Called by the callback

    def admit(self, request_id: str | None, model: Any, identity: Document) -> None:
        """Write the request: it has passed authentication and is about to go to a provider.

        Raises NoRoomError where it cannot be logged and must not be served then.
        """
        if self._seq is not None:
            return
        self.request_id = request_id
        self.identify(model, identity, authenticated=True)
        self._prepared = True
        self._open(self._payload())
        self._admitted = self._seq is not None
        if self._seq is None and self._recorder.must_log:
            self._refused = True
            raise NoRoomError(NO_ROOM)

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

    def now(self) -> int:
        """Microseconds since the epoch, by a clock that nobody sets back during the exchange."""
        return self.created_at + (time.monotonic_ns() - self._started) // 1000

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

    def prepare_answer(self) -> None:
        """Write the request before the client has any of its answer, where no provider was to be called."""
        if not self._prepared:
            self._prepared = True
            self._open_late()

    def add_answer(self, chunk: bytes, *, last: bool) -> None:
        """Keep a piece of the answer; the last one ends the exchange."""
        if self.first_byte_at is None and chunk:
            self.first_byte_at = self.now()
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
        status = self._final_status
        succeeded = status < _FIRST_ERROR and self.error is None
        awaits_accounting = self._admitted and self.accounting is None and (left or succeeded)
        self._open_late()
        if self._seq is None:
            if not self._refused and not self._unlogged:
                self._recorder.drop()
            return
        ended_at = self.now()
        outcome = {
            # A stream can fail after its 200 has gone out.
            "outcome": "client_disconnected" if left else "success" if succeeded else "failure",
            "status_code": status,
            "ended_at": ended_at,
            "first_token_ms": self._first_token_ms(),
            "stream": self.is_stream,
            "response": self._answer_document(),
            "error": self.error,
            "attempts": self.attempts,
        }
        self._recorder.finish(self._seq, outcome, awaits_accounting=awaits_accounting)

    def _open_late(self) -> None:
        """Write the request where it could not be admitted: LiteLLM has refused it, or needs no provider."""
        if self._seq is not None or self._unlogged:
            return
        logged_in_full = self.authenticated or self._final_status < _FIRST_ERROR
        # Of what a stranger sent, nothing goes to the disk but its size, and not at any rate.
        self._unlogged = not logged_in_full and not self._counted and not self._recorder.may_log_refusal()
        if not self._unlogged:
            self._counted = True
            refused = {"omitted": "refused before authentication", "bytes": sum(map(len, self._body))}
            self._open(self._payload() if logged_in_full else refused)

    # How the pieces become documents

    @property
    def _final_status(self) -> int:
        # Without a status the server below answers with 500.
        return CLIENT_CLOSED_REQUEST if self._disconnected else self.status or 500

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
                "key_hash": self.identity.get("key_hash") or self._presented_key(),
                **self.identity,
            },
        )
        if opened is not None:
            self._seq, self.created_at = opened
            if self.accounting is not None:
                self._recorder.account(self._seq, self.accounting)

    def _presented_key(self) -> str | None:
        """The hash of the key in the headers, as LiteLLM computes it; where LiteLLM itself does not tell."""
        for name in _KEY_HEADERS:
            if name in self._headers:
                return _hash_of_key(self._headers[name])
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
            return {"events": body.decode("utf-8", "replace")}
        content_type = self._answer_headers.get(b"content-type", b"").decode("latin-1")
        if self._answer_headers.get(b"content-encoding") == b"gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                return {"content_type": content_type, "bytes": len(body)}
        if "json" not in content_type:
            return {"content_type": content_type, "bytes": len(body)}
        return _parsed(body)


@lru_cache(maxsize=256)
def _hash_of_key(header: bytes) -> str:
    return hashlib.sha256(_SCHEME.sub(b"", header)).hexdigest()


def _parsed(body: bytes) -> Any:
    """The JSON of a body, or as much of its text as is reasonable where it is none or too deep."""
    try:
        value = decode(body)
        # A body with few brackets needs no look at its depth.
        if body.count(b"[") + body.count(b"{") <= MAX_DEPTH or not is_too_deep(value):
            return value
    except ValueError:
        pass
    return {"unparsed": body[:MAX_STREAM_BYTES].decode("utf-8", "replace")}


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
        if self._recorder.refuses():
            await _refuse(send)
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
            if message["type"] == "http.response.body":
                exchange.prepare_answer()
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


async def _refuse(send: Send) -> None:
    """503 in the form of OpenAI's errors: what cannot be logged must not be served."""
    body = encode({"error": {"message": NO_ROOM, "type": "request_log_full", "param": None, "code": "503"}})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
