"""Calls that the provider answers: one row in each table, with what the client saw, what it used and what it cost."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")

CALL_ID = "x-litellm-call-id"
SKEW = timedelta(seconds=2)
DELAY_MS = 300
TOOL_ARGUMENTS = {"city": "Zürich", "days": 3}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}


@dataclass(frozen=True)
class Answer:
    """What a client saw of a call: its id, the model that answered, a text of the answer."""

    call_id: str
    model: str
    text: str


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def chat(clients: Any, prompt: str, **more: Any) -> Answer:
    raw = clients.openai.chat.completions.with_raw_response.create(model="lab-chat", messages=messages(prompt), **more)
    parsed = raw.parse()
    return Answer(raw.headers[CALL_ID], parsed.model, parsed.choices[0].message.content)


def chat_stream(clients: Any, prompt: str, **more: Any) -> Answer:
    raw = clients.openai.chat.completions.with_raw_response.create(
        model="lab-chat", messages=messages(prompt), stream=True, **more
    )
    chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return Answer(raw.headers[CALL_ID], chunks[0].model, text)


def chat_stream_with_usage(clients: Any, prompt: str) -> Answer:
    return chat_stream(clients, prompt, stream_options={"include_usage": True})


def chat_tools() -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


def tool_call(clients: Any, prompt: str) -> Answer:
    raw = clients.openai.chat.completions.with_raw_response.create(
        model="lab-chat", messages=messages(f"[[tool]] {prompt}"), tools=chat_tools()
    )
    parsed = raw.parse()
    function = parsed.choices[0].message.tool_calls[0].function
    assert (function.name, json.loads(function.arguments)) == ("weather", TOOL_ARGUMENTS)
    return Answer(raw.headers[CALL_ID], parsed.model, "weather")


def tool_call_stream(clients: Any, prompt: str) -> Answer:
    raw = clients.openai.chat.completions.with_raw_response.create(
        model="lab-chat", messages=messages(f"[[tool]] {prompt}"), tools=chat_tools(), stream=True
    )
    chunks = list(raw.parse())
    parts = [call.function for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert json.loads("".join(part.arguments or "" for part in parts)) == TOOL_ARGUMENTS
    return Answer(raw.headers[CALL_ID], chunks[0].model, "weather")


def embeddings(clients: Any, prompt: str) -> Answer:
    raw = clients.openai.embeddings.with_raw_response.create(model="lab-embedding", input=prompt)
    parsed = raw.parse()
    assert len(parsed.data[0].embedding) == 8
    return Answer(raw.headers[CALL_ID], parsed.model, "embedding")


def responses(clients: Any, prompt: str) -> Answer:
    raw = clients.openai.responses.with_raw_response.create(model="lab-chat", input=prompt)
    parsed = raw.parse()
    return Answer(raw.headers[CALL_ID], parsed.model, parsed.output_text)


def responses_stream(clients: Any, prompt: str) -> Answer:
    raw = clients.openai.responses.with_raw_response.create(model="lab-chat", input=prompt, stream=True)
    events = list(raw.parse())
    assert events[-1].type == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    # LiteLLM names the model as the client knows it beside the response; within, it is the provider's name.
    return Answer(raw.headers[CALL_ID], events[-1].model, text)


def anthropic_message(clients: Any, prompt: str) -> Answer:
    raw = clients.anthropic.messages.with_raw_response.create(
        model="lab-claude", max_tokens=99, messages=messages(prompt)
    )
    parsed = raw.parse()
    return Answer(raw.headers[CALL_ID], parsed.model, parsed.content[0].text)


def anthropic_message_stream(clients: Any, prompt: str) -> Answer:
    raw = clients.anthropic.messages.with_raw_response.create(
        model="lab-claude", max_tokens=99, messages=messages(prompt), stream=True
    )
    events = list(raw.parse())
    assert events[-1].type == "message_stop"
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    return Answer(raw.headers[CALL_ID], events[0].message.model, text)


def anthropic_tool_use(clients: Any, prompt: str) -> Answer:
    raw = clients.anthropic.messages.with_raw_response.create(
        model="lab-claude",
        max_tokens=99,
        messages=messages(f"[[tool]] {prompt}"),
        tools=[{"name": "weather", "input_schema": PARAMETERS}],
    )
    parsed = raw.parse()
    assert (parsed.content[0].name, parsed.content[0].input) == ("weather", TOOL_ARGUMENTS)
    return Answer(raw.headers[CALL_ID], parsed.model, "weather")


@dataclass(frozen=True)
class Case:
    """A call of one kind. ``extra_in``: directives that the call adds, in words; ``tokens_out`` None: words said."""

    send: Callable[[Any, str], Answer]
    route: str
    model: str
    finish: str | None
    stream: bool = False
    extra_in: int = 0
    tokens_out: int | None = None


CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
CASES = [
    Case(chat, CHAT, "lab-chat", "stop"),
    Case(chat_stream, CHAT, "lab-chat", "stop", stream=True),
    Case(chat_stream_with_usage, CHAT, "lab-chat", "stop", stream=True),
    Case(tool_call, CHAT, "lab-chat", "tool_calls", extra_in=1, tokens_out=4),
    Case(tool_call_stream, CHAT, "lab-chat", "tool_calls", stream=True, extra_in=1, tokens_out=4),
    Case(embeddings, "/v1/embeddings", "lab-embedding", None, tokens_out=0),
    Case(responses, RESPONSES, "lab-chat", "completed"),
    Case(responses_stream, RESPONSES, "lab-chat", "completed", stream=True),
    Case(anthropic_message, MESSAGES, "lab-claude", "end_turn"),
    Case(anthropic_message_stream, MESSAGES, "lab-claude", "end_turn", stream=True),
    Case(anthropic_tool_use, MESSAGES, "lab-claude", "tool_use", extra_in=1, tokens_out=4),
]


@dataclass(frozen=True)
class Made:
    """A call that was made, and the pair of rows that it left."""

    case: Case
    answer: Answer
    prompt: str
    marker: str
    began: datetime
    ended: datetime
    pair: Any


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.send.__name__)
def made(request: pytest.FixtureRequest, clients: Any, request_log: Any) -> Made:
    """One call of each kind; every test of this module looks at all of them."""
    marker = f"{request.param.send.__name__}-{time.time_ns()}"
    prompt = f"[[delay={DELAY_MS / 1000}]] [[chunk_delay=0.02]] [[marker={marker}]] tell me about Zürich 漢字"
    began = datetime.now(timezone.utc)
    answer = request.param.send(clients, prompt)
    ended = datetime.now(timezone.utc)
    pair = request_log.pair_for(answer.call_id)
    return Made(request.param, answer, prompt, marker, began, ended, pair)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.acceptance("AC-3")
@pytest.mark.acceptance("AC-4")
def test_request_row_says_who_asked_for_what(made: Made, key_hash: str) -> None:
    row = made.pair.request
    assert row["request_id"] == made.answer.call_id
    assert (row["route"], row["model"], row["status_code"]) == (made.case.route, made.case.model, 200)
    assert row["api_key"] == key_hash


def test_request_row_holds_the_payload_as_it_came(made: Made, strings_in: Callable[[Any], str]) -> None:
    payload = made.pair.request["payload"]
    assert payload["model"] == made.case.model
    assert made.prompt in strings_in(payload)
    assert payload.get("stream", False) is made.case.stream
    assert ("tools" in payload) is ("tool" in made.case.send.__name__)


def test_request_row_holds_the_times(made: Made) -> None:
    row = made.pair.request
    began, ended = moment(row["start_time"]), moment(row["end_time"])
    assert made.began - SKEW <= began < ended <= made.ended + SKEW
    assert ended - began >= timedelta(milliseconds=DELAY_MS)
    assert made.began - SKEW <= moment(row["created_at"]) <= ended


@pytest.mark.acceptance("AC-5")
def test_response_row_holds_latency(made: Made) -> None:
    row = made.pair.response
    seen_ms = (made.ended - made.began) / timedelta(milliseconds=1)
    assert DELAY_MS <= row["latency_ms"] <= seen_ms
    assert row["created_at"] == made.pair.request["created_at"]
    if made.case.stream:
        assert DELAY_MS <= made.pair.content["first_token_ms"] < row["latency_ms"]


@pytest.mark.acceptance("AC-3")
@pytest.mark.acceptance("AC-5")
def test_response_row_holds_tokens_and_cost(made: Made, price: Callable[..., Any]) -> None:
    row = made.pair.response
    tokens_in = len(made.prompt.split()) + made.case.extra_in
    tokens_out = len(made.answer.text.split()) if made.case.tokens_out is None else made.case.tokens_out
    assert (row["prompt_tokens"], row["completion_tokens"]) == (tokens_in, tokens_out)
    assert row["total_tokens"] == tokens_in + tokens_out
    assert float(row["cost"]) == pytest.approx(float(price(made.case.model, tokens_in, tokens_out)), rel=1e-9)
    assert row["cost"] > 0


@pytest.mark.acceptance("AC-5")
def test_response_row_holds_the_answer(made: Made, strings_in: Callable[[Any], str]) -> None:
    content = made.pair.content
    if made.case.model == "lab-embedding":
        assert len(content["response"]["data"]) == 1
    elif "tool" in made.case.send.__name__:
        stored = strings_in(content["response"])
        assert "weather" in stored
        assert "Zürich" in stored or "Z\\u00fcrich" in stored
    else:
        assert made.answer.text.startswith("You said: tell me about Zürich 漢字")
        assert made.answer.text in strings_in(content["response"])
    assert made.pair.response["response_model"] == made.answer.model


def test_response_row_says_how_it_went(made: Made) -> None:
    content = made.pair.content
    assert content["outcome"] == "success"
    assert content.get("error") is None
    assert content["stream"] is made.case.stream
    assert content.get("finish_reason") == made.case.finish
    assert content["cache_hit"] is False
    assert content["client_address"]


def test_response_row_lists_the_one_attempt(made: Made, attempts_at: Callable[[str], list[Any]]) -> None:
    (attempt,) = made.pair.content["attempts"]
    assert attempt.get("error") is None
    assert attempt["model"]
    assert [arrived["outcome"] for arrived in attempts_at(made.marker)] == ["answered"]


def test_no_row_holds_the_key(made: Made, master_key: str) -> None:
    assert made.marker in made.pair.text
    assert master_key not in made.pair.text
