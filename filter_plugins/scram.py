"""SCRAM-SHA-256 verifiers, computed on the controller, so that PostgreSQL never sees a password in clear.

A password in CREATE ROLE lands in the server's log with ``log_statement = ddl`` and in that of an error; what
PostgreSQL stores for it, the verifier, can be given instead. Its salt is random, so the verifier that is stored
already is kept for as long as the password matches it: the role is then unchanged on a second run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

ITERATIONS = 4096
"""PostgreSQL's own default of ``scram_iterations``."""

SALT_BYTES = 16

VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)")

PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(password: str) -> str:
    """The password as RFC 4013 prepares it; unchanged where it cannot be, as PostgreSQL and libpq do."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else "" if stringprep.in_table_b1(char) else char for char in password
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(test(char) for char in prepared for test in PROHIBITED):
        return password
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(char) for char in prepared)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            return password
    return prepared


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL stores in ``pg_authid.rolpassword`` for this password and salt."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


def scram_matches(stored: Any, password: str) -> bool:
    """Whether the stored verifier, made with whatever salt and iterations, is one of this password."""
    match = VERIFIER.fullmatch(stored) if isinstance(stored, str) else None
    if match is None:
        return False
    expected = verifier(password, base64.b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(expected, stored)


def scram_verifier(password: Any, stored: Any = None) -> str:
    """A verifier of the password: the stored one if it matches, else a new one with a random salt.

    AnsibleFilterError where the password is no text or empty; the message never holds it.
    """
    if not isinstance(password, str):
        raise AnsibleFilterError("scram_verifier: the password has to be text; put it in quotes")
    if password == "":
        raise AnsibleFilterError("scram_verifier: the password is empty")
    if VERIFIER.fullmatch(password):
        raise AnsibleFilterError("scram_verifier: this is a verifier already; give the password itself")
    if scram_matches(stored, password):
        return str(stored)
    return verifier(password, secrets.token_bytes(SALT_BYTES))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Their names and what they call."""
        return {"scram_verifier": scram_verifier, "scram_matches": scram_matches}
