"""A deployed gateway as its operators and its users call it: LiteLLM's management API, and the official client."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from faults.inventory import ROOT, Lab, read

PATIENCE = 40.0
"""Seconds for what a gateway does in the background: spend is written every few seconds, budgets are reset so."""


class RefusedError(Exception):
    """The gateway said no: ``status``, the ``kind`` of LiteLLM's error, and its words."""

    def __init__(self, call: str, answer: httpx.Response) -> None:
        self.status = answer.status_code
        try:
            document = answer.json()
        except ValueError:
            document = answer.text
        error = document.get("error", document.get("detail", document)) if isinstance(document, dict) else document
        self.kind = str(error.get("type")) if isinstance(error, dict) else None
        self.words = str(error.get("message", error)) if isinstance(error, dict) else str(error)
        super().__init__(f"{call}: {self.status} {self.kind}: {self.words[:600]}")


class Management:
    """Calls of one gateway with one key; a refusal is a RefusedError."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        """Ask; query parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._said(f"GET {path}", self._http.get(path, params=given))

    def post(self, path: str, **body: Any) -> Any:
        """Send a document."""
        return self._said(f"POST {path}", self._http.post(path, json=body))

    def patch(self, path: str, **body: Any) -> Any:
        """Send a document that changes a part."""
        return self._said(f"PATCH {path}", self._http.patch(path, json=body))

    def delete(self, path: str) -> Any:
        """Remove."""
        return self._said(f"DELETE {path}", self._http.delete(path))

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    @staticmethod
    def _said(call: str, answer: httpx.Response) -> Any:
        if answer.is_error:
            raise RefusedError(call, answer)
        return answer.json()


class Callers:
    """Users of one gateway: chat calls with any key, through OpenAI's client, which retries nothing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=60, trust_env=False)

    def chat(self, key: str, prompt: str = "Hello", model: str = "lab-chat", **more: Any) -> httpx.Response:
        """One chat call; returns the answer with its headers, or raises the client's error."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=self._http)
        messages: Any = [{"role": "user", "content": prompt}]
        raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, **more)
        return raw.http_response

    def stream(self, key: str, prompt: str = "Hello", model: str = "lab-chat") -> str:
        """One streamed chat call; returns its text."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=self._http)
        messages: Any = [{"role": "user", "content": prompt}]
        pieces = client.chat.completions.create(model=model, messages=messages, stream=True)
        return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)

    def admitted(self, key: str, **more: Any) -> bool:
        """Tell whether a call is let through."""
        try:
            self.chat(key, **more)
        except openai.APIStatusError:
            return False
        return True

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()


def refusal(call: Callable[[], Any]) -> tuple[int, str, str]:
    """Status, kind and words with which a chat call is refused; fails where it is not."""
    try:
        call()
    except openai.APIStatusError as error:
        body: Any = error.body
        told = body if isinstance(body, dict) else {}
        return error.status_code, str(told.get("type")), str(told.get("message", body))
    pytest.fail("the call was let through")


def forbidden(call: Callable[[], Any]) -> bool:
    """Tell whether a management call is refused for want of rights; any other refusal is an error."""
    try:
        call()
    except RefusedError as error:
        if error.status not in (401, 403):
            raise
        return True
    return False


def eventually(find: Callable[[], Any], what: str, patience: float = PATIENCE, pause: float = 0.25) -> Any:
    """What is found as soon as it is truthy; fails with ``what`` was waited for where it never is."""
    deadline = time.monotonic() + patience
    while True:
        found = find()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {patience:.0f} s; last: {found!r}")
        time.sleep(pause)


def unique(word: str) -> str:
    """A name that nothing else has."""
    return f"{word}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """The hosts under test: a lab, since services are stopped there."""
    given = pytestconfig.getoption("ansible_inventory") or os.environ.get("ANSIBLE_INVENTORY")
    if not given:
        raise pytest.UsageError("name the lab: --ansible-inventory inventory/lab, or ANSIBLE_INVENTORY")
    os.environ["PATH"] = os.pathsep.join([str(ROOT / "lab" / "bin"), os.environ["PATH"]])
    return read(Path(given).resolve())


@pytest.fixture(scope="session")
def admin(lab: Lab) -> Iterator[Management]:
    """The management API with the master key."""
    management = Management(lab.gateway_url, lab.master_key)
    yield management
    management.close()


@pytest.fixture(scope="session")
def callers(lab: Lab) -> Iterator[Callers]:
    """Chat calls with any key."""
    made = Callers(lab.gateway_url)
    yield made
    made.close()
