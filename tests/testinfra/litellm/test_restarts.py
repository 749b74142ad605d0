"""Restarts in the middle of work lose no row."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.usefixtures("upstream_url"), pytest.mark.disruptive]

CALL_ID = "x-litellm-call-id"


def wait_for_gateway(http: httpx.Client) -> None:
    """Until the gateway answers, a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if http.get("/health/readiness", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not yet
        time.sleep(0.3)
    pytest.fail("the gateway does not answer after a restart")


@pytest.fixture(autouse=True)
def services(gateway: Any, http: httpx.Client) -> Iterator[None]:
    """Leave both services running, whatever a test did."""
    yield
    gateway.check_output("systemctl start litellm-shipper litellm-gateway")
    wait_for_gateway(http)


def call(http: httpx.Client, prompt: str, call_id: str, **more: Any) -> int | None:
    """A chat; its status, or None where the connection broke, be it that to the proxy or the proxy's own."""
    body = {"model": "lab-chat", "messages": [{"role": "user", "content": prompt}]} | more
    try:
        answer = http.post("/v1/chat/completions", json=body, headers={CALL_ID: call_id})
    except httpx.TransportError:
        return None
    return None if '"type":"gateway_proxy_error"' in answer.text else answer.status_code


def new_ids(count: int) -> list[str]:
    return [f"restart-{uuid.uuid4()}" for _ in range(count)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_restart_after_a_burst_loses_no_row(stream: bool, gateway: Any, http: httpx.Client, request_log: Any) -> None:
    """LiteLLM itself drops the callbacks that are pending when it is stopped."""
    ids = new_ids(30)
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda call_id: call(http, "hello", call_id, stream=stream), ids))
    gateway.check_output("systemctl restart litellm-gateway")
    assert statuses == [200] * 30
    for call_id in ids:
        pair = request_log.pair_for(call_id)
        assert (pair.request["status_code"], pair.content["outcome"]) == (200, "success")
        assert pair.response["total_tokens"] == 4
        assert pair.response["cost"] > 0


def test_restart_during_calls_loses_no_row(
    gateway: Any, http: httpx.Client, request_log: Any, attempts_at: Callable[[str], list[Any]]
) -> None:
    """Calls under way are answered before the gateway stops; what reached the provider is in the log in any case."""
    ids = new_ids(10)
    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(call, http, f"[[delay=3]] [[marker={one}]] hello", one) for one in ids]
        time.sleep(1.5)
        gateway.check_output("systemctl restart litellm-gateway")
        statuses = [future.result() for future in futures]
    wait_for_gateway(http)
    reached = {call_id: status for call_id, status in zip(ids, statuses, strict=True) if attempts_at(call_id)}
    assert len(reached) == 10
    assert set(reached.values()) == {200}
    for call_id in reached:
        pair = request_log.pair_for(call_id)
        assert (pair.request["status_code"], pair.content["outcome"]) == (200, "success")
        assert pair.response["cost"] > 0


def test_rows_wait_while_the_shipper_is_stopped(gateway: Any, http: httpx.Client, request_log: Any) -> None:
    ids = new_ids(5)
    gateway.check_output("systemctl stop litellm-shipper")
    assert [call(http, "hello", call_id) for call_id in ids] == [200] * 5
    time.sleep(2)
    condition = "q.request_id IN (" + ", ".join(f"'{call_id}'" for call_id in ids) + ")"
    assert request_log.pairs(condition) == []
    gateway.check_output("systemctl start litellm-shipper")
    for call_id in ids:
        assert request_log.pair_for(call_id).request["status_code"] == 200


def test_rows_wait_while_the_database_is_stopped(
    gateway: Any, database: Any, http: httpx.Client, request_log: Any
) -> None:
    """No client notices."""
    ids = new_ids(5)
    units = "systemctl list-units --plain --no-legend 'postgresql@*.service' | cut -d' ' -f1"
    unit = database.check_output(units)
    assert unit
    database.check_output("systemctl stop %s", unit)
    try:
        began = time.monotonic()
        assert [call(http, "hello", call_id) for call_id in ids] == [200] * 5
        assert time.monotonic() - began < 5
    finally:
        database.check_output("systemctl start %s", unit)
    for call_id in ids:
        assert request_log.pair_for(call_id).request["status_code"] == 200
    assert gateway.service("litellm-shipper").is_running
