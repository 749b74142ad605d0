"""Exchange: what is known of a request becomes one row in each table, and any JSON survives on the way."""

import json
import math
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.exchange import (
    MAX_TEXT_BYTES,
    Exchange,
    cut,
    decode,
    encode,
    microseconds,
    moment,
    rows_of,
)
from litellm_sqlalchemy.models import Request, Response

ACCEPTED = datetime(2026, 9, 23, 12, 0, 0, 123456, timezone.utc)
CREATED_AT = microseconds(ACCEPTED)

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 20, "total_tokens": 31},
}


def exchange(
    request: dict[str, Any] | None = None,
    outcome: dict[str, Any] | None = None,
    accounting: dict[str, Any] | None = None,
) -> Exchange:
    """An exchange; what is not given is as a plain, successful chat has it."""
    asked = {
        "route": "/v1/chat/completions",
        "model": "gpt-4o",
        "payload": {"model": "gpt-4o", "messages": []},
        "client_address": "192.168.10.1",
        "key_hash": "0a" * 32,
        "user_id": "ann",
        "team_id": "blue",
        "key_alias": "anns laptop",
    }
    return Exchange(7, CREATED_AT, "call-1", asked | (request or {}), outcome, accounting)


def outcome(**known: Any) -> dict[str, Any]:
    """The outcome of a plain, successful chat after 245.5 ms, with other values where they are given."""
    return {
        "outcome": "success",
        "status_code": 200,
        "ended_at": CREATED_AT + 245_500,
        "first_token_ms": None,
        "stream": False,
        "response": CHAT,
        "error": None,
        "attempts": [{"model": "openai/gpt-4o", "deployment": "d1", "started_at": CREATED_AT + 2_000}],
    } | known


def accounting(**known: Any) -> dict[str, Any]:
    """The accounting of that chat."""
    return {
        "prompt_tokens": 11,
        "completion_tokens": 20,
        "total_tokens": 31,
        "cost": 0.00046,
        "cost_breakdown": {"input_cost": 0.0001, "output_cost": 0.00036},
        "cache_hit": False,
        "end_user": "bob",
        "provider": "openai",
        "model": "openai/gpt-4o",
        "response": None,
    } | known


# Rows


CASES = {
    "open": exchange(),
    "interrupted": exchange(outcome={"outcome": "interrupted"}),
    "success": exchange(outcome=outcome(), accounting=accounting()),
    "unaccounted": exchange(outcome=outcome()),
    "failure": exchange(outcome=outcome(outcome="failure", status_code=500, response=None, error={"class": "E"})),
    "stream": exchange(outcome=outcome(stream=True, response=None), accounting=accounting(response=CHAT)),
    "nobody": Exchange(1, CREATED_AT, "call-2", {"route": "/", "payload": {}}, None, None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rows_have_every_column_but_those_that_postgresql_gives(case: Exchange) -> None:
    request, response = rows_of(case)
    assert set(request) == set(Request.__table__.columns.keys()) - {"id"}
    assert set(response) == set(Response.__table__.columns.keys()) - {"id", "request_id_fk"}
    for row, model in ((request, Request), (response, Response)):
        required = {column.name for column in model.__table__.columns if not column.nullable}
        assert all(row[name] is not None for name in required & set(row))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rows_of_a_pair_share_the_moment_of_acceptance(case: Exchange) -> None:
    request, response = rows_of(case)
    assert request["created_at"] == request["start_time"] == response["created_at"] == ACCEPTED


def test_success_fills_every_column() -> None:
    request, response = rows_of(exchange(outcome=outcome(), accounting=accounting()))
    assert request == {
        "created_at": ACCEPTED,
        "request_id": "call-1",
        "route": "/v1/chat/completions",
        "model": "gpt-4o",
        "payload": {"model": "gpt-4o", "messages": []},
        "status_code": 200,
        "user_id": "ann",
        "api_key": "0a" * 32,
        "start_time": ACCEPTED,
        "end_time": ACCEPTED + timedelta(microseconds=245_500),
    }
    content = response.pop("content")
    assert response == {
        "created_at": ACCEPTED,
        "latency_ms": 245.5,
        "prompt_tokens": 11,
        "completion_tokens": 20,
        "total_tokens": 31,
        "cost": Decimal("0.00046"),
        "response_model": "gpt-4o-2024-08-06",
    }
    assert content == {
        "outcome": "success",
        "response": CHAT,
        "attempts": [{"model": "openai/gpt-4o", "deployment": "d1", "started_at": CREATED_AT + 2_000}],
        "stream": False,
        "finish_reason": "stop",
        "cache_hit": False,
        "client_address": "192.168.10.1",
        "end_user": "bob",
        "team_id": "blue",
        "key_alias": "anns laptop",
        "provider": "openai",
        "cost_breakdown": {"input_cost": 0.0001, "output_cost": 0.00036},
    }


def test_failure_keeps_its_status_and_error() -> None:
    error = {"class": "RateLimitError", "message": "slow down", "code": "429"}
    answer = {"error": {"message": "slow down"}}
    request, response = rows_of(
        exchange(outcome=outcome(outcome="failure", status_code=429, error=error, response=answer))
    )
    assert request["status_code"] == 429
    assert response["content"]["outcome"] == "failure"
    assert response["content"]["error"] == error
    assert response["content"]["response"] == answer
    assert "finish_reason" not in response["content"]
    nothing = ("prompt_tokens", "completion_tokens", "total_tokens", "cost", "response_model")
    assert [response[name] for name in nothing] == [None] * len(nothing)


def test_interrupted_exchange_has_no_status_no_end_and_no_latency() -> None:
    for known in (None, {"outcome": "interrupted"}):
        request, response = rows_of(exchange(outcome=known))
        assert (request["status_code"], request["end_time"], response["latency_ms"]) == (None, None, None)
        assert response["content"]["outcome"] == "interrupted"
        assert response["content"]["attempts"] == []


def test_stream_has_the_answer_that_the_accounting_assembled() -> None:
    streamed = outcome(stream=True, response={"events": "data: {}"}, first_token_ms=12.5)
    content = rows_of(exchange(outcome=streamed, accounting=accounting(response=CHAT)))[1]["content"]
    assert content["response"] == CHAT
    assert (content["stream"], content["first_token_ms"], content["finish_reason"]) == (True, 12.5, "stop")


def test_stream_without_accounting_has_its_events() -> None:
    streamed = outcome(stream=True, response={"events": "data: {}"})
    assert rows_of(exchange(outcome=streamed))[1]["content"]["response"] == {"events": "data: {}"}


def events(*values: Any) -> dict[str, str]:
    """An event stream as the client saw it."""
    return {"events": "".join(f"event: x\ndata: {json.dumps(value)}\n\n" for value in values) + "data: [DONE]\n\n"}


STREAMS = {
    "chat": [
        {"model": "gpt-4o", "choices": [{"delta": {"content": "hi"}, "finish_reason": None}]},
        {"model": "gpt-4o", "choices": [{"delta": {}, "finish_reason": "length"}]},
        {"model": "gpt-4o", "choices": [], "usage": {"total_tokens": 1}},
    ],
    "messages": [
        {"type": "message_start", "message": {"model": "gpt-4o"}},
        {"type": "message_delta", "delta": {"stop_reason": "length"}},
        {"type": "message_stop"},
    ],
    "responses": [
        {"type": "response.created", "response": {"object": "response", "model": "gpt-4o", "status": "in_progress"}},
        {"type": "response.completed", "response": {"object": "response", "model": "gpt-4o", "status": "length"}},
    ],
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize("pieces", [0, 1000], ids=["short", "long"])
def test_events_of_a_stream_tell_its_model_and_why_it_ended(stream: list[Any], pieces: int) -> None:
    many = [stream[0], *[{"type": "piece"}] * pieces, *stream[1:]]
    row = rows_of(exchange(outcome=outcome(stream=True, response=events(*many))))[1]
    assert (row["response_model"], row["content"]["finish_reason"]) == ("gpt-4o", "length")


def test_what_the_client_saw_counts_more_than_what_litellm_assembled() -> None:
    """It assembles every stream in the form of OpenAI's, and under the provider's name of the model."""
    streamed = outcome(stream=True, response=events(*STREAMS["messages"]))
    row = rows_of(exchange(outcome=streamed, accounting=accounting(response=CHAT)))[1]
    assert (row["response_model"], row["content"]["finish_reason"]) == ("gpt-4o", "length")
    assert row["content"]["response"] == CHAT


@pytest.mark.parametrize(
    "text", ["", "data:", "data: {", "data: 3\n\ndata: null\n", ": ping\n\n", "\ud800data: {}"], ids=repr
)
def test_events_of_any_kind_are_stored(text: str) -> None:
    row = rows_of(exchange(outcome=outcome(stream=True, response={"events": text})))[1]
    assert row["content"]["response"] == {"events": text}
    assert (row["response_model"], row["content"].get("finish_reason")) == (None, None)


def test_cache_hit_costs_nothing_and_says_so() -> None:
    row = rows_of(exchange(outcome=outcome(), accounting=accounting(cache_hit=True, cost=0.0)))[1]
    assert row["content"]["cache_hit"] is True
    assert row["cost"] == 0
    assert row["total_tokens"] == 31


def test_answer_of_the_provider_counts_tokens_where_the_accounting_never_came() -> None:
    row = rows_of(exchange(outcome=outcome()))[1]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (11, 20, 31)
    assert row["cost"] is None


def test_answer_of_anthropic_counts_tokens_and_tells_why_it_ended() -> None:
    answer = {"model": "claude", "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 4}}
    row = rows_of(exchange(outcome=outcome(response=answer)))[1]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (3, 4, 7)
    assert (row["response_model"], row["content"]["finish_reason"]) == ("claude", "end_turn")


def test_answer_of_the_responses_api_tells_its_status() -> None:
    answer = {"object": "response", "status": "incomplete", "model": "m"}
    assert rows_of(exchange(outcome=outcome(response=answer)))[1]["content"]["finish_reason"] == "incomplete"


@pytest.mark.parametrize(
    "usage",
    [None, [], "many", {}, {"total_tokens": None}, {"prompt_tokens": "3", "total_tokens": math.inf}],
    ids=repr,
)
def test_usage_that_is_none_counts_nothing(usage: Any) -> None:
    row = rows_of(exchange(outcome=outcome(response={"usage": usage})))[1]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (None, None, None)


@pytest.mark.parametrize("answer", ["text", ["a"], 3, True, {}, {"choices": []}, {"choices": ["odd"]}], ids=repr)
def test_answer_of_any_shape_is_stored(answer: Any) -> None:
    row = rows_of(exchange(outcome=outcome(response=answer)))[1]
    assert row["content"]["response"] == answer
    assert "finish_reason" not in row["content"]


def test_model_of_the_accounting_stands_in_where_the_answer_names_none() -> None:
    row = rows_of(exchange(outcome=outcome(response={"data": []}), accounting=accounting()))[1]
    assert row["response_model"] == "openai/gpt-4o"


@pytest.mark.parametrize(
    ("cost", "stored"), [(1e-07, "0.0000001"), (0.1, "0.1"), (0, "0"), (123456.789, "123456.789"), (None, None)]
)
def test_cost_is_the_decimal_that_the_float_shows(cost: float | None, stored: str | None) -> None:
    row = rows_of(exchange(outcome=outcome(), accounting=accounting(cost=cost)))[1]
    assert row["cost"] == (None if stored is None else Decimal(stored))


def test_texts_that_others_chose_are_cut() -> None:
    long = "x" * (MAX_TEXT_BYTES + 1)
    request, response = rows_of(
        exchange(
            {"route": long, "model": long, "user_id": long, "key_hash": long},
            outcome(response={"model": long, "stop_reason": long}),
        )
    )
    for value in (*(request[name] for name in ("route", "model", "user_id", "api_key")), response["response_model"]):
        assert value == "x" * MAX_TEXT_BYTES
    assert response["content"]["finish_reason"] == "x" * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a?b"),
        (429, "429"),
        ("", ""),
        ({"a": 1}, "{'a': 1}"),
        ("\U00020000" * 1024, "\U00020000" * 256),
        ("xé" * 1024, "xé" * 341 + "x"),
    ],
    ids=["none", "nul", "surrogate", "number", "empty", "other", "four_bytes_each", "never_half_a_character"],
)
def test_cut_text_is_one_that_postgresql_takes(value: Any, stored: str | None) -> None:
    assert cut(value) == stored


@given(st.text(st.characters(exclude_categories=())) | st.integers() | st.none())
def test_cut_text_fits_an_index(value: Any) -> None:
    text = cut(value)
    assert text is None or ("\0" not in text and len(text.encode()) <= MAX_TEXT_BYTES)


# Time


def test_microseconds_and_moments_are_each_others_inverse() -> None:
    assert microseconds(ACCEPTED) == 1_790_164_800_123_456
    assert moment(1_790_164_800_123_456) == ACCEPTED
    assert moment(1_790_164_800_123_456).tzinfo is timezone.utc


def test_microseconds_of_a_moment_without_a_zone_are_those_of_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert microseconds(datetime(2026, 9, 23, 21, 0, 0, 123456)) == CREATED_AT  # noqa: DTZ001
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(0, 4_000_000_000_000_000))
def test_microsecond_is_never_rounded(value: int) -> None:
    assert microseconds(moment(value)) == value


# JSON


def presentable(value: Any) -> Any:
    """What is left of a value where JSON in UTF-8 cannot hold it."""
    if isinstance(value, str):
        return "".join("?" if "\ud800" <= char <= "\udfff" else char for char in value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {presentable(key): presentable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [presentable(item) for item in value]
    return value


any_text = st.text(st.characters(exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | any_text,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(any_text, values, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_value_survives_encoding_as_far_as_json_can_hold_it(value: Any) -> None:
    text = encode(value)
    assert decode(text) == presentable(value)
    assert json.loads(text.decode("utf-8", "strict")) == presentable(value)
    assert orjson.loads(text) == presentable(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "\ud800"}, b'{"a":"?"}'),
        ({"\udfff": 1}, b'{"?":1}'),
        ([math.nan, math.inf, -math.inf], b"[null,null,null]"),
        (["\ud800", math.nan, 2**80], b'["?",null,1208925819614629174706176]'),
        ({"a": "\0"}, b'{"a":"\\u0000"}'),
        ({1: {"x"}}, b'{"1":"{\'x\'}"}'),
        ((1, "\ud800"), b'[1,"?"]'),
        ("größe 漢字 🎉", '"größe 漢字 🎉"'.encode()),
    ],
    ids=repr,
)
def test_value_that_json_cannot_hold_is_replaced(value: Any, text: bytes) -> None:
    assert encode(value) == text


@pytest.mark.parametrize("depth", [200, 300])
def test_value_of_sane_depth_is_encoded(depth: int) -> None:
    """orjson itself stops at 254 levels."""
    value: Any = "bottom"
    for _ in range(depth):
        value = {"down": [value]} if depth % 2 else [value]
    assert decode(encode(value)) == value


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_text_that_is_nested_beyond_reason_is_a_value_error(depth: int) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("text", [b"", b"{", b"nul", b"\xff\xfe", b'{"a":1}}', b"1" * 5000, b'"\xff"'], ids=repr)
def test_text_that_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the parser's sentence is its own
        decode(text)


def test_text_that_litellm_takes_is_decoded() -> None:
    assert decode(b'{"a":"\\ud800"}') == {"a": "\ud800"}
    assert math.isnan(decode(b"NaN"))
    assert decode(b"[1e400]") == [math.inf]


@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 1, -(2**63), 9_007_199_254_740_993], ids=str)
def test_whole_number_of_64_bits_keeps_every_digit(value: int) -> None:
    found = decode(encode({"n": value}))
    assert found == {"n": value}
    assert isinstance(found["n"], int)


@pytest.mark.parametrize("value", [2**64, 2**80, -(2**63) - 1, 10**300], ids=["2**64", "2**80", "-2**63-1", "10**300"])
def test_longer_whole_number_becomes_a_float_as_it_does_in_litellm(value: int) -> None:
    assert encode({"n": value}) == f'{{"n":{value}}}'.encode()
    assert decode(encode({"n": value})) == {"n": float(value)}
