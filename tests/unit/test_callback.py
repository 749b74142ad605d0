"""The callback in LiteLLM itself: its application, router and hooks, with answers made up and no network.

Importing the gateway takes some seconds, so all that needs it is here.
"""

import asyncio
import hashlib
import os
import warnings
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from litellm_sqlalchemy.capture import OpenExchange, current
from litellm_sqlalchemy.exchange import Exchange, rows_of
from litellm_sqlalchemy.locks import dead_workers
from litellm_sqlalchemy.recorder import Recorder
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.settings import Settings, get_settings
from litellm_sqlalchemy.spool import Spool

MASTER_KEY = "sk-master-key-of-the-unit-tests"
CHAT = "/v1/chat/completions"
CALL_ID = "x-litellm-call-id"
ASK = [{"role": "user", "content": "hi"}]
MODELS = {
    "good": {"mock_response": "hello"},
    "broken": {"mock_response": "litellm.InternalServerError"},
    "busy": {"mock_response": "litellm.RateLimitError"},
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="session")
def callback() -> ModuleType:
    """The module under test; the environment has to be there before LiteLLM is imported."""
    os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "CRITICAL"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own
        from litellm_sqlalchemy import callback as module  # noqa: PLC0415
    module.shutdown_of_litellm = module.proxy_server.proxy_shutdown_event
    return module


@dataclass
class Gateway:
    """LiteLLM's application with the callback installed, on a loop of its own."""

    proxy: Any
    path: Path
    runner: asyncio.Runner
    is_up: bool = True

    def stop(self) -> None:
        """Shut down as uvicorn has it shut down."""
        self.is_up = False
        self.run(self.proxy.proxy_shutdown_event())

    async def post(self, body: Any, key: str | None = MASTER_KEY, path: str = CHAT, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.proxy.app)
        authorization = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            content = {"content": body} if isinstance(body, bytes) else {"json": body}
            given = {"content-type": "application/json", **authorization, **headers}
            answer = await client.post(path, headers=given, **content)
        # The outcome is on the disk some milliseconds later.
        await asyncio.sleep(0.05)
        return answer

    def call(self, model: str, key: str | None = MASTER_KEY, **more: Any) -> httpx.Response:
        """Chat, and wait until LiteLLM has accounted for it."""

        async def calling() -> httpx.Response:
            answer = await self.post({"model": model, "messages": ASK, **more}, key)
            await asyncio.sleep(0.05)
            for _ in range(100):
                if not self.waiting():
                    break
                await asyncio.sleep(0.02)
            return answer

        return self.run(calling())

    def run(self, work: Awaitable[Any]) -> Any:
        """Run on the gateway's loop."""

        async def working() -> Any:
            return await work

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LiteLLM's own
            return self.runner.run(working())

    def waiting(self) -> int:
        """How many finished exchanges have no accounting yet."""
        return len(self.recorded(0)) - len(self.recorded(Settings().accounting_grace))

    def recorded(self, grace: float = 0) -> list[Exchange]:
        spool = Spool(self.path)
        exchanges = spool.ready(1_000, grace)
        spool.close()
        return exchanges

    def last(self) -> Exchange:
        """The last exchange in the spool."""
        return self.recorded()[-1]


@contextmanager
def installed(callback: ModuleType, path: Path) -> Iterator[Gateway]:
    """A gateway as it is after its start."""
    import litellm  # noqa: PLC0415

    proxy = callback.proxy_server
    get_settings.cache_clear()
    patch = pytest.MonkeyPatch()
    patch.setenv("LITELLM_DB_SPOOL", str(path))
    patch.setattr(proxy, "master_key", MASTER_KEY)
    # What install() wraps.
    patch.setattr(proxy.app, "middleware_stack", None)
    patch.setattr(proxy, "proxy_shutdown_event", callback.shutdown_of_litellm)
    patch.setattr(litellm, "global_disable_no_log_param", True)
    patch.setattr(litellm, "callbacks", [callback.request_log])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteLLM's own
        router = litellm.Router(
            model_list=[
                {"model_name": name, "litellm_params": {"model": "openai/gpt-4o", "api_key": "x", **params}}
                for name, params in MODELS.items()
            ],
            num_retries=0,
            fallbacks=[{"busy": ["good"]}],
        )
    patch.setattr(proxy, "llm_router", router)
    patch.setattr(proxy, "llm_model_list", router.model_list)
    with asyncio.Runner() as runner:
        gateway = Gateway(proxy, path, runner)
        gateway.run(callback.install())
        try:
            yield gateway
        finally:
            if gateway.is_up:
                gateway.stop()
            patch.undo()
            get_settings.cache_clear()


@pytest.fixture(scope="module")
def gateway(callback: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with installed(callback, tmp_path_factory.mktemp("state") / "deeper" / "spool.sqlite3") as running:
        yield running


# Whole calls


def test_chat_is_recorded_with_everything_that_litellm_knows(gateway: Gateway) -> None:
    answer = gateway.call("good")
    assert answer.status_code == 200
    request, response = rows_of(gateway.last())
    assert request["request_id"] == answer.headers[CALL_ID]
    assert (request["route"], request["model"], request["status_code"]) == (CHAT, "good", 200)
    assert request["payload"] == {"model": "good", "messages": ASK}
    assert request["api_key"] == sha256(MASTER_KEY)
    assert request["user_id"]
    assert (response["prompt_tokens"], response["completion_tokens"], response["total_tokens"]) == (10, 20, 30)
    assert response["cost"] > 0
    assert response["response_model"] == answer.json()["model"]
    content = response["content"]
    assert content["response"] == answer.json()
    assert (content["outcome"], content["finish_reason"], content["provider"]) == ("success", "stop", "openai")
    (attempt,) = content["attempts"]
    assert attempt["model"] == "openai/gpt-4o"
    assert attempt["deployment"]
    assert request["created_at"].timestamp() * 1e6 <= attempt["started_at"] <= request["end_time"].timestamp() * 1e6


def test_stream_is_recorded_as_litellm_assembles_it(gateway: Gateway) -> None:
    answer = gateway.call("good", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    response = rows_of(gateway.last())[1]
    assert response["content"]["stream"] is True
    assert response["content"]["response"]["choices"][0]["message"]["content"] == "hello"
    assert response["content"]["finish_reason"] == "stop"
    assert response["total_tokens"] > 0
    assert response["cost"] > 0


def test_call_id_of_the_client_is_kept(gateway: Gateway) -> None:
    answer = gateway.run(gateway.post({"model": "good", "messages": ASK}, **{CALL_ID: "mine"}))
    assert answer.headers[CALL_ID] == "mine"
    assert gateway.last().request_id == "mine"


def test_calls_with_one_id_at_once_are_as_many_exchanges(gateway: Gateway) -> None:
    async def at_once() -> None:
        calls = [gateway.post({"model": "good", "messages": ASK, "n": n + 1}, **{CALL_ID: "same"}) for n in range(8)]
        await asyncio.gather(*calls)
        await asyncio.sleep(0.5)

    gateway.run(at_once())
    found = [exchange for exchange in gateway.recorded() if exchange.request_id == "same"]
    assert sorted(exchange.request["payload"]["n"] for exchange in found) == list(range(1, 9))
    assert len({exchange.created_at for exchange in found}) == 8
    assert all(exchange.accounting for exchange in found)


def test_error_of_the_provider_is_recorded(gateway: Gateway) -> None:
    answer = gateway.call("broken")
    request, response = rows_of(gateway.last())
    assert request["status_code"] == answer.status_code == 500
    assert response["content"]["outcome"] == "failure"
    assert "mock internal server error" in response["content"]["error"]["message"]
    (attempt,) = response["content"]["attempts"]
    assert attempt["error"]["class"] == "InternalServerError"
    assert attempt["started_at"] <= attempt["ended_at"]


def test_fallback_is_one_exchange_with_its_attempts(gateway: Gateway) -> None:
    answer = gateway.call("busy")
    assert answer.status_code == 200
    request, response = rows_of(gateway.last())
    assert (request["model"], request["status_code"]) == ("busy", 200)
    content = response["content"]
    assert content["outcome"] == "success"
    assert [attempt.get("error", {}).get("class") for attempt in content["attempts"]] == ["RateLimitError", None]
    assert response["cost"] > 0


def test_unknown_model_is_recorded_with_its_payload(gateway: Gateway) -> None:
    answer = gateway.call("nosuch")
    request, response = rows_of(gateway.last())
    assert request["status_code"] == answer.status_code == 400
    assert request["payload"] == {"model": "nosuch", "messages": ASK}
    assert (request["model"], request["api_key"]) == ("nosuch", sha256(MASTER_KEY))
    assert response["content"]["attempts"] == []


@pytest.mark.parametrize(
    "key",
    ["sk-a-wrong-key-0123456789", "a-wrong-key-without-the-prefix", "0123456789abcdef" * 4, None],
    ids=["sk", "other", "looks_like_a_hash", "none"],
)
def test_stranger_is_recorded_without_payload_and_by_the_hash_of_the_key(gateway: Gateway, key: str | None) -> None:
    answer = gateway.call("good", key, user="a strangers name")
    request, response = rows_of(gateway.last())
    assert request["status_code"] == answer.status_code
    assert answer.status_code in (400, 401)
    assert request["payload"]["omitted"]
    assert request["api_key"] == (sha256(key) if key else None)
    assert response["content"]["outcome"] == "failure"
    stored = f"{request} {response}"
    assert "strangers name" not in stored
    assert key is None or key not in stored


def test_malformed_body_is_recorded(gateway: Gateway) -> None:
    answer = gateway.run(gateway.post(b'{"model": "good", ', **{CALL_ID: "malformed"}))
    exchange = gateway.last()
    assert exchange.request_id == "malformed"
    assert rows_of(exchange)[0]["status_code"] == answer.status_code == 400


def test_no_log_of_a_client_is_overruled(gateway: Gateway) -> None:
    gateway.call("good", **{"no-log": True})
    exchange = gateway.last()
    assert exchange.request["payload"]["no-log"] is True
    assert exchange.accounting is not None


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        (CHAT, True),
        ("/chat/completions", True),
        ("/v1/messages", True),
        ("/v1/responses", True),
        ("/v1/embeddings", True),
        ("/engines/m/chat/completions", True),
        ("/v1/models", True),
        ("/", False),
        ("/health/readiness", False),
        ("/key/info", False),
        ("/ui/", False),
        ("/metrics", False),
    ],
)
def test_routes_to_providers_are_logged(callback: ModuleType, path: str, logged: bool) -> None:
    assert callback._is_logged(path) is logged


# The shutdown


def test_shutdown_waits_for_the_accounting_and_gives_the_lock_up(
    callback: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = callback.request_log.async_log_success_event

    async def account_late(*arguments: Any, **named: Any) -> None:
        """LiteLLM has other callbacks, which take their time."""
        await asyncio.sleep(0.3)
        await account(*arguments, **named)

    monkeypatch.setattr(callback.request_log, "async_log_success_event", account_late)
    path = tmp_path / "spool.sqlite3"
    with installed(callback, path) as gateway:
        spool = Spool(path)
        locks = path.with_name(path.name + ".workers")
        (lock,) = locks.iterdir()
        assert dead_workers(path, [lock.name]) == []
        for stream in (False, True):
            gateway.run(gateway.post({"model": "good", "messages": ASK, "stream": stream}))
        assert gateway.waiting() > 0, "otherwise this shows nothing"
        gateway.stop()
        exchanges = spool.ready(10, Settings().accounting_grace)
        assert [bool(exchange.accounting) for exchange in exchanges] == [True, True]
        assert list(locks.iterdir()) == []
        spool.close()


def test_install_fails_where_there_can_be_no_spool(callback: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway then does not start, rather than run without its log."""
    monkeypatch.setenv("LITELLM_DB_SPOOL", "/proc/nowhere/spool.sqlite3")
    get_settings.cache_clear()
    with pytest.raises(OSError, match="nowhere"):
        asyncio.run(callback.install())
    get_settings.cache_clear()


# The hooks on their own


@pytest.fixture
def under_way(spool: Spool) -> Iterator[OpenExchange]:
    """An exchange that is under way."""
    scope = {"headers": [], "path": CHAT, "client": None}
    exchange = OpenExchange(scope, Recorder(spool, "worker", Redactor([]), Settings()))
    token = current.set(exchange)
    yield exchange
    current.reset(token)


def summary(**known: Any) -> dict[str, Any]:
    """What LiteLLM says of a call in its standard_logging_object."""
    return {
        "litellm_call_id": "call-1",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "response_cost": 0.25,
        "cost_breakdown": {"input_cost": 0.25},
        "cache_hit": None,
        "end_user": "",
        "custom_llm_provider": "openai",
        "model": "gpt-4o",
        "response": {"id": "x"},
        **known,
    }


NOW = datetime(2026, 9, 23, 12)  # noqa: DTZ001  # as LiteLLM's are


def succeed(callback: ModuleType, **known: Any) -> None:
    kwargs = {"standard_logging_object": summary(**known)}
    asyncio.run(callback.request_log.async_log_success_event(kwargs, None, NOW, NOW + timedelta(milliseconds=1500)))


def test_hooks_outside_of_a_request_do_nothing(callback: ModuleType) -> None:
    """Health checks of models and batches run without one."""
    log, key = callback.request_log, callback.UserAPIKeyAuth()

    async def each_hook() -> None:
        await log.async_pre_call_hook(key, None, {}, "completion")
        await log.async_pre_call_deployment_hook({}, None)
        await log.async_post_call_failure_deployment_hook({}, ValueError(), None)
        await log.async_post_call_failure_hook({}, ValueError(), key)
        await log.async_log_success_event({"standard_logging_object": summary()}, None, NOW, NOW)

    assert current.get() is None
    asyncio.run(each_hook())


def test_accounting_is_what_litellm_says(callback: ModuleType, under_way: OpenExchange) -> None:
    succeed(callback, cache_hit=True, end_user="bob")
    assert under_way.accounting == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "cost": 0.25,
        "cost_breakdown": {"input_cost": 0.25},
        "cache_hit": True,
        "end_user": "bob",
        "provider": "openai",
        "model": "gpt-4o",
        "provider_ms": 1500.0,
        "response": None,
    }


def test_accounting_of_another_call_is_left_out(callback: ModuleType, under_way: OpenExchange) -> None:
    """A guardrail's or a router's own call runs within the request of a client."""
    under_way.request_id = "call-1"
    succeed(callback, litellm_call_id="guardrail")
    assert under_way.accounting is None
    succeed(callback)
    assert under_way.accounting is not None


@pytest.mark.parametrize("kwargs", [{}, {"standard_logging_object": None}], ids=["absent", "none"])
def test_call_without_a_summary_is_not_accounted_for(
    callback: ModuleType, under_way: OpenExchange, kwargs: dict[str, Any]
) -> None:
    asyncio.run(callback.request_log.async_log_success_event(kwargs, None, NOW, NOW))
    assert under_way.accounting is None


def test_failure_without_an_attempt_is_an_attempt(callback: ModuleType, under_way: OpenExchange) -> None:
    log = callback.request_log

    async def fail(*errors: str) -> None:
        for error in errors:
            await log.async_post_call_failure_deployment_hook({"model": "m"}, RuntimeError(error), None)

    asyncio.run(log.async_pre_call_deployment_hook({"model": "m", "metadata": {"model_info": {"id": "d1"}}}, None))
    asyncio.run(fail("one", "two"))
    assert [(a["model"], a.get("deployment"), a["error"]["message"]) for a in under_way.attempts] == [
        ("m", "d1", "one"),
        ("m", None, "two"),
    ]


class OddError(Exception):
    """An error as LiteLLM's are."""

    status_code = 418
    message = "x" * 5_000


def test_error_is_described_in_bounds(callback: ModuleType) -> None:
    assert callback._error(OddError()) == {"class": "OddError", "message": "x" * 1_024, "code": "418"}
    assert callback._error(ValueError("why")) == {"class": "ValueError", "message": "why", "code": None}
    detail = callback.HTTPException(status_code=403, detail={"error": "no"})
    assert callback._error(detail) == {"class": "HTTPException", "message": "{'error': 'no'}", "code": "403"}


def test_request_that_cannot_be_logged_is_refused_with_503(
    callback: ModuleType, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "used_bytes", lambda: 2**60)
    recorder = Recorder(spool, "worker", Redactor([]), Settings(spool_when_full="refuse"))
    token = current.set(OpenExchange({"headers": [], "path": CHAT, "client": None}, recorder))
    with pytest.raises(callback.HTTPException) as raised:
        asyncio.run(
            callback.request_log.async_pre_call_hook(callback.UserAPIKeyAuth(), None, {"model": "m"}, "completion")
        )
    current.reset(token)
    assert raised.value.status_code == 503
    assert "Retry-After" in raised.value.headers
