"""Raw queries: parameters as Prisma declares them, and rows as prisma-client-py hands them out.

Times come back as ISO 8601 text, NUMERIC as float, JSON as Python objects, bytes as base64, arrays as lists.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timezone
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int4, Int8
from pydantic_core import from_json

from litellm_sqlalchemy.prisma_client.values import Base64, Json, json_text, utc

_INT4 = 1 << 31


def parameter(value: Any) -> Any:
    """A parameter as it crosses prisma-client-py's JSON: times as text, whole numbers as int4 or int8."""
    match value:
        case None | str() | bool():
            return value
        case int():
            return Int4(value) if -_INT4 <= value < _INT4 else Int8(value)
        case float():
            return Decimal(repr(value))
        case datetime():
            return utc(value).replace(tzinfo=timezone.utc).isoformat()
        case list() | tuple() | set() | frozenset():
            return [parameter(item) for item in value]
        case dict():
            return Jsonb(value, dumps=json_text)
        case Json():
            return json_text(value.data)
        case Base64() | Decimal():
            return str(value)
    raise TypeError(f"Type {type(value)} not serializable")


def _time_text(value: datetime) -> str:
    """RFC 3339, with as many digits of the second as are needed: none, 3 or 6."""
    value = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
    if value.microsecond and value.microsecond % 1000 == 0:
        return value.isoformat(timespec="milliseconds")
    return value.isoformat()


def _plain(value: Any) -> Any:
    """A value that PostgreSQL returned, as JSON carries it."""
    match value:
        case datetime():
            return _time_text(value)
        case Decimal():
            return float(value)
        case date() | time():
            return value.isoformat()
        case None | str() | int() | float() | dict():
            return value
        case bytes() | memoryview():
            return b64encode(value).decode("ascii")
        case list():
            return [_plain(item) for item in value]
    return str(value)  # a UUID, an address, an interval


# Types whose values are what they are.
_UNCHANGED = frozenset({"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "name"})


_JSON = frozenset({"json", "jsonb", "json[]", "jsonb[]"})


def _parsed(value: Any) -> Any:
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    return None if value is None else from_json(value)


def plain_rows(cursor: psycopg.AsyncRawCursor[Any], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows as dictionaries."""
    names: list[str] = []
    converted: list[tuple[int, Callable[[Any], Any]]] = []
    for position, column in enumerate(cursor.description or ()):
        names.append(column.name)
        type_ = column.type_display.split("(")[0]
        if type_ in _JSON:
            converted.append((position, _parsed))
        elif type_ not in _UNCHANGED:
            converted.append((position, _plain))
    plain = []
    for row in rows:
        values = list(row)
        for position, convert in converted:
            values[position] = convert(values[position])
        plain.append(dict(zip(names, values, strict=True)))  # of a name that is there twice, the last
    return plain
