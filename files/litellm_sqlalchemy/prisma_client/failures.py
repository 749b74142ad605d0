"""PostgreSQL's errors as Prisma's."""

import re
from typing import Any

import httpx
import psycopg
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy.prisma_client.errors import (
    DataError,
    EngineConnectionError,
    EngineError,
    ForeignKeyViolationError,
    PrismaError,
    RawQueryError,
    TableNotFoundError,
    UniqueViolationError,
    data_error,
)
from litellm_sqlalchemy.prisma_client.tables import Model

CONFLICT = "Transaction failed due to a write conflict or a deadlock. Please retry your transaction"
# The SQLSTATE with which a server that is full answers, and how it words it where there is none.
_FULL = "53300"
_FULL_WORDS = ("too many clients", "too many connections", "connection slots are reserved")
# Codes whose message the query engine passes on without "ERROR: ".
_BARE = frozenset(
    {"22001", "23505", "23502", "23503", "3D000", "28000", "28P01", "42P01", "42P04", "42703", "40001", "40P01"}
)
_KEY = re.compile(r"Key \((.*?)\)=")


class DatabaseUnreachableError(EngineConnectionError, httpx.ConnectError):
    """No connection could be made, so nothing was sent: LiteLLM may try again even what must not be done twice.

    LiteLLM knows an outage by httpx's errors, since Prisma's engine is an HTTP server.
    """


class ConnectionLostError(EngineConnectionError, httpx.ReadError):
    """The connection broke in the middle of a statement, which may have been carried out."""

    code = "P1017"


def _location(connection: Any) -> str:
    host, port = connection.get("host", "localhost"), connection.get("port", 5432)
    return f"`{host}:{port}`"


def pool_timeout(seconds: float | None, limit: int) -> PrismaError:
    """All connections were taken for too long: P2024."""
    return data_error(
        DataError,
        "P2024",
        "Timed out fetching a new connection from the connection pool. (Current connection pool timeout:"
        f" {seconds:g}, connection limit: {limit}; pool_timeout and connection_limit in DATABASE_URL)",
        {"connection_limit": limit, "timeout": seconds},
    )


def from_connecting(error: Exception, connect: Any) -> PrismaError:
    """What went wrong while a connection was taken from the pool."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    sqlstate = getattr(cause, "sqlstate", None)
    said = str(cause).strip()
    if sqlstate == _FULL or any(words in said for words in _FULL_WORDS):
        return data_error(DataError, "P2037", f"Too many database connections opened: {said}", {"code": _FULL})
    if "password authentication failed" in said or "no pg_hba.conf entry" in said:
        return EngineError(f"Authentication failed against database server at {_location(connect)}: {said}")
    if re.search(r'database ".*" does not exist', said):
        return EngineError(f"The database does not exist on the database server at {_location(connect)}: {said}")
    return DatabaseUnreachableError(
        f"Can't reach database server at {_location(connect)}. Please make sure your database server is running: {said}"
    )


def lost(error: psycopg.Error) -> PrismaError:
    """The connection broke under a statement."""
    return ConnectionLostError(f"Server has closed the connection (connection closed): {str(error).strip()}")


def from_raw(error: psycopg.Error) -> PrismaError:
    """What PostgreSQL said to a raw statement."""
    diagnostic = error.diag
    code = error.sqlstate or "N/A"
    message = diagnostic.message_primary or str(error)
    if code not in _BARE:
        message = f"{diagnostic.severity or 'ERROR'}: {message}"
        message += f"\nDETAIL: {diagnostic.message_detail}" if diagnostic.message_detail else ""
        message += f"\nHINT: {diagnostic.message_hint}" if diagnostic.message_hint else ""
    return RawQueryError(
        {
            "user_facing_error": {
                "error_code": "P2010",
                "message": f"Raw query failed. Code: `{code}`. Message: `{message}`",
                "meta": {"code": code, "message": message},
            }
        }
    )


def from_statement(error: psycopg.Error, model: Model | None) -> PrismaError:
    """What PostgreSQL said to a statement of an operation on a model."""
    diagnostic = error.diag
    meta: dict[str, Any] = {"modelName": model.name} if model is not None else {}
    match error.sqlstate:
        case "23505":
            columns = _KEY.search(diagnostic.message_detail or "")
            target = _fields(model, columns[1]) if columns else diagnostic.constraint_name
            shown = f"fields: ({','.join(f'`{name}`' for name in target)})" if isinstance(target, list) else target
            return data_error(
                UniqueViolationError, "P2002", f"Unique constraint failed on the {shown}", {**meta, "target": target}
            )
        case "23503":
            name = f"{diagnostic.constraint_name} (index)"
            return data_error(
                ForeignKeyViolationError,
                "P2003",
                f"Foreign key constraint failed on the field: `{name}`",
                {**meta, "field_name": name},
            )
        case "23502":
            column = diagnostic.column_name or ""
            return data_error(
                DataError,
                "P2011",
                f"Null constraint violation on the fields: (`{column}`)",
                {**meta, "constraint": [column]},
            )
        case "42P01":
            table = f"public.{model.table.name}" if model is not None else None
            return data_error(
                TableNotFoundError,
                "P2021",
                f"The table `{table}` does not exist in the current database.",
                {**meta, "table": table},
            )
        case "42703":
            return data_error(
                DataError,
                "P2022",
                f"The column `{diagnostic.message_primary}` does not exist in the current database.",
                {**meta, "column": diagnostic.message_primary},
            )
        case "40001" | "40P01":
            return data_error(DataError, "P2034", CONFLICT, meta)
        case "22003":
            return data_error(
                DataError,
                "P2020",
                f"Value out of range for the type: {diagnostic.message_primary}",
                {**meta, "details": diagnostic.message_primary},
            )
    return _unknown(error)


def _unknown(error: psycopg.Error) -> PrismaError:
    """LiteLLM reads PostgreSQL's code out of this text."""

    def quoted(value: str | None) -> str:
        return "None" if value is None else f'Some("{value}")'

    diagnostic = error.diag
    message, severity = diagnostic.message_primary or str(error), diagnostic.severity or "ERROR"
    return DataError(
        {
            "user_facing_error": {
                "message": "Error occurred during query execution:\n"
                "ConnectorError(ConnectorError { user_facing_error: None, kind: QueryError(PostgresError {"
                f' code: "{error.sqlstate or "N/A"}", message: "{message}", severity: "{severity}",'
                f" detail: {quoted(diagnostic.message_detail)}, column: {quoted(diagnostic.column_name)},"
                f" hint: {quoted(diagnostic.message_hint)} }}), transient: false }})"
            }
        }
    )


def _fields(model: Model | None, columns: str) -> list[str]:
    names = [column.strip().strip('"') for column in columns.split(",")]
    if model is None:
        return names
    by_column = {scalar.column: scalar.name for scalar in model.scalars.values()}
    return [by_column.get(name, name) for name in names]
