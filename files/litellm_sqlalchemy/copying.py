"""COPY of rows into the tables of the models: PostgreSQL's fastest way in, in its text format."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy.exchange import Document, encode
from litellm_sqlalchemy.models import Base, Request, Response

_CHUNK_BYTES = 65_536


def copy_pairs(connection: Connection, pairs: Iterable[tuple[Document, Document]], count: int) -> None:
    """Append ``count`` pairs of rows, with ids drawn for them, in the connection's transaction; DBAPIError as usual."""
    if not count:
        return
    ids = connection.execute(
        text(
            "SELECT nextval(request), nextval(response) FROM generate_series(1, :count),"
            # OFFSET 0: the names are looked up once, not for each id.
            " (SELECT pg_get_serial_sequence('requests', 'id')::regclass AS request,"
            "  pg_get_serial_sequence('responses', 'id')::regclass AS response OFFSET 0) AS sequences"
        ),
        {"count": count},
    ).all()
    responses: list[Document] = []

    def requests() -> Iterator[Document]:
        for (request_id, response_id), (request, response) in zip(ids, pairs, strict=True):
            responses.append({"id": response_id, "request_id_fk": request_id, **response})
            yield {"id": request_id, **request}

    copy_rows(connection, Base.metadata.tables[Request.__tablename__], requests())
    copy_rows(connection, Base.metadata.tables[Response.__tablename__], responses)


def copy_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows (all with the same columns) to a table in the connection's transaction; DBAPIError as usual.

    A row is only taken when PostgreSQL is given those before it, so that it stores them while the next are made.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        return
    names = list(first)
    fields: list[Callable[[Any], bytes]] = [
        _json if isinstance(table.columns[name].type, JSONB) else _plain for name in names
    ]
    statement = f"COPY {table.name} ({', '.join(names)}) FROM STDIN"
    dialect = connection.dialect
    lines = _Lines(fields, chain([first], remaining))
    try:
        connection.connection.cursor().copy_expert(statement, lines, _CHUNK_BYTES)
    except dialect.loaded_dbapi.Error as error:
        if lines.failure is not None:
            # No row came of an exchange: psycopg2 has ended the COPY with an error of its own.
            raise lines.failure from error
        # COPY is not one of SQLAlchemy's statements, so its errors are given SQLAlchemy's names here.
        raise DBAPIError.instance(
            statement, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
        ) from error


class _Lines:
    """A file of rows in COPY's text format, written while it is read."""

    def __init__(self, fields: list[Callable[[Any], bytes]], rows: Iterable[Mapping[str, Any]]) -> None:
        self._lines: Iterator[bytes] = (
            b"\t".join([field(value) for field, value in zip(fields, row.values(), strict=True)]) + b"\n"
            for row in rows
        )
        self._rest = memoryview(b"")
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        """About that many bytes, at most twice as many; none at the end.

        A long line comes in pieces: libpq would keep a buffer of its length for as long as the connection lives.
        """
        if not self._rest:
            self._rest = memoryview(self._next_lines(size))
        at = len(self._rest) if len(self._rest) <= 2 * size else size
        piece, self._rest = bytes(self._rest[:at]), self._rest[at:]
        return piece

    def _next_lines(self, size: int) -> bytes:
        lines = []
        left = size
        try:
            for line in self._lines:
                lines.append(line)
                left -= len(line)
                if left <= 0:
                    break
        except Exception as error:
            self.failure = error
            raise
        return b"".join(lines)


# https://www.postgresql.org/docs/17/sql-copy.html, "Text Format"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_ESCAPED = re.compile(r"[\\\n\r\t]")


def _plain(value: Any) -> bytes:
    if value is None:
        return b"\\N"
    if isinstance(value, str):
        return (value.translate(_ESCAPES) if _ESCAPED.search(value) else value).encode()
    if isinstance(value, datetime):
        return value.isoformat().encode()
    return str(value).encode()


def _json(value: Any) -> bytes:
    """JSON that PostgreSQL's jsonb takes: it has no NUL, so U+0000 becomes U+FFFD, the replacement character."""
    if value is None:
        return b"\\N"
    text = encode(value)
    # Of what COPY needs escaped, JSON itself has only backslashes.
    if b"\\" not in text:
        return text
    if b"\\u0000" in text:
        text = encode(_without_nul(value))
    return text.replace(b"\\", b"\\\\")


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key.replace("\0", "\ufffd"): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
