"""Both clients under the clock, in turns, on a database that is made for it."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from bench.figures import Bar, Group, Row, all_of, estimate, median_ratio, rate
from bench.hosts import ROOT

if TYPE_CHECKING:
    from bench.sections import Bench

HERE = Path(__file__).parent
INSTALLED = ROOT / ".cache" / "conformance"
OPERATIONS = (
    "find_unique", "find_first", "find_many", "include", "count",
    "create", "update", "update_many", "upsert", "query_raw",
)  # fmt: skip
TASKS = 16
SPEED_BAR = 1.0
FIND_UNIQUE_BAR_MS = 0.5
WARM_UP = 200

POPULATION = """
INSERT INTO "LiteLLM_BudgetTable" (budget_id, created_by, updated_by)
    SELECT 'budget-' || n, 'bench', 'bench' FROM generate_series(0, 9) n;
INSERT INTO "LiteLLM_VerificationToken" (token, user_id, budget_id, metadata, models)
    SELECT 'token-' || n, 'user-' || mod(n, 50), 'budget-' || mod(n, 10), '{"a": [1, 2]}', ARRAY['gpt-4o', 'lab-chat']
    FROM generate_series(0, 999) n;
INSERT INTO "LiteLLM_Config" (param_name) SELECT 'kept-' || n FROM generate_series(0, 99) n;
ANALYZE;
"""


@contextmanager
def database() -> Iterator[str]:
    """A database with LiteLLM's tables and some rows in them; its URL."""
    from litellm_sqlalchemy import litellm_migrations  # noqa: PLC0415  the path is bench's

    server = make_url(os.environ["LITELLM_TEST_DATABASE_URL"])
    name = f"bench_{secrets.token_hex(6)}"
    outside = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with outside.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
    inside = create_engine(server.set(database=name), poolclass=NullPool)
    try:
        litellm_migrations.apply(inside)
        with inside.begin() as connection:
            connection.exec_driver_sql(POPULATION)
        yield server.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    finally:
        with outside.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def program(url: str, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """One of the clients, connected."""
    process = subprocess.Popen(  # noqa: S603 - a command of this module
        command,
        env={**os.environ, **environment, "DATABASE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        if ask(process) != {"ready": True}:
            raise RuntimeError(f"{command[-1]} does not start")
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(process: subprocess.Popen[str], **asked: Any) -> Any:
    """Ask for a measurement, and wait for it."""
    assert process.stdin is not None
    assert process.stdout is not None
    if asked:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a client under the clock has ended with {process.wait()}: see its message above")
    return json.loads(line)


def clients(bench: Bench) -> list[Row]:
    """Every operation of our client against Prisma's own: one after the other, and from sixteen tasks."""
    if "LITELLM_TEST_DATABASE_URL" not in os.environ:
        return [Row("the database client against Prisma's", None, "", note="only with LITELLM_TEST_DATABASE_URL")]
    subprocess.run([ROOT / "tests/conformance/oracle/install"], check=True)  # noqa: S603 - of this repository
    bench.say("the database client against Prisma's own")
    rows = []
    with ExitStack() as stack:
        url = stack.enter_context(database())
        script = str(HERE / "ours.py")
        ours = stack.enter_context(program(url, sys.executable, script, PYTHONPATH=str(ROOT / "files")))
        script = str(HERE / "prisma.mjs")
        prisma = stack.enter_context(program(url, "node", script, PRISMA_ORACLE=str(INSTALLED)))
        for operation in OPERATIONS:
            for tasks in (1, TASKS):
                rows += compared(bench, ours, prisma, operation, tasks)
    return rows


def compared(
    bench: Bench, ours: subprocess.Popen[str], prisma: subprocess.Popen[str], operation: str, tasks: int
) -> list[Row]:
    """One operation in turns: ours, Prisma's, Prisma's, ours, and so on."""
    calls = bench.extent.client_calls
    for side in (ours, prisma):
        ask(side, operation=operation, calls=WARM_UP, tasks=tasks)
    found = []
    for turn in range(bench.extent.client_rounds):
        sides = {"ours": ours, "prisma": prisma} if turn % 2 == 0 else {"prisma": prisma, "ours": ours}
        found.append({name: ask(side, operation=operation, calls=calls, tasks=tasks) for name, side in sides.items()})
    bench.raw[f"client, {operation}, {tasks} tasks"] = found
    how = "one after the other" if tasks == 1 else f"from {tasks} tasks"
    rates: list[Group] = [([calls / one["ours"]["seconds"]], [calls / one["prisma"]["seconds"]]) for one in found]
    rows = [rate(f"client: {operation}, {how}", rates, "calls/s", SPEED_BAR)]
    if operation == "find_unique":
        spent: list[Group] = [
            ([1000 * one["ours"]["cpu_seconds"] / calls], [1000 * one["prisma"]["cpu_seconds"] / calls])
            for one in found
        ]
        own, theirs = (statistics.median(all_of(spent, side)) for side in (0, 1))
        ratio = estimate(spent, median_ratio)
        bar = Bar(FIND_UNIQUE_BAR_MS, "at most", "value")
        rows.append(
            Row(f"client: processor time of {operation}, {how}", own, "ms", theirs, ratio.value, bar, None, len(found))
        )
    return rows
