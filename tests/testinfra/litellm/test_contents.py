"""Prompts that are hard to store: what came in is what the log says, as far as PostgreSQL can hold it."""

import json
import re
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"


def send(http: httpx.Client, prompt: str, **more: Any) -> httpx.Response:
    """A chat over plain HTTP, since the official clients mend some of these bodies."""
    body = {"model": "lab-chat", "messages": [{"role": "user", "content": prompt}]} | more
    return http.post("/v1/chat/completions", content=json.dumps(body), headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    "text",
    [
        "Größe, façade, ĳ, ﬁ, Ω ≠ Ω, e\u0301 ≠ é",
        "漢字 かな 한글 עברית العربية ไทย",
        "🎉 👩‍👩‍👧‍👦 \U0010ffff \ufeff \u2028 \u200b",
        "quotes ' \" \\ \\u0000 $1 %s {{ x }} -- ; DROP TABLE requests",
        "\x01\x08\x0b\x1f\x7f\x85 controls",
    ],
    ids=["latin", "scripts", "beyond_the_bmp", "quoting", "controls"],
)
def test_text_is_stored_as_it_came(text: str, http: httpx.Client, request_log: Any) -> None:
    answer = send(http, text)
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert pair.request["payload"]["messages"][0]["content"] == text
    said = pair.content["response"]["choices"][0]["message"]["content"]
    assert said == answer.json()["choices"][0]["message"]["content"]
    assert said.startswith("You said: ")


def test_nul_bytes_lose_no_row_and_no_other_character(http: httpx.Client, request_log: Any) -> None:
    """PostgreSQL's jsonb cannot hold U+0000."""
    answer = send(http, "before\0after \\u0000 end", metadata={"k\0y": "v\0"})
    assert "\0" in answer.json()["choices"][0]["message"]["content"]
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert (pair.request["status_code"], pair.content["outcome"]) == (200, "success")
    stored = pair.request["payload"]["messages"][0]["content"]
    assert re.fullmatch(r"before.{1,6}after \\u0000 end", stored), stored
    assert re.search(
        r"You said: before.{1,6}after \\u0000 end", pair.content["response"]["choices"][0]["message"]["content"]
    )
    assert pair.response["cost"] > 0


def test_nul_bytes_in_a_model_name(http: httpx.Client, request_log: Any, call_id: str) -> None:
    body = json.dumps({"model": "no\0such", "messages": []})
    headers = {"Content-Type": "application/json", CALL_ID: call_id}
    answer = http.post("/v1/chat/completions", content=body, headers=headers)
    pair = request_log.pair_for(call_id)
    assert pair.request["status_code"] == answer.status_code == 400
    assert re.fullmatch(r"no.{1,6}such", pair.request["model"])


def test_prompt_of_5_mb_is_stored_whole(http: httpx.Client, request_log: Any) -> None:
    prompt = "".join(f"word{number:06} " for number in range(480_000))
    assert len(prompt) > 5 * 1024 * 1024
    answer = send(http, prompt)
    assert answer.status_code == 200
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert pair.request["payload"]["messages"][0]["content"] == prompt
    assert pair.response["prompt_tokens"] == 480_000


@pytest.mark.parametrize("depth", [100, 240, 400])
def test_deep_nesting_is_stored(depth: int, http: httpx.Client, request_log: Any) -> None:
    """orjson writes 254 levels, LiteLLM takes about 400."""
    nested: Any = "bottom"
    for _ in range(depth):
        nested = [nested]
    answer = send(http, "hello", metadata={"nested": nested})
    assert answer.status_code == 200
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert pair.request["status_code"] == 200
    assert pair.response["cost"] > 0
    assert "hello" in json.dumps(pair.request["payload"])
    assert json.dumps(pair.request["payload"]).count("[") > depth


def test_numbers_keep_their_value(http: httpx.Client, request_log: Any) -> None:
    numbers = {"beyond_a_double": 9007199254740993, "largest": 2**64 - 1, "tenth": 0.1}
    answer = send(http, "hello", metadata=numbers)
    stored = request_log.pair_for(answer.headers[CALL_ID]).request["payload"]["metadata"]
    assert {name: type(numbers[name])(value) for name, value in stored.items()} == numbers


def test_keys_in_a_prompt_are_not_stored(http: httpx.Client, request_log: Any, master_key: str) -> None:
    provider_key = "sk-proj-" + "0123456789abcdef" * 3
    answer = send(http, f"my keys: {master_key} and {provider_key}, thanks", metadata={"authorization": "Bearer x-y-z"})
    assert master_key in answer.text, "the double repeats the prompt"
    pair = request_log.pair_for(answer.headers[CALL_ID])
    assert "my keys: " in pair.text
    assert ", thanks" in pair.text
    for secret in (master_key, provider_key, "x-y-z"):
        assert secret not in pair.text
