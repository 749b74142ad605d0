"""Redaction: no credential reaches a disk, and everything else does as it came."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.exchange import decode, encode
from litellm_sqlalchemy.redaction import (
    CREDENTIAL_FIELDS,
    MAX_DEPTH,
    REDACTED,
    Redactor,
    redact_fields,
    secrets_of,
)

KEY = "sk-proj-0123456789abcdefABCDEF_-"
ORDINARY = [
    "sk-",
    "sk-short",
    "task-force-of-the-ministry-of-silly-walks",
    "risk-adjusted-return-on-capital-2026",
    "disk-0123456789abcdef0123456789abcdef",
    "SK-0123456789ABCDEF0123456789",
    "ask-me-anything-about-sk-learn",
    "the password is in the vault; api_key: see the wiki; Authorization follows",
    "0123456789abcdef" * 4,
]


def redacted(redactor: Redactor, value: Any) -> Any:
    """A value as it comes back from the disk."""
    return decode(redactor.redact_text(encode(value)))


# Fields


@pytest.mark.parametrize("name", sorted(CREDENTIAL_FIELDS))
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_credential_field_is_redacted_in_any_case(name: str, spelling: Any) -> None:
    assert redact_fields({spelling(name): "hunter2-hunter2"}) == {spelling(name): REDACTED}


@pytest.mark.parametrize(
    "body",
    [
        {"litellm_params": {"api_key": "hunter2"}},
        {"tools": [{"headers": {"Authorization": "Bearer hunter2"}}]},
        {"fallbacks": [["m", {"aws_secret_access_key": "hunter2"}]]},
        {"vertex_credentials": {"private_key": "hunter2", "more": ["hunter2"]}},
        {"api_key": ["hunter2"]},
        {"password": 4711},
    ],
    ids=repr,
)
def test_credential_field_is_redacted_at_any_depth_and_of_any_type(body: dict[str, Any]) -> None:
    text = str(redact_fields(body))
    assert REDACTED in text
    assert "hunter2" not in text
    assert "4711" not in text


@pytest.mark.parametrize("nothing", [None, ""])
def test_credential_field_without_a_credential_stays(nothing: Any) -> None:
    assert redact_fields({"api_key": nothing}) == {"api_key": nothing}


def test_other_fields_stay_as_they_came() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "my api_key is secret"}],
        "api_keys_wanted": 2,
        "max_tokens": 7,
        "user": None,
        "token": "next-page",
        "nested": [[{"deep": [1, 2.5, True, None, "x"]}]],
    }
    assert redact_fields(body) == body


def test_copy_leaves_the_original_alone() -> None:
    """LiteLLM goes on with the very objects that its callbacks get."""
    body = {"a": [{"api_key": "hunter2"}]}
    redact_fields(body)
    assert body == {"a": [{"api_key": "hunter2"}]}


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def test_nesting_is_limited() -> None:
    assert redact_fields(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(ValueError, match="nested too deeply"):
        redact_fields(nested(MAX_DEPTH + 1))


# Keys


@pytest.mark.parametrize("text", [KEY, f"my key: {KEY}", f'"{KEY}"', f"({KEY}),", f"Bearer {KEY}", f"密钥{KEY}"])
def test_key_in_a_text_is_redacted(text: str) -> None:
    assert redacted(Redactor([]), {"content": text}) == {"content": text.replace(KEY, REDACTED)}


@pytest.mark.xfail(strict=True, reason="in JSON a line break is an escape that ends with a letter: no word boundary")
@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\f", "\b", "\x01", "my keys:\n"], ids=repr)
def test_key_at_the_start_of_a_line_is_redacted(before: str) -> None:
    assert redacted(Redactor([]), {"content": before + KEY}) == {"content": before + REDACTED}


def test_every_key_of_a_text_is_redacted() -> None:
    text = f"{KEY} and sk-ant-api03-0123456789abcdef, {KEY}"
    assert redacted(Redactor([]), text) == f"{REDACTED} and {REDACTED}, {REDACTED}"


def test_key_as_the_name_of_a_field_is_redacted() -> None:
    assert redacted(Redactor([]), {KEY: {"requests": 1}}) == {REDACTED: {"requests": 1}}


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redacted(Redactor([]), {"content": text, text: 1}) == {"content": text, text: 1}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_value_without_keys_and_secrets_stays(value: Any) -> None:
    assert redacted(Redactor(secrets_of({"A_SECRET": "hunter2-hunter2"})), value) == value


# Known secrets


@pytest.mark.parametrize(
    "name",
    ["LITELLM_MASTER_KEY", "OPENAI_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "REDIS_PASSWORD", "VERTEX_CREDENTIALS"],
)
def test_values_of_secret_variables_are_secrets(name: str) -> None:
    assert b"hunter2-hunter2" in secrets_of({name: "hunter2-hunter2"})


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/var/lib/litellm", "LITELLM_PORT": "4000-or-so", "KEYBOARD": "qwertz-qwertz"},
        {"MONKEY_BUSINESS": "hunter2-hunter2", "TOKENIZERS_PARALLELISM": "false-false"},
        {"A_KEY": "", "B_TOKEN": "true", "C_SECRET": "sesame"},
        {"PROXY": "http://proxy.example:3128", "URL": "postgresql://litellm@db/litellm_db"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_other_and_short_values_are_no_secrets(environment: dict[str, str]) -> None:
    assert secrets_of(environment) == ()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "redis", "http"])
def test_password_of_a_url_is_a_secret(scheme: str) -> None:
    assert secrets_of({"LITELLM_DB_URL": f"{scheme}://user:hunter2-hunter2@db:5432/x"}) == (b"hunter2-hunter2",)


def test_longer_secret_is_redacted_before_the_one_it_begins_with() -> None:
    redactor = Redactor(secrets_of({"A_KEY": "hunter2-", "B_KEY": "hunter2-and-more"}))
    assert redacted(redactor, "x hunter2-and-more y hunter2- z") == f"x {REDACTED} y {REDACTED} z"


@pytest.mark.parametrize(
    "secret",
    [
        "hunter2-hunter2",
        'quo"te\\back/slash',
        "größe-漢字-🎉",
        "line\nbreak\ttab",
        pytest.param(
            'grö"ße-größe',
            marks=pytest.mark.xfail(strict=True, reason="escaped as json.dumps would, not as the spool's JSON is"),
        ),
    ],
    ids=repr,
)
def test_known_secret_is_redacted_wherever_it_stands(secret: str) -> None:
    redactor = Redactor(secrets_of({"SOME_PASSWORD": secret}))
    value = {"messages": [{"content": f"it is {secret}, really"}], secret: [secret]}
    assert redacted(redactor, value) == {
        "messages": [{"content": f"it is {REDACTED}, really"}],
        REDACTED: [REDACTED],
    }


@pytest.mark.xfail(strict=True, reason="the text is replaced as bytes, inside and outside of strings")
@pytest.mark.parametrize("value", [{"seed": 12345678}, {"seed": 0.12345678}, [112345678901]], ids=repr)
def test_redacted_text_is_still_json(value: Any) -> None:
    """A document that cannot be read again would stop everything behind it."""
    redactor = Redactor(secrets_of({"REDIS_PASSWORD": "12345678"}))
    decode(redactor.redact_text(encode(value)))


def test_environment_is_where_the_secrets_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "hunter2-hunter2")
    assert redacted(Redactor.of_environment(), "a hunter2-hunter2 b") == f"a {REDACTED} b"
