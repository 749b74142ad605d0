"""Mistakes in what runs where: groups without a host, ports that two services want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

LISTENERS = {  # group: its ports
    "postgresql": ("postgresql_port",),
    "litellm": ("litellm_port", "litellm_local_port", "haproxy_https_port", "haproxy_redirect_port"),
}
SSH_PORT = 22
FIRST_UNPRIVILEGED_PORT = 1024


def group_mistakes(groups: Mapping[str, list[str]]) -> Iterator[Mistake]:
    """Yield the groups that have too few or too many hosts."""
    others = sorted(set(groups) - {"all", "ungrouped", *LISTENERS})
    seen = f" (its other groups: {', '.join(others)})" if others else ""
    for group, what in (("postgresql", "database host"), ("litellm", "gateway host")):
        if not groups.get(group):
            yield "", "hosts.yml", f"The inventory has no {what}: put one into the group {group}{seen}."
    databases = groups.get("postgresql", [])
    if len(databases) > 1:
        says = f"The group postgresql has {len(databases)} hosts ({', '.join(databases)}): keep one, "
        yield "", "hosts.yml", says + "more are not supported yet."


def port_mistakes(hosts: Hosts) -> Iterator[Mistake]:
    """Yield the ports that two services of one machine want, and those the gateway may not open."""
    taken: dict[tuple[str, int], str] = {}
    for host, variables in hosts.items():
        address = str(variables.get("address") or variables.get("ansible_host") or host)
        if variables.get("ansible_connection", "ssh") == "ssh":
            taken.setdefault((address, variables.get("ansible_port", SSH_PORT)), "SSH")
        for group, name in ((group, name) for group, names in LISTENERS.items() for name in names):
            port = variables.get(name)
            if group not in variables["group_names"] or not isinstance(port, int) or _is_closed(name, variables):
                continue
            owner = taken.setdefault((address, port), name)
            if owner != name:
                yield host, name, f"{name} is {port} on {host}, where {owner} has that port already: use another."
            elif _is_unprivileged(name, variables) and 0 < port < FIRST_UNPRIVILEGED_PORT:
                says = f"{name} is {port}: the gateway runs unprivileged and cannot open a port below "
                yield host, name, f"{says}{FIRST_UNPRIVILEGED_PORT}."


def _is_closed(name: str, variables: Mapping[str, Any]) -> bool:
    """Tell whether nothing listens on a port: those of the proxy without one, those of HTTPS without TLS."""
    proxied, tls = variables.get("litellm_behind_proxy"), variables.get("haproxy_tls")
    return (name == "litellm_local_port" and not proxied) or (name.startswith("haproxy_") and not (proxied and tls))


def _is_unprivileged(name: str, variables: Mapping[str, Any]) -> bool:
    """Tell whether it is LiteLLM that opens the port."""
    return name == ("litellm_local_port" if variables.get("litellm_behind_proxy") else "litellm_port")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "preflight_group_mistakes": lambda groups: list(group_mistakes(groups)),
            "preflight_port_mistakes": lambda hosts: list(port_mistakes(hosts)),
        }
