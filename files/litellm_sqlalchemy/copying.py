"""COPY of rows into a table of the models: PostgreSQL's fastest way in, in its text format."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy.exchange import encode

# https://www.postgresql.org/docs/17/sql-copy.html, "Text Format"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def copy_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows (all with the same columns) to a table in the connection's transaction; DBAPIError as usual."""
    columns = list(rows[0])
    documents = {name for name in columns if isinstance(table.columns[name].type, JSONB)}
    text = io.StringIO()
    for row in rows:
        text.write("\t".join(_field(row[name], name in documents) for name in columns))
        text.write("\n")
    text.seek(0)
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
    dialect = connection.dialect
    try:
        connection.connection.cursor().copy_expert(statement, text)
    except dialect.loaded_dbapi.Error as error:
        # COPY is not one of SQLAlchemy's statements, so its errors are given SQLAlchemy's names here.
        raise DBAPIError.instance(
            statement, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
        ) from error


def _field(value: Any, is_document: bool) -> str:
    if value is None:
        return "\\N"
    if is_document:
        return _json(value).translate(_ESCAPES)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).translate(_ESCAPES)


def _json(value: Any) -> str:
    """JSON that PostgreSQL's jsonb takes: it has no NUL, so U+0000 becomes U+FFFD, the replacement character."""
    text = encode(value).decode()
    if "\\u0000" in text:
        text = encode(_without_nul(value)).decode()
    return text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key.replace("\0", "\ufffd"): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
