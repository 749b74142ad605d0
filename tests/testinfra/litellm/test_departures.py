"""Clients that leave before they have their answer: logged as 499, with what they got and what it cost."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"
WORDS, PAUSE = 40, 0.1  # the whole stream takes 4 s; the client leaves after some words
SLOW = f"[[chunks={WORDS}]] [[chunk_delay={PAUSE}]]"


@dataclass(frozen=True)
class Case:
    """A route, and the part of its body that is not the model."""

    path: str
    model: str
    body: Callable[[str], dict[str, Any]]


def as_messages(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]}


CASES = {
    "chat": Case("/v1/chat/completions", "lab-chat", as_messages),
    "responses": Case("/v1/responses", "lab-chat", lambda prompt: {"input": prompt}),
    "messages": Case("/v1/messages", "lab-claude", lambda prompt: as_messages(prompt) | {"max_tokens": 99}),
}
each_route = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def assert_departure(pair: Any, case: Case, key_hash: str, marker: str) -> None:
    row, content = pair.request, pair.content
    assert row["status_code"] == 499
    assert content["outcome"] == "client_disconnected"
    assert (row["route"], row["model"], row["api_key"]) == (case.path, case.model, key_hash)
    assert marker in json.dumps(row["payload"])
    assert row["start_time"] <= row["end_time"]


@pytest.mark.acceptance("AC-4")
@pytest.mark.acceptance("AC-5")
@each_route
def test_client_that_leaves_mid_stream_is_logged(
    *,
    case: Case,
    http: httpx.Client,
    request_log: Any,
    marker: str,
    key_hash: str,
    attempts_at: Callable[[str], list[Any]],
    strings_in: Callable[[Any], str],
) -> None:
    body = {"model": case.model, "stream": True} | case.body(f"{SLOW} [[marker={marker}]]")
    began = time.monotonic()
    with http.stream("POST", case.path, json=body) as stream:
        assert stream.status_code == 200
        call_id = stream.headers[CALL_ID]
        for line in stream.iter_lines():
            if "word5 " in line:
                break
    stayed_ms = (time.monotonic() - began) * 1000
    pair = request_log.pair_for(call_id)
    assert_departure(pair, case, key_hash, marker)
    assert pair.content["stream"] is True
    # The gateway notices with the next piece that it sends.
    assert stayed_ms - 1000 <= pair.response["latency_ms"] <= stayed_ms + 1500
    said = strings_in(pair.content["response"])
    assert "word3" in said, "what the client had by then is missing"
    assert f"word{WORDS - 1}" not in said
    assert pair.response["total_tokens"] > 0
    assert pair.response["cost"] > 0
    assert [attempt["outcome"] for attempt in attempts_at(marker)] == ["client_gone"]


@pytest.mark.acceptance("AC-4")
@pytest.mark.acceptance("AC-5")
@each_route
def test_client_that_leaves_a_plain_call_is_logged(
    *,
    case: Case,
    http: httpx.Client,
    request_log: Any,
    marker: str,
    call_id: str,
    key_hash: str,
    attempts_at: Callable[[str], list[Any]],
    price: Callable[..., Any],
) -> None:
    """The provider answers all the same, and wants to be paid."""
    prompt = f"[[delay=2]] [[marker={marker}]] hello"
    body = {"model": case.model} | case.body(prompt)
    with pytest.raises(httpx.ReadTimeout):
        http.post(case.path, json=body, headers={CALL_ID: call_id}, timeout=0.7)
    pair = request_log.pair_for(call_id)
    assert_departure(pair, case, key_hash, marker)
    assert [attempt["outcome"] for attempt in attempts_at(marker)] == ["answered"]
    tokens = (3, 3)  # [[delay]] [[marker]] hello; You said: hello
    assert (pair.response["prompt_tokens"], pair.response["completion_tokens"]) == tokens
    assert float(pair.response["cost"]) == pytest.approx(float(price(case.model, *tokens)), rel=1e-9)


@pytest.mark.parametrize("trouble", ["broken_stream", "stall"])
def test_stream_that_the_provider_breaks_is_a_failure(
    trouble: str, http: httpx.Client, request_log: Any, marker: str, strings_in: Callable[[Any], str]
) -> None:
    """The client has its 200 by then: the status stays, the outcome tells."""
    prompt = f"[[{trouble}]] [[chunks=20]] [[chunk_delay=0.05]] [[marker={marker}]]"
    body = {"model": "lab-slow", "stream": True} | as_messages(prompt)
    with http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = list(stream.iter_lines())
    assert any('"error"' in line for line in lines)
    assert not any("[DONE]" in line for line in lines)
    pair = request_log.pair_for(stream.headers[CALL_ID])
    assert pair.request["status_code"] == stream.status_code == 200
    assert pair.content["outcome"] == "failure"
    assert pair.content["error"]["message"]
    assert "word3" in strings_in(pair.content["response"])
