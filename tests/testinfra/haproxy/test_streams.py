"""Streams pass the proxy as they come, and outlive its reload; a gateway that is down is said to be so."""

import time
from itertools import pairwise
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.usefixtures("upstream_url")


def stream(http: httpx.Client, directives: str) -> Any:
    """A streamed chat."""
    body = {"model": "lab-chat", "stream": True, "messages": [{"role": "user", "content": f"{directives} hello"}]}
    return http.stream("POST", "/v1/chat/completions", json=body)


def test_pieces_of_a_stream_come_one_by_one(http: httpx.Client) -> None:
    """Ten pieces 0.3 s apart; held back, they would come together."""
    with stream(http, "[[chunks=10]][[chunk_delay=0.3]]") as answer:
        assert answer.status_code == 200
        moments = [time.monotonic() for line in answer.iter_lines() if '"content"' in line]
    assert len(moments) >= 10
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[-1] - moments[0] > 2
    assert max(gaps) < 1.5


@pytest.mark.disruptive
def test_reload_cuts_no_stream(http: httpx.Client, gateway: Any) -> None:
    lines = []
    with stream(http, "[[chunks=20]][[chunk_delay=0.3]]") as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 4:
                gateway.check_output("systemctl reload haproxy")
                assert http.get("/health/liveliness").status_code == 200
    assert "data: [DONE]" in lines


@pytest.mark.disruptive
def test_gateway_that_is_down_is_a_503_with_a_reason(http: httpx.Client, gateway: Any) -> None:
    gateway.check_output("systemctl stop litellm-gateway")
    try:
        answer = http.get("/v1/models")
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "gateway_proxy_error"
        assert answer.headers["retry-after"] == "5"
    finally:
        gateway.check_output("systemctl start litellm-gateway")
    deadline = time.monotonic() + 90
    while http.get("/health/readiness").status_code != 200:
        assert time.monotonic() < deadline, "the gateway does not come back"
        time.sleep(0.5)
