"""Clients come by TLS, know the gateway by its certificate, and do not reach LiteLLM past its proxy."""

import socket
import ssl
import warnings
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest


def handshake(gateway_url: str, context: ssl.SSLContext) -> str | None:
    """The version of TLS that a client comes in by."""
    address = urlsplit(gateway_url)
    with (
        socket.create_connection((address.hostname, address.port), timeout=15) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as secured,
    ):
        return secured.version()


def careless(newest: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that would take any cipher and certificate, up to a version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # for the old versions' names
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    return context


def test_certificate_is_of_our_authority_and_for_this_host(gateway_url: str, gateway_tls: ssl.SSLContext) -> None:
    assert handshake(gateway_url, gateway_tls) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(gateway_url, ssl.create_default_context())


def test_tls_1_2_is_the_oldest(gateway_url: str) -> None:
    assert handshake(gateway_url, careless(ssl.TLSVersion.TLSv1_2)) == "TLSv1.2"
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
        handshake(gateway_url, careless(ssl.TLSVersion.TLSv1_1))


def test_usual_port_answers_too(gateway_url: str, gateway_tls: ssl.SSLContext) -> None:
    url = f"https://{urlsplit(gateway_url).hostname}/health/liveliness"
    assert httpx.get(url, verify=gateway_tls, trust_env=False).status_code == 200


def test_plain_http_is_sent_to_https(gateway_url: str) -> None:
    host = urlsplit(gateway_url).hostname
    answer = httpx.post(f"http://{host}/v1/chat/completions?x=1", json={}, trust_env=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://{host}/v1/chat/completions?x=1"


def test_plain_http_on_the_port_of_tls_gets_no_answer(gateway_url: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(gateway_url.replace("https", "http"), trust_env=False)


def test_litellm_itself_is_out_of_reach(gateway: Any, gateway_url: str, inventory: Any, gateway_name: str) -> None:
    port = inventory.value(gateway_name, "litellm_local_port", 4001)
    assert gateway.socket(f"tcp://127.0.0.1:{port}").is_listening
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((urlsplit(gateway_url).hostname, port), timeout=5)


def test_browsers_are_told_to_come_by_https_only(http: httpx.Client) -> None:
    assert http.get("/health/liveliness").headers["strict-transport-security"] == "max-age=31536000"
