"""A steady, bounded load on the gateway, and what each of its calls came to."""

import asyncio
import itertools
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

CALLS_A_SECOND = 12.0
CALL_PATIENCE = 30.0
"""Seconds that a client waits for an answer, or for the next piece of one."""

MODEL = "lab-chat"
ROUTE = "/v1/chat/completions"
_FILLER = " ".join(f"sentence {n} of a prompt that is about two kilobytes long." for n in range(35))
_CALL_ID = "x-litellm-call-id"
_OF_THE_PROXY = b'"type":"gateway_proxy_error"'


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a call.

    ``{marker}`` in a body of bytes is replaced by the marker of the call. ``expected`` are the statuses that are right;
    none: any is.
    """

    kind: str
    expected: tuple[int, ...] = (200,)
    body: bytes | None = None
    directives: str = ""
    stream: bool = False
    model: str = MODEL
    key: str | None = None
    names_itself: bool = False
    call_id: str | None = None


CHAT = Recipe("chat")
NAMED_CHAT = Recipe("chat, id by the client", names_itself=True)
SLOW_STREAM = Recipe("stream of 4 s", stream=True, directives="[[chunks=40]][[chunk_delay=0.1]]")
STREAM = Recipe("stream", stream=True, directives="[[chunks=12]][[chunk_delay=0.04]]")
UNKNOWN_MODEL = Recipe("unknown model", expected=(400,), model="no-such-model", names_itself=True)
# A key that is nobody's: while PostgreSQL is away, LiteLLM cannot know that.
STRANGER = Recipe("stranger", expected=(401, 503), key="sk-not-a-key-of-this-gateway", names_itself=True)
MIX = (CHAT, NAMED_CHAT, STREAM, CHAT, CHAT, STREAM, UNKNOWN_MODEL, CHAT, NAMED_CHAT, STREAM, CHAT, STRANGER)


@dataclass(slots=True)
class Call:
    """What one call came to. ``status`` is None where no answer came, ``complete`` where all of it did."""

    marker: str
    kind: str
    expected: tuple[int, ...]
    status: int | None = None
    call_id: str | None = None
    complete: bool = False
    error: str | None = None
    request_log_full: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the client got what it would have got without a fault."""
        return self.status is not None and (not self.expected or self.status in self.expected) and self.complete


@dataclass(slots=True)
class Load:
    """Calls at a fixed rate, whatever becomes of them, from an event loop in a thread of its own."""

    url: str
    key: str
    prefix: str
    rate: float = CALLS_A_SECOND
    mix: tuple[Recipe, ...] = MIX
    tls: ssl.SSLContext | bool = True
    calls: list[Call] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _client: httpx.AsyncClient | None = None
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _ready: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self._thread.start()
        self._ready.wait(timeout=10)

    def send(self, recipe: Recipe) -> None:
        """Make one more call, besides the steady ones; none where the load has ended."""
        assert self._loop is not None
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._begin, recipe)

    def break_off(self) -> None:
        """Make no more calls, the steady ones as well as others, and give up those under way."""
        self._stop.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_up)

    def stop(self) -> None:
        """Make no more calls and wait until each has come to its end."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(timeout=CALL_PATIENCE * 3)
        if self._thread.is_alive():
            raise TimeoutError("calls of the load do not come to an end")

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A connection a call: what a fault breaks is then the call's own, not one that a pool had kept.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=self.url, timeout=CALL_PATIENCE, limits=limits, trust_env=False, verify=self.tls
        ) as self._client:
            self._ready.set()
            recipes = itertools.cycle(self.mix)
            began = time.monotonic()
            for number in itertools.count():
                await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                if self._stop.is_set():
                    break
                if self.mix:
                    self._begin(next(recipes))
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    def _give_up(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _begin(self, recipe: Recipe) -> None:
        if self._stop.is_set():
            return
        call = Call(f"{self.prefix}{next(self._numbers)}", recipe.kind, recipe.expected)
        self.calls.append(call)
        assert self._loop is not None
        task = self._loop.create_task(self._make(call, recipe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, call: Call, recipe: Recipe) -> None:
        assert self._client is not None
        headers = {"authorization": f"Bearer {recipe.key or self.key}", "content-type": "application/json"}
        if recipe.call_id or recipe.names_itself:
            headers[_CALL_ID] = recipe.call_id or call.marker
        try:
            async with self._client.stream("POST", ROUTE, headers=headers, **_body(call, recipe)) as answer:
                call.status = answer.status_code
                call.call_id = answer.headers.get(_CALL_ID)
                text = await answer.aread()
        except httpx.HTTPError as error:
            call.error = type(error).__name__
            return
        if _OF_THE_PROXY in text:
            # The gateway gave no answer; to it, the client is one whose connection broke.
            call.error, call.status = f"HTTP {call.status} of the proxy", None
            return
        call.complete = not recipe.stream or call.status != 200 or b"data: [DONE]" in text
        call.request_log_full = call.status == 503 and b"request log has no room" in text
        if recipe.expected and call.status not in recipe.expected:
            call.error = f"HTTP {call.status}"
        elif not call.complete:
            call.error = "stream cut"


def _body(call: Call, recipe: Recipe) -> Mapping[str, Any]:
    if recipe.body is not None:
        return {"content": recipe.body.replace(b"{marker}", call.marker.encode())}
    prompt = f"[[marker={call.marker}]]{recipe.directives} {_FILLER}"
    message = {"role": "user", "content": prompt}
    return {"json": {"model": recipe.model, "messages": [message], "stream": recipe.stream}}
