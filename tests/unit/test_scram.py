"""The SCRAM verifier that Ansible gives to PostgreSQL instead of a password.

A mistake here locks the gateway out (the server would store a verifier that no password opens) or makes every run
of the playbook report a change. tests/testinfra/postgresql logs in with the real one, and compares passwords beyond
ASCII with what PostgreSQL makes of them.
"""

import base64
import re

import pytest
import scram
from ansible.errors import AnsibleFilterError

# RFC 7677, section 3: user "user", password "pencil", 4096 iterations.
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_VERIFIER = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_verifier_is_that_of_the_rfc() -> None:
    assert scram.verifier("pencil", RFC_SALT) == RFC_VERIFIER


def test_new_verifier_has_the_form_that_postgresql_takes() -> None:
    assert re.fullmatch(
        r"SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=",
        scram.scram_verifier("correct horse"),
    )


def test_salt_is_new_every_time() -> None:
    assert scram.scram_verifier("pencil") != scram.scram_verifier("pencil")


def test_stored_verifier_is_kept_while_the_password_matches() -> None:
    assert scram.scram_verifier("pencil", RFC_VERIFIER) == RFC_VERIFIER


def test_stored_verifier_with_other_iterations_is_kept() -> None:
    stored = scram.verifier("pencil", b"0123456789abcdef", iterations=8192)
    assert scram.scram_verifier("pencil", stored) == stored


def test_stored_verifier_is_replaced_when_the_password_differs() -> None:
    new = scram.scram_verifier("pencils", RFC_VERIFIER)
    assert new != RFC_VERIFIER
    assert scram.scram_matches(new, "pencils")
    assert not scram.scram_matches(new, "pencil")


@pytest.mark.parametrize(
    "stored",
    [None, "", "md5a3556571e93b0d20722ba62be61e8c2d", "pencil", RFC_VERIFIER + "x", "SCRAM-SHA-256$4096:$:"],
    ids=["none", "empty", "md5", "clear", "trailing", "hollow"],
)
def test_anything_else_that_is_stored_is_replaced(stored: str | None) -> None:
    assert scram.scram_matches(scram.scram_verifier("pencil", stored), "pencil")
    assert not scram.scram_matches(stored, "pencil")


def test_a_verifier_that_matches_the_stored_key_only_does_not_count() -> None:
    """The server key proves the server to the client; a wrong one locks out every client that checks it."""
    tampered = RFC_VERIFIER[:-45] + ":" + base64.b64encode(bytes(32)).decode()
    assert not scram.scram_matches(tampered, "pencil")


@pytest.mark.parametrize("password", [None, 12345678, 1.5, ["pencil"], True])
def test_a_password_that_is_no_text_is_refused_without_being_shown(password: object) -> None:
    with pytest.raises(AnsibleFilterError, match="has to be text") as refusal:
        scram.scram_verifier(password)
    assert str(password) not in str(refusal.value)


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="empty"):
        scram.scram_verifier("")


def test_a_verifier_given_as_the_password_is_refused_without_being_shown() -> None:
    """PostgreSQL would take it as it is: whoever reads the inventory's backup could not log in, nor could we."""
    with pytest.raises(AnsibleFilterError, match="already") as refusal:
        scram.scram_verifier(RFC_VERIFIER)
    assert RFC_VERIFIER not in str(refusal.value)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("a\u0308", "\u00e4"),
        ("a\u200bb", "a b"),
    ],
    ids=["soft-hyphen", "ascii", "case-kept", "nfkc", "roman-numeral", "no-break-space", "composed", "zero-width"],
)
def test_saslprep_follows_rfc_4013(password: str, prepared: str) -> None:
    assert scram.saslprep(password) == prepared


@pytest.mark.parametrize(
    "password",
    ["\u0007\u00e4", "\u0627\u0031", "\u00e4\u0627", "\u00ad", "\U0001f600"],
    ids=["control", "direction-ends-wrong", "direction-mixed", "nothing-left", "unassigned-in-unicode-3.2"],
)
def test_saslprep_leaves_alone_what_it_cannot_prepare(password: str) -> None:
    """PostgreSQL and libpq then use the raw bytes; so do we, or such a password would never match."""
    assert scram.saslprep(password) == password


def test_ascii_control_characters_stay() -> None:
    """PostgreSQL prepares only what is not ASCII (pg_saslprep's fast path)."""
    assert scram.saslprep("a\tb") == "a\tb"


def test_filters_are_offered_to_ansible() -> None:
    assert set(scram.FilterModule().filters()) == {"scram_verifier", "scram_matches"}
