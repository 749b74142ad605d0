#!/opt/litellm/schema-venv/bin/python
"""The benchmark's schemas on the database host, as JSON; runs as postgres, over the local socket.

    tables.py create           makes the schemas anew, with the tables of this release
    tables.py fill             fills a day with small pairs, made by the server itself
    tables.py expire           drops a day as the timer does, and deletes the rows of another one
    tables.py retain           drops the oldest day as the timer does, while a transaction that has read it stays open
    tables.py sizes            the bytes of a day
    tables.py drop             removes the schemas

The tables of the service are in another schema, and no statement here names that.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from datetime import date, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, make_url, text

from litellm_sqlalchemy import partitions, retention, schema
from litellm_sqlalchemy.settings import get_settings

NAME = re.compile("litellm_bench[a-z_]*")
DAYS_AHEAD = 4
RETRY_SECONDS = 0.5
"""Between attempts to drop a day that is in use; the timer waits longer."""
LONGEST_MAINTENANCE_MB = 512

FILL_REQUESTS = """
INSERT INTO {table} (id, created_at, request_id, route, model, payload, status_code, user_id, api_key, start_time,
                     end_time)
SELECT n, t, gen_random_uuid()::text, '/v1/chat/completions',
       (ARRAY['gpt-4o', 'gpt-4o-mini', 'claude', 'fast'])[1 + n % 4],
       '{{"messages": [{{"role": "user", "content": "Say hello."}}]}}', 200, 'owner-' || n % 50,
       repeat(lpad((n % 50)::text, 2, '0'), 32), t, t + interval '812 ms'
FROM (SELECT n, CAST(:start AS timestamptz)
                + (n - CAST(:first AS bigint)) * (CAST(:span AS interval) / CAST(:pairs AS integer)) AS t
      FROM generate_series(CAST(:first AS bigint), CAST(:first AS bigint) + :pairs - 1) AS n) AS days
"""

FILL_RESPONSES = """
INSERT INTO {table} (id, created_at, request_id_fk, latency_ms, content, prompt_tokens, completion_tokens, total_tokens,
                     cost, response_model)
SELECT id, created_at, id, 812.3, '{{"outcome": "success", "response": {{"choices": []}}}}', 12, 7, 19, 0.000006,
       'gpt-4o-mini-2024-07-18'
FROM {requests}
"""


def engine_for(name: str, role: str | None = None) -> Engine:
    """An engine whose tables are those of one schema; as the owner, or as another role."""
    url = make_url(get_settings().require_url())
    if role:
        url = url.set(username=role)
    return create_engine(url.update_query_dict({"options": f"-csearch_path={name}"}))


def create(names: list[str], service: str) -> dict[str, Any]:
    """Make the schemas anew, with today's partitions and some more."""
    for name in names:
        engine = engine_for(name)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {name}"))
        schema.upgrade(engine, DAYS_AHEAD)
        with engine.begin() as connection:
            connection.execute(text(f"GRANT USAGE ON SCHEMA {name} TO {service}"))
            connection.execute(text(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {name} TO {service}"))
            connection.execute(text(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {name} TO {service}"))
    with engine.connect() as connection:
        wanted = ("server_version", "shared_buffers", "synchronous_commit", "default_toast_compression", "fsync")
        settings = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in wanted}
    return settings | {"free_gb": free_gb()}


def free_gb() -> float:
    """Room on the file system of the data."""
    return round(shutil.disk_usage("/var/lib/postgresql").free / 1e9, 1)


def drop(names: list[str]) -> dict[str, Any]:
    """Remove the schemas."""
    for name in names:
        with engine_for(name).begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
    return {}


def fill(name: str, day: date, pairs: int) -> dict[str, Any]:
    """Fill a day; the tables first and their indexes afterwards, which is what makes it quick."""
    pair = partitions.Partition(day)
    first = (day - date(2020, 1, 1)).days * 100_000_000
    # What is yet to come of today is for others to insert.
    until = min(pair.end, datetime.now(timezone.utc))
    values = {"start": pair.start, "span": until - pair.start, "pairs": pairs, "first": first}
    requests, responses = (pair.table(parent) for parent in partitions.TABLES)
    started = time.monotonic()
    with engine_for(name).begin() as connection:
        connection.execute(text(f"SET LOCAL maintenance_work_mem = '{LONGEST_MAINTENANCE_MB}MB'"))
        connection.execute(text(f"DROP TABLE IF EXISTS {responses}, {requests}"))
        for parent in partitions.TABLES:
            # Vacuumed long ago: no vacuum of ours may run into what is measured.
            connection.execute(
                text(
                    f"CREATE TABLE {pair.table(parent)} (LIKE {parent} INCLUDING DEFAULTS INCLUDING COMMENTS)"
                    " WITH (autovacuum_enabled = off)"
                )
            )
        connection.execute(text(FILL_REQUESTS.format(table=requests)), values)
        connection.execute(text(FILL_RESPONSES.format(table=responses, requests=requests)))
        for parent in partitions.TABLES:
            connection.execute(text(f"ALTER TABLE {parent} ATTACH PARTITION {pair.table(parent)} {pair.bounds}"))
        # Their foreign keys.
        partitions.create(connection, pair)
    with engine_for(name).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM (ANALYZE) {requests}, {responses}"))
    return {"seconds": time.monotonic() - started, "free_gb": free_gb()}


def checkpoint(name: str) -> None:
    """Write everything out, so that it does not run into what is measured next."""
    with engine_for(name, "postgres").connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))


def count(connection: Connection, pair: partitions.Partition) -> int:
    """The requests of a day."""
    return int(connection.execute(text(f"SELECT count(*) FROM {pair.table(partitions.TABLES[0])}")).scalar_one())  # noqa: S608


def expire(name: str, today: date) -> dict[str, Any]:
    """Delete the rows of the oldest day but one, and drop the oldest day as `litellm-schema expire` does."""
    engine = engine_for(name)
    with engine.connect() as connection:
        oldest, second = sorted(partitions.days(connection))[:2]
        pairs = {day: count(connection, partitions.Partition(day)) for day in (oldest, second)}
    checkpoint(name)
    started = time.perf_counter()
    with engine.begin() as connection:
        table = partitions.Partition(second).table(partitions.TABLES[0])
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    deleting = time.perf_counter() - started
    checkpoint(name)
    started = time.perf_counter()
    done = retention.expire(engine, (today - second).days, 0, today=today)
    dropping = time.perf_counter() - started
    if done.dropped != [partitions.Partition(oldest).suffix] or pairs[oldest] != pairs[second]:
        raise RuntimeError(f"{done} was expired, and the two days hold {pairs}")
    # The one whose rows are gone is in nobody's way any more.
    retention.expire(engine, (today - second).days - 1, 0, today=today)
    return {"pairs": pairs[oldest], "deleting": deleting, "dropping": dropping}


def retain(name: str, today: date) -> dict[str, Any]:
    """Expire the oldest day, which is in use; and once more when it is not."""
    engine = engine_for(name)
    with engine.connect() as reader:
        oldest, second = sorted(partitions.days(reader))[:2]
        keep = (today - second).days
        # By the parent, as a report would.
        query = f"SELECT count(*) FROM {partitions.TABLES[0]} WHERE created_at < :end"  # noqa: S608
        reader.execute(text(query), {"end": partitions.Partition(oldest).end})
        started = time.perf_counter()
        held_up = retention.expire(engine, keep, 0, today=today, pause=RETRY_SECONDS)
        gave_up = time.perf_counter() - started
    started = time.perf_counter()
    done = retention.expire(engine, keep, 0, today=today, pause=RETRY_SECONDS)
    dropped = time.perf_counter() - started
    suffix = partitions.Partition(oldest).suffix
    if held_up.postponed != [suffix] or done.dropped != [suffix]:
        raise RuntimeError(f"with a reader {held_up}, without one {done}")
    return {"attempts": retention.ATTEMPTS, "gave_up_s": gave_up, "dropped_s": dropped}


def sizes(name: str, day: date) -> dict[str, int]:
    """The bytes of a day: both tables with their TOAST, and the indexes of both."""
    with engine_for(name).connect() as connection:
        found = {"tables": 0, "indexes": 0, "pairs": count(connection, partitions.Partition(day))}
        for parent in partitions.TABLES:
            table = {"table": partitions.Partition(day).table(parent)}
            for part, function in (("tables", "pg_table_size"), ("indexes", "pg_indexes_size")):
                query = text(f"SELECT {function}(CAST(:table AS regclass))")
                found[part] += int(connection.execute(query, table).scalar_one())
    return found


def main() -> int:
    """Do what was asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["create", "fill", "expire", "retain", "sizes", "drop"])
    parser.add_argument("--schemas", nargs="+", required=True)
    parser.add_argument("--service", default="", help="the role of the service")
    parser.add_argument("--day", type=int, default=0, help="days from today")
    parser.add_argument("--pairs", type=int, default=0)
    given = parser.parse_args()
    if not all(map(NAME.fullmatch, given.schemas)):
        parser.error(f"--schemas: schemas of the benchmark only, {NAME.pattern}")
    today = datetime.now(timezone.utc).date()
    day = today + timedelta(days=given.day)
    name = given.schemas[0]
    if given.what == "create":
        found: Any = create(given.schemas, given.service)
    elif given.what == "fill":
        found = fill(name, day, given.pairs)
    elif given.what == "expire":
        found = expire(name, today)
    elif given.what == "retain":
        found = retain(name, today)
    elif given.what == "sizes":
        found = sizes(name, day)
    else:
        found = drop(given.schemas)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
