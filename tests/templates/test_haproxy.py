"""haproxy.cfg: what an environment says arrives in it, and LiteLLM is out of reach behind it."""

import re
from typing import Any

import pytest

ROLE, HOST = "haproxy", "gateway1"
SECRETS = {"database_password": "x", "litellm_master_key": "x"}


def lines(deployment: Any, **extra: Any) -> list[str]:
    """The lines of the file without comments, with variables of an environment."""
    made = deployment(extra={**SECRETS, "gateway_proxy": True, **extra})
    text = made.render(ROLE, "haproxy.cfg.j2", HOST)
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def section(found: list[str], name: str) -> list[str]:
    start = found.index(name) + 1
    ends = (at for at in range(start, len(found)) if re.match(r"(frontend|backend|defaults|global)\b", found[at]))
    return found[start : next(ends, len(found))]


def test_clients_come_by_tls_only(deployment: Any) -> None:
    binds = [line for line in section(lines(deployment), "frontend gateway") if line.startswith("bind")]
    assert [line.split()[1] for line in binds] == ["*:4000", "*:443"]
    assert all(" ssl crt /etc/ssl/litellm/gateway.crt " in line for line in binds)
    assert "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets" in lines(deployment)


def test_plain_http_leads_to_https_and_nowhere_else(deployment: Any) -> None:
    redirect = section(lines(deployment), "frontend redirect")
    assert redirect[0] == "bind *:80"
    assert any("redirect code 308 location https://" in line for line in redirect)
    assert not any("backend" in line for line in redirect)


def test_plain_http_is_served_only_where_somebody_says_so(deployment: Any) -> None:
    found = lines(deployment, haproxy_tls=False)
    assert "frontend redirect" not in found
    assert [line for line in found if line.startswith("bind")] == ["bind *:4000"]
    assert not any("ssl" in line or "Strict-Transport-Security" in line for line in found)


def test_gateway_listens_on_loopback_behind_it(deployment: Any) -> None:
    unit = deployment(extra={**SECRETS, "gateway_proxy": True}).render("litellm", "litellm-gateway.service.j2", HOST)
    assert "--host 127.0.0.1 --port 4001 " in unit
    assert "server litellm 127.0.0.1:4001 " in "\n".join(lines(deployment))
    alone = deployment(extra=SECRETS).render("litellm", "litellm-gateway.service.j2", HOST)
    assert "--host 0.0.0.0 --port 4000 " in alone


def test_port_and_address_are_those_of_the_gateway(deployment: Any) -> None:
    found = lines(deployment, litellm_port=8443, litellm_listen_address="192.168.10.18", litellm_local_port=9000)
    assert section(found, "frontend gateway")[0].startswith("bind 192.168.10.18:8443 ssl")
    assert section(found, "frontend redirect")[0] == "bind 192.168.10.18:80"
    assert "server litellm 127.0.0.1:9000 check inter 2s fall 3 rise 1" in found


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("/v1/chat/completions", True),
        ("/chat/completions", True),
        ("/openai/deployments/gpt-4o/chat/completions", True),
        ("/v1beta/models/gemini-2.0:generateContent", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/files/abc/content", True),
        ("/health/liveliness", True),
        ("/health/readiness", False),
        ("/health", False),
        ("/key/generate", False),
        ("/v1/key/generate", False),
        ("/v1/chat/completionsX", False),
        ("/ui/", False),
        ("/model/new", False),
        ("/v1/mcp/server", False),
        ("/x/v1/chat/completions", False),
    ],
)
def test_public_routes_are_those_of_the_models(deployment: Any, path: str, public: bool) -> None:
    (rule,) = [line for line in lines(deployment) if line.startswith("acl public ")]
    pattern = rule.split(" ", 5)[5].strip("'")
    assert bool(re.search(pattern, path)) == public


def test_administrators_are_the_host_and_those_that_are_named(deployment: Any) -> None:
    (rule,) = [line for line in lines(deployment) if line.startswith("acl admin ")]
    assert rule.split()[3:] == ["127.0.0.0/8", "::1", "192.168.10.18", "127.0.0.1"]
    (rule,) = [line for line in lines(deployment, haproxy_admin_networks=["10.0.9.0/24"]) if "acl admin" in line]
    assert rule.split()[-1] == "10.0.9.0/24"


def test_clients_do_not_say_who_they_are(deployment: Any) -> None:
    """The header is removed before ours is added, and the request goes on after that."""
    found = section(lines(deployment), "frontend gateway")
    removed = next(at for at, line in enumerate(found) if line.startswith("http-request del-header"))
    added = found.index("http-request set-header X-Forwarded-For %[src]")
    assert removed < added < found.index("default_backend litellm")
    pattern = found[removed].split()[2]
    for name in ("x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip"):
        assert re.search(pattern, name), name
    assert not re.search(pattern, "x-litellm-call-id")


def test_query_is_not_logged(deployment: Any) -> None:
    (log,) = [line for line in lines(deployment) if line.startswith("log-format")]
    assert "%HP " in log
    assert not re.search(r"%HU|%r\b|%HQ|%\[?capture", log)


def test_url_of_the_gateway_follows(deployment: Any) -> None:
    def evaluate(expression: str, **extra: Any) -> Any:
        return deployment(extra={**SECRETS, **extra}).evaluate(expression, HOST)

    assert evaluate("gateway_url") == "http://192.168.10.18:4000"
    assert evaluate("gateway_url", gateway_proxy=True) == "https://192.168.10.18:4000"
    assert evaluate("gateway_url", gateway_proxy=True, haproxy_tls=False) == "http://192.168.10.18:4000"
    assert evaluate("gateway_ca", gateway_proxy=True).endswith("inventory/production/certificates/ca.crt")
    provided = {"gateway": {"certificate": "a", "key": "b", "authority": "certificates/company.crt"}}
    named = {"gateway_proxy": True, "certificates_provided": provided, "extra_names": ["llm.example.com"]}
    assert evaluate("gateway_url", **named) == "https://llm.example.com:4000"
    assert evaluate("gateway_ca", **named).endswith("inventory/production/certificates/company.crt")
