"""Chats as gateways see them, of a wanted size and the same in every run; pure.

The words are those of Python's own documentation: English prose with code in it, which compresses as such text does.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import sysconfig
import uuid
from functools import cache
from pathlib import Path
from typing import Any

Document = dict[str, Any]

MODULES = [
    "argparse",
    "asyncio/tasks",
    "ast",
    "bisect",
    "calendar",
    "cmd",
    "codecs",
    "collections/__init__",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "datetime",
    "decimal",
    "difflib",
    "doctest",
    "email/message",
    "enum",
    "fileinput",
    "fractions",
    "ftplib",
    "functools",
    "getopt",
    "gettext",
    "glob",
    "heapq",
    "http/client",
    "http/cookies",
    "imaplib",
    "inspect",
    "ipaddress",
    "json/decoder",
    "logging/__init__",
    "mailbox",
    "mimetypes",
    "multiprocessing/pool",
    "optparse",
    "os",
    "pathlib",
    "pickle",
    "pickletools",
    "platform",
    "pprint",
    "queue",
    "random",
    "sched",
    "shelve",
    "shutil",
    "smtplib",
    "socket",
    "sqlite3/dump",
    "ssl",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "timeit",
    "tokenize",
    "trace",
    "traceback",
    "turtle",
    "typing",
    "unittest/case",
    "unittest/mock",
    "urllib/request",
    "uuid",
    "warnings",
    "weakref",
    "xml/dom/minidom",
    "zipfile/__init__",
]

MODEL = "gpt-4o-mini-2024-07-18"
SYSTEM = (
    "You are the assistant of a software company. Answer in the language of the question, briefly and with an "
    "example where it helps. Where you do not know, say so. Do not invent names of functions."
)
LINES_OF_CODE = 12
PROMPT_SHARE = 0.6
"""How much of a chat is what was sent; the rest came back."""


@cache
def prose() -> str:
    """Documentation strings of Python's own modules, each with the code that follows it."""
    found = []
    for name in MODULES:
        file = Path(sysconfig.get_path("stdlib"), f"{name}.py")
        if not file.exists():  # moved in another version of Python
            continue
        source = file.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if len(text) > len(SYSTEM):
                    found.append(text)
                    code = node.body[1:]
                    if isinstance(node, ast.FunctionDef) and code:
                        shown = "\n".join(lines[code[0].lineno - 1 : code[0].lineno + LINES_OF_CODE])
                        found.append(f"```python\n{shown}\n```")
    return "\n\n".join(found)


def said(chance: random.Random, length: int) -> str:
    """A piece of prose of that many characters."""
    text = prose()
    start = chance.randrange(len(text) - 1)
    while len(text) < start + length:
        text += prose()
    return text[start : start + length]


def compact(value: Any) -> bytes:
    """JSON as clients and providers send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chat(number: int, size: int, model: str = "gpt-4o-mini") -> tuple[Document, Document]:
    """A request body and its answer, together ``size`` bytes of JSON as near as a character allows."""
    chance = random.Random(number)  # noqa: S311  no secret
    answer_text = said(chance, 1)
    prompt = request_body(number, chance, max(1, round(size * PROMPT_SHARE)), model)
    answer: Document = {
        "id": f"chatcmpl-{hashlib.sha256(str(number).encode()).hexdigest()[:29]}",
        "object": "chat.completion",
        "created": 1_767_225_600 + number,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer_text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": len(compact(prompt)) // 4,
            "completion_tokens": size // 12,
            "total_tokens": len(compact(prompt)) // 4 + size // 12,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": f"fp_{number % 7:010x}",
    }
    answer["choices"][0]["message"]["content"] = fitting(answer, chance, size - len(compact(prompt)))
    return prompt, answer


def request_body(number: int, chance: random.Random, size: int, model: str) -> Document:
    """The body of a chat of several turns, of about ``size`` bytes."""
    last = {"role": "user", "content": ""}
    messages = [{"role": "system", "content": SYSTEM}]
    messages += [
        {"role": ("user", "assistant")[turn % 2], "content": said(chance, size // 8)}
        for turn in range(min(6, size // 4000 * 2))
    ]
    body: Document = {
        "model": model,
        "messages": [*messages, last],
        "temperature": 0.2,
        "max_tokens": 1024,
        "user": f"user-{number % 97}",
    }
    last["content"] = fitting(body, chance, size)
    return body


def fitting(document: Document, chance: random.Random, size: int) -> str:
    """Prose that brings a document, which has none of it yet, up to a size in bytes of JSON."""
    room = size - len(compact(document))
    text = said(chance, max(1, room))
    return text[: max(1, len(text) - (len(compact(text)) - 2 - room))]


def documents(number: int, size: int, created_at: int) -> tuple[str, Document, Document, Document]:
    """A chat as the gateway spools it: its id, the request, the outcome and the accounting; see capture.py."""
    payload, answer = chat(number, size)
    usage = answer["usage"]
    request = {
        "route": "/v1/chat/completions",
        "model": payload["model"],
        "payload": payload,
        "client_address": "192.0.2.7",
        "key_hash": hashlib.sha256(f"key {number % 50}".encode()).hexdigest(),
        "user_id": f"owner-{number % 50}",
        "team_id": None,
        "key_alias": f"application-{number % 50}",
    }
    outcome = {
        "outcome": "success",
        "status_code": 200,
        "ended_at": created_at + 812_345,
        "first_token_ms": None,
        "stream": False,
        "response": answer,
        "error": None,
        "attempts": [{"model": "openai/gpt-4o-mini", "deployment": "0" * 64, "started_at": created_at + 4_321}],
    }
    accounting = {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "cost": usage["prompt_tokens"] * 1.5e-07 + usage["completion_tokens"] * 6e-07,
        "cost_breakdown": {"input_cost": usage["prompt_tokens"] * 1.5e-07, "output_cost": 6e-07, "total_cost": 7.5e-07},
        "cache_hit": False,
        "end_user": payload["user"],
        "provider": "openai",
        "model": "openai/gpt-4o-mini",
        "provider_ms": 801.234,
        "response": None,
    }
    request_id = str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4))  # noqa: S311  no secret
    return request_id, request, outcome, accounting
