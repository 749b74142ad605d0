"""Clients of the deployed gateway, and what they are told to expect.

The calls go through the official clients where these can make them. The provider behind the gateway is the double in
tests/upstream: it repeats the prompt, a token is a word, and directives in the prompt (``[[delay=1]]``) steer it.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest

CALL_ID = "x-litellm-call-id"


@dataclass(frozen=True)
class Clients:
    """The official clients; none of them retries, so that one call is one request."""

    openai: openai.OpenAI
    anthropic: anthropic.Anthropic


@pytest.fixture(scope="session")
def http(gateway_url: str, gateway_tls: Any, master_key: str) -> Iterator[httpx.Client]:
    """A plain HTTP client with the master key."""
    headers = {"Authorization": f"Bearer {master_key}"}
    options = {"timeout": 60, "trust_env": False, "verify": gateway_tls}
    with httpx.Client(base_url=gateway_url, headers=headers, **options) as client:
        yield client


@pytest.fixture(scope="session")
def clients(gateway_url: str, gateway_tls: Any, master_key: str) -> Iterator[Clients]:
    """The official clients with the master key; they go straight to the gateway, past any proxy."""
    options = {"api_key": master_key, "max_retries": 0, "timeout": 60}
    direct = {"trust_env": False, "verify": gateway_tls}
    with (
        openai.OpenAI(
            base_url=f"{gateway_url}/v1", http_client=openai.DefaultHttpxClient(**direct), **options
        ) as of_openai,
        anthropic.Anthropic(
            base_url=gateway_url, http_client=anthropic.DefaultHttpxClient(**direct), **options
        ) as of_anthropic,
    ):
        yield Clients(of_openai, of_anthropic)


@pytest.fixture(scope="session")
def key_hash(master_key: str) -> str:
    """The master key as LiteLLM hashes keys."""
    return sha256(master_key)


@pytest.fixture(scope="session")
def price(http: httpx.Client) -> Callable[[str, int, int], Decimal]:
    """What so many tokens in and out cost, by the gateway's own price list; a model without a price is an error."""
    listed = {model["model_name"]: model["model_info"] for model in http.get("/model/info").json()["data"]}

    def price_of(model: str, tokens_in: int, tokens_out: int) -> Decimal:
        per_token = [Decimal(repr(listed[model][f"{way}_cost_per_token"] or 0.0)) for way in ("input", "output")]
        assert per_token[0] > 0, f"{model} has no price"
        return per_token[0] * tokens_in + per_token[1] * tokens_out

    return price_of


@pytest.fixture(scope="session")
def sha256_of() -> Callable[[str], str]:
    """The hash under which a key may be stored."""
    return sha256


def sha256(key: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def marker() -> str:
    """A name for one call, found again in the double and in the request log."""
    return uuid.uuid4().hex


@pytest.fixture
def call_id() -> str:
    """A call id that the client chooses."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture(scope="session")
def attempts_at(upstream_url: str) -> Callable[[str], list[dict[str, Any]]]:
    """What arrived at the double under a marker; waits until the last attempt has ended."""

    def attempts_of(marker: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while True:
            answer = httpx.get(f"{upstream_url}/_calls", params={"marker": marker}, trust_env=False)
            attempts: list[dict[str, Any]] = answer.raise_for_status().json()["attempts"]
            if all(attempt["outcome"] != "open" for attempt in attempts) or time.monotonic() > deadline:
                return attempts
            time.sleep(0.1)

    return attempts_of


@pytest.fixture(scope="session")
def strings_in() -> Callable[[Any], str]:
    """All strings of a JSON value, one a line."""

    def strings(value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            return "\n".join(filter(None, map(strings, value.values())))
        if isinstance(value, list):
            return "\n".join(filter(None, map(strings, value)))
        return ""

    return strings
