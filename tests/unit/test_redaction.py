"""Redaction: no credential reaches a disk, and everything else does as it came."""

import string
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.redaction import (
    CREDENTIAL_FIELDS,
    MAX_DEPTH,
    REDACTED,
    Redactor,
    is_too_deep,
    secrets_of,
)

KEY = "sk-proj-0123456789abcdefABCDEF_-"
SECRET = "hunter2-hunter2"
URL_SAFE = string.ascii_letters + string.digits + "_-"
ORDINARY = [
    "sk-",
    "sk-short",
    "task-force-of-the-ministry-of-silly-walks",
    "risk-adjusted-return-on-capital-2026",
    "disk-0123456789abcdef0123456789abcdef",
    "SK-0123456789ABCDEF0123456789",
    "ask-me-anything-about-sk-learn",
    "https://example.org/docs/sk-some-long-slug-of-2026",
    "sk-learn-is-not-the-name-of-the-package_",
    "the password is in the vault; api_key: see the wiki; Authorization follows",
    "0123456789abcdef" * 4,
]

redact = Redactor([]).redact


# Fields


@pytest.mark.parametrize("name", sorted(CREDENTIAL_FIELDS))
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_credential_field_is_redacted_in_any_case(name: str, spelling: Any) -> None:
    assert redact({spelling(name): "hunter2"}) == {spelling(name): REDACTED}


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
    text = str(redact(body))
    assert REDACTED in text
    assert "hunter2" not in text
    assert "4711" not in text


@pytest.mark.parametrize("nothing", [None, ""])
def test_credential_field_without_a_credential_stays(nothing: Any) -> None:
    assert redact({"api_key": nothing}) == {"api_key": nothing}


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
    assert redact(body) == body


def test_original_is_left_alone() -> None:
    """LiteLLM goes on with the very objects that its callbacks get."""
    body = {"a": [{"api_key": "hunter2", "content": KEY}]}
    redact(body)
    assert body == {"a": [{"api_key": "hunter2", "content": KEY}]}


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def test_depth_is_limited() -> None:
    assert not is_too_deep(nested(MAX_DEPTH))
    assert is_too_deep(nested(MAX_DEPTH + 1))
    assert is_too_deep([1, {"a": 2}, {"a": nested(MAX_DEPTH)}])
    assert redact(nested(MAX_DEPTH)) == nested(MAX_DEPTH)


# Keys


@pytest.mark.parametrize(
    "text", [KEY, f"my key: {KEY}", f'"{KEY}"', f"({KEY}),", f"Bearer {KEY}", f"密钥{KEY}", f"key-{KEY}"]
)
def test_key_in_a_text_is_redacted(text: str) -> None:
    assert redact({"content": text}) == {"content": text.replace(KEY, REDACTED)}


@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\f", "\b", "\x01", "my keys:\n"], ids=repr)
def test_key_at_the_start_of_a_line_is_redacted(before: str) -> None:
    assert redact({"content": before + KEY}) == {"content": before + REDACTED}


@pytest.mark.parametrize("escape", [r"\n", r"\t", r"\r", r"\b", r"\f", r"\"", r"\\"])
def test_key_in_a_raw_text_that_holds_json_is_redacted(escape: str) -> None:
    """The events of a stream, or a body that is no JSON: a line break in them is a backslash and a letter."""
    raw = 'data: {"content":"' + escape + KEY + '"}'
    assert redact({"events": raw}) == {"events": raw.replace(KEY, REDACTED)}


@pytest.mark.parametrize(
    ("alphabet", "length", "prefix"),
    [
        (URL_SAFE, 22, "sk-"),
        (string.ascii_letters + string.digits, 48, "sk-"),
        (URL_SAFE, 120, "sk-proj-"),
        (URL_SAFE, 95, "sk-ant-api03-"),
        (string.hexdigits[:16], 64, "sk-or-v1-"),
        (string.hexdigits[:16], 32, "sk-"),
    ],
    ids=["LiteLLM", "OpenAI", "OpenAI, of a project", "Anthropic", "OpenRouter", "hexadecimal"],
)
def test_keys_as_they_are_issued_are_redacted(alphabet: str, length: int, prefix: str) -> None:
    chance = Random(4711)
    keys = [prefix + "".join(chance.choices(alphabet, k=length)) for _ in range(3000)]
    assert {redact(f"see /{key}, or {key}") for key in keys} == {f"see /{REDACTED}, or {REDACTED}"}


@pytest.mark.parametrize("key", ["sk-abcdefghijklmnopqrstuv", "sk-ant-only-small-words", "sk-0123456789-0123456789"])
def test_what_is_not_clearly_words_is_redacted(key: str) -> None:
    assert redact(key) == REDACTED


def test_every_key_of_a_text_is_redacted() -> None:
    assert redact(f"{KEY} and sk-ant-api03-0123456789abcdef, {KEY}") == f"{REDACTED} and {REDACTED}, {REDACTED}"


def test_key_as_the_name_of_a_field_is_redacted() -> None:
    assert redact({KEY: {"requests": 1}}) == {REDACTED: {"requests": 1}}


@pytest.mark.parametrize("name", [1, None, True, (1, 2)], ids=repr)
def test_name_that_is_no_text_is_no_trouble(name: Any) -> None:
    """LiteLLM's own objects have such."""
    assert list(redact({name: KEY}).values()) == [REDACTED]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact({"content": text, text: 1}) == {"content": text, text: 1}


finite = st.floats(allow_nan=False, allow_infinity=False)
innocent = st.text().filter(lambda text: "sk-" not in text and SECRET not in text)
names = innocent.filter(lambda name: name.lower() not in CREDENTIAL_FIELDS)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | innocent,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(names, values, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_value_without_keys_and_secrets_stays(value: Any) -> None:
    assert Redactor(secrets_of({"A_SECRET": SECRET})).redact(value) == value


# Known secrets


@pytest.mark.parametrize(
    "name",
    ["LITELLM_MASTER_KEY", "OPENAI_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "REDIS_PASSWORD", "VERTEX_CREDENTIALS"],
)
def test_values_of_secret_variables_are_secrets(name: str) -> None:
    assert secrets_of({name: SECRET}) == (SECRET,)


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/var/lib/litellm", "LITELLM_PORT": "4000-or-so", "KEYBOARD": "qwertz-qwertz"},
        {"MONKEY_BUSINESS": SECRET, "TOKENIZERS_PARALLELISM": "false-false"},
        {"A_KEY": "", "B_TOKEN": "true", "C_SECRET": "sesame", "D": "redis://user:pass@cache"},
        {"PROXY": "http://proxy.example:3128", "URL": "postgresql://litellm@db/litellm_db"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_other_and_short_values_are_no_secrets(environment: dict[str, str]) -> None:
    assert secrets_of(environment) == ()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "redis", "http"])
def test_password_of_a_url_is_a_secret(scheme: str) -> None:
    assert secrets_of({"LITELLM_DB_URL": f"{scheme}://user:{SECRET}@db:5432/x"}) == (SECRET,)


def test_password_of_a_url_is_a_secret_without_its_escapes_as_well() -> None:
    found = secrets_of({"LITELLM_DB_URL": "postgresql+psycopg2://user:hunter2%40hunter2@db/x"})
    assert set(found) == {"hunter2%40hunter2", "hunter2@hunter2"}


def test_longer_secret_is_redacted_before_the_one_that_it_begins_with() -> None:
    redactor = Redactor(secrets_of({"A_KEY": "hunter2-", "B_KEY": "hunter2-and-more"}))
    assert redactor.redact("x hunter2-and-more y hunter2- z") == f"x {REDACTED} y {REDACTED} z"


@pytest.mark.parametrize(
    "secret",
    [SECRET, 'quo"te\\back/slash', "größe-漢字-🎉", "line\nbreak\ttab", 'grö"ße-größe', "12345678"],
    ids=repr,
)
def test_known_secret_is_redacted_wherever_it_stands(secret: str) -> None:
    redactor = Redactor(secrets_of({"SOME_PASSWORD": secret}))
    value = {"messages": [{"content": f"it is {secret}, really"}], secret: [secret]}
    assert redactor.redact(value) == {
        "messages": [{"content": f"it is {REDACTED}, really"}],
        REDACTED: [REDACTED],
    }


@pytest.mark.parametrize("value", [{"seed": 12345678}, {"seed": 0.12345678}, [112345678901, True, None]], ids=repr)
def test_what_is_no_text_stays(value: Any) -> None:
    """A number cannot be replaced by a word: what is behind such a document in the spool would wait for ever."""
    assert Redactor(secrets_of({"REDIS_PASSWORD": "12345678"})).redact(value) == value


def test_environment_is_where_the_secrets_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", SECRET)
    assert Redactor.of_environment().redact(f"a {SECRET} b") == f"a {REDACTED} b"
