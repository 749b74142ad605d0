"""Everything that LiteLLM asks of its Prisma client, the client understands.

The calls are read from LiteLLM's source (tests/call_sites); each is made again with made-up values, by the client's
own code, up to the statement that would be sent. A new version of LiteLLM that uses something that the client does
not have fails here, with the place of the call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from call_sites import datamodel
from call_sites.scan import ARGUMENTS, RAW, SESSIONS, CallSite, Scan, litellm_root
from call_sites.synthesis import Synthesis, UnknownFieldError
from litellm_sqlalchemy.prisma_client.actions import Actions
from litellm_sqlalchemy.prisma_client.batch import BatchActions
from litellm_sqlalchemy.prisma_client.client import Prisma
from litellm_sqlalchemy.prisma_client.connections import Session
from litellm_sqlalchemy.prisma_client.operations import Operations
from litellm_sqlalchemy.prisma_client.schema_file import read_schema
from litellm_sqlalchemy.prisma_client.tables import Schema
from prisma import Base64, Json
from prisma.errors import RecordNotFoundError

SCHEMA = litellm_root() / "proxy" / "schema.prisma"
MODELS = datamodel.read(SCHEMA)
BY_ACCESSOR = {model.accessor: model for model in MODELS.values()}


@cache
def scan() -> Scan:
    """LiteLLM's source, read once."""
    return Scan(litellm_root(), set(BY_ACCESSOR))


@cache
def operations() -> Operations:
    return Operations(Schema(read_schema(SCHEMA)))


class Compiled(Session):
    """Takes statements and sends none: whoever reads finds a made-up row where one was written, and nothing else."""

    def connection(self) -> Any:
        raise AssertionError("nothing is sent")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        yield self

    async def rows(self, statement: Any, found: Sequence[Any], model: Any) -> list[Any]:
        statement.parameters(found)
        if statement.sql.lower().startswith("select count("):
            return [(0,)]
        if statement.sql.lower().startswith(("insert", "update")):
            decoded = {"Json": "{}", "Bytes": b"x", "String": "x", "DateTime": None}
            return [tuple(decoded.get(one.type, 1) if not one.is_list else [] for one in model.scalars.values())]
        return []

    async def count(self, statement: Any, found: Sequence[Any], model: Any) -> int:
        statement.parameters(found)
        return 0


class Client:
    """Stands for a client that is connected."""

    async def run(self, _text: str, operation: Any) -> Any:
        return await operation(Compiled())


def candidates(call: CallSite) -> list[datamodel.Model]:
    """The models that a call may be of: those that the source shows, or those that have the fields."""
    if call.models:
        return [BY_ACCESSOR[name] for name in call.models]
    named = {
        key
        for argument in ("where", "order", "include")
        if argument in call.arguments
        for key in call.arguments[argument].keys
    }
    named -= {"AND", "OR", "NOT", "*"}
    return (
        [model for model in MODELS.values() if named <= model.fields.keys() | model.key_names.keys()] if named else []
    )


def made(call: CallSite, model: datamodel.Model) -> dict[str, Any]:
    """The arguments of a call, with made-up values."""
    values = Synthesis(MODELS, Json, Base64.encode)
    arguments: dict[str, Any] = {}
    for name, shape in call.arguments.items():
        if call.operation == "upsert" and name == "data":
            parts = {part: values.data(model, shape.keys[part]) for part in ("create", "update") if part in shape.keys}
            arguments[name] = {
                "create": {**values.required(model), **parts.get("create", {})},
                "update": parts.get("update", {}),
            }
        else:
            arguments[name] = values.argument(model, name, shape)
    if call.operation == "group_by" and isinstance(arguments.get("order"), dict):
        arguments["by"] = [name for name in arguments["order"] if name in model.fields] or arguments["by"]
    if call.operation == "create":
        arguments["data"] = {**values.required(model), **arguments.get("data", {})}
    if call.operation == "create_many":
        data = arguments.get("data")
        arguments["data"] = [{**values.required(model), **(data[0] if isinstance(data, list) else data or {})}]
    if call.operation in {"find_unique", "update", "delete", "upsert"} and not arguments.get("where"):
        key = model.keys[0]
        row = {name: values.value(model.fields[name]) for name in key}
        arguments["where"] = row if len(key) == 1 else {next(n for n, k in model.key_names.items() if k == key): row}
    return arguments


def model_calls() -> list[CallSite]:
    return [call for call in scan().calls if call.operation not in RAW | SESSIONS]


MISTAKES = [
    "litellm_usertable.find_unique({'where': {'user_email':",
    "litellm_usernotifications.find_unique({'where': {'user_id':",
]
"""Calls of LiteLLM's that Prisma refuses as well: the field is no unique one."""
MISREAD = 30
"""So many calls at most are read with a key that is no field: of a variable that serves several tables."""


def test_the_scan_sees_litellms_calls() -> None:
    found = Counter(call.operation for call in scan().calls)
    assert sum(found.values()) > 1000
    assert {
        "find_unique",
        "find_many",
        "upsert",
        "group_by",
        "tx",
        "batch_",
        "query_raw",
        "execute_raw",
    } <= found.keys()
    assert len({name for call in scan().calls for name in call.models}) > 70


def test_every_operation_and_argument_is_there() -> None:
    unknown = [
        f"{call.place}: {call.operation}({name}=…)"
        for call in model_calls()
        for name in call.arguments
        if name not in inspect.signature(getattr(Actions, call.operation, str)).parameters
    ]
    assert not unknown


def compiled(call: CallSite, model: datamodel.Model) -> str | None:
    """Make a call up to its statement; what the client says if it does not understand."""
    arguments = made(call, model)
    actions = Actions(Client(), operations().schema.models[model.name], operations())  # type: ignore[arg-type]
    try:
        asyncio.run(getattr(actions, call.operation)(**arguments))
    except RecordNotFoundError:
        return None
    except Exception as error:
        return f"{call.place}: {model.accessor}.{call.operation}({arguments}): {type(error).__name__}: {error}"
    return None


def test_every_call_becomes_a_statement() -> None:
    refused, misread, understood = [], [], 0
    for call in model_calls():
        said: list[str | None] = []
        for model in candidates(call):
            try:
                said.append(compiled(call, model))
            except UnknownFieldError as error:
                misread.append(f"{call.place}: {error}")
            # Where the source does not show the model, it is one of those that have the fields.
            if said and said[-1] is None and not call.models:
                said = [None]
                break
        understood += None in said
        refused += [one for one in said if one is not None and not any(part in one for part in MISTAKES)]
    assert not refused, "\n".join(refused)
    assert understood > 950
    assert len(misread) <= MISREAD, "\n".join(misread)


def test_every_batched_operation_is_there() -> None:
    batched = {"create", "create_many", "update", "update_many", "upsert", "delete", "delete_many"}
    assert batched <= set(dir(BatchActions))


def test_every_session_and_raw_call_is_there() -> None:
    for call in scan().calls:
        if call.operation in RAW | SESSIONS:
            parameters = inspect.signature(getattr(Prisma, call.operation)).parameters
            assert call.operation in RAW or call.arguments.keys() <= parameters.keys(), call.place


def test_arguments_are_those_of_prisma() -> None:
    assert {name for call in model_calls() for name in call.arguments} <= ARGUMENTS
