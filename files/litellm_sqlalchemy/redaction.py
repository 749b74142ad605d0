"""What never reaches a disk: credentials in request bodies, and the gateway's own secrets anywhere."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

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

# Keys of OpenAI, Anthropic and LiteLLM itself all look like this.
_KEY = re.compile(rb"\bsk-[A-Za-z0-9_\-]{16,}")
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")
_SHORTEST_SECRET = 8


# Beyond this PostgreSQL, orjson and Python's own stack each have a limit of theirs; no honest body comes near.
MAX_DEPTH = 200


def redact_fields(value: Any, depth: int = 0) -> Any:
    """A copy of a JSON value without credential fields; strings are shared. ValueError beyond ``MAX_DEPTH`` levels."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {
            key: REDACTED
            if isinstance(key, str) and key.lower() in CREDENTIAL_FIELDS and item not in (None, "")
            else redact_fields(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [redact_fields(item, depth + 1) for item in value]
    return value


def secrets_of(environment: Mapping[str, str]) -> tuple[bytes, ...]:
    """The values of secret-looking variables, longest first, and passwords of database URLs."""
    found = {
        value for name, value in environment.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET
    }
    for value in environment.values():
        match = re.match(r"^\w+(?:\+\w+)?://[^:/@]*:([^@]+)@", value)
        if match and len(match.group(1)) >= _SHORTEST_SECRET:
            found.add(match.group(1))
    # In serialised text a secret may stand with JSON's escapes.
    found |= {json.dumps(value)[1:-1] for value in found}
    return tuple(sorted((value.encode() for value in found), key=len, reverse=True))


class Redactor:
    """Replaces keys and the given secrets in serialised text."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = tuple(secrets)

    @classmethod
    def of_environment(cls) -> "Redactor":
        """A redactor that knows the secrets of this process's environment."""
        return cls(secrets_of(os.environ))

    def redact_text(self, text: bytes) -> bytes:
        """The text without keys or known secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, REDACTED.encode())
        if b"sk-" in text:
            text = _KEY.sub(REDACTED.encode(), text)
        return text
