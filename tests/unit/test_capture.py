"""Capture: what a client sent and what it saw, around small applications that answer as LiteLLM does."""

import asyncio
import gzip
import hashlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from litellm_sqlalchemy.capture import MAX_STREAM_BYTES, CaptureMiddleware, OpenExchange, current
from litellm_sqlalchemy.exchange import Document, Exchange, rows_of
from litellm_sqlalchemy.recorder import NoRoomError, Recorder
from litellm_sqlalchemy.redaction import REDACTED, Redactor
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.spool import Spool

CHAT = "/v1/chat/completions"
KEY = "sk-the-key-of-a-client-0123456789"
KEY_HASH = hashlib.sha256(KEY.encode()).hexdigest()
SECRET = "hunter2-hunter2"
IDENTITY = {"key_hash": KEY_HASH, "user_id": "ann", "team_id": None, "key_alias": None}
BODY = b'{"model":"gpt-4o","messages":[]}'
ANSWER = {"id": "chatcmpl-1", "model": "gpt-4o", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
ANSWER_BODY = json.dumps(ANSWER).encode()

Headers = list[tuple[bytes, bytes]]
JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
AUTHORIZED: Headers = [(b"authorization", b"Bearer " + KEY.encode())]
Message = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Connection:
    """A client's connection as an ASGI server serves it: what it sends, and what has been sent to it."""

    body: list[bytes] = field(default_factory=lambda: [BODY])
    headers: Headers = field(default_factory=lambda: JSON + AUTHORIZED)
    method: str = "POST"
    path: str = CHAT
    disconnected: bool = False  # uvicorn's name
    sent: list[Message] = field(default_factory=list)

    @property
    def scope(self) -> Message:
        client = ("192.168.10.1", 50_000)
        return {"type": "http", "method": self.method, "path": self.path, "headers": self.headers, "client": client}

    async def receive(self) -> Message:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(0), "more_body": bool(self.body)}
        self.disconnected = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


async def read(receive: Any) -> bytes:
    """The whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    return body


async def respond(send: Any, *pieces: bytes, status: int = 200, headers: Headers = JSON) -> None:
    """Answer in pieces."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for number, piece in enumerate(pieces, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


def under_way() -> OpenExchange:
    """The exchange as the callback finds it."""
    exchange = current.get()
    assert exchange is not None
    return exchange


def admit() -> None:
    """What the callback does once LiteLLM has authenticated a request."""
    under_way().admit("call-1", "gpt-4o", IDENTITY)


def answering(
    *pieces: bytes, status: int = 200, headers: Headers = JSON, first: Callable[[], None] = admit
) -> Application:
    """An application that reads the request, does something first, and answers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read(receive)
        first()
        await respond(send, *(pieces or [ANSWER_BODY]), status=status, headers=headers)

    return app


def refusing(status: int = 401, headers: Headers = JSON) -> Application:
    """An application that refuses before it authenticates."""
    return answering(b'{"error":"no such key"}', status=status, headers=headers, first=lambda: None)


@pytest.fixture
def recorder(spool: Spool) -> Recorder:
    return Recorder(spool, "worker", Redactor([SECRET]), Settings())


def pass_through(app: Application, recorder: Recorder, client: Connection) -> Connection:
    """Serve a connection of an application behind the layer, which records what is below /v1/."""
    layer = CaptureMiddleware(app, recorder, lambda path: path.startswith("/v1/"))
    try:
        asyncio.run(layer(client.scope, client.receive, client.send))
    finally:
        assert current.get() is None
    return client


@pytest.fixture
def serve(recorder: Recorder) -> Callable[..., Connection]:
    """Serves one connection, as it is given or described."""

    def serving(app: Application, client: Connection | None = None, **connection: Any) -> Connection:
        return pass_through(app, recorder, client or Connection(**connection))

    return serving


@pytest.fixture
def recorded(spool: Spool) -> Callable[[], list[Exchange]]:
    """The finished exchanges in the spool, whether or not they wait for their accounting."""
    return lambda: spool.ready(100, grace=0)


@pytest.fixture
def shippable(spool: Spool) -> Callable[[], list[Exchange]]:
    """The exchanges in the spool that wait for nothing."""
    return lambda: spool.ready(100, grace=Settings().accounting_grace)


@pytest.fixture
def only(recorded: Callable[[], list[Exchange]]) -> Callable[[], Exchange]:
    """The one finished exchange in the spool."""

    def reading() -> Exchange:
        (exchange,) = recorded()
        return exchange

    return reading


@pytest.fixture
def disk(spool_path: Path) -> Callable[[], bytes]:
    """Everything that has reached the disk."""

    def reading() -> bytes:
        return b"".join(path.read_bytes() for path in spool_path.parent.iterdir() if path.is_file())

    return reading


# What is recorded


def test_plain_call_is_recorded(serve: Any, only: Any) -> None:
    client = serve(answering(), body=[BODY[:10], BODY[10:]])
    assert (client.status, client.answer) == (200, ANSWER_BODY)
    request, response = rows_of(only())
    assert (request["request_id"], request["route"], request["model"]) == ("call-1", CHAT, "gpt-4o")
    assert request["payload"] == {"model": "gpt-4o", "messages": []}
    assert (request["status_code"], request["user_id"], request["api_key"]) == (200, "ann", KEY_HASH)
    assert request["created_at"] <= request["end_time"]
    assert response["latency_ms"] >= 0
    content = response["content"]
    assert (content["outcome"], content["stream"], content["response"]) == ("success", False, ANSWER)
    assert content["client_address"] == "192.168.10.1"
    assert "first_token_ms" not in content


def test_moment_of_acceptance_is_that_of_the_request(serve: Any, only: Any) -> None:
    before = time.time_ns() // 1000
    serve(answering(first=lambda: (time.sleep(0.02), admit())))  # type: ignore[arg-type, return-value]
    assert before <= only().created_at < before + 15_000


def test_request_is_on_disk_before_the_provider_is_called(serve: Any, spool_path: Path) -> None:
    seen = []

    def look() -> None:
        admit()
        reader = Spool(spool_path)  # as another process would
        seen.append((reader.ledger().accepted, reader.workers(), reader.ready(1)))
        reader.close()

    serve(answering(first=look))
    assert seen == [(1, ["worker"], [])]


@pytest.mark.parametrize("app", [refusing(), answering(first=lambda: None)], ids=["refused", "without a provider"])
def test_request_is_on_disk_before_the_client_has_any_of_an_answer(serve: Any, spool: Spool, app: Application) -> None:
    """A kill between the two must not lose it."""
    accepted = []

    class Client(Connection):
        async def send(self, message: Message) -> None:
            if message["type"] == "http.response.body":
                accepted.append(spool.ledger().accepted)

    serve(app, Client())
    assert accepted == [1]


def test_outcome_is_on_disk_when_the_client_has_its_answer(serve: Any, spool: Spool) -> None:
    """What the application does afterwards (LiteLLM's background tasks) delays nothing."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering()(scope, receive, send)
        seen.append(spool.workers())

    serve(app)
    assert seen == [[]]


def test_call_that_is_admitted_twice_is_one(serve: Any, spool: Spool) -> None:
    serve(answering(first=lambda: (admit(), admit())))  # type: ignore[arg-type, func-returns-value, return-value]
    assert spool.ledger().accepted == 1


def test_exchange_is_current_for_its_request_alone(recorder: Recorder) -> None:
    """A server may serve the requests of a connection in one task."""

    async def serve_two() -> None:
        layer = CaptureMiddleware(answering(), recorder, lambda path: True)
        for _ in range(2):
            client = Connection()
            await layer(client.scope, client.receive, client.send)
            assert current.get() is None

    asyncio.run(serve_two())


def test_attempts_and_errors_of_the_callback_are_recorded(serve: Any, only: Any) -> None:
    attempt = {"model": "openai/gpt-4o", "deployment": "d1", "started_at": 1}

    def fail() -> None:
        admit()
        under_way().attempts.append(attempt)
        under_way().error = {"class": "InternalServerError", "message": "no", "code": "500"}

    serve(answering(b"{}", status=500, first=fail))
    content = rows_of(only())[1]["content"]
    assert (content["outcome"], content["attempts"]) == ("failure", [attempt])
    assert content["error"] == {"class": "InternalServerError", "message": "no", "code": "500"}


def test_stream_is_recorded_as_its_events_where_it_is_not_accounted_for(serve: Any, only: Any) -> None:
    pieces = [b"data: {}\n\n", "data: größe\n\n".encode(), b"data: [DONE]\n\n"]
    assert serve(answering(*pieces, headers=EVENTS)).answer == b"".join(pieces)
    _, response = rows_of(only())
    assert response["content"]["stream"] is True
    assert response["content"]["response"] == {"events": b"".join(pieces).decode()}
    assert 0 <= response["content"]["first_token_ms"] <= response["latency_ms"]


def test_stream_is_recorded_as_litellm_assembles_it(serve: Any, only: Any) -> None:
    assembled = {"model": "gpt-4o", "choices": [{"finish_reason": "stop"}]}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read(receive)
        admit()
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        under_way().account({"total_tokens": 3, "response": assembled})
        await send({"type": "http.response.body", "body": b""})

    serve(app)
    assert rows_of(only())[1]["content"]["response"] == assembled


def test_stream_without_end_keeps_its_beginning(serve: Any, only: Any) -> None:
    client = serve(answering(*[b"x" * 300_000] * 5, headers=EVENTS))
    assert len(client.answer) == 1_500_000
    assert len(only().outcome["response"]["events"]) == 900_000 <= MAX_STREAM_BYTES


def test_plain_answer_is_kept_whole(serve: Any, only: Any) -> None:
    answer = {"embedding": "x" * (2 * MAX_STREAM_BYTES)}
    serve(answering(json.dumps(answer).encode()))
    assert only().outcome["response"] == answer


def test_answer_in_gzip_is_recorded_unpacked(serve: Any, only: Any) -> None:
    packed = gzip.compress(ANSWER_BODY)
    client = serve(answering(packed[:20], packed[20:], headers=[*JSON, (b"Content-Encoding", b"gzip")]))
    assert client.answer == packed
    assert only().outcome["response"] == ANSWER


@pytest.mark.parametrize(
    "answer",
    [b"not gzip at all", gzip.compress(b"{}")[:-9], gzip.compress(b"{}")[:10] + b"\xff" * 9],
    ids=["other", "cut", "corrupt"],
)
def test_answer_in_broken_gzip_is_recorded_as_its_size(answer: bytes, serve: Any, only: Any) -> None:
    assert serve(answering(answer, headers=[*JSON, (b"content-encoding", b"gzip")])).answer == answer
    assert only().outcome["response"] == {"content_type": "application/json", "bytes": len(answer)}


def test_answer_that_is_no_json_is_recorded_as_its_size(serve: Any, only: Any) -> None:
    serve(answering(b"\x89PNG" * 10, headers=[(b"content-type", b"image/png")]))
    assert only().outcome["response"] == {"content_type": "image/png", "bytes": 40}


def test_answer_without_a_body_is_recorded_as_none(serve: Any, only: Any) -> None:
    serve(answering(b"", status=204))
    assert only().outcome["response"] is None


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"", {}),
        (b"[1,2]", {"body": [1, 2]}),
        (b'"text"', {"body": "text"}),
        (b'{"model":', {"unparsed": '{"model":'}),
        (b'{"a":"\xff"}', {"unparsed": '{"a":"\ufffd"}'}),
        (b'{"a":"\\ud800\\u0000"}', {"a": "?\0"}),
        (b'{"a":NaN}', {"a": None}),
        (b"[" * 300 + b"]" * 300, {"unparsed": "[" * 300 + "]" * 300}),
        (b"[" * 50_000 + b"]" * 50_000, {"unparsed": "[" * 50_000 + "]" * 50_000}),
    ],
    ids=["empty", "list", "text", "malformed", "not_utf8", "surrogate_and_nul", "nan", "deep", "abyssal"],
)
def test_body_of_any_kind_is_recorded(body: bytes, payload: Any, serve: Any, only: Any) -> None:
    serve(answering(), body=[body])
    assert only().request["payload"] == payload


def test_body_that_is_no_json_is_recorded_as_its_type_and_size(serve: Any, only: Any) -> None:
    serve(answering(), body=[b"x" * 1234], headers=[(b"content-type", b"multipart/form-data; boundary=x")])
    assert only().request["payload"] == {"content_type": "multipart/form-data; boundary=x", "bytes": 1234}


def test_credentials_and_known_secrets_are_not_recorded(serve: Any, only: Any, disk: Any) -> None:
    body = {"api_key": "a-providers-key", "messages": [{"content": f"{SECRET} and {KEY}"}]}
    echo = {"echo": f"{SECRET} {KEY}", "cookie": "a-providers-key"}
    serve(answering(json.dumps(echo).encode()), body=[json.dumps(body).encode()])
    exchange = only()
    assert exchange.request["payload"] == {
        "api_key": REDACTED,
        "messages": [{"content": f"{REDACTED} and {REDACTED}"}],
    }
    assert exchange.outcome["response"] == {"echo": f"{REDACTED} {REDACTED}", "cookie": REDACTED}
    for secret in ("a-providers-key", SECRET, KEY):
        assert secret.encode() not in disk()


def test_calls_at_once_are_kept_apart(recorder: Recorder, recorded: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        name = json.loads(await read(receive))["model"]
        under_way().admit("same", name, IDENTITY | {"user_id": f"user of {name}"})
        await asyncio.sleep(0.01)
        accounting = asyncio.create_task(account_for(name))
        await respond(send, json.dumps({"model": f"answer to {name}"}).encode())
        await accounting

    async def account_for(name: str) -> None:
        """LiteLLM accounts in tasks that inherit the request's context."""
        await asyncio.sleep(0.01)
        under_way().account({"end_user": f"end user of {name}"})

    async def all_of_them() -> None:
        layer = CaptureMiddleware(app, recorder, lambda path: True)
        clients = [Connection(body=[json.dumps({"model": f"m{n}"}).encode()]) for n in range(20)]
        await asyncio.gather(*(layer(client.scope, client.receive, client.send) for client in clients))

    asyncio.run(all_of_them())
    found = recorded()
    assert len(found) == len({(exchange.request_id, exchange.created_at) for exchange in found}) == 20
    for exchange in found:
        name = exchange.request["payload"]["model"]
        assert exchange.request["user_id"] == f"user of {name}"
        assert exchange.outcome["response"] == {"model": f"answer to {name}"}
        assert exchange.accounting == {"end_user": f"end user of {name}"}


# Which call it was, and whose


@pytest.mark.parametrize(
    ("litellms", "clients", "answers", "stored"),
    [
        ("litellms", b"clients", b"answers", "litellms"),
        (None, b"clients", b"answers", "answers"),
        (None, b"clients", None, "clients"),
        (None, b"gr\xf6\xdfe", None, "größe"),
        (None, b"x" * 2000, None, "x" * 1024),
    ],
    ids=["admitted", "answer", "client", "latin_1", "long"],
)
def test_call_id_is_one_that_the_client_knows(
    *, litellms: str | None, clients: bytes, answers: bytes | None, stored: str, serve: Any, only: Any
) -> None:
    def begin() -> None:
        if litellms:
            under_way().admit(litellms, "m", IDENTITY)

    answer_headers = JSON + ([(b"X-LiteLLM-Call-Id", answers)] if answers else [])
    app = answering(b"{}", status=400, headers=answer_headers, first=begin)
    serve(app, headers=[*JSON, (b"x-litellm-call-id", clients)])
    assert only().request_id == stored


def test_call_without_an_id_gets_one(serve: Any, recorded: Any) -> None:
    for _ in range(2):
        serve(refusing())
    ids = {exchange.request_id for exchange in recorded()}
    assert [len(given) for given in ids] == [36, 36]


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer " + KEY.encode())], KEY),
        ([(b"authorization", b"bearer   " + KEY.encode())], KEY),
        ([(b"authorization", b"Basic " + KEY.encode())], KEY),
        ([(b"authorization", KEY.encode())], KEY),
        ([(b"x-api-key", KEY.encode())], KEY),
        ([(b"api-key", KEY.encode())], KEY),
        ([(b"x-goog-api-key", KEY.encode())], KEY),
        ([(b"authorization", b"Bearer another"), (b"x-litellm-api-key", b"Bearer " + KEY.encode())], KEY),
        ([], None),
    ],
    ids=["bearer", "bearer_loosely", "basic", "bare", "anthropic", "azure", "google", "litellm_first", "none"],
)
def test_refused_call_has_the_hash_of_the_presented_key(
    headers: Headers, key: str | None, serve: Any, only: Any, disk: Any
) -> None:
    serve(refusing(), headers=JSON + headers)
    assert only().request["key_hash"] == (hashlib.sha256(key.encode()).hexdigest() if key else None)
    assert KEY.encode() not in disk()


def test_what_is_known_of_the_caller_stays(serve: Any, only: Any) -> None:
    def identify() -> None:
        under_way().identify("m", IDENTITY, authenticated=True)
        under_way().identify(None, {"key_hash": None, "user_id": None}, authenticated=False)

    serve(answering(b"{}", status=400, first=identify))
    request = only().request
    assert (request["model"], request["user_id"], request["key_hash"]) == ("m", "ann", KEY_HASH)
    assert "omitted" not in request["payload"]


# What is refused


def test_payload_of_an_unauthenticated_call_is_omitted(serve: Any, only: Any, disk: Any) -> None:
    body = b'{"model":"m","messages":["a strangers prose"]}'
    serve(refusing(), body=[body[:20], body[20:]])
    request, response = rows_of(only())
    assert request["payload"] == {"omitted": "refused before authentication", "bytes": len(body)}
    assert (request["status_code"], response["content"]["outcome"]) == (401, "failure")
    assert response["content"]["response"] == {"error": "no such key"}
    assert b"strangers prose" not in disk()


def test_payload_of_an_authenticated_call_that_is_refused_is_kept(serve: Any, only: Any) -> None:
    def refuse() -> None:
        under_way().identify("nosuch", IDENTITY, authenticated=True)

    serve(answering(b"{}", status=400, first=refuse), body=[b'{"model":"nosuch"}'])
    request = only().request
    assert (request["payload"], request["model"], request["user_id"]) == ({"model": "nosuch"}, "nosuch", "ann")


def test_payload_of_a_call_that_was_answered_is_kept(serve: Any, only: Any) -> None:
    """LiteLLM has no hook for a list of models, and whoever got one had a key."""
    serve(answering(b'{"data":[]}', first=lambda: None), body=[b'{"a":1}'])
    assert only().request["payload"] == {"a": 1}


# Clients that leave


def test_client_that_leaves_mid_stream_is_recorded_as_499(serve: Any, only: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read(receive)
        admit()
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    serve(app)
    request, response = rows_of(only())
    assert request["status_code"] == 499
    assert response["content"]["outcome"] == "client_disconnected"
    assert response["content"]["response"] == {"events": "data: one\n\n"}
    assert response["latency_ms"] is not None


@pytest.mark.parametrize("status", [200, 500])
def test_client_that_leaves_before_its_answer_is_recorded_as_499(status: int, serve: Any, only: Any) -> None:
    """LiteLLM does not ask whether the client is still there; the server knows."""
    client = Connection()

    def leave() -> None:
        admit()
        client.disconnected = True

    serve(answering(status=status, first=leave), client)
    request, response = rows_of(only())
    assert (request["status_code"], response["content"]["outcome"]) == (499, "client_disconnected")
    assert response["content"]["response"] == ANSWER, "it was made, and paid for"


def test_client_that_leaves_after_its_answer_had_it(serve: Any, only: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering()(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    serve(app)
    assert rows_of(only())[0]["status_code"] == 200


def test_client_of_another_server_can_be_recorded(recorder: Recorder, only: Any) -> None:
    """Only uvicorn's ``receive`` is a method of something that knows whether the client is there."""
    client = Connection()
    layer = CaptureMiddleware(answering(), recorder, lambda path: True)

    async def receive() -> Message:
        return await client.receive()

    asyncio.run(layer({**client.scope, "client": None}, receive, client.send))
    assert only().outcome["outcome"] == "success"


# Applications that fail


@pytest.mark.parametrize("error", [RuntimeError("broke"), asyncio.CancelledError(), RecursionError("deep")], ids=repr)
def test_error_of_the_application_is_recorded_and_passes_on(error: BaseException, serve: Any, only: Any) -> None:
    def fail() -> None:
        admit()
        raise error

    with pytest.raises(type(error)):
        serve(answering(first=fail))
    request, response = rows_of(only())
    assert request["status_code"] == 500, "which is what the server answers then"
    assert response["content"]["outcome"] == "failure"
    assert response["content"]["error"]["class"] == type(error).__name__


def test_error_that_the_callback_knows_stays(serve: Any, only: Any) -> None:
    def fail() -> None:
        admit()
        under_way().error = {"class": "Timeout", "message": "30 s", "code": "408"}
        raise RuntimeError("afterwards")

    with pytest.raises(RuntimeError, match="afterwards"):
        serve(answering(first=fail))
    assert only().outcome["error"]["class"] == "Timeout"


def test_application_that_does_not_answer_failed(serve: Any, only: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read(receive)
        admit()

    serve(app)
    assert (only().outcome["status_code"], only().outcome["outcome"]) == (500, "failure")


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "says_so_in_the_stream"])
def test_stream_that_breaks_after_its_status_is_a_failure(raises: bool, serve: Any, only: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read(receive)
        admit()
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        if raises:
            raise ConnectionError("the provider is gone")
        under_way().error = {"class": "MidStreamError", "message": "the provider is gone", "code": "500"}
        await send({"type": "http.response.body", "body": b'data: {"error":{}}\n\n'})

    if raises:
        with pytest.raises(ConnectionError):
            serve(app)
    else:
        serve(app)
    request, response = rows_of(only())
    assert request["status_code"] == 200, "which is what the client saw"
    assert response["content"]["error"]["message"] == "the provider is gone"
    assert response["content"]["outcome"] == "failure"


# A spool that fails


@pytest.mark.parametrize("broken", ["open", "finish", "account", "used_bytes", "free_bytes"])
@pytest.mark.parametrize(
    "error",
    [sqlite3.OperationalError("database is locked"), OSError("no such device"), ValueError("odd")],
    ids=["sqlite", "os", "value"],
)
def test_spool_that_fails_fails_no_request(
    error: Exception, broken: str, serve: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(spool, broken, fail)
    client = serve(answering(first=lambda: (admit(), account())))  # type: ignore[arg-type, func-returns-value, return-value]
    assert (client.status, client.answer) == (200, ANSWER_BODY)


@pytest.mark.parametrize("message", [10**5000, [[]]], ids=["huge_number", "deep"])
def test_document_that_cannot_be_written_fails_no_request(message: Any, serve: Any) -> None:
    def fail() -> None:
        admit()
        nested = message
        for _ in range(2_000 if isinstance(message, list) else 0):
            nested = [nested]
        under_way().error = {"class": "Odd", "message": nested}
        under_way().account({"response": nested})

    assert serve(answering(b"{}", status=500, first=fail)).answer == b"{}"


def test_spool_that_is_closed_fails_no_request(serve: Any, spool: Spool) -> None:
    """A request that outlives the shutdown of its worker."""
    spool.close()
    assert serve(answering()).answer == ANSWER_BODY


def test_request_that_could_not_be_written_at_first_is_tried_again_at_the_end(
    serve: Any, spool: Spool, recorder: Recorder, only: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = spool.open
    errors = iter([sqlite3.OperationalError("database is locked")])

    def open_second_time(*arguments: Any) -> tuple[int, int]:
        for error in errors:
            raise error
        return opening(*arguments)

    monkeypatch.setattr(spool, "open", open_second_time)
    serve(answering())
    request, response = rows_of(only())
    assert (request["payload"], request["status_code"]) == ({"model": "gpt-4o", "messages": []}, 200)
    assert response["content"]["outcome"] == "success"
    recorder.catch_up()
    assert (spool.ledger().accepted, spool.ledger().dropped) == (1, 0), "it was not dropped after all"


# A spool without room


class FullSpool(Spool):
    """A spool that holds what it may hold."""

    full = True

    def used_bytes(self) -> int:
        return 2**60 if self.full else 0


@pytest.fixture
def full(tmp_path: Path) -> Iterator[FullSpool]:
    spool = FullSpool(tmp_path / "full.sqlite3")
    yield spool
    spool.close()


def test_call_is_served_and_counted_once_where_there_is_no_room(full: FullSpool) -> None:
    recorder = Recorder(full, "worker", Redactor([]), Settings(spool_when_full="keep-serving"))
    assert pass_through(answering(), recorder, Connection()).answer == ANSWER_BODY
    recorder.catch_up()
    ledger = full.ledger()
    assert (ledger.accepted, ledger.dropped, ledger.spooled) == (1, 1, 0)
    assert ledger.balanced


def test_call_is_refused_where_it_must_be_logged_and_there_is_no_room(full: FullSpool) -> None:
    recorder = Recorder(full, "worker", Redactor([]), Settings(spool_when_full="refuse"))
    reached: list[bool] = []
    client = pass_through(answering(first=lambda: reached.append(True)), recorder, Connection())
    assert client.status == 503
    assert json.loads(client.answer)["error"]["code"] == "503"
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-length"] == str(len(client.answer)).encode()
    assert headers[b"retry-after"].isdigit()
    assert not reached, "the provider would be paid for a call that nobody logged"
    other = Connection(path="/health/liveliness")
    assert pass_through(answering(first=lambda: None), recorder, other).status == 200


def test_call_is_refused_where_it_must_be_logged_and_cannot_be_written(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(spool, "worker", Redactor([]), Settings(spool_when_full="refuse"))

    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(spool, "open", fail)
    raised = []

    def try_to_admit() -> None:
        try:
            admit()
        except NoRoomError as error:  # which the callback answers with a 503
            raised.append(str(error))

    app = answering(status=503, first=try_to_admit)
    pass_through(app, recorder, Connection())
    assert len(raised) == 1
    assert "request log" in raised[0]
    assert pass_through(app, recorder, Connection()).status == 503
    assert len(raised) == 1, "the next one is refused at the door"
    monkeypatch.undo()
    recorder.catch_up()
    assert pass_through(answering(), recorder, Connection()).status == 200


def test_strangers_are_logged_at_a_bounded_rate(spool: Spool) -> None:
    """Nobody can fill the disk with 401s."""
    recorder = Recorder(spool, "worker", Redactor([]), Settings(refusals_per_second=1.0))
    assert {pass_through(refusing(), recorder, Connection()).status for _ in range(30)} == {401}
    recorder.catch_up()
    ledger = spool.ledger()
    assert ledger.accepted == 10
    assert ledger.unlogged_refusals == 20
    assert ledger.balanced
    pass_through(answering(), recorder, Connection())
    assert spool.ledger().accepted == 11, "who has a key is always logged"


# What is not recorded


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "http", "method": "GET", "path": "/health/liveliness", "headers": []},
        {"type": "http", "method": "OPTIONS", "path": CHAT, "headers": []},
        {"type": "http", "method": "HEAD", "path": CHAT, "headers": []},
        {"type": "websocket", "path": "/v1/realtime", "headers": []},
        {"type": "lifespan"},
    ],
    ids=["path", "preflight", "head", "websocket", "lifespan"],
)
def test_other_connections_pass_untouched(scope: Message, recorder: Recorder, spool: Spool) -> None:
    passed = []

    async def app(*arguments: Any) -> None:
        passed.extend(arguments)
        assert current.get() is None

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        pass

    layer = CaptureMiddleware(app, recorder, lambda path: path.startswith("/v1/"))
    asyncio.run(layer(scope, receive, send))
    assert all(one is other for one, other in zip(passed, (scope, receive, send), strict=True))
    assert spool.ledger().accepted == 0


# Waiting for the accounting


def account(accounting: Document | None = None) -> None:
    under_way().account(accounting or {"cost": 0.5})


@pytest.mark.parametrize(("status", "waits"), [(200, True), (302, True), (400, False), (500, False)])
def test_call_waits_for_its_accounting_unless_it_failed(
    status: int, waits: bool, serve: Any, shippable: Any, recorder: Recorder
) -> None:
    serve(answering(status=status))
    assert len(shippable()) == (not waits)
    assert recorder.awaiting_accounting() == waits


def test_call_that_the_client_left_waits_for_its_accounting(serve: Any, recorded: Any, shippable: Any) -> None:
    client = Connection()

    def leave() -> None:
        admit()
        client.disconnected = True

    serve(answering(first=leave), client)
    assert (len(recorded()), shippable()) == (1, [])


def test_call_without_a_provider_waits_for_nothing(serve: Any, shippable: Any) -> None:
    serve(answering(first=lambda: None))
    assert len(shippable()) == 1


def test_accounting_that_comes_later_ends_the_wait(serve: Any, shippable: Any, recorder: Recorder) -> None:
    kept: list[OpenExchange] = []

    def keep() -> None:
        admit()
        kept.append(under_way())

    serve(answering(first=keep))
    assert shippable() == []
    kept[0].account({"cost": 0.5})
    kept[0].account({"cost": 7})
    (exchange,) = shippable()
    assert exchange.accounting == {"cost": 0.5}
    assert recorder.awaiting_accounting() == 0


def test_accounting_that_comes_first_is_kept(serve: Any, shippable: Any) -> None:
    """Before the answer has ended, or even before the request was written."""
    serve(answering(first=lambda: (admit(), account())))  # type: ignore[arg-type, func-returns-value, return-value]
    serve(answering(first=account))
    assert [exchange.accounting for exchange in shippable()] == [{"cost": 0.5}] * 2


def test_accounting_is_redacted(serve: Any, only: Any) -> None:
    serve(answering(first=lambda: (admit(), account({"response": SECRET}))))  # type: ignore[arg-type, func-returns-value, return-value]
    assert only().accounting == {"response": REDACTED}


def test_wait_is_over_after_the_grace(spool: Spool) -> None:
    recorder = Recorder(spool, "worker", Redactor([]), Settings(accounting_grace=0.05))
    pass_through(answering(), recorder, Connection())
    assert (recorder.awaiting_accounting(), spool.ready(10, grace=0.05)) == (1, [])
    time.sleep(0.06)
    assert recorder.awaiting_accounting() == 0
    assert len(spool.ready(10, grace=0.05)) == 1


def test_clock_that_is_set_back_makes_no_call_longer(serve: Any, only: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    an_hour = 3_600_000_000_000
    clock = time.time_ns

    def set_back() -> None:
        admit()
        monkeypatch.setattr(time, "time_ns", lambda: clock() - an_hour)

    serve(answering(first=set_back))
    assert 0 <= rows_of(only())[1]["latency_ms"] < 5_000
