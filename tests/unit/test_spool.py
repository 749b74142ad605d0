"""The spool: what was accepted stays until PostgreSQL has it, in order, and the ledger balances at any moment."""

import shutil
import sqlite3
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from litellm_sqlalchemy import ledger as balance
from litellm_sqlalchemy.exchange import Exchange, encode
from litellm_sqlalchemy.spool import Ledger, Spool

REQUEST, OUTCOME, ACCOUNTING = b'{"route":"/"}', b'{"outcome":"success"}', b'{"cost":0.5}'
GRACE = 3_600.0
"""Seconds that the tests' exchanges wait for their accounting at most."""


def in_seconds(seconds: float) -> int:
    """A moment from now, in microseconds since the epoch."""
    return time.time_ns() // 1000 + round(seconds * 1_000_000)


def counts(accepted: int, stored: int, spooled: int, set_aside: int, interrupted: int = 0) -> Ledger:
    """A ledger without anything dropped."""
    return Ledger(accepted, stored, spooled, set_aside, 0, interrupted, 0)


def accept(spool: Spool, request_id: str = "call", created_at: int = 1_000, worker: str = "w") -> int:
    """Open an exchange; its seq."""
    return spool.open(worker, created_at, request_id, REQUEST)[0]


def complete(spool: Spool, request_id: str = "call", created_at: int = 1_000) -> int:
    """Open and finish an exchange that may be shipped at once; its seq."""
    seq = accept(spool, request_id, created_at)
    spool.finish(seq, OUTCOME, 0)
    return seq


def ready_seqs(spool: Spool, limit: int = 100) -> list[int]:
    return [exchange.seq for exchange in spool.ready(limit, GRACE)]


# Order and identity


def test_what_was_written_comes_back(spool: Spool) -> None:
    seq, created_at = spool.open("w", 1_234, "call-1", '{"route":"/größe"}'.encode())
    spool.finish(seq, OUTCOME, 0)
    spool.account(seq, ACCOUNTING)
    assert spool.ready(10) == [
        Exchange(seq, created_at, "call-1", {"route": "/größe"}, {"outcome": "success"}, {"cost": 0.5})
    ]
    assert created_at == 1_234


def test_exchanges_come_in_the_order_of_their_acceptance(spool: Spool) -> None:
    """Not in the order in which they end, nor in that of a clock that was stepped back."""
    seqs = [accept(spool, f"call-{n}", created_at) for n, created_at in enumerate((500, 400, 900))]
    for seq in reversed(seqs):
        spool.finish(seq, OUTCOME, 0)
    assert ready_seqs(spool) == seqs == sorted(seqs)
    assert ready_seqs(spool, limit=2) == seqs[:2]


def test_exchanges_of_one_id_and_one_moment_are_told_apart(spool: Spool) -> None:
    opened = [spool.open("w", 1_000, "same", REQUEST) for _ in range(50)]
    assert [created_at for _, created_at in opened] == list(range(1_000, 1_050))
    assert len({seq for seq, _ in opened}) == 50
    assert spool.open("w", 1_000, "other", REQUEST)[1] == 1_000


def test_moments_that_were_taken_do_not_count_as_accepted(spool: Spool) -> None:
    for _ in range(5):
        accept(spool)
    assert spool.ledger().accepted == 5


def test_seq_is_never_used_again(spool: Spool) -> None:
    """The ledger counts by it."""
    first = complete(spool)
    spool.forget_stored([first])
    assert complete(spool) == first + 1


# Ready


def test_open_exchange_is_not_ready(spool: Spool) -> None:
    accept(spool)
    assert spool.ready(10) == []


def test_finished_exchange_waits_for_its_accounting(spool: Spool) -> None:
    seq = accept(spool)
    spool.finish(seq, OUTCOME, in_seconds(60))
    assert ready_seqs(spool) == []
    spool.account(seq, ACCOUNTING)
    assert ready_seqs(spool) == [seq]


def test_accounting_alone_does_not_make_ready(spool: Spool) -> None:
    seq = accept(spool)
    spool.account(seq, ACCOUNTING)
    assert ready_seqs(spool) == []
    spool.finish(seq, OUTCOME, in_seconds(60))
    assert ready_seqs(spool) == [seq]


def test_exchange_waits_no_longer_than_its_grace(spool: Spool) -> None:
    late, soon = accept(spool, "late"), accept(spool, "soon")
    spool.finish(late, OUTCOME, in_seconds(60))
    spool.finish(soon, OUTCOME, in_seconds(0.05))
    assert ready_seqs(spool) == []
    time.sleep(0.06)
    assert ready_seqs(spool) == [soon]
    assert spool.ready(10, GRACE)[0].accounting is None


def test_exchange_waits_no_longer_where_the_clock_was_set_back(spool: Spool) -> None:
    seq = accept(spool)
    spool.finish(seq, OUTCOME, in_seconds(GRACE + 60))
    assert ready_seqs(spool) == [seq]


def test_exchange_that_waits_does_not_hold_up_the_next(spool: Spool) -> None:
    waiting = accept(spool, "waiting")
    spool.finish(waiting, OUTCOME, in_seconds(60))
    following = complete(spool, "next")
    assert ready_seqs(spool) == [following]


def test_large_exchanges_come_few_at_a_time_and_larger_ones_alone(spool: Spool) -> None:
    """The shipper's memory, after an outage during which long prompts were sent."""
    sizes = (5, 5, 1, 1, 20, 1)
    for number, size in enumerate(sizes):
        seq, _ = spool.open("w", 1_000 + number, "call", encode({"payload": "x" * size * 1_000_000}))
        spool.finish(seq, OUTCOME, 0)
    portions = []
    while found := spool.ready(100):
        portions.append([len(exchange.request["payload"]) // 1_000_000 for exchange in found])
        spool.forget_stored([exchange.seq for exchange in found])
    assert portions == [[5], [5, 1, 1], [20], [1]]


def test_document_that_cannot_be_read_is_set_aside(spool: Spool) -> None:
    """It must not stop what is behind it."""
    bad = spool.open("w", 1_000, "bad", b'{"seed":[redacted]}')[0]
    spool.finish(bad, OUTCOME, 0)
    good = complete(spool, "good")
    assert ready_seqs(spool) == [good]
    ((seq, request_id, error),) = spool.set_aside_errors()
    assert (seq, request_id) == (bad, "bad")
    assert "cannot be read" in error
    assert spool.ledger() == counts(2, 0, 1, 1)


def test_first_word_counts(spool: Spool) -> None:
    seq = accept(spool)
    spool.finish(seq, OUTCOME, 0)
    spool.finish(seq, b'{"outcome":"again"}', in_seconds(60))
    spool.account(seq, ACCOUNTING)
    spool.account(seq, b'{"cost":7}')
    (exchange,) = spool.ready(10)
    assert (exchange.outcome, exchange.accounting) == ({"outcome": "success"}, {"cost": 0.5})


def test_word_about_what_is_gone_leaves_nothing_behind(spool: Spool, spool_path: Path) -> None:
    seq = complete(spool)
    spool.forget_stored([seq])
    spool.finish(seq, OUTCOME, 0)
    spool.account(seq, ACCOUNTING)
    assert rows(spool_path) == {"requests": 0, "outcomes": 0, "accounting": 0, "set_aside": 0}


# Forget, set aside, replay


def rows(path: Path) -> dict[str, int]:
    """How many rows each table holds."""
    connection = sqlite3.connect(path)
    counts = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("requests", "outcomes", "accounting", "set_aside")
    }
    connection.close()
    return counts


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_forgotten_exchanges_leave_no_row(spool: Spool, spool_path: Path, count: int) -> None:
    seqs = [complete(spool, created_at=n) for n in range(count)]
    for seq in seqs:
        spool.account(seq, ACCOUNTING)
    stays = complete(spool, "stays")
    spool.forget_stored(seqs)
    assert rows(spool_path) == {"requests": 1, "outcomes": 1, "accounting": 0, "set_aside": 0}
    assert ready_seqs(spool) == [stays]
    assert spool.ledger() == counts(count + 1, count, 1, 0)


def test_forgotten_exchange_counts_once(spool: Spool) -> None:
    """`litellm-db ship --once` beside the service: both see that PostgreSQL has it, both forget it."""
    seq = complete(spool)
    spool.forget_stored([seq])
    spool.forget_stored([seq])
    assert spool.ledger().stored == 1
    assert spool.ledger().balanced


def test_exchange_set_aside_leaves_the_line_with_its_reason(spool: Spool, spool_path: Path) -> None:
    bad, good = complete(spool, "bad"), complete(spool, "good")
    spool.account(bad, ACCOUNTING)
    spool.set_aside(spool.ready(10)[0].seq, "invalid byte sequence")
    assert ready_seqs(spool) == [good]
    assert spool.set_aside_errors() == [(bad, "bad", "invalid byte sequence")]
    assert rows(spool_path) == {"requests": 1, "outcomes": 1, "accounting": 0, "set_aside": 1}


def test_replayed_exchange_comes_back_whole_and_in_its_place(spool: Spool) -> None:
    bad = complete(spool, "bad")
    spool.account(bad, ACCOUNTING)
    before = spool.ready(10)
    spool.set_aside(before[0].seq, "why")
    later = complete(spool, "later")
    assert spool.replay() == 1
    assert spool.ready(10)[:1] == before
    assert ready_seqs(spool) == [bad, later]
    assert spool.set_aside_errors() == []
    assert spool.replay() == 0


def test_exchange_can_be_set_aside_again(spool: Spool) -> None:
    complete(spool, "bad")
    for reason in ("first", "second"):
        spool.set_aside(spool.ready(1)[0].seq, reason)
        assert [error for _, _, error in spool.set_aside_errors()] == [reason]
        assert spool.ledger().balanced
        spool.replay()
    assert spool.ledger() == counts(1, 0, 1, 0)


def test_setting_aside_what_is_gone_changes_nothing(spool: Spool) -> None:
    complete(spool)
    (exchange,) = spool.ready(1)
    spool.forget_stored([exchange.seq])
    spool.set_aside(exchange.seq, "late")
    assert spool.ledger() == counts(1, 1, 0, 0)


def test_replay_succeeds_where_a_clock_stepped_back(spool: Spool) -> None:
    complete(spool, "same", 1_000)
    spool.set_aside(spool.ready(1)[0].seq, "why")
    complete(spool, "same", 1_000)
    assert spool.replay() == 1
    assert len({(exchange.request_id, exchange.created_at) for exchange in spool.ready(10)}) == 2


# Failures of the disk


def test_failed_transaction_leaves_everything_as_it_was(spool: Spool) -> None:
    """A full disk, here by SQLite's own limit."""
    complete(spool)
    (exchange,) = spool.ready(1)
    limit = spool._connection.execute("PRAGMA page_count").fetchone()[0]
    spool._connection.execute(f"PRAGMA max_page_count = {limit}")
    before = spool.ledger()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        spool.set_aside(exchange.seq, "x" * 1_000_000)
    assert spool.ledger() == before
    spool.forget_stored([exchange.seq])
    assert spool.ledger() == counts(1, 1, 0, 0)


def test_writes_together_are_done_all_or_none(spool: Spool) -> None:
    seq = accept(spool)

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    write = partial(spool.finish, seq, OUTCOME, 0)
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        spool.write_together([write, fail])
    assert ready_seqs(spool) == []
    spool.write_together([write])
    assert ready_seqs(spool) == [seq]


def test_closed_spool_keeps_what_was_written(spool_path: Path) -> None:
    spool = Spool(spool_path)
    seq = complete(spool)
    spool.close()
    again = Spool(spool_path)
    assert ready_seqs(again) == [seq]
    again.close()


def test_space_is_given_back_to_the_file_system(spool: Spool, spool_path: Path) -> None:
    seqs = [spool.open("w", n, "big", b"x" * 1_000_000)[0] for n in range(4)]
    spool.checkpoint()
    assert spool_path.stat().st_size > 4_000_000
    assert spool.used_bytes() > 4_000_000
    spool.forget_stored(seqs)
    assert spool.used_bytes() < 200_000
    for _ in range(5):
        spool.checkpoint()
    assert spool_path.stat().st_size < 500_000


def test_checkpoint_blocks_nobody_and_waits_for_nobody(spool: Spool, spool_path: Path) -> None:
    reader = sqlite3.connect(spool_path, isolation_level=None)
    complete(spool)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM requests").fetchone()
    complete(spool, "other")
    start = time.monotonic()
    spool.checkpoint()
    assert time.monotonic() - start < 1
    reader.close()
    assert spool.ledger() == counts(2, 0, 2, 0)


def test_log_of_a_gateway_without_a_shipper_stays_in_bounds(tmp_path: Path) -> None:
    """Its workers leave the checkpoints to the shipper, which may be stopped for a day."""
    path = tmp_path / "spool.sqlite3"
    spool = Spool(path, checkpoints=False)
    for n in range(7_000):
        complete(spool, f"call-{n}", n)
    log = path.with_name(path.name + "-wal").stat().st_size
    spool.close()
    assert log < 80 * 1024**2


def test_free_bytes_are_those_of_the_disk(spool: Spool, spool_path: Path) -> None:
    assert spool.free_bytes() == pytest.approx(shutil.disk_usage(spool_path.parent).free, rel=0.1)


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_durability_is_as_asked_for(synchronous: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite3", synchronous=synchronous)
    assert spool._connection.execute("PRAGMA synchronous").fetchone() == ({"NORMAL": 1, "FULL": 2}[synchronous],)
    assert spool._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    spool.close()


# A corrupted file


def corrupt(path: Path) -> None:
    """Overwrite most of a file, as a broken disk would."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(0 if size < 8_192 else 4_096)
        file.write(b"\xff" * (size - file.tell()))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def kept(path: Path) -> list[Path]:
    """The files that were moved aside."""
    return [file for file in path.parent.glob(path.name + ".corrupt-*") if not file.name.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000, b"SQLite format 3\0" + b"\xff" * 8_192])
def test_file_that_is_no_spool_is_kept_and_a_new_one_begun(
    content: bytes, spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool_path.write_bytes(content)
    spool = Spool(spool_path)
    seq = complete(spool)
    assert ready_seqs(spool) == [seq]
    spool.close()
    if content:
        assert [file.read_bytes() for file in kept(spool_path)] == [content]
        assert "corrupted" in caplog.text


def test_file_that_breaks_under_the_hands_of_a_worker_is_replaced(
    spool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(spool_path)
    for n in range(500):
        spool.open("w", n, "old", b"x" * 1_000)
    spool.close()
    spool = Spool(spool_path)
    corrupt(spool_path)
    seq = accept(spool, "new")
    spool.finish(seq, OUTCOME, 0)
    assert [exchange.request_id for exchange in spool.ready(10)] == ["new"]
    assert spool.ledger() == counts(1, 0, 1, 0)
    assert len(kept(spool_path)) == 1
    assert "corrupted" in caplog.text
    spool.close()


def test_processes_agree_on_the_new_file(spool_path: Path) -> None:
    one, other = Spool(spool_path), Spool(spool_path)
    for n in range(500):
        one.open("w", n, "old", b"x" * 1_000)
    one.checkpoint()
    stale = accept(other, "stale")
    corrupt(spool_path)
    for spool in (one, other):
        spool.recover(sqlite3.DatabaseError("database disk image is malformed"))
    assert len(kept(spool_path)) == 1, "the second would have moved the first one's new file aside"
    first, second = complete(one, "first"), complete(other, "second")
    assert ready_seqs(one) == ready_seqs(other) == [first, second]
    # What a worker still knows of the old file means nothing in the new one.
    other.finish(stale, OUTCOME, 0)
    other.account(stale, ACCOUNTING)
    assert stale < first
    assert one.ledger() == counts(2, 0, 2, 0)
    one.close()
    other.close()


def test_spool_follows_to_a_file_that_another_process_began(spool: Spool, spool_path: Path) -> None:
    spool.follow()
    complete(spool, "old")
    other = Spool(spool_path)
    other.recover(sqlite3.DatabaseError("database disk image is malformed"))
    spool.follow()
    complete(spool, "new")
    assert [exchange.request_id for exchange in other.ready(10)] == ["new"]
    other.close()


def test_what_was_set_aside_is_salvaged(spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.salvage._SETTLED_NS", 0)
    spool = Spool(spool_path)
    seq = complete(spool, "aside")
    spool.set_aside(seq, "why")
    spool.recover(sqlite3.DatabaseError("database disk image is malformed"))
    spool.salvage()
    assert spool.set_aside_errors() == [(seq, "aside", "why")]
    assert spool.ledger().balanced
    spool.close()


@pytest.mark.parametrize("name", ["17-old.gz", "copy", "17-journal"])
def test_files_that_others_put_beside_the_spool_are_left_alone(name: str, spool: Spool, spool_path: Path) -> None:
    file = spool_path.with_name(f"{spool_path.name}.corrupt-{name}")
    file.write_bytes(b"")
    assert spool.salvage() == 0
    assert file.exists()


def test_salvage_keeps_no_worker_waiting(spool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litellm_sqlalchemy.salvage._SETTLED_NS", 0)
    spool = Spool(spool_path)
    for n in range(60):
        spool.open("w", n, "big", b"x" * 1_000_000)
    spool.recover(sqlite3.DatabaseError("database disk image is malformed"))
    transactions: list[str] = []
    spool._connection.set_trace_callback(
        lambda statement: transactions.append(statement) if statement.startswith("COMMIT") else None
    )
    assert spool.salvage() == 60
    assert len(transactions) > 5, "one transaction holds the write lock for as long as it takes"
    spool.close()


@pytest.mark.parametrize("kind", [sqlite3.OperationalError, sqlite3.IntegrityError])
def test_other_errors_replace_no_file(kind: type[sqlite3.DatabaseError], spool: Spool, spool_path: Path) -> None:
    complete(spool)
    with pytest.raises(kind):
        spool.recover(kind("disk I/O error"))
    assert kept(spool_path) == []
    assert spool.ledger().accepted == 1


# Many at once


def test_spool_can_be_opened_by_all_at_once(tmp_path: Path) -> None:
    """The workers and the shipper, on a gateway's first start."""
    errors: list[Exception] = []

    def opening(path: Path, barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            Spool(path).close()
        except sqlite3.Error as error:
            errors.append(error)

    for attempt in range(15):
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=opening, args=(tmp_path / str(attempt), barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_writers_at_once_lose_nothing(spool: Spool, spool_path: Path) -> None:
    """Workers append while the shipper empties."""
    stop = threading.Event()
    written = []

    def work(worker: str) -> None:
        own = Spool(spool_path)
        for n in range(100):
            seq = own.open(worker, n, "same", REQUEST)[0]
            own.finish(seq, OUTCOME, 0)
            written.append(seq)
        own.close()

    def ship() -> None:
        own = Spool(spool_path)
        while not stop.is_set() or own.ready(1):
            own.forget_stored(ready_seqs(own, 7))
        own.close()

    workers = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    shipper = threading.Thread(target=ship)
    for thread in (*workers, shipper):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    shipper.join()
    assert len(written) == 200
    assert spool.ledger() == counts(200, 200, 0, 0)


# Workers that died


def test_interrupted_exchanges_are_ready_and_counted(spool: Spool) -> None:
    gone, stays = accept(spool, "gone", worker="gone"), accept(spool, "stays", worker="stays")
    assert sorted(spool.workers()) == ["gone", "stays"]
    assert (spool.interrupt(["gone"]), spool.interrupt(["gone"]), spool.interrupt([])) == (1, 0, 0)
    assert [(e.seq, e.outcome) for e in spool.ready(10)] == [(gone, {"outcome": "interrupted"})]
    assert spool.workers() == ["stays"]
    assert spool.ledger().interrupted == 1
    spool.finish(gone, OUTCOME, 0)
    assert spool.ready(10)[0].outcome == {"outcome": "interrupted"}
    assert stays not in ready_seqs(spool)


# The balance


@pytest.mark.parametrize(
    ("ledger", "balanced"),
    [
        (Ledger(0, 0, 0, 0, 0, 0, 0), True),
        (Ledger(10, 4, 3, 2, 1, interrupted=9, unlogged_refusals=5), True),
        (Ledger(10, 4, 3, 2, 0, interrupted=1, unlogged_refusals=1), False),
        (Ledger(1, 2, 0, 0, 0, 0, 0), False),
    ],
)
def test_ledger_balances_where_nothing_is_missing(ledger: Ledger, balanced: bool) -> None:
    assert ledger.balanced is balanced


def test_what_was_dropped_counts_as_accepted(spool: Spool) -> None:
    complete(spool)
    spool.count("dropped", 3)
    spool.count("unlogged_refusals", 7)
    assert spool.ledger() == Ledger(4, 0, 1, 0, 3, 0, 7)
    assert spool.ledger().balanced


def test_ledger_sees_a_row_that_vanished(spool: Spool) -> None:
    seq = complete(spool)
    spool._connection.execute("DELETE FROM requests WHERE seq = ?", (seq,))
    assert not spool.ledger().balanced


def test_report_says_how_old_the_oldest_is(spool: Spool) -> None:
    assert spool.oldest() is None
    assert balance.report(spool)["oldest_spooled_seconds"] == 0.0
    oldest = in_seconds(-120)
    accept(spool, created_at=oldest)
    accept(spool, created_at=oldest + 30_000_000)
    assert spool.oldest() == oldest
    assert balance.report(spool) == {
        "accepted": 2,
        "stored": 0,
        "spooled": 2,
        "set_aside": 0,
        "dropped": 0,
        "interrupted": 0,
        "unlogged_refusals": 0,
        "salvaged": 0,
        "balanced": True,
        "oldest_spooled_seconds": pytest.approx(120, abs=5),
    }


class AnySequence(RuleBasedStateMachine):
    """Whatever happens in whatever order: the spool agrees with a simple model of it, and balances."""

    workers = st.sampled_from(["a", "b"])
    ids = st.sampled_from(["x", "y"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name, "spool.sqlite3"))
        self.clock = 1_000
        self.line: dict[int, dict[str, Any]] = {}
        self.aside: dict[int, dict[str, Any]] = {}
        self.stored: list[tuple[str, int]] = []
        self.accepted = self.interrupted = 0

    @rule(worker=workers, request_id=ids, later=st.integers(0, 1))
    def open(self, worker: str, request_id: str, later: int) -> None:
        self.clock += later
        seq, created_at = self.spool.open(worker, self.clock, request_id, REQUEST)
        self.accepted += 1
        self.line[seq] = {"key": (request_id, created_at), "worker": worker, "outcome": None, "accounting": None}

    def _some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.line)))

    @precondition(lambda self: self.line)
    @rule(data=st.data(), waits=st.booleans())
    def finish(self, data: st.DataObject, waits: bool) -> None:
        seq, ship_after = self._some(data), in_seconds(GRACE / 2) if waits else 0
        self.spool.finish(seq, OUTCOME, ship_after)
        if self.line[seq]["outcome"] is None:
            self.line[seq] |= {"outcome": "success", "ship_after": ship_after}

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def account(self, data: st.DataObject) -> None:
        seq = self._some(data)
        self.spool.account(seq, ACCOUNTING)
        self.line[seq]["accounting"] = {"cost": 0.5}

    @rule(limit=st.integers(1, 4))
    def ship(self, limit: int) -> None:
        batch = self.spool.ready(limit, GRACE)
        self.spool.forget_stored([exchange.seq for exchange in batch])
        for exchange in batch:
            self.stored.append(self.line.pop(exchange.seq)["key"])

    @rule()
    def set_aside(self) -> None:
        for exchange in self.spool.ready(1, GRACE):
            self.spool.set_aside(exchange.seq, "why")
            self.aside[exchange.seq] = self.line.pop(exchange.seq)

    @rule()
    def replay(self) -> None:
        assert self.spool.replay() == len(self.aside)
        for seq, entry in sorted(self.aside.items()):
            request_id, created_at = entry["key"]
            while (request_id, created_at) in self._keys(self.line):
                created_at += 1
            self.line[seq] = entry | {"worker": "replay", "ship_after": 0, "key": (request_id, created_at)}
        self.aside = {}

    @rule(workers=st.sets(workers))
    def interrupt(self, workers: set[str]) -> None:
        count = 0
        for entry in self.line.values():
            if entry["worker"] in workers and entry["outcome"] is None:
                entry |= {"outcome": "interrupted", "ship_after": 0}
                count += 1
        assert self.spool.interrupt(sorted(workers)) == count
        self.interrupted += count

    @rule()
    def checkpoint(self) -> None:
        self.spool.checkpoint()

    @staticmethod
    def _keys(entries: dict[int, dict[str, Any]]) -> list[tuple[str, int]]:
        return [entry["key"] for entry in entries.values()]

    @invariant()
    def balances(self) -> None:
        ledger = self.spool.ledger()
        assert ledger == counts(self.accepted, len(self.stored), len(self.line), len(self.aside), self.interrupted)
        assert ledger.balanced

    @invariant()
    def line_is_as_the_model_says(self) -> None:
        expected = [
            (seq, *entry["key"], entry["outcome"], entry["accounting"])
            for seq, entry in sorted(self.line.items())
            if entry["outcome"] and (entry["accounting"] or entry["ship_after"] == 0)
        ]
        found = [
            (e.seq, e.request_id, e.created_at, (e.outcome or {})["outcome"], e.accounting)
            for e in self.spool.ready(99, GRACE)
        ]
        assert found == expected
        assert [seq for seq, _, _ in self.spool.set_aside_errors()] == sorted(self.aside)
        open_workers = {entry["worker"] for entry in self.line.values() if entry["outcome"] is None}
        assert set(self.spool.workers()) == open_workers

    @invariant()
    def nothing_is_in_line_twice(self) -> None:
        waiting = self._keys(self.line)
        assert len(set(waiting)) == len(waiting)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=40, stateful_step_count=25)
