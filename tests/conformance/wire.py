"""Values on their way to a driver and back: JSON, with a tag for what JSON does not have."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

TAG = "$"


@dataclass(frozen=True)
class Json:
    """What a client calls ``prisma.Json``."""

    data: Any


@dataclass(frozen=True)
class Bytes:
    """What a client calls ``prisma.Base64``; the bytes themselves."""

    raw: bytes


def encode(value: Any) -> Any:  # noqa: PLR0911 - a kind of value each
    """A value as JSON; what is no plain value as an object with one key, ``$`` and its kind."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {key: encode(inner) for key, inner in value.items()}
        case tuple():
            return {f"{TAG}tuple": [encode(inner) for inner in value]}
        case list():
            return [encode(inner) for inner in value]
        case Json(data=data):
            return {f"{TAG}json": encode(data)}
        case Bytes(raw=raw):
            return {f"{TAG}bytes": base64.b64encode(raw).decode()}
        case datetime():
            return {f"{TAG}datetime": value.isoformat()}
        case timedelta():
            return {f"{TAG}timedelta": value.total_seconds()}
        case Decimal():
            return {f"{TAG}decimal": str(value)}
    raise TypeError(f"A {type(value).__name__} cannot be sent: {value!r}")


def decode(value: Any, json: Any = Json, as_bytes: Any = Bytes) -> Any:  # noqa: PLR0911 - a tag each
    """The value again; a driver names the classes of its client."""
    if isinstance(value, list):
        return [decode(inner, json, as_bytes) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        match key:
            case "$tuple":
                return tuple(decode(one, json, as_bytes) for one in inner)
            case "$json":
                return json(decode(inner, json, as_bytes))
            case "$bytes":
                return as_bytes(base64.b64decode(inner))
            case "$datetime":
                return datetime.fromisoformat(inner)
            case "$timedelta":
                return timedelta(seconds=inner)
            case "$decimal":
                return Decimal(inner)
    return {key: decode(inner, json, as_bytes) for key, inner in value.items()}
