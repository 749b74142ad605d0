"""LiteLLM's hooks: who asked, which attempts were made, what it cost. The only module that imports LiteLLM.

``config.yaml`` names ``litellm_sqlalchemy.callback.request_log`` among its callbacks, and the environment
``LITELLM_WORKER_STARTUP_HOOKS=litellm_sqlalchemy.callback:install``, which LiteLLM runs in each worker at start.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth.route_checks import RouteChecks

from litellm_sqlalchemy.capture import CaptureMiddleware, OpenExchange, current
from litellm_sqlalchemy.exchange import Document, cut
from litellm_sqlalchemy.locks import WorkerLock
from litellm_sqlalchemy.recorder import NoRoomError, Recorder
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.settings import get_settings
from litellm_sqlalchemy.spool import Spool

SHUTDOWN_PATIENCE = 5.0
"""Seconds that a stopping worker gives LiteLLM to account for what it has answered."""

FLUSH_SECONDS = 0.02
"""Seconds that an outcome waits for its accounting and for those of others, so that they are one commit."""

CATCH_UP_SECONDS = 1.0
"""Seconds between two looks at what the spool would not take at once."""

_SHA256_HEX = re.compile("[0-9a-f]{64}")
_MILLISECOND = timedelta(milliseconds=1)

logger = logging.getLogger(__name__)


class RequestLog(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """Fills in the exchange of the request under way; see capture.py for its frame."""

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: object, data: Document, call_type: str
    ) -> None:
        """After authentication, before the provider: the request goes to the disk."""
        exchange = current.get()
        if exchange is not None:
            try:
                exchange.admit(data.get("litellm_call_id"), data.get("model"), _identity(user_api_key_dict))
            except NoRoomError as error:
                raise HTTPException(status_code=503, detail=str(error), headers={"Retry-After": "5"}) from error

    async def async_pre_call_deployment_hook(self, kwargs: Document, call_type: object) -> None:
        """Each attempt, retries and fallbacks included."""
        exchange = current.get()
        if exchange is not None:
            exchange.attempts.append(
                {
                    "model": cut(kwargs.get("model")),
                    "deployment": _deployment(kwargs),
                    "started_at": exchange.now(),
                }
            )

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, object], exception: Exception, call_type: object
    ) -> None:
        """An attempt that failed."""
        exchange = current.get()
        if exchange is None:
            return
        failed = {"ended_at": exchange.now(), "error": _error(exception)}
        if exchange.attempts and "error" not in exchange.attempts[-1]:
            exchange.attempts[-1].update(failed)
        else:
            exchange.attempts.append({"model": cut(request_data.get("model")), **failed})

    async def async_post_call_failure_hook(
        self,
        request_data: Document,
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """The error that the client is about to see, refusals included."""
        exchange = current.get()
        if exchange is None:
            return
        exchange.error = _error(original_exception)
        key = user_api_key_dict
        known = any((key.user_id, key.team_id, key.user_role, key.key_name, key.key_alias))
        exchange.identify(request_data.get("model"), _identity(key) if known else {}, authenticated=known)

    async def async_log_success_event(
        self, kwargs: Document, response_obj: object, start_time: datetime, end_time: datetime
    ) -> None:
        """Tokens and cost, some time after the answer."""
        exchange = current.get()
        summary = kwargs.get("standard_logging_object")
        if exchange is None or summary is None:
            return
        call_id = summary.get("litellm_call_id")
        if exchange.request_id is not None and call_id is not None and call_id != exchange.request_id:
            # A call that LiteLLM made for its own purposes (a guardrail, a router's classification).
            return
        exchange.account(_accounting(exchange, summary, start_time, end_time))


request_log = RequestLog()


async def install() -> None:
    """Wrap the gateway's application and its shutdown; raises where that is impossible, so the gateway won't start."""
    settings = get_settings()
    settings.spool.parent.mkdir(parents=True, exist_ok=True)
    lock = WorkerLock(settings.spool)
    spool = Spool(settings.spool, busy_timeout=1.0, synchronous=settings.spool_synchronous, checkpoints=False)
    loop = asyncio.get_running_loop()

    def soon(flush: Callable[[], None]) -> None:
        loop.call_later(FLUSH_SECONDS, flush)

    recorder = Recorder(spool, lock.worker, Redactor.of_environment(), settings, soon)

    app = proxy_server.app
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    app.middleware_stack = CaptureMiddleware(app.middleware_stack, recorder, _is_logged)

    shutdown = proxy_server.proxy_shutdown_event

    async def keep_catching_up() -> None:
        while True:
            await asyncio.sleep(CATCH_UP_SECONDS)
            recorder.catch_up()

    catching_up = loop.create_task(keep_catching_up())

    async def shutdown_after_flush(*args: Any, **kwargs: Any) -> None:
        await _flush(recorder)
        await shutdown(*args, **kwargs)
        catching_up.cancel()
        recorder.catch_up()
        spool.close()
        lock.release()

    proxy_server.proxy_shutdown_event = shutdown_after_flush
    logger.info("request log: spooling to %s", settings.spool)


async def _flush(recorder: Recorder) -> None:
    """Let LiteLLM's pending callbacks run: on its own it drops them at shutdown."""
    deadline = time.monotonic() + SHUTDOWN_PATIENCE
    try:
        await asyncio.wait_for(GLOBAL_LOGGING_WORKER.flush(), SHUTDOWN_PATIENCE)
    except asyncio.TimeoutError:  # TimeoutError itself from Python 3.11 on
        logger.warning("request log: LiteLLM's callbacks were not done within %s s", SHUTDOWN_PATIENCE)
    while recorder.awaiting_accounting() and time.monotonic() < deadline:  # noqa: ASYNC110  # LiteLLM has no event
        await asyncio.sleep(0.02)


@lru_cache(maxsize=4096)
def _is_logged(path: str) -> bool:
    """The routes that reach a provider, as LiteLLM itself lists them."""
    return bool(RouteChecks.is_llm_api_route(path))


def _identity(key: UserAPIKeyAuth) -> Document:
    """Who asked; the key as the hash that LiteLLM uses.

    For the master key LiteLLM says an alias here, for a refused key sometimes the key itself: then the hash of what
    came in the headers stands, which capture.py has computed.
    """
    return {
        "key_hash": key.api_key if key.api_key and _SHA256_HEX.fullmatch(key.api_key) else None,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "key_alias": key.key_alias,
    }


def _deployment(kwargs: Mapping[str, Any]) -> str | None:
    for name in ("metadata", "litellm_metadata"):
        metadata = kwargs.get(name)
        if isinstance(metadata, Mapping) and isinstance(metadata.get("model_info"), Mapping):
            return cut(metadata["model_info"].get("id"))
    return None


def _error(exception: Exception) -> Document:
    code = getattr(exception, "status_code", None) or getattr(exception, "code", None)
    message = getattr(exception, "message", None) or getattr(exception, "detail", None) or exception
    return {"class": type(exception).__name__, "message": cut(message), "code": cut(code)}


def _accounting(exchange: OpenExchange, summary: Mapping[str, Any], start: datetime, end: datetime) -> Document:
    """What LiteLLM's StandardLoggingPayload (litellm/types/utils.py) says of tokens, cost and origin."""
    return {
        "prompt_tokens": summary.get("prompt_tokens"),
        "completion_tokens": summary.get("completion_tokens"),
        "total_tokens": summary.get("total_tokens"),
        "cost": summary.get("response_cost"),
        "cost_breakdown": summary.get("cost_breakdown"),
        "cache_hit": bool(summary.get("cache_hit")),
        "end_user": summary.get("end_user") or None,
        "provider": summary.get("custom_llm_provider"),
        "model": summary.get("model"),
        "provider_ms": (end - start) / _MILLISECOND,
        # What was not streamed is in the outcome, as the client saw it.
        "response": summary.get("response") if exchange.is_stream else None,
    }
