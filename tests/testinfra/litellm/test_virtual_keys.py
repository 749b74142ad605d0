"""LiteLLM's own database at work on the deployed gateway: virtual keys, and the admin UI that they are made in."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

CHAT = {"model": "lab-chat", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def key(http: httpx.Client) -> Iterator[str]:
    """A virtual key for one model, removed afterwards."""
    made = http.post("/key/generate", json={"models": ["lab-chat"], "max_budget": 1.0})
    assert made.status_code == 200, made.text
    key = made.json()["key"]
    yield key
    http.post("/key/delete", json={"keys": [key]})


def call(http: httpx.Client, key: str, **changes: Any) -> httpx.Response:
    """A chat call with a key."""
    return http.post("/v1/chat/completions", json=CHAT | changes, headers={"Authorization": f"Bearer {key}"})


def test_virtual_key_opens_its_models_and_no_others(http: httpx.Client, key: str) -> None:
    assert call(http, key).status_code == 200
    assert call(http, key, model="lab-claude").status_code in (401, 403)


def test_removed_key_is_refused(http: httpx.Client, key: str) -> None:
    assert call(http, key).status_code == 200
    assert http.post("/key/delete", json={"keys": [key]}).status_code == 200
    assert call(http, key).status_code == 401


def test_stranger_is_refused(http: httpx.Client) -> None:
    """Not with 400, as by a gateway without a database, which can only say that it has none."""
    assert call(http, "sk-not-a-key-of-this-gateway").status_code == 401


def test_key_is_stored_by_its_hash(http: httpx.Client, key: str, request_log: Any, sha256_of: Any) -> None:
    rows = request_log.query(
        f"SELECT to_jsonb(t) FROM \"LiteLLM_VerificationToken\" AS t WHERE token = '{sha256_of(key)}'"
    )
    assert len(rows) == 1
    assert key not in str(rows)


def test_admin_ui_is_served_and_signed_in_to(http: httpx.Client, inventory: Any, gateway_name: str) -> None:
    for page in ("/ui/", "/ui/login/"):
        answer = http.get(page)
        assert answer.status_code == 200
        assert "text/html" in answer.headers["content-type"]
    credentials = {
        "username": inventory.value(gateway_name, "litellm_ui_username", "admin"),
        "password": inventory.value(gateway_name, "litellm_ui_password"),
    }
    assert http.post("/login", data=credentials | {"password": "wrong"}).status_code == 401
    signed_in = http.post("/login", data=credentials)
    assert signed_in.status_code == 303, signed_in.text
    assert "token" in signed_in.cookies
