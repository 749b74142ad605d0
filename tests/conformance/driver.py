"""Runs operations on whichever package ``prisma`` is on its path: the real one, or ours. JSON lines in, JSON lines out.

{"steps": [STEP, …]}  ->  {"results": [RESULT, …]}

STEP    {"call": [accessor, operation], "arguments": {…}}       {"raw": [operation, sql, value, …]}
        {"tx": [STEP, …], "options": {…}, "fail": bool}         {"batch": [STEP, …]}
        {"together": [STEP, …]}: all at the same time           {"sleep": seconds}
RESULT  {"value": …}, or {"error": {"class": …, "code": …, "meta": …, "message": …}};
        of tx and together {"results": [RESULT, …]}
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from conformance.wire import Bytes, decode, encode
from prisma import Base64, Json, Prisma


class DeliberateError(Exception):
    """Ends a transaction that shall be rolled back."""


def plain(value: Any) -> Any:
    """A result as plain values: records as dictionaries of their fields."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Base64):
        return Bytes(value.decode())
    if isinstance(value, str):
        return str(value)
    return value


def described(error: Exception) -> dict[str, Any]:
    """An error as far as a caller can tell errors apart."""
    meta = getattr(error, "meta", None)
    return {
        "class": type(error).__name__,
        "bases": [base.__name__ for base in type(error).__mro__[1:-1]],
        "code": getattr(error, "code", None),
        "meta": json.loads(json.dumps(meta, default=str)),
        "message": str(error),
    }


async def step(db: Any, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911 - a kind of step each
    """Run one step."""
    try:
        if "tx" in asked:
            return {"results": await transaction(db, asked)}
        if "together" in asked:
            return {"results": await asyncio.gather(*(step(db, one) for one in asked["together"]))}
        if "sleep" in asked:
            return {"value": await asyncio.sleep(asked["sleep"])}
        if "batch" in asked:
            async with db.batch_() as batch:
                for one in asked["batch"]:
                    called(batch, one)
            return {"value": None}
        return {"value": encode(plain(await called(db, asked)))}
    except DeliberateError:
        return {"value": "rolled back"}
    except Exception as error:
        return {"error": described(error)}


def called(db: Any, asked: dict[str, Any]) -> Any:
    """Make the call of a step."""
    if "raw" in asked:
        operation, *arguments = asked["raw"]
        return getattr(db, operation)(*(decode(one, Json, Base64.encode) for one in arguments))
    accessor, operation = asked["call"]
    return getattr(getattr(db, accessor), operation)(**decode(asked["arguments"], Json, Base64.encode))


async def transaction(db: Any, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Run steps in a transaction."""
    async with db.tx(**decode(asked.get("options", {}))) as tx:
        results = [await step(tx, one) for one in asked["tx"]]
        if asked.get("fail"):
            raise DeliberateError
    return results


async def main() -> None:
    """Answer until the input ends."""
    answers = sys.stdout
    # Prisma's engine would share it with us, and Node makes what it gets non-blocking.
    sys.stdout = sys.stderr
    db = Prisma()
    await db.connect()
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        results = [await step(db, one) for one in asked["steps"]]
        print(json.dumps({"results": results}), file=answers, flush=True)
    await db.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
