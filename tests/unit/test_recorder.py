"""The recorder: what the disk will not take now is kept and written later, and every loss is counted."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litellm_sqlalchemy.recorder import RateLimit, Recorder
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.settings import Settings
from litellm_sqlalchemy.spool import Spool

REQUEST = {"route": "/", "payload": {}}
OUTCOME = {"outcome": "success", "status_code": 200, "ended_at": 2_000}
MIB = 1_048_576


class Disk:
    """Fails every write of a spool for as long as it is told to."""

    def __init__(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        for name in ("open", "finish", "account", "count"):
            monkeypatch.setattr(spool, name, self._failing(getattr(spool, name)))

    def _failing(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def perhaps(*arguments: Any) -> Any:
            if self.error is not None:
                raise self.error
            return write(*arguments)

        return perhaps


@pytest.fixture
def disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(spool, monkeypatch)


FULL = sqlite3.OperationalError("database or disk is full")


def recorder(spool: Spool, **settings: Any) -> Recorder:
    return Recorder(spool, "worker", Redactor([]), Settings(**settings))


def opened(writing: Recorder, created_at: int = 1_000) -> int:
    result = writing.open(created_at, "call", REQUEST)
    assert result is not None
    return result[0]


# Together


def test_outcome_and_its_accounting_are_one_commit(spool: Spool) -> None:
    due: list[Callable[[], None]] = []
    writing = Recorder(spool, "worker", Redactor([]), Settings(), due.append)
    seqs = [opened(writing, n) for n in range(3)]
    for seq in seqs:
        writing.finish(seq, OUTCOME, awaits_accounting=True)
        writing.account(seq, {"cost": 0.5})
    assert spool.ready(10) == []
    (flush,) = due
    statements: list[str] = []
    spool._connection.set_trace_callback(statements.append)
    flush()
    assert [statement for statement in statements if statement.startswith(("BEGIN", "COMMIT"))] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]
    exchanges = spool.ready(10)
    assert [(e.seq, e.outcome, e.accounting) for e in exchanges] == [(seq, OUTCOME, {"cost": 0.5}) for seq in seqs]


def test_what_comes_after_a_flush_is_due_again(spool: Spool) -> None:
    due: list[Callable[[], None]] = []
    writing = Recorder(spool, "worker", Redactor([]), Settings(), due.append)
    for n in range(3):
        writing.finish(opened(writing, n), OUTCOME, awaits_accounting=False)
        due.pop()()
        assert due == []
        assert len(spool.ready(10)) == n + 1


def test_what_waits_is_written_at_the_end(spool: Spool) -> None:
    writing = Recorder(spool, "worker", Redactor([]), Settings(), lambda flush: None)
    writing.finish(opened(writing), OUTCOME, awaits_accounting=False)
    assert spool.ready(10) == []
    writing.catch_up()
    assert len(spool.ready(10)) == 1


def test_much_at_once_is_written_before_it_is_too_much(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._WAITING_BYTES", 10_000)
    writing = Recorder(spool, "worker", Redactor([]), Settings(), lambda flush: None)
    for n in range(8):
        writing.finish(opened(writing, n), OUTCOME | {"response": "x" * 4_000}, awaits_accounting=False)
    writing.catch_up()
    assert len(spool.ready(10)) == 8


def test_outcome_that_is_larger_than_what_may_wait_is_written(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._WAITING_BYTES", 10_000)
    writing = recorder(spool)
    writing.finish(opened(writing), OUTCOME | {"response": "x" * 20_000}, awaits_accounting=False)
    writing.catch_up()
    assert len(spool.ready(10)) == 1


# Later


def test_outcome_that_the_disk_does_not_take_is_written_later(spool: Spool, disk: Disk) -> None:
    writing = recorder(spool)
    seq = opened(writing)
    disk.error = FULL
    writing.finish(seq, OUTCOME, awaits_accounting=False)
    writing.account(seq, {"cost": 0.5})
    writing.catch_up()
    assert spool.ready(10) == []
    disk.error = None
    writing.catch_up()
    (exchange,) = spool.ready(10)
    assert (exchange.outcome, exchange.accounting) == (OUTCOME, {"cost": 0.5})


def test_what_comes_later_waits_behind_what_came_first(spool: Spool, disk: Disk) -> None:
    writing = recorder(spool)
    first, second = opened(writing), opened(writing)
    disk.error = FULL
    writing.finish(first, OUTCOME, awaits_accounting=False)
    disk.error = None
    writing.finish(second, OUTCOME, awaits_accounting=False)
    writing.catch_up()
    assert [exchange.seq for exchange in spool.ready(10)] == [first, second]


def test_memory_is_bounded_while_the_disk_fails(
    spool: Spool, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._WAITING_BYTES", 10_000)
    writing = recorder(spool)
    seqs = [opened(writing, n) for n in range(5)]
    disk.error = FULL
    for seq in seqs:
        writing.finish(seq, OUTCOME | {"response": "x" * 4_000}, awaits_accounting=False)
    disk.error = None
    writing.catch_up()
    assert [exchange.seq for exchange in spool.ready(10)] == seqs[:2]
    # The others are not lost: their requests are in the spool.
    assert spool.interrupt(["worker"]) == 3
    assert spool.ledger().balanced
    assert "spool takes nothing" in caplog.text


def test_complaints_do_not_fill_the_disk(spool: Spool, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    writing = recorder(spool)
    seq = opened(writing)
    disk.error = FULL
    for _ in range(1_000):
        writing.finish(seq, OUTCOME, awaits_accounting=False)
        writing.open(1, "call", REQUEST)
    assert len(caplog.records) == 1
    assert "disk is full" in caplog.text


# Counted


def test_what_was_dropped_is_counted_as_soon_as_the_disk_takes_it(spool: Spool, disk: Disk) -> None:
    writing = recorder(spool)
    disk.error = FULL
    for _ in range(3):
        assert writing.open(1_000, "call", REQUEST) is None
        writing.drop()
    writing.catch_up()
    disk.error = None
    writing.catch_up()
    writing.catch_up()
    assert (spool.ledger().dropped, spool.ledger().balanced) == (3, True)


@pytest.mark.parametrize(
    "settings", [{"spool_max_bytes": MIB}, {"spool_reserve_bytes": 2**62}], ids=["limit", "reserve"]
)
def test_limits_are_kept(settings: dict[str, int], spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._LOOK_SECONDS", 0.0)
    writing = recorder(spool, **settings)
    taken = sum(writing.open(n, "call", REQUEST | {"payload": "x" * 100_000}) is not None for n in range(30))
    assert taken <= 12
    assert spool.used_bytes() < 1.5 * MIB
    assert spool.ledger().balanced


def test_room_that_the_shipper_makes_is_used_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._LOOK_SECONDS", 0.0)
    writing = recorder(spool, spool_max_bytes=MIB)
    seqs = []
    while (result := writing.open(len(seqs), "call", REQUEST | {"payload": "x" * 100_000})) is not None:
        seqs.append(result[0])
    assert len(seqs) > 5
    spool.forget_stored(seqs)
    assert writing.open(1_000, "call", REQUEST) is not None


def test_what_was_accepted_is_finished_where_there_is_no_room(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.recorder._LOOK_SECONDS", 0.0)
    writing = recorder(spool, spool_max_bytes=MIB)
    seq = opened(writing)
    monkeypatch.setattr(spool, "used_bytes", lambda: 2 * MIB)
    writing.finish(seq, OUTCOME, awaits_accounting=False)
    assert [exchange.seq for exchange in spool.ready(10)] == [seq]


# Refusing


def test_only_who_must_log_refuses(spool: Spool, disk: Disk) -> None:
    keeps, refuses = recorder(spool, spool_when_full="keep-serving"), recorder(spool, spool_when_full="refuse")
    assert (keeps.must_log, refuses.must_log) == (False, True)
    assert not keeps.refuses()
    assert not refuses.refuses()
    disk.error = FULL
    for writing in (keeps, refuses):
        writing.open(1_000, "call", REQUEST)
    assert not keeps.refuses()
    assert refuses.refuses()
    refuses.catch_up()  # it cannot
    disk.error = None
    refuses.catch_up()
    assert not refuses.refuses()


# Rates


def test_rate_is_limited_after_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limit = RateLimit(5.0)
    assert sum(limit.allows() for _ in range(200)) == 50
    now[0] += 1
    assert sum(limit.allows() for _ in range(200)) == 5
    now[0] += 3_600
    assert sum(limit.allows() for _ in range(200)) == 50


def test_rate_below_one_a_second_lets_some_through(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limit = RateLimit(0.01)
    assert sum(limit.allows() for _ in range(5)) == 1
    now[0] += 101
    assert sum(limit.allows() for _ in range(5)) == 1


def test_strangers_beyond_the_rate_are_counted(spool: Spool) -> None:
    writing = recorder(spool, refusals_per_second=0.1)
    assert [writing.may_log_refusal() for _ in range(4)] == [True, False, False, False]
    writing.catch_up()
    assert spool.ledger().unlogged_refusals == 3
    assert spool.ledger().accepted == 0


# A file that another process replaced


def test_recorder_goes_on_in_the_new_file(spool: Spool, spool_path: Path) -> None:
    writing = recorder(spool)
    old = opened(writing)
    other = Spool(spool_path)
    other.recover(sqlite3.DatabaseError("database disk image is malformed"))
    writing.catch_up()
    writing.finish(old, OUTCOME, awaits_accounting=False)
    new = opened(writing)
    writing.finish(new, OUTCOME, awaits_accounting=False)
    assert [exchange.seq for exchange in other.ready(10)] == [new]
    assert other.ledger().balanced
    other.close()
