"""From the spool to PostgreSQL: every exchange exactly once, whatever dies or breaks on the way."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from integration.relay import Relay
from integration.support import DAYS_AHEAD, Database, Writer, command_environment, python, running, until
from litellm_sqlalchemy.locks import WorkerLock
from litellm_sqlalchemy.schema import upgrade
from litellm_sqlalchemy.shipper import Shipper, store
from litellm_sqlalchemy.spool import Spool

NOW = datetime.now(timezone.utc)


def ids(database: Database) -> list[str]:
    """The ids of everything stored, in the order of its acceptance; each with its response."""
    assert len(set(database.counts())) == 1, "half a pair"
    return [row.request_id for row in database.query("SELECT request_id FROM requests ORDER BY created_at, id")]


def drained(spool: Spool) -> bool:
    ledger = spool.ledger()
    assert ledger.balanced
    return ledger.spooled == 0


# Whole and exact


def test_exchanges_arrive_whole_and_in_order(shipper: Shipper, writer: Writer, database: Database) -> None:
    written = writer.write_many(120)
    assert shipper.drain() == 120
    assert ids(database) == written
    ledger = writer.spool.ledger()
    assert (ledger.accepted, ledger.stored, ledger.spooled, ledger.balanced) == (120, 120, 0, True)
    assert shipper.drain() == 0


@pytest.mark.acceptance("AC-6")
def test_response_belongs_to_its_request(shipper: Shipper, writer: Writer, database: Database) -> None:
    for n in range(60):
        writer.write(f"call-{n}", outcome={"response": {"id": f"answer to call-{n}"}})
    shipper.drain()
    rows = database.query(
        "SELECT q.request_id, p.content -> 'response' ->> 'id' FROM responses p"
        " JOIN requests q ON (q.id, q.created_at) = (p.request_id_fk, p.created_at)"
    )
    assert len(rows) == 60
    assert all(answer == f"answer to {request_id}" for request_id, answer in rows)


@pytest.mark.acceptance("AC-5")
def test_money_is_exact(shipper: Shipper, writer: Writer, database: Database) -> None:
    costs = [0.1] * 10 + [1e-07, 0.00046, 123456.789, 0.0]
    for cost in costs:
        writer.write(accounting={"cost": cost})
    shipper.drain()
    assert database.value("SELECT sum(cost) FROM responses") == sum(Decimal(repr(cost)) for cost in costs)
    assert database.value("SELECT sum(cost) FROM responses WHERE cost = 0.1") == Decimal("1.0")
    assert database.value("SELECT cost::text FROM responses WHERE cost BETWEEN 0.00000001 AND 0.000001") == "0.0000001"


def test_time_is_exact_in_any_zone(shipper: Shipper, writer: Writer, database: Database) -> None:
    at = NOW.replace(microsecond=123_457)
    writer.write(at=at, outcome={"ended_at": int(at.timestamp()) * 1_000_000 + 623_457})
    shipper.drain()
    for zone in ("UTC", "Asia/Kolkata", "America/St_Johns"):
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"SET TIME ZONE '{zone}'")
            row = connection.exec_driver_sql(
                "SELECT q.created_at, start_time, end_time, latency_ms, p.created_at FROM requests q, responses p"
            ).one()
        assert row[0] == row[1] == row[4] == at
        assert row[2] - at == timedelta(milliseconds=500)
        assert row[3] == 500


def test_interrupted_exchange_is_stored_as_such(shipper: Shipper, spool: Spool, database: Database) -> None:
    lock = WorkerLock(spool.path)
    spool.open(lock.worker, time.time_ns() // 1000, "open", b'{"route":"/","payload":{"a":1}}')
    lock.release()
    with running(shipper):
        until(lambda: drained(spool))
    ((status, end, outcome, latency),) = database.query(
        "SELECT status_code, end_time, content ->> 'outcome', latency_ms FROM requests, responses"
    )
    assert (status, end, outcome, latency) == (None, None, "interrupted", None)


STORED = {
    "nul": ("a\0b \\u0000", "a\ufffdb \\u0000"),
    "surrogate": ("a\ud800b", "a?b"),
    "both": ("\0\udfff", "\ufffd?"),
    "scripts": ("größe 漢字 עברית 👩‍👩‍👧‍👦 \U0010ffff", "größe 漢字 עברית 👩‍👩‍👧‍👦 \U0010ffff"),
    "copy": ("\\N\t\\.\n\r\\", "\\N\t\\.\n\r\\"),
    "controls": ("\x01\x08\x0b\x1f\x7f\x85\u2028\ufeff", "\x01\x08\x0b\x1f\x7f\x85\u2028\ufeff"),
    "large": ("0123456789abcdef" * 327_680, "0123456789abcdef" * 327_680),
}


@pytest.mark.parametrize(("text", "stored"), STORED.values(), ids=STORED.keys())
def test_text_is_stored_as_far_as_postgresql_can(
    text: str, stored: str, shipper: Shipper, writer: Writer, database: Database
) -> None:
    writer.write(request={"payload": {text[:50]: text}, "model": text}, outcome={"response": {"text": [text]}})
    assert shipper.drain() == 1
    ((payload, answer),) = database.query(
        "SELECT payload, content -> 'response' -> 'text' -> 0 FROM requests, responses"
    )
    assert (payload, answer) == ({stored[:50]: stored}, stored)
    assert writer.spool.set_aside_errors() == []


def test_model_of_any_length_is_stored(shipper: Shipper, writer: Writer, database: Database) -> None:
    """An index takes 2,704 bytes a row, and compresses."""
    model = "".join(chr(0x20000 + (n * 7919) % 40_000) for n in range(5_000))
    writer.write(request={"model": model, "user_id": model, "route": model})
    shipper.drain()
    assert writer.spool.set_aside_errors() == []
    assert model.startswith(database.value("SELECT model FROM requests"))


def test_deep_nesting_is_stored(shipper: Shipper, writer: Writer, database: Database) -> None:
    nested: Any = "bottom"
    for _ in range(200):
        nested = [nested]
    writer.write(request={"payload": {"nested": nested}})
    shipper.drain()
    assert database.value("SELECT payload -> 'nested' FROM requests") == nested


def storable(value: Any) -> Any:
    """A value as jsonb holds it: no surrogates, NUL or NaN, and numbers as decimals."""
    if isinstance(value, str):
        return "".join("?" if "\ud800" <= char <= "\udfff" else "\ufffd" if char == "\0" else char for char in value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


any_text = st.text(st.characters(exclude_categories=()))
json_values = st.recursive(
    # What is longer becomes a float as it comes in.
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | any_text,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(any_text, values, max_size=4),
    max_leaves=12,
)


@settings(max_examples=8, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(json_values, min_size=40, max_size=40))
def test_any_payload_is_stored(writer: Writer, shipper: Shipper, database: Database, values: list[Any]) -> None:
    for n, value in enumerate(values):
        writer.write(f"{n}", request={"payload": {"value": value}})
    assert shipper.drain() == len(values)
    assert writer.spool.set_aside_errors() == []
    rows = database.query("SELECT request_id, payload::text AS payload FROM requests")
    stored = {row.request_id: json.loads(row.payload, parse_int=Decimal, parse_float=Decimal)["value"] for row in rows}
    assert [stored[f"{n}"] for n in range(len(values))] == [storable(value) for value in values]
    database.query("DELETE FROM requests")


# Exactly once


def test_batch_that_was_stored_but_not_forgotten_is_stored_once(
    shipper: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(30)
    store(database.engine, writer.spool.ready(30))
    assert shipper.drain() == 30
    assert ids(database) == written
    assert writer.spool.ledger().stored == 30


def test_replay_that_is_mixed_with_new_rows_stores_the_new_ones(
    shipper: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(10, "old")
    store(database.engine, writer.spool.ready(10)[2:7])
    written += writer.write_many(10, "new")
    assert shipper.drain() == 20
    assert sorted(ids(database)) == sorted(written)
    before = database.query("SELECT id, request_id FROM requests ORDER BY id")
    store(database.engine, [])
    assert database.query("SELECT id, request_id FROM requests ORDER BY id") == before


def test_calls_with_one_id_are_as_many_rows(shipper: Shipper, writer: Writer, database: Database) -> None:
    for _ in range(300):
        writer.write("same")
    batch = writer.spool.ready(50)
    store(database.engine, batch)
    assert shipper.drain() == 300
    assert ids(database) == ["same"] * 300
    assert database.value("SELECT count(DISTINCT created_at) FROM requests") == 300


KILLED = """
import os, signal, sys
from pathlib import Path
from litellm_sqlalchemy.engine import make_engine
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.shipper import Shipper
from litellm_sqlalchemy.spool import Spool

class Killed(Spool):
    def forget_stored(self, seqs):
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings()
Shipper(Killed(settings.spool), make_engine(settings), 20, 30.0).drain()
"""


def test_shipper_that_is_killed_between_commit_and_delete_stores_nothing_twice(
    shipper: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(50)
    environment = command_environment(database, spool=writer.spool.path)
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, timeout=30, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ids(database) == written[:20]
    assert writer.spool.ledger().spooled == 50
    assert shipper.drain() == 50
    assert ids(database) == written
    assert writer.spool.ledger().stored == 50


def test_shipper_that_is_killed_at_any_moment_loses_nothing(
    shipper: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(1_500)
    environment = command_environment(database, spool=writer.spool.path, batch_size=3, metrics_port=0)
    for _ in range(3):
        stored = database.counts()[0]
        with subprocess.Popen(python("ship"), env=environment, stderr=subprocess.DEVNULL) as process:
            until(lambda before=stored: database.counts()[0] > before + 20)
            process.kill()
    assert not drained(writer.spool), "it was never killed at work"
    shipper.drain()
    assert ids(database) == written
    assert drained(writer.spool)


def test_shipper_stops_when_it_is_told_to(writer: Writer, database: Database) -> None:
    writer.write_many(100)
    environment = command_environment(database, spool=writer.spool.path, metrics_port=0)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(python("ship"), env=environment, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: drained(writer.spool))
            process.send_signal(signal_number)
            _, errors = process.communicate(timeout=10)
            assert process.returncode == 0, errors
            assert "Traceback" not in errors
        writer.write_many(10, "more")
    assert database.counts() == (110, 110, 110)


def test_two_shippers_of_one_spool_store_everything_once(writer: Writer, database: Database) -> None:
    """`litellm-db ship --once` beside the service."""
    written = writer.write_many(300)
    spools = [Spool(writer.spool.path) for _ in range(2)]
    threads = [threading.Thread(target=Shipper(spool, database.engine, 20, 30.0).drain) for spool in spools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for spool in spools:
        spool.close()
    assert ids(database) == written
    ledger = writer.spool.ledger()
    assert (ledger.stored, ledger.balanced) == (300, True)


# PostgreSQL away


@pytest.fixture
def relay(database: Database) -> Iterator[Relay]:
    relay = Relay(database.url)
    yield relay
    relay.close()


@pytest.fixture
def relayed(relay: Relay, shippers_spool: Spool) -> Iterator[Shipper]:
    """A shipper whose connections can be cut."""
    through = Database(relay.url)
    yield Shipper(shippers_spool, through.engine, batch_size=50, accounting_grace=30.0)
    through.close()


@pytest.mark.parametrize("arrives", [True, False], ids=["stored_without_an_answer", "never_arrived"])
def test_commit_whose_answer_is_lost_is_done_once(
    arrives: bool, relay: Relay, relayed: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(20)
    relay.cut_at(b"COMMIT", arrives=arrives)
    with pytest.raises(DBAPIError):
        relayed.drain()
    assert relay.cuts == 1
    assert writer.spool.ledger().spooled == 20
    if arrives:
        until(lambda: database.counts()[0] == 20)
    assert relayed.drain() == 20
    assert ids(database) == written
    assert writer.spool.ledger().stored == 20


@pytest.mark.parametrize("word", [b"nextval", b"COPY requests", b"COPY responses"], ids=bytes.decode)
def test_connection_that_breaks_within_a_batch_costs_nothing(
    word: bytes, relay: Relay, relayed: Shipper, writer: Writer, database: Database
) -> None:
    written = writer.write_many(20)
    relay.cut_at(word, arrives=True)
    with running(relayed):
        until(lambda: drained(writer.spool))
    assert relay.cuts == 1
    assert relayed.failures >= 1
    assert ids(database) == written
    assert writer.spool.set_aside_errors() == []


def test_database_that_is_away_is_waited_for(
    relay: Relay, relayed: Shipper, writer: Writer, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    relay.cut()
    written = writer.write_many(30, "before")
    with running(relayed):
        until(lambda: relayed.failures >= 2)
        assert relayed.is_failing
        written += writer.write_many(30, "during")
        assert writer.spool.ledger().spooled == 60
        assert writer.spool.set_aside_errors() == []
        relay.mend()
        until(lambda: drained(writer.spool))
        until(lambda: not relayed.is_failing)
    assert sorted(ids(database)) == sorted(written)
    assert "refused" in caplog.text
    assert "scratch:scratch" not in caplog.text


def test_terminated_backends_lose_nothing(
    shipper: Shipper, shippers_spool: Spool, writer: Writer, database: Database
) -> None:
    written = writer.write_many(1_000)
    slow = Shipper(shippers_spool, database.engine, batch_size=5, accounting_grace=30.0)
    other = Database(database.url.update_query_dict({"application_name": "operator"}))
    killed = 0
    with running(slow):
        while killed < 4:
            killed += len(
                other.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'litellm-request-log'"
                )
            )
            time.sleep(0.05)
        slow.stop()
    other.close()
    shipper.drain()
    assert ids(database) == written
    assert writer.spool.set_aside_errors() == []
    assert drained(writer.spool)


def test_missing_schema_is_waited_for(empty: Database, writer: Writer, spool: Spool, shippers_spool: Spool) -> None:
    writer.write_many(10)
    shipper = Shipper(shippers_spool, empty.engine, batch_size=50, accounting_grace=30.0)
    with running(shipper):
        until(lambda: shipper.failures >= 2)
        assert spool.set_aside_errors() == []
        assert spool.ledger().spooled == 10
        upgrade(empty.engine, DAYS_AHEAD)
        until(lambda: drained(spool))
    assert empty.counts() == (10, 10, 10)


@pytest.mark.alters_schema
@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        (
            "REVOKE ALL ON responses FROM PUBLIC; ALTER TABLE responses RENAME TO elsewhere",
            "ALTER TABLE elsewhere RENAME TO responses",
        ),
        ("ALTER TABLE requests DROP COLUMN user_id", "ALTER TABLE requests ADD COLUMN user_id text"),
    ],
    ids=["table", "column"],
)
def test_schema_that_is_not_migrated_yet_sets_nothing_aside(
    broken: str, mended: str, database: Database, shipper: Shipper, writer: Writer
) -> None:
    writer.write_many(3)
    database.query(broken)
    with pytest.raises(DBAPIError):
        shipper.drain()
    assert writer.spool.set_aside_errors() == []
    database.query(mended)
    assert shipper.drain() == 3


# Poison


def refusing(database: Database, sqlstate: str, message: str = "no such model") -> None:
    """Have PostgreSQL refuse requests for the model `evil`, as whatever it calls that."""
    database.query(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.model = 'evil' THEN RAISE EXCEPTION '{message}' USING ERRCODE = '{sqlstate}'; END IF;"
        f" RETURN NEW; END $$"
    )
    database.query("CREATE TRIGGER refuse BEFORE INSERT ON requests FOR EACH ROW EXECUTE FUNCTION refuse()")


@pytest.mark.alters_schema
@pytest.mark.parametrize("sqlstate", ["22003", "22P02", "23514", "54000"])
def test_row_that_postgresql_refuses_is_set_aside_alone_and_can_be_replayed(
    sqlstate: str, database: Database, shipper: Shipper, writer: Writer
) -> None:
    refusing(database, sqlstate)
    good = writer.write_many(60)
    for name in ("evil-1", "evil-2"):
        writer.write(name, request={"model": "evil"})
    good += writer.write_many(60, "after")
    shipper.drain()
    assert sorted(ids(database)) == sorted(good)
    aside = writer.spool.set_aside_errors()
    assert [request_id for _, request_id, _ in aside] == ["evil-1", "evil-2"]
    assert all("no such model" in reason for _, _, reason in aside)
    ledger = writer.spool.ledger()
    assert (ledger.stored, ledger.set_aside, ledger.spooled, ledger.balanced) == (120, 2, 0, True)

    assert writer.spool.replay() == 2
    shipper.drain()
    assert len(writer.spool.set_aside_errors()) == 2, "the cause is still there"
    database.query("DROP TRIGGER refuse ON requests")
    assert writer.spool.replay() == 2
    assert shipper.drain() == 2
    assert set(ids(database)) == {*good, "evil-1", "evil-2"}
    assert (writer.spool.ledger().stored, writer.spool.ledger().balanced) == (122, True)


@pytest.mark.alters_schema
@pytest.mark.parametrize("sqlstate", ["53100", "53200", "57014", "40001", "55P03", "42501", "25006"])
def test_trouble_of_the_server_sets_nothing_aside(
    sqlstate: str, database: Database, shipper: Shipper, writer: Writer
) -> None:
    """Disk full, out of memory, cancelled, serialisation, lock, privilege, read-only: no fault of the row."""
    refusing(database, sqlstate)
    writer.write("evil", request={"model": "evil"})
    with pytest.raises(DBAPIError):
        shipper.drain()
    assert writer.spool.set_aside_errors() == []
    database.query("DROP TRIGGER refuse ON requests")
    assert shipper.drain() == 1
    assert ids(database) == ["evil"]


POISON = {
    "tokens": {"accounting": {"total_tokens": 2**40}},
    "cost": {"accounting": {"cost": "0.1 dollars"}},
    "end": {"outcome": {"ended_at": 10**30}},
    "attempts": {"outcome": {"outcome": None, "status_code": 2**40}},
    "no_json": {"request": {"route": "/"}},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_poison_never_blocks_what_is_behind_it(
    poison: dict[str, Any], database: Database, shipper: Shipper, writer: Writer
) -> None:
    good = writer.write_many(5, "before")
    if poison is POISON["no_json"]:
        seq, _ = writer.spool.open("worker", writer.at, "poison", b'{"seed":[redacted]}')
        writer.spool.finish(seq, b"{}", 0)
    else:
        writer.write("poison", **poison)
    good += writer.write_many(5, "after")
    with running(shipper):
        until(lambda: drained(writer.spool))
    assert ids(database) == good
    ((_, request_id, reason),) = writer.spool.set_aside_errors()
    assert request_id == "poison"
    assert reason
    assert shipper.failures == 0


# What PostgreSQL itself keeps


PAIR = """
INSERT INTO requests (id, created_at, request_id, route, payload, start_time)
    VALUES (1, now(), 'call', '/', '{}', now());
INSERT INTO responses (id, created_at, request_id_fk, content) VALUES (1, now(), 1, '{}');
"""


@pytest.mark.acceptance("AC-6")
@pytest.mark.parametrize("day", ["now()", "now() - interval '400 days'"], ids=["today", "default"])
@pytest.mark.parametrize("without", ["requests", "responses"])
def test_half_a_pair_cannot_be_committed(day: str, without: str, database: Database) -> None:
    statements = [line for line in PAIR.replace("now()", day).strip().split(";\n") if f"INTO {without}" not in line]
    with pytest.raises(DBAPIError, match="violates foreign key constraint"):
        database.query(";".join(statements))
    assert database.counts() == (0, 0, 0)
    database.query(PAIR.replace("now()", day))
    assert database.counts() == (1, 1, 1)


def test_response_cannot_be_taken_from_its_request(database: Database) -> None:
    database.query(PAIR)
    for statement in ("DELETE FROM responses", "UPDATE responses SET request_id_fk = 2", "UPDATE requests SET id = 2"):
        with pytest.raises(DBAPIError, match="violates foreign key constraint"):
            database.query(statement)
    assert database.counts() == (1, 1, 1)


def test_response_goes_with_its_request(shipper: Shipper, writer: Writer, database: Database) -> None:
    writer.write_many(10)
    writer.write("old", at=NOW - timedelta(days=400))
    shipper.drain()
    database.query("DELETE FROM requests WHERE request_id IN ('call-3', 'old')")
    assert database.counts() == (9, 9, 9)
    assert "call-3" not in ids(database)


def test_request_is_unique_by_its_id_and_moment(database: Database) -> None:
    database.query(PAIR)
    again = PAIR.replace("now()", "(SELECT created_at FROM requests)").replace("(1,", "(2,").replace(", 1,", ", 2,")
    with pytest.raises(DBAPIError, match="unique constraint"):
        database.query(again)


def test_keys_never_collide_with_rows_of_other_gateways(writer: Writer, database: Database, tmp_path: Path) -> None:
    other = Writer(Spool(tmp_path / "other.sqlite3"))
    for writing in (writer, other):
        for n in range(200):
            writing.write(f"{id(writing)}-{n}")
    shippers = [Shipper(writing.spool, database.engine, 10, 30.0) for writing in (writer, other)]
    threads = [threading.Thread(target=shipper.drain) for shipper in shippers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.counts() == (400, 400, 400)
    other.spool.close()
