"""Mistakes in the settings of PostgreSQL."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

OLDEST_VERSION = 17
RESERVED_CONNECTIONS = 3  # PostgreSQL keeps these for superusers (superuser_reserved_connections)

HBA_TYPES = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
HBA_METHODS = ("scram-sha-256", "cert", "reject")
IN_CLEAR = ("host", "hostnossl", "hostgssenc", "hostnogssenc")
HBA_WORDS = ("samehost", "samenet")

QUANTITY = re.compile(r"\d+(\.\d+)?\s*(B|kB|MB|GB|TB)?")
DURATION = re.compile(r"\d+(\.\d+)?\s*(us|ms|s|min|h|d)?")
COUNT = re.compile(r"\d+")
FORMS = {  # the usual numeric settings: what a value looks like, in words and as a pattern
    "a size such as 512MB": (
        QUANTITY,
        {"shared_buffers", "work_mem", "maintenance_work_mem", "autovacuum_work_mem", "effective_cache_size"}
        | {"temp_buffers", "wal_buffers", "min_wal_size", "max_wal_size", "wal_keep_size", "temp_file_limit"},
    ),
    "a time such as 30s": (
        DURATION,
        {"checkpoint_timeout", "statement_timeout", "lock_timeout", "deadlock_timeout", "autovacuum_naptime"}
        | {"idle_in_transaction_session_timeout", "log_min_duration_statement"},
    ),
    "a whole number": (
        COUNT,
        {"max_worker_processes", "max_parallel_workers", "max_parallel_workers_per_gather", "max_wal_senders"}
        | {"max_replication_slots", "max_locks_per_transaction", "max_prepared_transactions"}
        | {"effective_io_concurrency", "autovacuum_max_workers", "default_statistics_target"},
    ),
}
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
OF_THE_ROLE = {  # settings that have a variable of their own
    "port": "postgresql_port",
    "listen_addresses": "postgresql_listen_addresses",
    "max_connections": "postgresql_max_connections",
    "ssl": "postgresql_tls",
    "ssl_ca_file": "postgresql_client_certificates",
    "ssl_cert_file": "certificates_provided",
    "ssl_key_file": "certificates_provided",
}


def database_mistakes(hosts: Hosts) -> list[Mistake]:
    """Return the mistakes in the variables of the database hosts."""
    return [
        (host, at, says)
        for host, variables in hosts.items()
        if "postgresql" in variables["group_names"]
        for check in (_version, _client_addresses, _hba_entries, _settings)
        for at, says in check(variables)
    ]


def connection_mistakes(hosts: Hosts) -> list[Mistake]:
    """Return a mistake where the gateways' pools, all full, need more connections than PostgreSQL has."""
    gateways = [variables for variables in hosts.values() if "litellm" in variables["group_names"]]
    pools = [
        (variables.get("litellm_database_pool_size"), variables.get("litellm_database_max_overflow"))
        for variables in gateways
    ]
    needed = sum(count for pool in pools for count in pool if _is_count(count))
    found: list[Mistake] = []
    for host, variables in hosts.items():
        limit = variables.get("postgresql_max_connections")
        if "postgresql" in variables["group_names"] and _is_count(limit) and needed > limit - RESERVED_CONNECTIONS:
            says = (
                f"postgresql_max_connections is {limit}, of which {RESERVED_CONNECTIONS} are reserved, but the "
                f"gateways may open {needed}, litellm_database_pool_size + litellm_database_max_overflow each "
                f"({', '.join(f'{size} + {overflow}' for size, overflow in pools)}): raise it or lower those."
            )
            found.append((host, "postgresql_max_connections", says))
    return found


def _version(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    version = variables.get("postgresql_version")
    if _is_count(version) and version < OLDEST_VERSION:
        yield "postgresql_version", f"postgresql_version is {version}: it must be {OLDEST_VERSION} or later."


def _client_addresses(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    addresses = variables.get("postgresql_client_addresses")
    for index, address in enumerate(addresses if isinstance(addresses, list) else []):
        if isinstance(address, str) and (wrong := _address_mistake(address)):
            says = (
                f"postgresql_client_addresses has {address}, {wrong} (a gateway that Ansible reaches by name needs its "
            )
            yield f"postgresql_client_addresses[{index}]", says + "IP address in the host variable `address`)."


def _hba_entries(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    entries = variables.get("postgresql_hba_entries")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        at = f"postgresql_hba_entries[{index}]"
        if isinstance(entry, Mapping):
            for wrong in _hba_mistakes(entry, tls=variables.get("postgresql_tls") is not False):
                yield at, f"{at} {wrong}"


def _hba_mistakes(entry: Mapping[str, Any], *, tls: bool) -> Iterator[str]:
    kind, method, address = entry.get("type"), entry.get("method"), entry.get("address")
    if tls and kind in IN_CLEAR and method != "reject":
        yield f"has the type {kind}, which admits connections in clear: use hostssl (or postgresql_tls: false)."
    for key in ("type", "database", "user", "method"):
        if not entry.get(key):
            yield f"has no {key}."
    if kind and kind not in HBA_TYPES:
        yield f"has the type {kind}: it must be one of {', '.join(HBA_TYPES)}."
    if method and method not in HBA_METHODS:
        yield f"has the method {method}: use scram-sha-256 (accepted: {', '.join(HBA_METHODS)})."
    if method == "cert" and kind != "hostssl":
        yield "has the method cert, which works for the type hostssl only."
    if kind == "local" and address:
        yield "has an address, which the type local cannot have."
    if kind in HBA_TYPES and kind != "local":
        if not address:
            yield f"has no address, which the type {kind} needs."
        elif address not in HBA_WORDS and (wrong := _address_mistake(str(address), anywhere=method == "reject")):
            yield f"has the address {address}, {wrong}."


def _address_mistake(text: str, *, anywhere: bool = False) -> str:
    """Say what is wrong with an address or network in CIDR notation, or nothing."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "which is neither an IP address nor a network such as 192.168.10.0/24"
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return f"which has bits set beyond its prefix: write {network}, or the address alone"
    if network.prefixlen == 0 and not anywhere:
        return "which is the whole internet: name the gateways' addresses"
    return ""


def _settings(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    settings = variables.get("postgresql_settings")
    for name, value in (settings if isinstance(settings, Mapping) else {}).items():
        at = f"postgresql_settings.{name}"
        if value is None:  # leaves PostgreSQL's own default
            continue
        if name in OF_THE_ROLE:
            yield at, f"{at} has a variable of its own: set {OF_THE_ROLE[name]} instead."
        elif name == "password_encryption" and value != "scram-sha-256":
            yield at, f"{at} is {value}: passwords are stored as scram-sha-256 only."
        elif name == "ssl_min_protocol_version" and value not in TLS_VERSIONS:
            yield at, f"{at} is '{value}': it must be one of {', '.join(TLS_VERSIONS)}."
        for words, (pattern, names) in FORMS.items():
            if name in names and not _matches(pattern, value):
                yield at, f"{at} is '{value}': write {words}."


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    """Tell whether a setting has the form; -1 is PostgreSQL's word for "off" or "automatic"."""
    return not isinstance(value, bool) and (pattern.fullmatch(str(value)) is not None or str(value) == "-1")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_database_mistakes": database_mistakes, "preflight_connection_mistakes": connection_mistakes}
