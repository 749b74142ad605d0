"""Our client under the clock. JSON lines: {operation, calls, tasks} in, {seconds, cpu_seconds} out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from prisma import Json, Prisma


def token(n: int) -> str:
    """The key of a row that is there."""
    return f"token-{n % 1000}"


def operations(db: Any) -> dict[str, Callable[[int], Awaitable[Any]]]:
    """The same calls as those of prisma.mjs."""
    tokens, config = db.litellm_verificationtoken, db.litellm_config
    more, next_one = {"spend": {"increment": 0.5}}, {"reload_revision": {"increment": 1}}
    sql = 'SELECT token, spend FROM "LiteLLM_VerificationToken" WHERE token = $1'
    return {
        "find_unique": lambda n: tokens.find_unique(where={"token": token(n)}),
        "find_first": lambda n: tokens.find_first(where={"user_id": f"user-{n % 50}", "blocked": None}),
        "find_many": lambda n: tokens.find_many(where={"user_id": f"user-{n % 50}"}, order={"token": "asc"}),
        "include": lambda n: tokens.find_unique(where={"token": token(n)}, include={"litellm_budget_table": True}),
        "count": lambda n: tokens.count(where={"user_id": f"user-{n % 50}"}),
        "create": lambda n: config.create(
            data={"param_name": f"ours-{time.perf_counter_ns()}-{n}", "param_value": Json({"a": 1})}
        ),
        "update": lambda n: tokens.update(where={"token": token(n)}, data=more),
        "update_many": lambda n: tokens.update_many(where={"token": token(n)}, data=more),
        "upsert": lambda n: config.upsert(
            where={"param_name": f"kept-{n % 100}"},
            data={"create": {"param_name": f"kept-{n % 100}"}, "update": next_one},
        ),
        "query_raw": lambda n: db.query_raw(sql, token(n)),
    }


async def measure(call: Callable[[int], Awaitable[Any]], calls: int, tasks: int) -> dict[str, float]:
    """Make calls from so many tasks."""
    numbers = iter(range(calls))

    async def work() -> None:
        for n in numbers:
            await call(n)

    began, before = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - before}


async def main() -> None:
    """Answer until the input ends."""
    db = Prisma()
    await db.connect()
    calls = operations(db)
    loop = asyncio.get_running_loop()
    print(json.dumps({"ready": True}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        print(json.dumps(await measure(calls[asked["operation"]], asked["calls"], asked["tasks"])), flush=True)
    await db.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
