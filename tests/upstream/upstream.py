"""A small OpenAI- and Anthropic-compatible provider over HTTP: the test double behind the gateway.

It answers deterministically: the text repeats the prompt, and a token is a word. Tests steer it with
directives anywhere in the prompt or in the model's name:

| directive                  | effect                                                                     |
| -------------------------- | -------------------------------------------------------------------------- |
| `[[marker=ID]]`            | names the call: `GET /_calls?marker=ID` tells what arrived under that name |
| `[[status=429]]`           | answers with this status and the provider's own form of an error           |
| `[[fail=2]]`               | the first 2 attempts under the marker answer 500, the next ones succeed    |
| `[[delay=1.5]]`            | waits so many seconds before it answers                                    |
| `[[hang]]`                 | never answers; ends when the client leaves                                 |
| `[[chunks=20]]`            | the answer has 20 words, and a stream sends them one by one                |
| `[[chunk_delay=0.1]]`      | waits so many seconds before every piece of a stream                       |
| `[[stall]]`                | a stream stops half-way and stays open                                     |
| `[[broken_stream]]`        | a stream ends half-way with bytes that are no event, then the line drops   |
| `[[tool]]`                 | calls the first of the request's `tools`                                   |

Run it with Debian's python3-aiohttp: `python3 upstream.py --host 0.0.0.0 --port 8080`; in a test, use
`with running() as url`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import re
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

DIRECTIVE = re.compile(r"\[\[(\w+)(?:=([^\]]*))?\]\]")
PROMPT_KEYS = ("system", "instructions", "messages", "input", "prompt", "content", "text")
REMEMBERED_MARKERS = 10_000
ECHO_CHARACTERS = 400
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SERIAL = itertools.count(1)


def words(text: str) -> int:
    """Tokens of a text: its words."""
    return len(text.split())


def prompt_of(body: Any) -> str:
    """All text that a request's body carries for the model, joined by newlines."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "\n".join(filter(None, map(prompt_of, body)))
    if isinstance(body, dict):
        return "\n".join(filter(None, (prompt_of(body[key]) for key in PROMPT_KEYS if key in body)))
    return ""


@dataclass
class Attempt:
    """One request as it arrived here. Times are seconds since the epoch; the credential is kept as a hash only."""

    path: str
    model: str
    stream: bool
    credential_sha256: str
    started: float = field(default_factory=time.time)
    ended: float | None = None
    status: int | None = None
    outcome: str = "open"  # then: answered, refused, broken, client_gone


@dataclass
class Call:
    """What a handler needs to know about the request at hand."""

    request: web.Request
    body: dict[str, Any]
    prompt: str
    directives: dict[str, str]
    attempt: Attempt
    number: int  # of this attempt under its marker, from 1

    @property
    def model(self) -> str:
        """The model's name without directives."""
        return DIRECTIVE.sub("", str(self.body.get("model", "")))

    @property
    def pieces(self) -> list[str]:
        """The answer's text, in the pieces that a stream sends; joined they are the whole."""
        if "chunks" in self.directives:
            return [f"word{n} " for n in range(int(self.directives["chunks"]))]
        said = " ".join(DIRECTIVE.sub("", self.prompt).split(" ")).strip()[:ECHO_CHARACTERS]
        return re.findall(r"\S+\s*", f"You said: {said}")

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.pieces)

    @property
    def tool(self) -> str | None:
        """The name of the tool to call, where the prompt asks for one and the request offers one."""
        offered = self.body.get("tools") or []
        if "tool" not in self.directives or not offered:
            return None
        return str((offered[0].get("function") or offered[0])["name"])

    @property
    def arguments(self) -> str:
        """The arguments of the tool call, as JSON."""
        return json.dumps({"city": "Zürich", "days": 3})

    @property
    def tokens_in(self) -> int:
        """Tokens of the prompt."""
        return words(self.prompt)

    @property
    def tokens_out(self) -> int:
        """Tokens of the answer."""
        return words(self.arguments) if self.tool else words(self.text)

    async def paced(self, pieces: list[str]) -> AsyncIterator[str]:
        """Yield the pieces at the pace, and with the accident, that the directives ask for."""
        for number, piece in enumerate(pieces):
            if number >= len(pieces) // 2:
                if "stall" in self.directives:
                    await asyncio.sleep(3600)
                if "broken_stream" in self.directives:
                    raise BrokenStreamError
            await asyncio.sleep(float(self.directives.get("chunk_delay", 0)))
            yield piece


class BrokenStreamError(Exception):
    """The directives ask for a stream that ends in the middle."""


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Events = AsyncIterator[tuple[str | None, Any]]


class Upstream:
    """The provider's routes and its memory of what arrived."""

    def __init__(self) -> None:
        self.attempts: OrderedDict[str, list[Attempt]] = OrderedDict()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/_health", self.health)
        app.router.add_get("/_calls", self.calls)
        for path, handler in {
            "/v1/chat/completions": chat_completions,
            "/v1/embeddings": embeddings,
            "/v1/responses": responses,
            "/v1/messages": messages,
            "/v1/images/generations": images,
        }.items():
            app.router.add_post(path, self.answer(handler))
        return app

    async def health(self, _: web.Request) -> web.Response:
        """Say that the double is up."""
        return web.json_response({"status": "ok"})

    async def calls(self, request: web.Request) -> web.Response:
        """Tell which attempts arrived under a marker."""
        attempts = self.attempts.get(request.query["marker"], [])
        return web.json_response({"count": len(attempts), "attempts": [asdict(attempt) for attempt in attempts]})

    def remember(self, marker: str | None, attempt: Attempt) -> int:
        """Note an attempt; return its number under its marker (1 without one)."""
        if marker is None:
            return 1
        while len(self.attempts) >= REMEMBERED_MARKERS:
            self.attempts.popitem(last=False)
        attempts = self.attempts.setdefault(marker, [])
        attempts.append(attempt)
        return len(attempts)

    def answer(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler: credential, JSON, directives, memory."""

        async def handle(request: web.Request) -> web.StreamResponse:
            credential = request.headers.get("x-api-key") or request.headers.get("Authorization", "")
            credential = credential.removeprefix("Bearer ").strip()
            if not credential:
                return problem(request, 401, "no API key was sent")
            try:
                body = json.loads(await request.text())
            except (ValueError, RecursionError) as error:
                return problem(request, 400, f"the body is not JSON: {error}")
            if not isinstance(body, dict) or "model" not in body:
                return problem(request, 400, "the body names no model")
            prompt = prompt_of(body)
            directives = dict(DIRECTIVE.findall(f"{body['model']} {prompt}"))
            attempt = Attempt(
                path=request.path,
                model=str(body["model"]),
                stream=bool(body.get("stream")),
                credential_sha256=hashlib.sha256(credential.encode()).hexdigest(),
            )
            number = self.remember(directives.get("marker"), attempt)
            call = Call(request, body, prompt, directives, attempt, number)
            try:
                response = await obey(call, handler)
            except BrokenStreamError:
                attempt.outcome = "broken"
                raise
            except (asyncio.CancelledError, ConnectionError):
                attempt.outcome = "client_gone"
                raise
            else:
                attempt.status = response.status
                attempt.outcome = "answered" if response.status < 400 else "refused"
                return response
            finally:
                attempt.ended = time.time()

        return handle


async def obey(call: Call, handler: Handler) -> web.StreamResponse:
    """Do what the directives ask for before, or instead of, an answer."""
    await asyncio.sleep(float(call.directives.get("delay", 0)))
    if "hang" in call.directives:
        await asyncio.sleep(3600)
    if call.number <= int(call.directives.get("fail", 0)):
        return problem(call.request, 500, f"attempt {call.number} fails on request")
    if "status" in call.directives:
        status = int(call.directives["status"])
        return problem(call.request, status, f"status {status} on request")
    return await handler(call)


def problem(request: web.Request, status: int, message: str) -> web.Response:
    """An error in the form of the provider whose route was called."""
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "api_error")
    error: dict[str, Any] = {"type": kind, "message": message}
    if request.path == "/v1/messages":
        return web.json_response({"type": "error", "error": error}, status=status)
    return web.json_response({"error": error | {"param": None, "code": str(status)}}, status=status)


async def send_events(call: Call, events: Events, end: bytes = b"") -> web.StreamResponse:
    """Send server-sent events; (name, data) pairs, the name left out where it is None."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(call.request)
    try:
        async for name, data in events:
            head = f"event: {name}\n" if name else ""
            await response.write(f"{head}data: {json.dumps(data)}\n\n".encode())
    except BrokenStreamError:
        await response.write(b'data: {"this is not')
        assert call.request.transport is not None
        call.request.transport.abort()
        raise
    await response.write(end)
    await response.write_eof()
    return response


# OpenAI: /v1/chat/completions


def openai_usage(call: Call) -> dict[str, Any]:
    """Token counts as the chat API reports them."""
    total = call.tokens_in + call.tokens_out
    return {"prompt_tokens": call.tokens_in, "completion_tokens": call.tokens_out, "total_tokens": total}


async def chat_completions(call: Call) -> web.StreamResponse:
    """Answer a chat, plainly or as a stream."""
    head = {"id": f"chatcmpl-double-{next(SERIAL)}", "created": int(time.time()), "model": call.model}
    tool_call = {
        "id": f"call_{next(SERIAL)}",
        "type": "function",
        "function": {"name": call.tool, "arguments": call.arguments},
    }
    finish = "tool_calls" if call.tool else "stop"
    if call.body.get("stream"):
        return await send_events(call, chat_chunks(call, head, tool_call, finish), end=b"data: [DONE]\n\n")
    message: dict[str, Any] = {"role": "assistant", "content": None if call.tool else call.text}
    if call.tool:
        message["tool_calls"] = [tool_call]
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return web.json_response(head | {"object": "chat.completion", "choices": [choice], "usage": openai_usage(call)})


async def chat_chunks(call: Call, head: dict[str, Any], tool_call: dict[str, Any], finish: str) -> Events:
    """The chunks of a streamed chat; the last one has the usage where the request asks for it."""
    with_usage = bool((call.body.get("stream_options") or {}).get("include_usage"))

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> tuple[None, dict[str, Any]]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        usage = {"usage": None} if with_usage else {}
        return None, head | {"object": "chat.completion.chunk", "choices": [choice]} | usage

    yield chunk({"role": "assistant", "content": ""})
    if call.tool:
        opening = tool_call | {"index": 0, "function": {"name": call.tool, "arguments": ""}}
        yield chunk({"tool_calls": [opening]})
        async for piece in call.paced(re.findall(r"\S+\s*", call.arguments)):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        async for piece in call.paced(call.pieces):
            yield chunk({"content": piece})
    yield chunk({}, finish)
    if with_usage:
        yield None, head | {"object": "chat.completion.chunk", "choices": [], "usage": openai_usage(call)}


# OpenAI: /v1/embeddings, /v1/images/generations


async def embeddings(call: Call) -> web.StreamResponse:
    """Eight numbers for each input, as floats or as base64 of little-endian 32-bit floats."""
    inputs = call.body["input"] if isinstance(call.body["input"], list) else [call.body["input"]]

    def vector(value: Any) -> list[float]:
        digest = hashlib.sha256(json.dumps(value).encode()).digest()
        return [round(byte / 256, 4) for byte in digest[:8]]

    def encoded(value: Any) -> list[float] | str:
        if call.body.get("encoding_format") != "base64":
            return vector(value)
        return base64.b64encode(struct.pack("<8f", *vector(value))).decode()

    data = [{"object": "embedding", "index": index, "embedding": encoded(one)} for index, one in enumerate(inputs)]
    usage = {"prompt_tokens": call.tokens_in, "total_tokens": call.tokens_in}
    return web.json_response({"object": "list", "model": call.model, "data": data, "usage": usage})


async def images(call: Call) -> web.StreamResponse:
    """One grey pixel."""
    return web.json_response({"created": int(time.time()), "data": [{"b64_json": PIXEL}]})


# OpenAI: /v1/responses


async def responses(call: Call) -> web.StreamResponse:
    """Answer over the Responses API, plainly or as a stream."""
    if call.tool:
        item: dict[str, Any] = {
            "type": "function_call",
            "id": f"fc_{next(SERIAL)}",
            "call_id": f"call_{next(SERIAL)}",
            "name": call.tool,
            "arguments": call.arguments,
            "status": "completed",
        }
    else:
        item = {
            "type": "message",
            "id": f"msg_{next(SERIAL)}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": call.text, "annotations": []}],
        }
    response: dict[str, Any] = {
        "id": f"resp_double_{next(SERIAL)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": call.model,
        "output": [item],
        "usage": {
            "input_tokens": call.tokens_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": call.tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": call.tokens_in + call.tokens_out,
        },
        "error": None,
        "incomplete_details": None,
        "instructions": call.body.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": call.body.get("tools") or [],
        "top_p": 1.0,
    }
    if not call.body.get("stream"):
        return web.json_response(response)
    return await send_events(call, numbered(response_events(call, response, item)))


async def numbered(events: Events) -> Events:
    """Give each event of the Responses API its type and its number."""
    number = 0
    async for name, data in events:
        yield name, {"type": name, "sequence_number": number} | data
        number += 1


async def response_events(call: Call, response: dict[str, Any], item: dict[str, Any]) -> Events:
    """The events of a streamed response."""
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    where = {"item_id": item["id"], "output_index": 0}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    empty = {"arguments": ""} if call.tool else {"content": []}
    yield "response.output_item.added", {"output_index": 0, "item": item | empty | {"status": "in_progress"}}
    if call.tool:
        async for piece in call.paced(re.findall(r"\S+\s*", call.arguments)):
            yield "response.function_call_arguments.delta", where | {"delta": piece}
        yield "response.function_call_arguments.done", where | {"arguments": call.arguments, "name": call.tool}
    else:
        where |= {"content_index": 0}
        part = item["content"][0]
        yield "response.content_part.added", where | {"part": part | {"text": ""}}
        async for piece in call.paced(call.pieces):
            yield "response.output_text.delta", where | {"delta": piece, "logprobs": []}
        yield "response.output_text.done", where | {"text": call.text, "logprobs": []}
        yield "response.content_part.done", where | {"part": part}
    yield "response.output_item.done", {"output_index": 0, "item": item}
    yield "response.completed", {"response": response}


# Anthropic: /v1/messages


async def messages(call: Call) -> web.StreamResponse:
    """Answer over Anthropic's Messages API, plainly or as a stream."""
    if call.tool:
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": f"toolu_{next(SERIAL)}",
            "name": call.tool,
            "input": json.loads(call.arguments),
        }
    else:
        block = {"type": "text", "text": call.text}
    message: dict[str, Any] = {
        "id": f"msg_double_{next(SERIAL)}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [block],
        "stop_reason": "tool_use" if call.tool else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": call.tokens_in, "output_tokens": call.tokens_out},
    }
    if not call.body.get("stream"):
        return web.json_response(message)
    return await send_events(call, typed(message_events(call, message, block)))


async def typed(events: Events) -> Events:
    """Repeat each event's name as its type, as Anthropic does."""
    async for name, data in events:
        yield name, {"type": name} | data


async def message_events(call: Call, message: dict[str, Any], block: dict[str, Any]) -> Events:
    """The events of a streamed message."""
    start = message | {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
    yield "message_start", {"message": start}
    empty: dict[str, Any] = {"input": {}} if call.tool else {"text": ""}
    yield "content_block_start", {"index": 0, "content_block": block | empty}
    yield "ping", {}
    kind, key = ("input_json_delta", "partial_json") if call.tool else ("text_delta", "text")
    async for piece in call.paced(re.findall(r"\S+\s*", call.arguments) if call.tool else call.pieces):
        yield "content_block_delta", {"index": 0, "delta": {"type": kind, key: piece}}
    yield "content_block_stop", {"index": 0}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": ending, "usage": {"output_tokens": call.tokens_out}}
    yield "message_stop", {}


# Running it


async def start(host: str, port: int) -> tuple[web.AppRunner, str]:
    """Listen; return the runner and the address, with the port that was given where 0 was asked for."""
    runner = web.AppRunner(Upstream().application(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"


@contextlib.contextmanager
def running(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run the double in a thread; yield its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="upstream double", daemon=True)
    thread.start()
    runner, address = asyncio.run_coroutine_threadsafe(start(host, port), loop).result(timeout=10)
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


async def serve(host: str, port: int) -> None:
    """Listen until the process is ended."""
    _, address = await start(host, port)
    print(f"upstream double on {address}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="OpenAI- and Anthropic-compatible test double")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port))
