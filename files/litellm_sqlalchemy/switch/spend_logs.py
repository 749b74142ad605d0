"""LiteLLM_SpendLogs as the request log tells it: which rows are missing from it, and what each becomes.

A row of LiteLLM's own log stands for one call to a provider. It becomes a pair with the row's primary key as
``request_id`` and ``startTime`` as ``created_at``, so that storing it twice is impossible; ``content.spend_log`` marks
the pair. Calls that our own gateway served are in the request log already and are told apart by ``litellm_call_id``,
those that it refused by the key and the time.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from litellm_sqlalchemy.exchange import MAX_TEXT_BYTES, Document, Exchange, cut, microseconds, rows_of
from litellm_sqlalchemy.redaction import REDACTED, Redactor, is_too_deep

MARK = "spend_log"
"""The field of ``responses.content`` that holds the primary key of the row of LiteLLM_SpendLogs it came from."""

LONGEST_CALL = timedelta(days=1)
"""How long before LiteLLM began an attempt our gateway may have accepted the call."""

PRE_CALL = timedelta(minutes=1)
"""How long after that: LiteLLM takes its time before its hooks run, guardrails among them."""

_ROUTES = {
    "completion": "/v1/chat/completions",
    "text_completion": "/v1/completions",
    "embedding": "/v1/embeddings",
    "responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "image_generation": "/v1/images/generations",
    "image_edit": "/v1/images/edits",
    "transcription": "/v1/audio/transcriptions",
    "speech": "/v1/audio/speech",
    "moderation": "/v1/moderations",
    "rerank": "/v1/rerank",
}

COLUMNS = """
    s.request_id, s.litellm_call_id, s.call_type, s.api_key, s."user", s.model, s.model_group, s.status, s.cache_hit,
    s."startTime" AS start_time, s."endTime" AS end_time, s."completionStartTime" AS first_token_time,
    s.prompt_tokens, s.completion_tokens, s.total_tokens, s.spend::text AS spend,
    s.end_user, s.team_id, s.organization_id, s.session_id, s.custom_llm_provider, s.requester_ip_address,
    s.metadata, s.request_tags, s.messages, s.response, s.proxy_server_request
"""

_OURS = f"""
    SELECT FROM requests r JOIN responses p ON (p.request_id_fk, p.created_at) = (r.id, r.created_at)
    WHERE NOT p.content ? '{MARK}'
      AND r.created_at BETWEEN :earliest AND :latest AND p.created_at BETWEEN :earliest AND :latest
      AND r.created_at >= (s."startTime" AT TIME ZONE 'UTC') - interval '{LONGEST_CALL.days} days'
      AND r.created_at <= (s."startTime" AT TIME ZONE 'UTC') + interval '{PRE_CALL.seconds} seconds'
"""

NOT_OF_OUR_GATEWAY = f"""
    NOT EXISTS ({_OURS} AND r.request_id = s.litellm_call_id)
    -- LiteLLM gives a call that it refuses another id than the one that the client sees.
    AND NOT EXISTS (
        {_OURS} AND coalesce(r.api_key, '') = s.api_key AND r.status_code >= 400
        AND (s."startTime" AT TIME ZONE 'UTC') + interval '1 millisecond' > r.created_at
        AND s."startTime" AT TIME ZONE 'UTC' <= r.end_time
        AND s.total_tokens = 0 AND s.spend = 0 AND coalesce(s.status, s.metadata ->> 'status') = 'failure'
    )
"""
"""Whether our gateway did not log the call, for rows ``s`` of a ``day_range``."""

IN_RANGE = """s."startTime" >= :from AT TIME ZONE 'UTC' AND s."startTime" < :until AT TIME ZONE 'UTC'"""


def day_range(day: date) -> dict[str, datetime]:
    """The parameters of a UTC day: ``from``, ``until``, and between when its calls may have been accepted."""
    start = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    end = start + timedelta(days=1)
    return {"from": start, "until": end, "earliest": start - LONGEST_CALL, "latest": end + PRE_CALL}


def rows_by_day(connection: Connection, since: date | None = None, until: date | None = None) -> dict[date, int]:
    """How many rows LiteLLM_SpendLogs has of each UTC day from ``since`` until before ``until``, oldest first."""
    found = connection.execute(
        text(
            'SELECT "startTime"::date AS day, count(*) AS rows FROM "LiteLLM_SpendLogs"'
            ' WHERE "startTime" >= :since AND "startTime" < :until GROUP BY day ORDER BY day'
        ),
        {"since": since or "-infinity", "until": until or "infinity"},
    )
    return {row.day: row.rows for row in found}


def key_of(request_id: str) -> str:
    """``requests.request_id`` of a row: its primary key, or a digest where an index would not take that."""
    if len(request_id.encode()) <= MAX_TEXT_BYTES:
        return request_id
    return f"sha256:{hashlib.sha256(request_id.encode()).hexdigest()}"


KEY = (
    f"CASE WHEN octet_length(s.request_id) <= {MAX_TEXT_BYTES} THEN s.request_id"
    " ELSE 'sha256:' || encode(sha256(convert_to(s.request_id, 'UTF8')), 'hex') END"
)
"""The same in SQL."""


def pair_of(row: Mapping[str, Any], redactor: Redactor) -> tuple[Document, Document]:
    """The columns of ``requests`` and of ``responses`` of a row with ``COLUMNS``, without ids."""
    metadata = _document(row["metadata"])
    started, ended = _utc(row["start_time"]), _utc(row["end_time"])
    failed = (row["status"] or metadata.get("status")) == "failure"
    error = _document(metadata.get("error_information"))
    first_token_ms = _first_token(row, started, ended)
    exchange = Exchange(
        seq=0,
        created_at=microseconds(started),
        request_id=key_of(row["request_id"]),
        request={
            "route": _route(row["call_type"], metadata),
            "model": row["model_group"] or row["model"] or None,
            "payload": _payload(row, redactor),
            "user_id": row["user"] or None,
            "key_hash": row["api_key"] or None,
            "key_alias": metadata.get("user_api_key_alias"),
            "team_id": row["team_id"] or None,
            "client_address": row["requester_ip_address"] or None,
        },
        outcome={
            "outcome": "failure" if failed else "success",
            "status_code": _status_code(failed, error),
            "ended_at": microseconds(ended),
            "response": _kept(row["response"] or None, redactor),
            "error": _error(error, redactor) if failed else None,
            "attempts": None,
            "stream": first_token_ms is not None,
            "first_token_ms": first_token_ms,
        },
        accounting={
            "prompt_tokens": row["prompt_tokens"],
            "completion_tokens": row["completion_tokens"],
            "total_tokens": row["total_tokens"],
            "model": row["model"],
            "cache_hit": str(row["cache_hit"]).lower() == "true",
            "end_user": row["end_user"] or None,
            "provider": row["custom_llm_provider"] or None,
            "cost_breakdown": metadata.get("cost_breakdown"),
        },
    )
    request, response = rows_of(exchange)
    # What LiteLLM accounts by, to the last digit, whatever name and usage the stored answer has.
    response["response_model"] = cut(row["model"] or None)
    response["cost"] = Decimal(row["spend"])
    more = {
        MARK: row["request_id"],
        "litellm_call_id": row["litellm_call_id"],
        "call_type": row["call_type"],
        "organization_id": row["organization_id"],
        "session_id": row["session_id"],
        "tags": row["request_tags"],
    }
    response["content"] |= {name: value for name, value in more.items() if value}
    return request, response


def _utc(naive: datetime) -> datetime:
    """LiteLLM keeps UTC in columns without a zone."""
    return naive.replace(tzinfo=timezone.utc)


def _document(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _kept(value: Any, redactor: Redactor) -> Any:
    """A stored body as the request log keeps bodies."""
    if is_too_deep(value):
        return REDACTED
    return redactor.redact(value)


def _payload(row: Mapping[str, Any], redactor: Redactor) -> Document:
    """The request's body where LiteLLM was told to store it, else its messages, else nothing."""
    body = row["proxy_server_request"]
    if not isinstance(body, dict) or not body:
        body = {"messages": row["messages"]} if row["messages"] else {}
    kept = _kept(body, redactor)
    return kept if isinstance(kept, dict) else {"body": kept}


def _route(call_type: str, metadata: Document) -> str:
    """The path of the URL; LiteLLM keeps the kind of call, an ``a`` before it where the call was asynchronous."""
    known = metadata.get("user_api_key_request_route")
    if isinstance(known, str) and known:
        return known
    return _ROUTES.get(call_type) or _ROUTES.get(call_type.removeprefix("a")) or call_type


def _status_code(failed: bool, error: Document) -> int:
    """What the client saw, as far as LiteLLM has kept it: 500 for a failure without a code."""
    if not failed:
        return 200
    code = str(error.get("error_code") or "")
    return int(code) if re.fullmatch("[1-5][0-9]{2}", code) else 500


def _error(error: Document, redactor: Redactor) -> Document:
    kept = {"class": error.get("error_class"), "message": error.get("error_message"), "code": error.get("error_code")}
    return {name: _kept(cut(value), redactor) for name, value in kept.items() if value}


def _first_token(row: Mapping[str, Any], started: datetime, ended: datetime) -> float | None:
    """Milliseconds to the first token; LiteLLM puts the end there where a call was not streamed."""
    if row["first_token_time"] is None:
        return None
    first = _utc(row["first_token_time"])
    return None if first >= ended else (first - started) / timedelta(milliseconds=1)
