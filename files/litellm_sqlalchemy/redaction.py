"""What never reaches a disk: credentials in request bodies, and the gateway's own secrets anywhere."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

REDACTED = "[redacted]"

# Fields of a request body that LiteLLM or a provider takes a credential from.
CREDENTIAL_FIELDS = frozenset(
    {
        "api_key",
        "apikey",
        "api-key",
        "x-api-key",
        "authorization",
        "proxy-authorization",
        "password",
        "client_secret",
        "access_token",
        "refresh_token",
        "azure_ad_token",
        "azure_password",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "vertex_credentials",
        "cookie",
        "set-cookie",
    }
)

# Keys of OpenAI (sk-proj-…), Anthropic (sk-ant-…) and LiteLLM itself (sk- and 22 characters) all look like this.
# In a text that itself holds JSON, an escape such as \n may stand before one. What comes before is looked at last, so
# that the search is one for three letters.
_KEY = re.compile(r"sk-(?:(?<![A-Za-z0-9]sk-)|(?<=\\[nrtbf]sk-))[A-Za-z0-9_\-]{16,}")
# And this is no key but a part of an address or a file's name: only small words and short numbers. Of LiteLLM's keys,
# drawn at random, one in a hundred million looks like it.
_WORDS = re.compile(r"sk-(?!(?:proj|ant|or|svcacct|admin|lf)-)(?:[a-z]+|[0-9]{1,4})(?:[-_](?:[a-z]+|[0-9]{1,4}))+[-_]?")
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")
_URL_PASSWORD = re.compile(r"^\w+(?:\+\w+)?://[^:/@]*:([^@]+)@")
_SHORTEST_SECRET = 8

MAX_DEPTH = 200
"""Levels of nesting. Beyond this PostgreSQL, orjson and Python's stack each have a limit; no honest body comes near."""


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of secret-looking variables, longest first, and passwords of database URLs."""
    found = {value for name, value in environment.items() if _SECRET_VARIABLE.search(name)}
    for value in environment.values():
        if match := _URL_PASSWORD.match(value):
            found |= {match[1], unquote(match[1])}
    # A text may hold JSON, in which the secret stands with escapes.
    found |= {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for value in found for ascii_only in (True, False)}
    return tuple(sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True))


def is_too_deep(value: Any, depth: int = 0) -> bool:
    """Whether a JSON value is nested beyond ``MAX_DEPTH``."""
    if isinstance(value, dict):
        return depth >= MAX_DEPTH or any(is_too_deep(item, depth + 1) for item in value.values())
    if isinstance(value, list):
        return depth >= MAX_DEPTH or any(is_too_deep(item, depth + 1) for item in value)
    return False


class Redactor:
    """Replaces credential fields, whatever looks like a key, and the given secrets in JSON values."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)

    @classmethod
    def of_environment(cls) -> "Redactor":
        """A redactor that knows the secrets of this process's environment."""
        return cls(secrets_of(os.environ))

    def redact(self, value: Any) -> Any:
        """A copy of a JSON value without secrets; texts without any are shared."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return dict(self._field(name if isinstance(name, str) else str(name), item) for name, item in value.items())
        if isinstance(value, list):
            return [self.redact(item) for item in value]
        return value

    def _field(self, name: str, value: Any) -> tuple[str, Any]:
        if name.lower() in CREDENTIAL_FIELDS and value not in (None, ""):
            return name, REDACTED
        return (name if len(name) < _SHORTEST_SECRET else self._text(name)), self.redact(value)

    def _text(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return _KEY.sub(_without_key, text) if "sk-" in text else text


def _without_key(found: re.Match[str]) -> str:
    return found[0] if _WORDS.fullmatch(found[0]) else REDACTED
