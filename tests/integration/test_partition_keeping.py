"""Partitions in PostgreSQL: there ahead of time, made once whoever else does, and never at the cost of a row."""

import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from integration.support import DAYS_AHEAD, Database, Writer, running
from litellm_sqlalchemy import partitions, retention
from litellm_sqlalchemy.shipper import Shipper, store

pytestmark = pytest.mark.alters_schema

NOW = datetime.now(timezone.utc)
TODAY = NOW.date()


def ensure(database: Database, days_ahead: int = DAYS_AHEAD) -> list[str]:
    with database.engine.begin() as connection:
        return partitions.ensure(connection, days_ahead)


def holders(database: Database) -> dict[str, str]:
    """The partition that each request is in, by its id; its response has to be in the one beside it."""
    rows = database.query(
        "SELECT q.request_id, q.tableoid::regclass::text AS request, p.tableoid::regclass::text AS response"
        " FROM requests q JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
    )
    for row in rows:
        assert row.response == row.request.replace("requests_", "responses_")
    return {row.request_id: row.request.removeprefix("requests_") for row in rows}


def suffix(days: int) -> str:
    return f"p{TODAY + timedelta(days=days):%Y%m%d}"


@pytest.fixture
def log(writer: Writer, database: Database) -> Callable[[str, timedelta], None]:
    """Stores an exchange of a moment other than now."""

    def logging(request_id: str, ago: timedelta) -> None:
        writer.write(request_id, at=NOW - ago)
        exchanges = writer.spool.ready(10)
        store(database.engine, exchanges)
        writer.spool.forget_stored([exchange.seq for exchange in exchanges])

    return logging


# Where rows go


def test_rows_go_to_the_partition_of_their_day(database: Database, log: Any) -> None:
    midnight = NOW - datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=timezone.utc)
    log("first of today", midnight)
    log("last of yesterday", midnight + timedelta(microseconds=1))
    log("tomorrow", -timedelta(days=1))
    assert holders(database) == {
        "first of today": suffix(0),
        "last of yesterday": suffix(-1),
        "tomorrow": suffix(1),
    }


def test_default_takes_what_no_day_covers(database: Database, log: Any) -> None:
    log("old", timedelta(days=400))
    log("far ahead", -timedelta(days=400))
    assert set(holders(database).values()) == {"default"}
    with database.engine.connect() as connection:
        assert partitions.state(connection) == partitions.State(DAYS_AHEAD, default_used=True)


# Made once


def test_second_time_makes_nothing(database: Database) -> None:
    assert ensure(database) == []
    assert ensure(database, DAYS_AHEAD + 2) == [suffix(DAYS_AHEAD + 1), suffix(DAYS_AHEAD + 2)]
    assert ensure(database, DAYS_AHEAD + 2) == []
    assert ensure(database, 1) == []
    with database.engine.connect() as connection:
        assert partitions.state(connection) == partitions.State(DAYS_AHEAD + 2, default_used=False)


def test_several_at_once_make_each_once(database: Database) -> None:
    made: list[list[str]] = []
    threads = [threading.Thread(target=lambda: made.append(ensure(database, 12))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, made)) == [0, 0, 0, 12 - DAYS_AHEAD]


def test_inserts_go_on_while_partitions_are_made(database: Database, writer: Writer, shipper: Shipper) -> None:
    with running(shipper):
        for days_ahead in range(DAYS_AHEAD + 1, DAYS_AHEAD + 9):
            writer.write_many(20, f"day {days_ahead}")
            ensure(database, days_ahead)
        deadline = time.monotonic() + 10
        while writer.spool.ledger().spooled and time.monotonic() < deadline:
            time.sleep(0.02)
    assert database.counts() == (160, 160, 160)
    assert shipper.failures == 0


def test_long_reader_is_not_waited_for_long(database: Database) -> None:
    """Inserts queue behind what waits for a lock: better to give up and come again."""
    with database.meanwhile("SELECT count(*) FROM requests"):
        start = time.monotonic()
        with pytest.raises(OperationalError, match="lock timeout"):
            ensure(database, DAYS_AHEAD + 1)
        assert time.monotonic() - start < partitions.LOCK_TIMEOUT_MS / 1000 + 1
    assert ensure(database, DAYS_AHEAD + 1) == [suffix(DAYS_AHEAD + 1)]


# Out of the default


def test_rows_move_out_of_the_default_when_their_day_is_made(database: Database, log: Any) -> None:
    for n in range(3):
        log(f"early {n}", -timedelta(days=DAYS_AHEAD + 2))
    log("old", timedelta(days=400))
    assert ensure(database, DAYS_AHEAD + 3) == [suffix(DAYS_AHEAD + n) for n in (1, 2, 3)]
    assert holders(database) == {f"early {n}": suffix(DAYS_AHEAD + 2) for n in range(3)} | {"old": "default"}
    # And the day is a partition like any other.
    log("late", -timedelta(days=DAYS_AHEAD + 2))
    assert holders(database)["late"] == suffix(DAYS_AHEAD + 2)
    assert database.counts() == (5, 5, 5)
    database.query("DELETE FROM requests WHERE request_id = 'early 0'")
    assert database.counts() == (4, 4, 4)


class Interrupter:
    """Does something once, just before a statement of the engine that begins in a certain way."""

    def __init__(self, engine: Engine, statement: str, work: Callable[[], None]) -> None:
        self.done: list[str] = []

        @event.listens_for(engine, "before_cursor_execute")
        def before(_connection: Any, _cursor: Any, sent: str, *_: Any) -> None:
            if sent.startswith(statement) and not self.done:
                self.done.append(sent)
                work()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO responses_",
        "DELETE FROM responses_default",
        "INSERT INTO requests_",
        "DELETE FROM requests_default",
        "SET CONSTRAINTS",
    ],
)
def test_row_that_comes_while_others_are_moved_is_not_lost(
    statement: str, database: Database, writer: Writer, log: Any
) -> None:
    """The very first partition that is made, so that no lock on the parents is held yet."""
    at = -timedelta(days=DAYS_AHEAD + 1)
    log("early", at)
    other = Database(database.url)
    writer.write("meanwhile", at=NOW - at)
    stored: list[bool] = []

    def store_meanwhile() -> None:
        with other.engine.connect() as connection:
            connection.exec_driver_sql("SET lock_timeout = '200ms'")
            connection.commit()
        try:
            store(other.engine, writer.spool.ready(10))
        except SQLAlchemyError:
            stored.append(False)  # it will be tried again
        else:
            stored.append(True)

    interrupted = Interrupter(database.engine, statement, store_meanwhile)
    try:
        ensure(database, DAYS_AHEAD + 1)
    except SQLAlchemyError:
        assert stored == [True], "for no reason"
        ensure(database, DAYS_AHEAD + 1)
    assert interrupted.done, "the statement has another form now"
    assert set(holders(database)) == {"early"} | ({"meanwhile"} if stored == [True] else set())
    other.close()


# Retention


@pytest.fixture
def old(database: Database, log: Any) -> Database:
    """A row for each of the last 6 days and one of 40 days ago, which is in the default."""
    with database.engine.begin() as connection:
        for days in range(2, 6):
            partitions.create(connection, partitions.Partition(TODAY - timedelta(days=days)))
    for days in range(6):
        log(f"{days} days", timedelta(days=days))
    log("40 days", timedelta(days=40))
    return database


def expire(database: Database, keep_days: int, keep_bodies_days: int, **more: Any) -> retention.Expired:
    return retention.expire(database.engine, keep_days, keep_bodies_days, today=TODAY, pause=0.05, **more)


def bodies(database: Database) -> dict[str, tuple[bool, bool]]:
    """Which exchanges still have a payload and an answer."""
    rows = database.query(
        "SELECT q.request_id, q.payload ? 'model', p.content ? 'response'"
        " FROM requests q JOIN responses p ON (p.request_id_fk, p.created_at) = (q.id, q.created_at)"
    )
    return {request_id: (payload, answer) for request_id, payload, answer in rows}


def test_nothing_is_removed_unasked(old: Database) -> None:
    assert expire(old, 0, 0) == retention.Expired()
    assert old.counts() == (7, 7, 7)


def test_days_beyond_are_dropped(old: Database) -> None:
    before = old.tables()
    done = expire(old, 3, 0)
    assert done.dropped == [suffix(-5), suffix(-4), "default"]
    assert done.postponed == done.stripped == []
    assert set(bodies(old)) == {f"{days} days" for days in range(4)}
    assert before - old.tables() == {f"{table}_{suffix(-n)}" for table in partitions.TABLES for n in (4, 5)}
    assert expire(old, 3, 0) == retention.Expired()


def test_bodies_beyond_are_stripped_and_the_accounting_stays(old: Database) -> None:
    accounts = "SELECT p.id, cost, total_tokens, latency_ms, content - 'response' FROM responses p ORDER BY id"
    before = old.query(accounts)
    done = expire(old, 0, 3)
    assert done.stripped == [suffix(-5), suffix(-4), "default"]
    kept = {request_id for request_id, both in bodies(old).items() if both == (True, True)}
    gone = {request_id for request_id, both in bodies(old).items() if both == (False, False)}
    assert kept == {f"{days} days" for days in range(4)}
    assert gone == {"4 days", "5 days", "40 days"}
    assert old.query(accounts) == before
    assert expire(old, 0, 3) == retention.Expired()


def test_bodies_that_come_late_are_stripped_as_well(old: Database, log: Any) -> None:
    expire(old, 0, 3)
    log("replayed", timedelta(days=5))
    log("replayed long ago", timedelta(days=41))
    assert expire(old, 0, 3).stripped == [suffix(-5), "default"]
    assert bodies(old)["replayed"] == bodies(old)["replayed long ago"] == (False, False)


def test_both_at_once(old: Database) -> None:
    done = expire(old, 4, 2)
    assert done.dropped == [suffix(-5), "default"]
    assert done.stripped[:2] == [suffix(-4), suffix(-3)]
    assert set(bodies(old)) == {f"{days} days" for days in range(5)}


def test_dry_run_removes_nothing(old: Database) -> None:
    dry = expire(old, 4, 2, dry_run=True)
    assert old.counts() == (7, 7, 7)
    assert all(both == (True, True) for both in bodies(old).values())
    assert dry.dropped == expire(old, 4, 2).dropped


def test_pair_in_use_is_postponed_and_delays_no_insert(
    old: Database, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ATTEMPTS", 2)
    monkeypatch.setattr(retention, "LOCK_TIMEOUT_MS", 200)
    slowest = 0.0
    with old.meanwhile(f"SELECT * FROM requests_{suffix(-5)}"):
        thread = threading.Thread(target=lambda: done.append(expire(old, 3, 0)))
        done: list[retention.Expired] = []
        thread.start()
        while thread.is_alive():
            start = time.monotonic()
            log(f"meanwhile {start}", timedelta())
            slowest = max(slowest, time.monotonic() - start)
        thread.join()
    assert done[0].postponed == [suffix(-5)]
    assert done[0].dropped == [suffix(-4), "default"]
    assert slowest < 1
    assert expire(old, 3, 0).dropped == [suffix(-5)]


def test_two_runs_at_once_are_one(old: Database) -> None:
    done: list[retention.Expired] = []
    threads = [threading.Thread(target=lambda: done.append(expire(old, 3, 2))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(one.dropped) for one in done) == 3
    assert old.counts() == (4, 4, 4)
    assert expire(old, 3, 2) == retention.Expired()


def test_partitions_of_others_are_left_alone(old: Database) -> None:
    old.query("CREATE TABLE requests_p19990101 (id integer)")
    old.query("CREATE TABLE requests_archive PARTITION OF requests FOR VALUES FROM ('1999-01-02') TO ('1999-02-01')")
    expire(old, 1, 1)
    assert {"requests_p19990101", "requests_archive"} <= old.tables()


def test_day_can_be_made_again_after_it_was_dropped(database: Database) -> None:
    with database.engine.begin() as connection:
        pair = partitions.Partition(date(2020, 2, 29))
        partitions.create(connection, pair)
    assert expire(database, 1, 0).dropped == ["p20200229"]
    with database.engine.begin() as connection:
        partitions.create(connection, pair)
    assert expire(database, 1, 0).dropped == ["p20200229"]
