"""Mistakes in secrets. No sentence ever holds a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

Hosts = Mapping[str, Mapping[str, Any]]
Mistake = tuple[str, str, str]

REQUIRED = ("database_password", "litellm_master_key", "litellm_salt_key", "litellm_ui_password")
CHOSEN = (*REQUIRED, "certificates_authority_passphrase")  # by us; the last where certificates are issued here
MASTER_KEY_PREFIX = "sk-"
SHORTEST = {
    "database_password": 16,
    "litellm_master_key": 24,
    "litellm_salt_key": 24,
    "litellm_ui_password": 12,
    "certificates_authority_passphrase": 16,
}  # characters, without the prefix
FEWEST_DIFFERENT = 8  # characters; 32 random hexadecimal digits have 14 on average
PLACEHOLDER = re.compile(
    r"replace[-_ ]?me|change[-_ ]?(me|this|it)|place[-_ ]?holder|insert[-_ ]|your[-_ ]|^<.*>$|^\.{3}|x{6,}|^todo"
    r"|^(sk-)?(1234\d*|test|secret|example|password|postgres|litellm|admin|root|master[-_]?key)$",
    re.IGNORECASE,
)
COMMON_WORD = re.compile(r"password|secret|litellm|postgres|master|qwerty|12345678|abcdefgh", re.IGNORECASE)


def missing_secrets(hosts: Hosts) -> list[str]:
    """Return the required secrets that some host has no value for."""
    return [name for name in REQUIRED if any(_is_missing(name, variables) for variables in hosts.values())]


def secret_mistakes(hosts: Hosts, environment: Mapping[str, str]) -> list[Mistake]:
    """Return the secrets that are missing, still a placeholder, or too easy to guess."""
    return [*_missing(missing_secrets(hosts), environment), *_weak(hosts)]


def _is_missing(name: str, variables: Mapping[str, Any]) -> bool:
    return variables.get(name) in (None, "") and name not in variables["unreadable"]


def _missing(names: list[str], environment: Mapping[str, str]) -> Iterator[Mistake]:
    for name in names:
        says = f"{name} has no value in {environment['secrets']}: make one with `{environment['command']}`."
        yield "", "", says


def _weak(hosts: Hosts) -> Iterator[Mistake]:
    for host, variables in hosts.items():
        for name in CHOSEN:
            value = variables.get(name)
            if isinstance(value, str) and value and (weakness := _weakness(name, value)):
                yield host, name, f"{name} {weakness}"
        given = {name: variables.get(name) for name in REQUIRED}
        for name, other in combinations(REQUIRED, 2):
            if given[name] and given[name] == given[other]:
                yield host, name, f"{name} is the same as {other}: use two secrets."
        for name, value in _mapping(variables.get("litellm_secrets")).items():
            at = f"litellm_secrets.{name}"
            if value in (None, ""):
                yield host, at, f"{at} is empty: put the key there."
            elif PLACEHOLDER.search(str(value)):
                yield host, at, f"{at} is still a placeholder: put the real key there."


def _weakness(name: str, value: str) -> str:
    """Say what is weak about a secret that we choose ourselves, or nothing."""
    if name == "litellm_master_key" and not value.startswith(MASTER_KEY_PREFIX):
        return f"does not begin with {MASTER_KEY_PREFIX}: LiteLLM's clients expect that."
    if PLACEHOLDER.search(value):
        return "is a well-known default or a placeholder: use a random value."
    if not (value.isascii() and value.isprintable()) or " " in value:
        return "has a space or a character outside ASCII: use letters and digits."
    secret = value.removeprefix(MASTER_KEY_PREFIX)
    if len(secret) < SHORTEST[name]:
        after = f" after {MASTER_KEY_PREFIX}" if name == "litellm_master_key" else ""
        return f"is too short: use at least {SHORTEST[name]} random characters{after}."
    if len(set(secret)) < FEWEST_DIFFERENT or COMMON_WORD.search(secret):
        return "is easy to guess: use a random value."
    return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"preflight_secret_mistakes": secret_mistakes}
