"""Values of Prisma's types, on their way to PostgreSQL and back.

Arguments come in as prisma-client-py takes them: times aware or naive (then in UTC), JSON as text or ``Json``, bytes
as ``Base64``. Columns hold times in UTC without a zone, to the millisecond.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Annotated, Any

import pydantic_core
from pydantic import BeforeValidator
from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary, Numeric, Text, types
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from litellm_sqlalchemy.prisma_client.errors import (
    DataError,
    data_error,
    invalid_argument,
    invalid_data,
    missing_value,
)

Encoder = Callable[[Any], Any]
Decoder = Callable[[Any], Any]


class Json:
    """A Python object for a column of the type Json; ``Json(None)`` is JSON's null."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    @classmethod
    def keys(cls, **data: Any) -> "Json":
        """An object of the keyword arguments."""
        return cls(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and other.data == self.data

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Json({self.data!r})"


class Base64:
    """Bytes, as the text in which Prisma carries them."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def encode(cls, value: bytes) -> "Base64":
        """Of plain bytes."""
        return cls(b64encode(value))

    @classmethod
    def fromb64(cls, value: str | bytes) -> "Base64":
        """Of what is base64 already."""
        return cls(value if isinstance(value, bytes) else value.encode("ascii"))

    def decode(self) -> bytes:
        """The plain bytes."""
        return b64decode(self._raw)

    def decode_str(self, encoding: str = "utf-8") -> str:
        """The plain bytes as text."""
        return self.decode().decode(encoding)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> pydantic_core.CoreSchema:
        return pydantic_core.core_schema.no_info_plain_validator_function(
            cls._validate, serialization=pydantic_core.core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _validate(cls, value: object) -> "Base64":
        if isinstance(value, Base64):
            return value
        if isinstance(value, str | bytes):
            return cls.fromb64(value)
        raise ValueError(f"{type(value).__name__} cannot be Base64")

    def __str__(self) -> str:
        return self._raw.decode("ascii")

    def __repr__(self) -> str:
        return f"Base64({self._raw!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base64) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)


class EnumType(types.UserDefinedType[str]):
    """An enum of PostgreSQL's, whose parameters are cast to it: text is not."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_options: Any) -> str:
        """The name of the type."""
        return f'"{self.name}"'


def serializable(value: Any) -> Any:
    """What JSON does not know, as prisma-client-py writes it into JSON."""
    match value:
        case datetime():
            return utc(value).replace(tzinfo=timezone.utc).isoformat()
        case Json():
            return value.data
        case Base64() | Decimal():
            return str(value)
    raise TypeError(f"Type {type(value)} not serializable")


def json_text(data: Any) -> str:
    """JSON of a Python object."""
    try:
        return json.dumps(data, default=serializable, ensure_ascii=False)
    except ValueError as error:
        raise invalid_argument(f"This is no JSON: {error}") from error


def utc(value: datetime) -> datetime:
    """A naive time in UTC, to the millisecond."""
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def now() -> datetime:
    """This moment, as a column holds it."""
    return utc(datetime.now(timezone.utc))


def _refuse(path: str, value: Any, wanted: str) -> Exception:
    if value is None:
        return missing_value(path)
    return invalid_argument(f"Argument `{path}`: {type(value).__name__} where {wanted} was expected")


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(path, value, "String")
    return str.__str__(value) if type(value) is not str else value


def _enum(path: str, members: tuple[str, ...], value: Any) -> str:
    if value not in members:
        raise _refuse(path, value, f"one of {', '.join(members)}")
    return str(value)


def _boolean(path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(path, value, "Boolean")
    return value


def _integer(path: str, bits: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(path, value, "Int" if bits == 32 else "BigInt")  # noqa: PLR2004 - the width of an Int
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise data_error(
            DataError, "P2020", f"Value out of range for the type: `{path}`, {value} does not fit into {bits} bits"
        )
    return value


def _float(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _refuse(path, value, "Float")
    if not math.isfinite(number := float(value)):
        raise invalid_argument(f"Argument `{path}`: {value} is no number")
    return number


def _decimal(path: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise _refuse(path, value, "Decimal")
    try:
        return Decimal(str(value))
    except InvalidOperation as error:
        raise _refuse(path, value, "Decimal") from error


def _time(path: str, value: Any) -> datetime:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str):
        try:
            return utc(datetime.fromisoformat(value.replace("Z", "+00:00")))
        except ValueError:
            pass
    raise _refuse(path, value, "DateTime")


def _json(path: str, value: Any) -> str:
    if type(value) is Json:
        return json_text(value.data)
    if not isinstance(value, str):
        if isinstance(value, dict | list | tuple | bool | int | float):
            return json_text(value)
        raise _refuse(path, value, "Json")
    try:
        pydantic_core.from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise invalid_argument(f"Argument `{path}`: this is no JSON: {error}") from error
    return value


def _bytes(path: str, value: Any) -> bytes:
    try:
        return Base64._validate(value).decode()  # noqa: SLF001 - of this module
    except ValueError as error:
        raise _refuse(path, value, "Bytes (as Base64)") from error


def _decode_time(value: datetime) -> datetime:
    return value.replace(tzinfo=timezone.utc)


SQL_TYPES: dict[str, types.TypeEngine[Any]] = {
    "String": Text(),
    "Boolean": Boolean(),
    "Int": Integer(),
    "BigInt": BigInteger(),
    "Float": Double(),
    "Decimal": Numeric(65, 30),
    "DateTime": TIMESTAMP(precision=3),
    "Json": JSONB(),
    "Bytes": LargeBinary(),
}
_ENCODERS: dict[str, Callable[..., Any]] = {
    "String": _text,
    "Boolean": _boolean,
    "Float": _float,
    "Decimal": _decimal,
    "DateTime": _time,
    "Json": _json,
    "Bytes": _bytes,
}
_DECODERS: dict[str, Decoder] = {"DateTime": _decode_time, "Bytes": Base64.encode, "Json": pydantic_core.from_json}
PYTHON_TYPES: dict[str, Any] = {
    "String": str,
    "Boolean": bool,
    "Int": int,
    "BigInt": int,
    "Float": float,
    "Decimal": Decimal,
    "DateTime": datetime,
    "Json": Any,
    "Bytes": Base64,
}


def list_type(item: Any) -> Any:
    """Of a list: a column that was never set is an empty one."""
    return Annotated[list.__class_getitem__(item), BeforeValidator(lambda value: [] if value is None else value)]


def sql_type(type_: str, members: tuple[str, ...] | None) -> types.TypeEngine[Any]:
    """The column type of a Prisma type; ``members`` of an enum."""
    return SQL_TYPES[type_] if members is None else EnumType(type_)


def encoder(type_: str, members: tuple[str, ...] | None, path: str) -> Encoder:
    """What checks an argument and makes it a parameter; ``path`` is for its complaints."""
    if members is not None:
        return partial(_enum, path, members)
    if type_ in ("Int", "BigInt"):
        return partial(_integer, path, 32 if type_ == "Int" else 64)
    return partial(_ENCODERS[type_], path)


def data_encoder(encode: Encoder) -> Encoder:
    """The same for what is written, where what does not fit is a DataError."""

    def encoding(value: Any) -> Any:
        try:
            return encode(value)
        except DataError as error:
            raise invalid_data(error) from error

    return encoding


def list_encoder(encode: Encoder, path: str) -> Encoder:
    """The same for a list of values."""

    def encoding(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple | set | frozenset):
            raise _refuse(path, value, "a list")
        return [encode(item) for item in value]

    return encoding


def decoder(type_: str, is_list: bool) -> Decoder | None:
    """What makes a column's value a field's; None where they are the same. Lists are never None."""
    decode = _DECODERS.get(type_)
    if not is_list:
        return decode
    if decode is None:
        return lambda value: [] if value is None else list(value)
    return lambda value: [] if value is None else [decode(item) for item in value]
