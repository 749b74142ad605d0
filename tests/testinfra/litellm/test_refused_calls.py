"""Calls that end in an error: logged like the others, with the status and the error that the client saw."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"
CHAT, MESSAGES, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"


def body(prompt: str = "hello", model: str = "lab-chat", **more: Any) -> Callable[[str], bytes]:
    """A body with a prompt that carries the marker; it fits the chat, the messages and the responses routes."""

    def build(marker: str) -> bytes:
        text = f"[[marker={marker}]] {prompt}"
        fields = {"messages": [{"role": "user", "content": text}]} if "input" not in more else {"input": text}
        return json.dumps({"model": model} | more | fields).encode()

    return build


def fixed(raw: bytes) -> Callable[[str], bytes]:
    """A body that is the same for each call."""
    return lambda _: raw


@dataclass(frozen=True)
class Case:
    """A call that fails. ``key`` None: the master key; empty: none is sent. ``statuses``: what the client may see."""

    name: str
    statuses: tuple[int, ...]
    body: Callable[[str], bytes]
    path: str = CHAT
    method: str = "POST"
    key: str | None = None
    model: str | None = "lab-chat"
    attempts: int = 0
    error: bool = True


NEST = b'{"model":"lab-chat","messages":[{"role":"user","content":"hi"}],"metadata":{"deep":%s1%s}}'

# Refused by the gateway after it knew who asked: the payload is kept.
AUTHENTICATED = [
    Case("unknown_model", (400, 404), body(model="nope"), model="nope"),
    Case("unknown_model_streamed", (400, 404), body(model="nope", stream=True), model="nope"),
    Case("unknown_model_messages", (400, 404), body(model="nope", max_tokens=9), MESSAGES, model="nope"),
    Case("unknown_model_responses", (400, 404), body(model="nope", input=""), RESPONSES, model="nope"),
    Case("unknown_model_embeddings", (400, 404), body(model="nope", input=""), EMBEDDINGS, model="nope"),
    Case("upstream_500", (500,), body("[[status=500]]"), attempts=1),
    Case("upstream_500_streamed", (500,), body("[[status=500]]", stream=True), attempts=1),
    Case("upstream_500_responses", (500,), body("[[status=500]]", input=""), RESPONSES, attempts=1),
    Case(
        "upstream_500_messages",
        (500,),
        body("[[status=500]]", model="lab-claude", max_tokens=9),
        MESSAGES,
        model="lab-claude",
        attempts=1,
    ),
    Case("upstream_429", (429,), body("[[status=429]]"), attempts=1),
    Case("upstream_timeout", (408,), body("[[delay=3]]", model="lab-slow"), model="lab-slow", attempts=1),
    Case("upstream_never_answers", (408,), body("[[hang]]", model="lab-slow"), model="lab-slow", attempts=1),
]

# Refused before that, or not understood: what a stranger sent need not be kept.
UNREAD = [
    Case("wrong_key", (400, 401), body(), key="sk-wrong-1c5ab8d20f4e4f7d"),
    Case("wrong_key_of_another_form", (400, 401), body(), key="my-secret-1c5ab8d20f4e4f7d"),
    Case("wrong_key_messages", (400, 401), body(model="lab-claude", max_tokens=9), MESSAGES, key="sk-wrong-6e0b7d2c"),
    Case("missing_key", (401,), body(), key=""),
    Case("missing_key_of_a_get", (401,), fixed(b""), "/v1/models", "GET", key=""),
    Case("malformed_body", (400,), fixed(b'{"model": "lab-chat", ')),
    Case("malformed_body_and_wrong_key", (400, 401), fixed(b"{"), key="sk-wrong-9f3d"),
    Case("lone_surrogate", (400,), fixed(rb'{"model":"lab-chat","messages":[{"role":"user","content":"a\ud800b"}]}')),
    Case("invalid_utf8", (400,), fixed(b'{"model":"lab-chat","messages":[{"role":"user","content":"a\xffb"}]}')),
    Case("no_body", (400,), fixed(b"")),
    Case("body_without_messages", (400,), fixed(b'{"model": "lab-chat"}')),
    Case("body_that_is_a_list", (400, 500), fixed(b"[1, 2]"), error=False),
    Case("nested_beyond_recursion", (400, 500), fixed(NEST % (b"[" * 500, b"]" * 500))),
    Case("nested_beyond_parsing", (400,), fixed(NEST % (b"[" * 100_000, b"]" * 100_000))),
]


@dataclass(frozen=True)
class Made:
    """A call that was made: what the client saw, and the pair of rows that it left."""

    case: Case
    status: int
    answer: Any
    marker: str
    pair: Any


def make(case: Case, http: httpx.Client, request_log: Any, marker: str, call_id: str) -> Made:
    """Send a call; the answer to a refused one has no call id, so the client chooses one."""
    headers = {CALL_ID: call_id, "Content-Type": "application/json"}
    request = http.build_request(case.method, case.path, content=case.body(marker), headers=headers)
    if case.key is not None:
        del request.headers["Authorization"]
    if case.key:
        request.headers["Authorization"] = f"Bearer {case.key}"
    answer = http.send(request)
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    pair = request_log.pair_for(call_id)
    return Made(case, answer.status_code, answer.json() if is_json else None, marker, pair)


def assert_logged_as_failure(made: Made) -> None:
    """What holds for every call that failed."""
    row, response, content = made.pair.request, made.pair.response, made.pair.content
    assert made.status in made.case.statuses
    assert row["status_code"] == made.status, "the status in the log is not the one that the client saw"
    assert row["route"] == made.case.path
    assert content["outcome"] == "failure"
    if made.answer is not None:
        assert content["response"] == made.answer, "the error in the log is not the one that the client saw"
    if made.case.error:
        assert content["error"]["class"]
        assert content["error"]["message"]
    assert not response["total_tokens"]
    assert not response["cost"]
    assert 0 <= response["latency_ms"] < 60_000
    assert row["start_time"] <= row["end_time"]


@pytest.mark.acceptance("AC-4")
@pytest.mark.acceptance("AC-5")
@pytest.mark.parametrize("case", AUTHENTICATED, ids=lambda case: case.name)
def test_failed_call_is_logged_with_payload_and_error(
    *,
    case: Case,
    http: httpx.Client,
    request_log: Any,
    marker: str,
    call_id: str,
    key_hash: str,
    attempts_at: Callable[[str], list[Any]],
) -> None:
    made = make(case, http, request_log, marker, call_id)
    assert_logged_as_failure(made)
    row, content = made.pair.request, made.pair.content
    assert (row["api_key"], row["model"]) == (key_hash, case.model)
    assert marker in json.dumps(row["payload"])
    assert len(attempts_at(marker)) == case.attempts
    assert len(content["attempts"]) == case.attempts
    assert all(attempt["error"] for attempt in content["attempts"])


@pytest.mark.acceptance("AC-4")
@pytest.mark.acceptance("AC-5")
@pytest.mark.parametrize("case", UNREAD, ids=lambda case: case.name)
def test_refused_call_is_logged(
    *,
    case: Case,
    http: httpx.Client,
    request_log: Any,
    marker: str,
    call_id: str,
    attempts_at: Callable[[str], list[Any]],
) -> None:
    made = make(case, http, request_log, marker, call_id)
    assert_logged_as_failure(made)
    assert attempts_at(marker) == [], "the call reached a provider"


@pytest.mark.parametrize(
    "key", ["sk-wrong-c3f0a1b2d4e5f607", "another-form-c3f0a1b2d4e5f607"], ids=["like_litellms", "of_another_form"]
)
def test_wrong_key_is_stored_as_its_hash_only(
    http: httpx.Client, request_log: Any, call_id: str, key: str, sha256_of: Callable[[str], str]
) -> None:
    """LiteLLM hashes only what begins with ``sk-`` and hands the rest to callbacks as it came."""
    pair = make(Case("wrong", (400, 401), body(), key=key), http, request_log, "m", call_id).pair
    assert pair.request["api_key"] == sha256_of(key)
    assert key not in pair.text


def test_missing_key_is_stored_as_none(http: httpx.Client, request_log: Any, call_id: str) -> None:
    pair = make(Case("missing", (401,), body(), key=""), http, request_log, "m", call_id).pair
    assert pair.request["api_key"] is None
