"""Exchange: a request with its outcome, as plain data. Pure: no disk, no network, no LiteLLM.

Three documents describe an exchange, each written once, as soon as it is known: the *request* before the provider
is called, the *outcome* when the client has its answer, the *accounting* (tokens and cost) when LiteLLM has computed
it. ``rows_of`` makes of them one row of ``requests`` and one of ``responses``.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson

CLIENT_CLOSED_REQUEST = 499
"""The status that nginx and LiteLLM record where the client left before it was answered."""

MAX_TEXT_BYTES = 1024
"""UTF-8 bytes kept of a text that a client or a provider chose; an index takes no more than 2704."""

Document = dict[str, Any]

_EVENTS_AT_EACH_END = 4

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is known of one exchange; ``created_at`` in microseconds since the epoch."""

    seq: int
    created_at: int
    request_id: str
    request: Document
    outcome: Document | None = None
    accounting: Document | None = None


def encode(value: Any) -> bytes:
    """JSON of any value of sane depth: what JSON cannot hold is replaced."""
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson's JSONEncodeError: surrogates, huge integers, foreign types, depth
        pass
    return json.dumps(_presentable(value), ensure_ascii=False, separators=(",", ":"), default=str).encode()


def decode(text: bytes) -> Any:
    """The value of a JSON text; ValueError where it is none.

    Whole numbers beyond 64 bits become floats, as they do in LiteLLM.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        # Lone surrogates and NaN: orjson refuses them, LiteLLM takes them, and so does Python.
        pass
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _presentable(value: Any) -> Any:
    """A JSON value without lone surrogates, NaN or infinities."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_presentable(str(key)): _presentable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable(item) for item in value]
    return value


def cut(text: Any) -> str | None:
    """A text of at most ``MAX_TEXT_BYTES`` that PostgreSQL can store, or None for None."""
    if text is None:
        return None
    clean = str(text)[:MAX_TEXT_BYTES].replace("\0", "\ufffd").encode("utf-8", "replace")
    return clean[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def microseconds(when: datetime) -> int:
    """A moment as microseconds since the epoch; without a zone it is local time, as LiteLLM's are."""
    aware = when if when.tzinfo else when.astimezone()
    return (aware - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """Microseconds since the epoch as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=value)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _usage(body: Any) -> Document:
    """Tokens as a provider's answer gives them, for exchanges whose accounting never came."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return {}
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    total = _count(usage.get("total_tokens"))
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def _finish_reason(body: Any) -> str | None:
    """Why the model stopped: OpenAI's finish_reason, Anthropic's stop_reason, the status of a Response.

    ``body`` is an answer or one event of a stream.
    """
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return cut(choices[0].get("finish_reason"))
    for part in (body, body.get("delta"), body.get("response")):
        if isinstance(part, dict):
            if part.get("stop_reason") is not None:
                return cut(part["stop_reason"])
            if part.get("object") == "response":
                return cut(part.get("status"))
    return None


def _model(body: Any) -> str | None:
    """The model that an answer or one event of a stream names."""
    if not isinstance(body, dict):
        return None
    for part in (body, body.get("message"), body.get("response")):
        if isinstance(part, dict) and part.get("model"):
            return cut(part["model"])
    return None


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text), None)


def _events(stream: str) -> list[Any]:
    """The first and the last events of an event stream: where the model's name and its last word are."""
    lines = [line[5:].strip() for line in stream.splitlines() if line.startswith("data:")]
    if len(lines) > 2 * _EVENTS_AT_EACH_END:
        lines = lines[:_EVENTS_AT_EACH_END] + lines[-_EVENTS_AT_EACH_END:]
    found = []
    for line in lines:
        try:
            found.append(decode(line.encode("utf-8", "replace")))
        except ValueError:
            continue  # "[DONE]", or an event that was cut
    return found


def rows_of(exchange: Exchange) -> tuple[Document, Document]:
    """The columns of ``requests`` and of ``responses``, without ids; JSON columns as values."""
    request = exchange.request
    outcome = exchange.outcome or {"outcome": "interrupted"}
    accounting = exchange.accounting or {}
    seen = outcome.get("response")
    # A stream's answer is better as LiteLLM assembled it than as the events it came in.
    answer = accounting.get("response") or seen
    # What the client saw comes first: LiteLLM assembles every stream in the form of OpenAI's.
    parts = _events(seen["events"]) if isinstance(seen, dict) and isinstance(seen.get("events"), str) else [seen]
    ended_at = outcome.get("ended_at")
    tokens = accounting if accounting.get("total_tokens") is not None else _usage(answer)
    cost = accounting.get("cost")
    created_at = moment(exchange.created_at)

    requests_row = {
        "created_at": created_at,
        "request_id": exchange.request_id,
        "route": cut(request["route"]),
        "model": cut(request.get("model")),
        "payload": request.get("payload", {}),
        "status_code": outcome.get("status_code"),
        "user_id": cut(request.get("user_id")),
        "api_key": cut(request.get("key_hash")),
        "start_time": created_at,
        "end_time": None if ended_at is None else moment(ended_at),
    }
    content = {
        "outcome": outcome["outcome"],
        "response": answer,
        "error": outcome.get("error"),
        "attempts": outcome.get("attempts", []),
        "stream": outcome.get("stream", False),
        "first_token_ms": outcome.get("first_token_ms"),
        "finish_reason": _first(map(_finish_reason, [*reversed(parts), answer])),
        "cache_hit": accounting.get("cache_hit", False),
        "client_address": request.get("client_address"),
        "end_user": accounting.get("end_user"),
        "team_id": request.get("team_id"),
        "key_alias": request.get("key_alias"),
        "provider": accounting.get("provider"),
        "cost_breakdown": accounting.get("cost_breakdown"),
    }
    responses_row = {
        "created_at": created_at,
        "latency_ms": None if ended_at is None else (ended_at - exchange.created_at) / 1000,
        "content": {name: value for name, value in content.items() if value is not None},
        "prompt_tokens": tokens.get("prompt_tokens"),
        "completion_tokens": tokens.get("completion_tokens"),
        "total_tokens": tokens.get("total_tokens"),
        "cost": None if cost is None else Decimal(repr(cost)),
        "response_model": _first(map(_model, [*parts, answer, accounting])),
    }
    return requests_row, responses_row
