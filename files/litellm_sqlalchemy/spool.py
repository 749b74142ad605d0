"""The spool: exchanges on the gateway's own disk until PostgreSQL has them. SQLite in WAL mode, one file a gateway.

Written by every worker, emptied by the shipper. Each document of an exchange is a row of its own that is only ever
inserted: rewriting a row would write its payload twice.
"""

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litellm_sqlalchemy.exchange import Document, Exchange, decode, encode

# AUTOINCREMENT: sqlite_sequence then counts every exchange ever accepted, which the ledger needs.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    document BLOB NOT NULL,
    UNIQUE (request_id, created_at)
);
CREATE TABLE IF NOT EXISTS outcomes (seq INTEGER PRIMARY KEY, ship_after INTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS accounting (seq INTEGER PRIMARY KEY, document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS set_aside (
    seq INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    request BLOB NOT NULL,
    outcome BLOB,
    accounting BLOB,
    error TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO counters VALUES ('stored', 0), ('interrupted', 0), ('dropped', 0) ON CONFLICT DO NOTHING;
"""

_DELETE_AT_ONCE = 100
"""Exchanges deleted a transaction, so that the workers never wait long for the write lock."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The balance of a spool: accepted = stored + spooled + set_aside + dropped. Counts of exchanges."""

    accepted: int
    stored: int
    spooled: int
    set_aside: int
    dropped: int
    interrupted: int

    @property
    def balanced(self) -> bool:
        """True where nothing is missing."""
        return self.accepted == self.stored + self.spooled + self.set_aside + self.dropped


class Spool:
    """One process's connection to the spool. Raises sqlite3.Error where the disk or the file fails."""

    def __init__(self, path: Path, *, busy_timeout: float = 5.0) -> None:
        """Open or create the file; ``busy_timeout`` in seconds waits for another process's write."""
        self.path = path
        self._connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        # NORMAL: a killed process loses nothing; a power cut can lose what the last fractions of a second wrote.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the connection; what was written stays."""
        self._connection.close()

    # What workers write

    def open(self, worker: str, created_at: int, request_id: str, document: bytes) -> tuple[int, int]:
        """Store a request as JSON; returns (seq, created_at), the latter moved on where the pair was taken."""
        while True:
            try:
                cursor = self._connection.execute(
                    "INSERT INTO requests (created_at, request_id, worker, document) VALUES (?, ?, ?, ?)",
                    (created_at, request_id, worker, document),
                )
            except sqlite3.IntegrityError:
                created_at += 1
            else:
                assert cursor.lastrowid is not None
                return cursor.lastrowid, created_at

    def finish(self, seq: int, document: bytes, ship_after: int) -> None:
        """Store what came of a request as JSON; to be shipped from ``ship_after`` on (microseconds since the epoch)."""
        self._connection.execute("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?)", (seq, ship_after, document))

    def account(self, seq: int, document: bytes) -> None:
        """Store tokens and cost as JSON; an exchange that has its outcome may then be shipped."""
        self._connection.execute(
            # The shipper may have given up waiting: then there is nothing left to account for.
            "INSERT OR IGNORE INTO accounting SELECT ?, ? WHERE EXISTS (SELECT 1 FROM requests WHERE seq = ?)",
            (seq, document, seq),
        )

    # What the shipper reads and writes

    def ready(self, limit: int) -> list[Exchange]:
        """The oldest exchanges that are complete, or whose time to wait for their accounting is over."""
        rows = self._connection.execute(
            """
            SELECT r.seq, r.created_at, r.request_id, r.document, o.document, a.document
            FROM outcomes o JOIN requests r USING (seq) LEFT JOIN accounting a USING (seq)
            WHERE a.seq IS NOT NULL OR o.ship_after <= ?
            ORDER BY r.seq LIMIT ?
            """,
            (time.time_ns() // 1000, limit),
        ).fetchall()
        return [
            Exchange(seq, created_at, request_id, decode(request), decode(outcome), _decode(accounting))
            for seq, created_at, request_id, request, outcome, accounting in rows
        ]

    def forget_stored(self, seqs: Sequence[int]) -> None:
        """Delete exchanges that PostgreSQL has committed, and count them."""
        for start in range(0, len(seqs), _DELETE_AT_ONCE):
            some = seqs[start : start + _DELETE_AT_ONCE]
            with _Transaction(self._connection):
                self._delete(some)
                self._add("stored", len(some))

    def set_aside(self, exchange: Exchange, error: str) -> None:
        """Move an exchange that PostgreSQL will not take out of the way, with the reason."""
        with _Transaction(self._connection):
            self._connection.execute(
                """
                INSERT OR REPLACE INTO set_aside
                SELECT r.seq, r.created_at, r.request_id, r.document, o.document, a.document, ?
                FROM requests r LEFT JOIN outcomes o USING (seq) LEFT JOIN accounting a USING (seq) WHERE r.seq = ?
                """,
                (error, exchange.seq),
            )
            self._delete([exchange.seq])

    def replay(self) -> int:
        """Put everything that was set aside back in line; returns how many."""
        with _Transaction(self._connection):
            self._connection.execute(
                "INSERT INTO requests SELECT seq, created_at, request_id, 'replay', request FROM set_aside"
            )
            self._connection.execute(
                "INSERT INTO outcomes SELECT seq, 0, outcome FROM set_aside WHERE outcome IS NOT NULL"
            )
            self._connection.execute(
                "INSERT INTO accounting SELECT seq, accounting FROM set_aside WHERE accounting IS NOT NULL"
            )
            return self._connection.execute("DELETE FROM set_aside").rowcount

    def interrupt(self, workers: Iterable[str]) -> int:
        """Close what these dead workers left open as interrupted; returns how many."""
        closed = 0
        document = encode({"outcome": "interrupted"})
        for worker in workers:
            with _Transaction(self._connection):
                count = self._connection.execute(
                    """
                    INSERT INTO outcomes SELECT seq, 0, ? FROM requests
                    WHERE worker = ? AND seq NOT IN (SELECT seq FROM outcomes)
                    """,
                    (document, worker),
                ).rowcount
                self._add("interrupted", count)
            closed += count
        return closed

    def workers(self) -> list[str]:
        """The workers that have open exchanges."""
        return [
            worker
            for (worker,) in self._connection.execute(
                "SELECT DISTINCT worker FROM requests WHERE seq NOT IN (SELECT seq FROM outcomes)"
            )
        ]

    def checkpoint(self) -> None:
        """Give the space of the write-ahead log back."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # The balance

    def ledger(self) -> Ledger:
        """The balance at this moment, read in one transaction."""
        with _Transaction(self._connection, "DEFERRED"):
            counters = dict(self._connection.execute("SELECT name, value FROM counters").fetchall())
            accepted = self._number("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'requests'), 0)")
            return Ledger(
                accepted=accepted + counters["dropped"],
                stored=counters["stored"],
                spooled=self._number("SELECT count(*) FROM requests"),
                set_aside=self._number("SELECT count(*) FROM set_aside"),
                dropped=counters["dropped"],
                interrupted=counters["interrupted"],
            )

    def oldest(self) -> int | None:
        """created_at of the oldest exchange in the spool, in microseconds since the epoch."""
        row = self._connection.execute("SELECT min(created_at) FROM requests").fetchone()
        return None if row[0] is None else int(row[0])

    def set_aside_errors(self) -> list[tuple[int, str, str]]:
        """(seq, request_id, error) of everything set aside, oldest first."""
        return self._connection.execute("SELECT seq, request_id, error FROM set_aside ORDER BY seq").fetchall()

    def _delete(self, seqs: Sequence[int]) -> None:
        marks = ",".join("?" * len(seqs))
        for table in ("requests", "outcomes", "accounting"):
            self._connection.execute(f"DELETE FROM {table} WHERE seq IN ({marks})", seqs)  # noqa: S608

    def _add(self, counter: str, count: int) -> None:
        self._connection.execute("UPDATE counters SET value = value + ? WHERE name = ?", (count, counter))

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])


class WorkerLock:
    """A lock that its process holds while it lives: how others see that a worker has died."""

    def __init__(self, spool: Path) -> None:
        """Take a new lock next to the spool."""
        self.worker = uuid.uuid4().hex
        directory = _lock_directory(spool)
        directory.mkdir(mode=0o750, exist_ok=True)
        self._path = directory / self.worker
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the lock up: the worker has finished what it had open."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def dead_workers(spool: Path, candidates: Iterable[str]) -> list[str]:
    """Those of the candidates whose process no longer holds its lock."""
    dead = []
    for worker in candidates:
        path = _lock_directory(spool) / worker
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            dead.append(worker)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            path.unlink(missing_ok=True)
            dead.append(worker)
        finally:
            os.close(file)
    return dead


class _Transaction:
    """BEGIN … COMMIT, or ROLLBACK where the block raises."""

    def __init__(self, connection: sqlite3.Connection, mode: str = "IMMEDIATE") -> None:
        self._connection = connection
        self._mode = mode

    def __enter__(self) -> None:
        self._connection.execute(f"BEGIN {self._mode}")

    def __exit__(self, kind: Any, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _lock_directory(spool: Path) -> Path:
    return spool.with_name(spool.name + ".workers")


def _decode(document: bytes | None) -> Document | None:
    if document is None:
        return None
    value: Document = decode(document)
    return value
