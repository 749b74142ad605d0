"""The models: the columns of the specification, no more and no fewer, with types that lose nothing."""

from typing import Any

import pytest
from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from litellm_sqlalchemy.models import REQUEST_TO_RESPONSE, RESPONSE_TO_REQUEST, Base, Request, Response

REQUESTS = {
    "id": "BIGINT NOT NULL",
    "created_at": "TIMESTAMP WITH TIME ZONE NOT NULL",
    "request_id": "TEXT NOT NULL",
    "route": "TEXT NOT NULL",
    "model": "TEXT",
    "payload": "JSONB NOT NULL",
    "status_code": "INTEGER",
    "user_id": "TEXT",
    "api_key": "TEXT",
    "start_time": "TIMESTAMP WITH TIME ZONE NOT NULL",
    "end_time": "TIMESTAMP WITH TIME ZONE",
}
RESPONSES = {
    "id": "BIGINT NOT NULL",
    "created_at": "TIMESTAMP WITH TIME ZONE NOT NULL",
    "request_id_fk": "BIGINT NOT NULL",
    "latency_ms": "DOUBLE PRECISION",
    "content": "JSONB NOT NULL",
    "prompt_tokens": "INTEGER",
    "completion_tokens": "INTEGER",
    "total_tokens": "INTEGER",
    "cost": "NUMERIC",
    "response_model": "TEXT",
}

both = pytest.mark.parametrize("model", [Request, Response])


def columns(model: Any) -> dict[str, str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {
        column.name: column.type.compile(dialect) + ("" if column.nullable else " NOT NULL")
        for column in model.__table__.columns
    }


@pytest.mark.acceptance("AC-4")
def test_requests_have_the_columns_of_the_specification() -> None:
    assert columns(Request) == REQUESTS
    assert list(REQUESTS) == [column.name for column in Request.__table__.columns]
    assert len(REQUESTS) == 11


@pytest.mark.acceptance("AC-5")
def test_responses_have_the_columns_of_the_specification() -> None:
    assert columns(Response) == RESPONSES
    assert list(RESPONSES) == [column.name for column in Response.__table__.columns]
    assert len(RESPONSES) == 10


def test_there_are_two_tables() -> None:
    assert sorted(Base.metadata.tables) == ["requests", "responses"]


@both
def test_keys_are_made_by_postgresql(model: Any) -> None:
    column = model.__table__.columns["id"]
    assert column.identity is not None
    assert column.identity.always is False
    assert [key.name for key in model.__table__.primary_key.columns] == ["id", "created_at"]


@both
def test_tables_are_partitioned_by_the_moment_of_acceptance(model: Any) -> None:
    statement = str(CreateTable(model.__table__).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert statement.rstrip().endswith("PARTITION BY RANGE (created_at)")


def leading_columns(model: Any) -> set[str]:
    """The columns that something of a table's indexes begins with."""
    table = model.__table__
    keys = [key for key in table.constraints if isinstance(key, PrimaryKeyConstraint | UniqueConstraint)]
    return {next(iter(entry.columns)).name for entry in (*table.indexes, *keys)}


def test_specified_columns_are_indexed() -> None:
    assert {"id", "request_id", "model", "created_at"} <= leading_columns(Request)
    assert {"id", "request_id_fk"} <= leading_columns(Response)


@both
def test_partitions_can_be_unique_on_their_own(model: Any) -> None:
    """PostgreSQL wants the partition key in every unique constraint."""
    for key in model.__table__.constraints:
        if isinstance(key, PrimaryKeyConstraint | UniqueConstraint):
            assert "created_at" in key.columns


def test_response_goes_with_its_request() -> None:
    assert RESPONSE_TO_REQUEST.ondelete == "CASCADE"
    assert RESPONSE_TO_REQUEST.column_keys == ["request_id_fk", "created_at"]
    assert not RESPONSE_TO_REQUEST.deferrable
    assert REQUEST_TO_RESPONSE.column_keys == ["id", "created_at"]
    assert (REQUEST_TO_RESPONSE.deferrable, REQUEST_TO_RESPONSE.initially) == (True, "DEFERRED")


@both
def test_parents_carry_no_foreign_key(model: Any) -> None:
    """It would cost two to three times the time of an insert, and forbid dropping partitions."""
    assert not [key for key in model.__table__.constraints if isinstance(key, ForeignKeyConstraint)]
