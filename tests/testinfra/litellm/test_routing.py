"""Retries, fallbacks, cached answers, call ids that clients choose, calls that ask not to be logged: one pair each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"
SAID = 3  # You said: hello


def ask(clients: Any, prompt: str, model: str = "lab-chat", **more: Any) -> Any:
    """A chat; the raw answer of the official client."""
    messages = [{"role": "user", "content": prompt}]
    return clients.openai.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


@pytest.mark.parametrize("failures", [1, 2])
def test_retry_that_succeeds_is_one_pair_with_all_attempts(
    failures: int, clients: Any, request_log: Any, marker: str, attempts_at: Callable[[str], list[Any]]
) -> None:
    prompt = f"[[fail={failures}]] [[marker={marker}]] hello"
    answer = ask(clients, prompt, extra_body={"num_retries": 2})
    assert [attempt["status"] for attempt in attempts_at(marker)] == [500] * failures + [200]
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert (pair.request["status_code"], pair.content["outcome"]) == (200, "success")
    assert pair.content.get("error") is None
    *failed, last = pair.content["attempts"]
    assert len(failed) == failures
    assert all(attempt["error"]["message"] for attempt in failed)
    assert last.get("error") is None
    assert pair.response["completion_tokens"] == SAID
    assert pair.response["cost"] > 0


def test_retries_that_fail_are_one_pair_with_all_attempts(
    request_log: Any, marker: str, call_id: str, http: Any, attempts_at: Callable[[str], list[Any]]
) -> None:
    body = {
        "model": "lab-chat",
        "messages": [{"role": "user", "content": f"[[status=500]] [[marker={marker}]]"}],
        "num_retries": 2,
    }
    assert http.post("/v1/chat/completions", json=body, headers={CALL_ID: call_id}).status_code == 500
    assert len(attempts_at(marker)) == 3
    pair = request_log.pair_for(call_id)
    assert (pair.request["status_code"], pair.content["outcome"]) == (500, "failure")
    assert len(pair.content["attempts"]) == 3
    assert all(attempt["error"]["message"] for attempt in pair.content["attempts"])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_fallback_is_one_pair_with_both_models(
    *,
    stream: bool,
    clients: Any,
    request_log: Any,
    marker: str,
    attempts_at: Callable[[str], list[Any]],
    price: Callable[..., Any],
) -> None:
    prompt = f"[[marker={marker}]] hello"
    answer = ask(clients, prompt, model="lab-broken", **({"stream": True} if stream else {}))
    if stream:
        assert list(answer.parse())
    assert [attempt["status"] for attempt in attempts_at(marker)] == [500, 200]
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert (pair.request["model"], pair.request["status_code"]) == ("lab-broken", 200)
    assert pair.content["outcome"] == "success"
    assert pair.content.get("error") is None
    broken, worked = pair.content["attempts"]
    assert broken["error"]["message"]
    assert worked.get("error") is None
    assert broken["deployment"] != worked["deployment"]
    cost = price("lab-chat", len(prompt.split()), SAID)
    assert float(pair.response["cost"]) == pytest.approx(float(cost), rel=1e-9)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_cached_answer_costs_nothing_and_is_logged_as_such(
    stream: bool, clients: Any, request_log: Any, marker: str, attempts_at: Callable[[str], list[Any]]
) -> None:
    pairs = []
    for _ in range(2):
        more = {"stream": True} if stream else {}
        answer = ask(clients, f"[[marker={marker}]] hello", extra_body={"cache": {"use-cache": True}}, **more)
        if stream:
            assert list(answer.parse())
        pairs.append(request_log.pair_for(answer.headers[CALL_ID]))
    assert len(attempts_at(marker)) == 1, "the second answer did not come from the cache"
    asked, cached = pairs
    assert (asked.content["cache_hit"], cached.content["cache_hit"]) == (False, True)
    assert asked.response["cost"] > 0
    assert cached.response["cost"] == 0
    for pair in pairs:
        assert (pair.request["status_code"], pair.content["outcome"]) == (200, "success")
        assert "You said: hello" in pair.text


def test_two_calls_with_one_call_id_are_two_pairs(clients: Any, request_log: Any, call_id: str) -> None:
    """A client may choose the id; LiteLLM's own table loses the second of such calls."""
    for name in ("first", "second"):
        answer = ask(clients, f"I am the {name}", extra_headers={CALL_ID: call_id})
        assert answer.headers[CALL_ID] == call_id
    first, second = request_log.rows_for(call_id, count=2)
    assert ("I am the first" in first.text, "I am the second" in second.text) == (True, True)
    assert first.request["id"] != second.request["id"]
    assert "You said: I am the first" in first.text
    assert "You said: I am the second" in second.text


def test_call_that_asks_not_to_be_logged_is_logged(clients: Any, request_log: Any, marker: str) -> None:
    answer = ask(clients, f"[[marker={marker}]] hello", extra_body={"no-log": True})
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert marker in pair.text
    assert pair.response["total_tokens"] == 5
    assert pair.response["cost"] > 0


def test_end_user_that_the_client_names_is_logged(clients: Any, request_log: Any) -> None:
    answer = ask(clients, "hello", user="customer-4711")
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert pair.content["end_user"] == "customer-4711"


def test_calls_at_the_same_time_keep_apart(clients: Any, request_log: Any) -> None:
    def call(number: int) -> tuple[str, str]:
        answer = ask(clients, f"[[delay=0.{number % 5}]] I am number {number:02}")
        return answer.headers[CALL_ID], answer.parse().choices[0].message.content

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, range(40)))
    assert len({call_id for call_id, _ in answers}) == 40
    for number, (call_id, text) in enumerate(answers):
        pair = request_log.pair_for(call_id)
        assert text == f"You said: I am number {number:02}"
        assert f"I am number {number:02}" in pair.request["payload"]["messages"][0]["content"]
        assert text in pair.text
        assert len(pair.content["attempts"]) == 1
