"""What does not get past the proxy: wrong hosts, routes, methods and sizes; too much, too slow, ambiguous."""

import socket
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

OF_THE_PROXY = "gateway_proxy_error"


def refusal(answer: httpx.Response) -> int:
    """The status of an answer that is the proxy's own."""
    assert answer.json()["error"]["type"] == OF_THE_PROXY, answer.text
    return answer.status_code


def test_host_that_is_not_ours_is_refused(http: httpx.Client) -> None:
    assert refusal(http.get("/v1/models", headers={"Host": "elsewhere.example"})) == 421


@pytest.mark.parametrize("path", ["//v1/models", "/v1/models/../../key/list", "/v1/%2e%2e/key/list", "/v1/models\\x"])
def test_path_that_is_not_plain_is_refused(raw: Callable[[bytes], bytes], gateway_url: str, path: str) -> None:
    """As it is written: clients would tidy it up."""
    answer = raw(f"GET {path} HTTP/1.1\r\nHost: {urlsplit(gateway_url).hostname}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400")


def test_body_without_a_length_is_refused(http: httpx.Client) -> None:
    assert refusal(http.post("/v1/chat/completions", content=iter([b"{}"]))) == 411


def test_body_that_is_too_large_is_refused(raw: Callable[[bytes], bytes], gateway_url: str) -> None:
    """Before it has been sent."""
    head = f"POST /v1/files HTTP/1.1\r\nHost: {urlsplit(gateway_url).hostname}\r\nContent-Length: 104857601\r\n\r\n"
    assert raw(head.encode() + b"x" * 65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
def test_other_methods_are_refused(http: httpx.Client, method: str) -> None:
    assert refusal(http.request(method, "/v1/models")) == 405


def test_route_of_administrators_is_closed_to_others(
    http: httpx.Client, elsewhere: Callable[..., list[Any]], master_key: str
) -> None:
    """Even with the master key; the routes of models are open to the same client."""
    key = {"Authorization": f"Bearer {master_key}"}
    routes = ["/key/list", "/user/list", "/ui/", "/health/readiness", "/%6bey/list", "/v1/models"]
    answers = elsewhere(*(("GET", route, key, None) for route in routes))
    assert [status for status, _, _ in answers] == [403, 403, 403, 403, 403, 200]
    assert http.get("/health/readiness").status_code == 200
    assert http.put("/v1/models").json().get("error", {}).get("type") != OF_THE_PROXY


def test_too_many_requests_with_one_key_are_refused(elsewhere: Callable[..., list[Any]]) -> None:
    """The next key is not to blame; the route is one that the proxy answers itself."""
    keys = [f"sk-{uuid.uuid4()}" for _ in range(2)]
    flood = [("GET", "/ui/", {"Authorization": f"Bearer {keys[0]}"}, None)] * 1300
    answers = elsewhere(*flood, ("GET", "/ui/", {"x-api-key": keys[1]}, None))
    statuses = [status for status, _, _ in answers]
    assert statuses[0] == 403
    assert 429 in statuses[1000:-1], "none was refused, or 1000 took longer than 10 s"
    assert 429 not in statuses[:1000]
    refused = answers[statuses.index(429)]
    assert refused[1]["retry-after"] == "10"
    assert statuses[-1] == 403


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 6\r\nContent-Length: 7\r\n",
        "Content-Length: +6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length : 6\r\n",
        "X-Name: a\r\n b\r\nContent-Length: 6\r\n",
        "X_Name: a\r\nContent-Length: 6\r\n",
    ],
    ids=["both lengths", "two lengths", "signed", "unknown coding", "space", "folded", "underscore"],
)
def test_request_that_two_readers_could_read_in_two_ways_is_answered_once(
    raw: Callable[[bytes], bytes], gateway_url: str, head: str
) -> None:
    """Whatever follows it is never taken for a second request that the proxy has not seen."""
    host = urlsplit(gateway_url).hostname
    hidden = f"GET /key/list HTTP/1.1\r\nHost: {host}\r\n\r\n"
    answer = raw(f"POST /v1/models HTTP/1.1\r\nHost: {host}\r\n{head}\r\n0\r\n\r\n{hidden}".encode())
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses[0] in (b"400", b"401", b"403", b"405", b"411")
    assert b"200" not in statuses


def test_client_that_dawdles_is_sent_away(raw: Callable[[bytes], bytes], gateway_url: str) -> None:
    began = time.monotonic()
    answer = raw(f"GET /v1/models HTTP/1.1\r\nHost: {urlsplit(gateway_url).hostname}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert 8 < time.monotonic() - began < 14


def test_body_that_dawdles_never_reaches_litellm(raw: Callable[[bytes], bytes], gateway_url: str) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(gateway_url).hostname}\r\nContent-Length: 100\r\n\r\n"
    )
    assert raw(head.encode() + b'{"model": ').startswith(b"HTTP/1.1 408")


def test_answer_has_the_id_of_the_log_and_the_log_no_key(gateway: Any, http: httpx.Client) -> None:
    """Some clients put their key into the query."""
    key = f"sk-{uuid.uuid4()}"
    answer = http.get("/v1/models", params={"key": key}, headers={"X-Request-ID": "mine"})
    request_id = answer.headers["x-request-id"]
    assert str(uuid.UUID(request_id)) == request_id
    said = gateway.check_output("journalctl --unit=haproxy --since=-1min --output=cat")
    (line,) = [line for line in said.splitlines() if request_id in line]
    assert "/v1/models" in line
    assert key not in said


def test_client_cannot_say_who_it_is(http: httpx.Client, request_log: Any, gateway_url: str) -> None:
    """The request log has the address that the proxy saw, whatever the headers say."""
    address = urlsplit(gateway_url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        mine = connection.getsockname()[0]
    call_id = f"test-{uuid.uuid4()}"
    forged = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
    body = {"model": "lab-chat", "messages": [{"role": "user", "content": "hello"}]}
    assert http.post("/v1/chat/completions", json=body, headers={**forged, "x-litellm-call-id": call_id}).is_success
    pair = request_log.pair_for(call_id)
    assert pair.content["client_address"] == mine
    assert "203.0.113.7" not in pair.text
