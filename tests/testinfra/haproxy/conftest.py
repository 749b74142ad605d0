"""What the tests of the gateway's proxy share: raw connections, and a client that is no administrator."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

# Run on another machine; prints status, headers and text of each answer to a list of (method, path, headers, body).
ELSEWHERE = """
import http.client, json, ssl, sys
given = json.loads(sys.stdin.read())
context = ssl.create_default_context(cadata=given["authority"])
connection = http.client.HTTPSConnection(given["host"], given["port"], timeout=30, context=context)
answers = []
for method, path, headers, body in given["requests"]:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answers.append([answer.status, dict(answer.getheaders()), answer.read().decode(errors="replace")])
print(json.dumps(answers))
"""


@pytest.fixture(scope="session", autouse=True)
def _behind_a_proxy(inventory: Any, gateway_name: str) -> None:
    if not inventory.value(gateway_name, "gateway_tls"):
        pytest.skip("this inventory has no proxy with TLS in front of the gateway")


@pytest.fixture(scope="session")
def http(gateway_url: str, gateway_tls: ssl.SSLContext, master_key: str) -> Iterator[httpx.Client]:
    """An administrator's client with the master key."""
    headers = {"Authorization": f"Bearer {master_key}"}
    with httpx.Client(base_url=gateway_url, headers=headers, timeout=60, trust_env=False, verify=gateway_tls) as client:
        yield client


@pytest.fixture
def raw(gateway_url: str, gateway_tls: ssl.SSLContext) -> Iterator[Callable[[bytes], bytes]]:
    """Send bytes over TLS and return all that comes back until the proxy closes or says nothing for 15 s."""
    address = urlsplit(gateway_url)
    opened: list[ssl.SSLSocket] = []

    def raw(data: bytes) -> bytes:
        plain = socket.create_connection((address.hostname, address.port), timeout=15)
        secured = gateway_tls.wrap_socket(plain, server_hostname=address.hostname)
        opened.append(secured)
        secured.sendall(data)
        found = b""
        try:
            while piece := secured.recv(65536):
                found += piece
        except (TimeoutError, ssl.SSLError, ConnectionError):
            pass
        return found

    yield raw
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def elsewhere(inventory: Any, gateway_url: str, gateway_name: str) -> Callable[..., list[Any]]:
    """Requests from a neighbour of the gateway, over one connection; status, headers, text of each answer."""
    neighbours = inventory.names("upstream")
    if not neighbours:
        pytest.skip("this inventory has no third machine to connect from (group upstream)")
    address = urlsplit(gateway_url)
    with open(inventory.value(gateway_name, "gateway_ca"), encoding="utf-8") as file:  # noqa: PTH123
        authority = file.read()

    def elsewhere(*requests: tuple[str, str, dict[str, str], str | None]) -> list[Any]:
        given = {"host": address.hostname, "port": address.port, "authority": authority, "requests": requests}
        host = inventory.connect(neighbours[0])
        path = host.check_output("mktemp")
        try:
            for part in range(0, len(text := json.dumps(given)), 50_000):  # longer ones are no argument
                host.check_output("printf %%s %s >> %s", text[part : part + 50_000], path)
            answers: list[Any] = json.loads(host.check_output("python3 -c %s < %s", ELSEWHERE, path))
            return answers
        finally:
            host.check_output("rm %s", path)

    return elsewhere
