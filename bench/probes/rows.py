#!/opt/litellm/venv/bin/python
"""How fast rows get into the tables, as JSON; on the gateway's host, as the service, into schemas of the benchmark.

    rows.py drain    the shipper, from a spool, against raw COPY and against the ORM, a pair a transaction
    rows.py insert   raw COPY into a schema that holds many pairs against one that holds none
    rows.py pace     what it takes to insert a pair, milliseconds, again and again at a fixed pace
    rows.py store    stores pairs of a size on a day of their own, for their bytes to be counted
    rows.py spool    fills the spool and leaves it to the shipper; waits until that has emptied it

What is compared takes turns, round by round, and every round has rows of its own.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

import psycopg2.extensions
from chat import compact, documents
from sqlalchemy import Engine, NullPool, create_engine, make_url
from sqlalchemy.orm import Session

from litellm_sqlalchemy import shipper
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.exchange import Exchange, encode, rows_of
from litellm_sqlalchemy.models import Request, Response
from litellm_sqlalchemy.settings import Settings, get_settings
from litellm_sqlalchemy.spool import Spool

DIFFERENT = 500
"""Different chats; beyond that they come again, under new ids."""
DIFFERENT_BYTES = 30_000_000
ORM_SECONDS = 1.5
DRAIN_PATIENCE = 240.0
POLL_SECONDS = 0.05
PACE_SECONDS = 0.01

Copies = list[tuple[str, bytes]]


def exchanges(size: int, count: int, created_at: int) -> Iterator[Exchange]:
    """Chats of a size, all accepted at one moment, each under an id of its own."""
    different = min(count, DIFFERENT, max(1, DIFFERENT_BYTES // size))
    made = [Exchange(0, created_at, *documents(number, size, created_at)) for number in range(different)]
    for exchange in itertools.islice(itertools.cycle(made), count):
        yield replace(exchange, request_id=str(uuid4()))


def fill(spool: Spool, size: int, count: int) -> None:
    """Put finished exchanges into the spool, as the gateway's workers do."""
    created_at = time.time_ns() // 1000
    encoded: dict[int, tuple[bytes, bytes, bytes]] = {}
    for exchange in exchanges(size, count, created_at):
        key = id(exchange.request)
        if key not in encoded:
            assert exchange.outcome
            assert exchange.accounting
            encoded[key] = (encode(exchange.request), encode(exchange.outcome), encode(exchange.accounting))
        request, outcome, accounting = encoded[key]
        seq, _ = spool.open("benchmark", created_at, exchange.request_id, request)
        spool.finish(seq, outcome, 0)
        spool.account(seq, accounting)


class RecordingCursor(psycopg2.extensions.cursor):
    """A cursor that keeps what is to be copied and copies nothing."""

    copies: ClassVar[Copies] = []

    def copy_expert(self, sql: str, file: Any, size: int = 8192) -> None:
        """Keep it."""
        data = b""
        while part := file.read(size):
            data += part.encode() if isinstance(part, str) else part
        self.copies.append((sql, data))


def rendered(engine: Engine, batch: Sequence[Exchange]) -> Copies:
    """The COPY statements of a batch with their data, exactly as the shipper makes them, to be sent later."""
    recording = create_engine(engine.url, connect_args={"cursor_factory": RecordingCursor}, poolclass=NullPool)
    RecordingCursor.copies = []
    shipper.store(recording, batch)
    return RecordingCursor.copies


def send(engine: Engine, batches: Sequence[Copies]) -> None:
    """Raw COPY: what was rendered goes into both tables, a batch a transaction."""
    for copies in batches:
        with engine.begin() as connection:
            cursor = connection.connection.cursor()
            for statement, data in copies:
                cursor.copy_expert(statement, io.BytesIO(data))


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_batches(engine: Engine, size: int, count: int, batch_size: int) -> list[Copies]:
    """Rendered batches of new chats."""
    rows = list(exchanges(size, count, time.time_ns() // 1000))
    return [rendered(engine, rows[at : at + batch_size]) for at in range(0, count, batch_size)]


def orm(engine: Engine, size: int, most: int) -> float:
    """Pairs a second through the ORM, a pair a transaction, as gateways log that do not spool."""
    rows = [rows_of(exchange) for exchange in exchanges(size, most, time.time_ns() // 1000)]
    started = time.perf_counter()
    done = 0
    for request, response in rows:
        with Session(engine) as session:
            parent = Request(**request)
            session.add(parent)
            session.flush()
            session.add(Response(request_id_fk=parent.id, **response))
            session.commit()
        done += 1
        if time.perf_counter() - started > ORM_SECONDS:
            break
    return done / (time.perf_counter() - started)


def drain(given: argparse.Namespace, settings: Settings, engine: Engine) -> list[dict[str, float]]:
    """Pairs a second of the three, a round after the other; the first does not count."""
    rounds = []
    for number in range(given.rounds + 1):
        spool = Spool(settings.spool.with_name(f"drain-{number}.sqlite3"))
        fill(spool, given.size, given.pairs)
        spool.checkpoint()
        copies = in_batches(engine, given.size, given.pairs, settings.batch_size)
        draining = shipper.Shipper(spool, engine, settings.batch_size, settings.accounting_grace)
        measure: dict[str, Callable[[], float]] = {
            "shipper": lambda draining=draining: given.pairs / timed(draining.drain),  # type: ignore[misc]
            "copy": lambda copies=copies: given.pairs / timed(lambda: send(engine, copies)),  # type: ignore[misc]
            "orm": lambda: orm(engine, given.size, given.pairs),
        }
        names = list(measure)
        turn = number % len(names)
        found = {name: measure[name]() for name in names[turn:] + names[:turn]}
        if spool.ledger().stored != given.pairs:
            raise RuntimeError(f"the shipper stored {spool.ledger().stored} of {given.pairs} pairs")
        spool.close()
        for suffix in ("", "-wal", "-shm", ".lock"):
            settings.spool.with_name(f"drain-{number}.sqlite3{suffix}").unlink(missing_ok=True)
        if number:
            rounds.append(found)
    return rounds


def insert(given: argparse.Namespace, settings: Settings) -> list[dict[str, float]]:
    """Pairs a second into each of the schemas, a round after the other; the first does not count."""
    engines = {schema: make_engine(in_schema(settings, schema)) for schema in given.schemas}
    rounds = []
    for number in range(given.rounds + 1):
        copies = {
            schema: in_batches(engine, given.size, given.pairs, settings.batch_size)
            for schema, engine in engines.items()
        }
        names = given.schemas if number % 2 == 0 else given.schemas[::-1]
        found = {
            name: given.pairs / timed(lambda name=name, copies=copies: send(engines[name], copies[name]))
            for name in names
        }  # type: ignore[misc]
        if number:
            rounds.append(found)
    return rounds


def pace(given: argparse.Namespace, settings: Settings) -> list[float]:
    """Milliseconds that each transaction of one pair took, as the shipper stores it."""
    engine = make_engine(in_schema(settings, given.schemas[0]))
    rows = list(exchanges(given.size, round(given.seconds / PACE_SECONDS), time.time_ns() // 1000))
    taken = []
    began = time.perf_counter()
    for number, row in enumerate(rows):
        time.sleep(max(0.0, began + number * PACE_SECONDS - time.perf_counter()))
        taken.append(round(timed(lambda row=row: shipper.store(engine, [row])) * 1000, 3))  # type: ignore[misc]
        if time.perf_counter() - began > given.seconds:
            break
    return taken


def in_schema(settings: Settings, schema: str) -> Settings:
    """The settings with another schema of the benchmark."""
    url = make_url(settings.require_url()).update_query_dict({"options": f"-csearch_path={schema}"})
    return Settings(url=url.render_as_string(hide_password=False))


def store(given: argparse.Namespace, engine: Engine) -> dict[str, int]:
    """Store pairs on a day; returns how many, and the bytes of JSON that they came from."""
    # Noon of the day.
    created_at = ((time.time_ns() // 86_400_000_000_000 + given.day) * 86_400 + 43_200) * 1_000_000
    rows = [Exchange(0, created_at, *documents(number, given.size, created_at)) for number in range(given.pairs)]
    batch = get_settings().batch_size
    send(engine, [rendered(engine, rows[at : at + batch]) for at in range(0, len(rows), batch)])
    sizes = (len(compact(row.request["payload"])) + len(compact((row.outcome or {})["response"])) for row in rows)
    return {"pairs": len(rows), "json_bytes": sum(sizes)}


def backlog(given: argparse.Namespace, settings: Settings) -> dict[str, float]:
    """Fill the service's spool and wait until its shipper has emptied it."""
    spool = Spool(settings.spool, busy_timeout=60)
    deadline = time.monotonic() + DRAIN_PATIENCE
    if given.pairs:
        fill(spool, given.size, given.pairs)
        return {"spooled": spool.ledger().spooled}
    while left := spool.ledger().spooled:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{left} exchanges are still in the spool after {DRAIN_PATIENCE:.0f} s")
        time.sleep(POLL_SECONDS)
    ledger = spool.ledger()
    if not ledger.balanced or ledger.set_aside or ledger.dropped:
        raise RuntimeError(f"the ledger of the benchmark is off: {ledger}")
    return {"stored": ledger.stored}


def main() -> int:
    """Do what was asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["drain", "insert", "pace", "store", "spool"])
    parser.add_argument("--size", type=int, default=2048, help="bytes of the JSON of a pair")
    parser.add_argument("--pairs", type=int, default=0, help="pairs a round; spool: 0 waits until it is empty")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--day", type=int, default=0, help="days from today")
    parser.add_argument("--schemas", nargs="+", default=[])
    given = parser.parse_args()
    settings = get_settings()
    if given.what == "drain":
        found: Any = drain(given, settings, make_engine(settings))
    elif given.what == "insert":
        found = insert(given, settings)
    elif given.what == "pace":
        found = pace(given, settings)
    elif given.what == "store":
        found = store(given, make_engine(settings))
    else:
        found = backlog(given, settings)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
