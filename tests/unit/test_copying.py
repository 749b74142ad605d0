"""COPY: every value arrives as it is, whatever PostgreSQL's text format has a meaning for."""

import json
import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

from litellm_sqlalchemy.copying import copy_rows
from litellm_sqlalchemy.exchange import decode, encode
from litellm_sqlalchemy.models import Request, Response

UNESCAPED = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


class Server:
    """What stands for a connection: takes COPY and reads its text format as PostgreSQL documents it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.dialect = PGDialect_psycopg2(dbapi=psycopg2)
        self.statements: list[str] = []
        self.rows: list[list[str | None]] = []
        self._error = error

    @property
    def connection(self) -> "Server":
        return self

    def cursor(self) -> "Server":
        return self

    def copy_expert(self, statement: str, file: Any, size: int) -> None:
        if self._error is not None:
            raise self._error
        self.statements.append(statement)
        pieces = list(iter(lambda: file.read(size), b""))
        assert max(map(len, pieces)) <= 2 * size, "libpq keeps a buffer of the longest piece"
        text = b"".join(pieces).decode()
        assert text.endswith("\n")
        for line in text[:-1].split("\n"):
            assert "\r" not in line
            assert "\0" not in line
            assert line != "\\."
            self.rows.append([self._value(field) for field in line.split("\t")])

    @staticmethod
    def _value(field: str) -> str | None:
        if field == "\\N":
            return None
        characters = iter(field)
        return "".join(UNESCAPED[next(characters)] if char == "\\" else char for char in characters)


def copied(of: Any, **row: Any) -> list[str | None]:
    """The values of a model's row as PostgreSQL gets them."""
    server = Server()
    copy_rows(server, of.__table__, [row])  # type: ignore[arg-type]
    ((*values,),) = server.rows
    return values


def test_statement_names_the_columns() -> None:
    server = Server()
    copy_rows(server, Request.__table__, [{"id": 1, "route": "/"}, {"id": 2, "route": "/x"}])  # type: ignore[arg-type]
    assert server.statements == ["COPY requests (id, route) FROM STDIN"]
    assert server.rows == [["1", "/"], ["2", "/x"]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\\N",
        "\\.",
        "a\tb\nc\rd\\e",
        "\\n",
        "\\\\n",
        "größe 漢字 🎉",
        "'; DROP TABLE requests; --",
        "\x01\x0b\x7f\x85\u2028",
    ],
    ids=repr,
)
def test_text_arrives_as_it_is(text: str) -> None:
    assert copied(Request, route=text, model=None) == [text, None]


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_any_text_arrives_as_it_is(text: str) -> None:
    assert copied(Request, request_id=text, route=text) == [text, text]


def test_large_document_comes_in_pieces_among_small_ones() -> None:
    server = Server()
    documents = [{"n": 1}, {"large": "x" * 5_000_000}, {"n": 2}, {"large": "\\" * 300_000}, {"n": 3}]
    copy_rows(server, Request.__table__, [{"payload": document} for document in documents])  # type: ignore[arg-type]
    assert [decode((row[0] or "").encode()) for row in server.rows] == documents


def test_values_are_written_as_postgresql_reads_them() -> None:
    when = datetime(2026, 9, 23, 12, 0, 0, 1, timezone(timedelta(hours=2)))
    assert copied(
        Response, id=2**62, created_at=when, latency_ms=245.5, cost=Decimal("0.00046"), total_tokens=0, content={}
    ) == ["4611686018427387904", "2026-09-23T12:00:00.000001+02:00", "245.5", "0.00046", "0", "{}"]


def storable(value: Any) -> Any:
    """What is left of a value where jsonb cannot hold it."""
    if isinstance(value, str):
        return "".join("?" if "\ud800" <= char <= "\udfff" else "\ufffd" if char == "\0" else char for char in value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


any_text = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["\0", "\\u0000", "\\", "\\\\u0000", "\0\\u0000", "\ud800", "\0\ud800", "\n", "\t", "\r", "\\N"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(any_text, values, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_document_survives_the_spool_and_copy(value: Any) -> None:
    (text,) = copied(Request, payload=decode(encode({"body": value})))
    assert text is not None
    assert "\\u0000" not in text.replace("\\\\", "")
    assert json.loads(text) == storable({"body": value})


@given(json_values)
def test_any_document_survives_copy_alone(value: Any) -> None:
    (text,) = copied(Request, payload={"body": value})
    assert text is not None
    assert json.loads(text) == storable({"body": value})


@pytest.mark.parametrize("value", [2**80, -(2**80), 10**400], ids=["2**80", "-2**80", "10**400"])
def test_huge_number_keeps_every_digit(value: int) -> None:
    (text,) = copied(Request, payload={"n": value})
    assert text == f'{{"n":{value}}}'


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg2.errors.UniqueViolation("key"), IntegrityError),
        (psycopg2.errors.InvalidTextRepresentation("text"), DataError),
        (psycopg2.OperationalError("gone"), OperationalError),
    ],
    ids=["unique", "data", "operational"],
)
def test_errors_have_the_names_that_sqlalchemy_gives_them(error: psycopg2.Error, kind: type[DBAPIError]) -> None:
    with pytest.raises(kind) as raised:
        copy_rows(Server(error), Request.__table__, [{"payload": {"prompt": "private"}}])  # type: ignore[arg-type]
    assert raised.value.orig is error
    assert "private" not in str(raised.value)
