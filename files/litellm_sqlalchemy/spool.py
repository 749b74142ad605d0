"""The spool: exchanges on the gateway's own disk until PostgreSQL has them. SQLite in WAL mode, one file a gateway.

Written by every worker, emptied by the shipper. Each document of an exchange is a row of its own that is only ever
inserted: rewriting a row would write its payload twice.
"""

import contextlib
import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from litellm_sqlalchemy.exchange import Document, Exchange, decode, encode
from litellm_sqlalchemy.locks import FileLock
from litellm_sqlalchemy.salvage import corrupted_files, done_with, is_settled, readable_rows

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
INSERT INTO counters VALUES ('stored', 0), ('interrupted', 0), ('dropped', 0), ('unlogged_refusals', 0), ('salvaged', 0)
    ON CONFLICT DO NOTHING;
-- Numbers go on from the time in microseconds: what a worker still knows of a file that was replaced cannot be
-- mistaken for an exchange in this one.
INSERT INTO counters VALUES ('first_seq', :now) ON CONFLICT DO NOTHING;
INSERT INTO sqlite_sequence SELECT 'requests', value FROM counters
    WHERE name = 'first_seq' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'requests');
"""

_SALVAGED = {
    "requests": "seq, created_at, request_id, worker, document",
    "outcomes": "seq, ship_after, document",
    "accounting": "seq, document",
    "set_aside": "seq, created_at, request_id, request, outcome, accounting, error",
}
"""What is taken over from a corrupted file: table and columns."""

_BELONGS = (
    "(EXISTS (SELECT 1 FROM requests WHERE seq = ?) OR ? <= (SELECT value FROM counters WHERE name = 'first_seq'))"
)
"""The request is here, or was in a file that this one has replaced, and may be salvaged from it."""

_MOVED_AT_ONCE = 100
_MOVED_BYTES_AT_ONCE = 4 * 1024**2
"""Exchanges, and bytes of them, moved in a transaction, so that the workers never wait long for the write lock."""

_READY_BYTES = 8 * 1024**2
"""Bytes of documents read at once, however few exchanges that makes; but one at least."""

_VACUUM_PAGES = 500
"""Free pages given back to the file system a housekeeping round."""

_SHIPPER_CHECKPOINT_PAGES = 8_192
"""Pages in the write-ahead log at which the shipper moves them into the file, between its rounds of housekeeping."""

_WORKER_CHECKPOINT_PAGES = 16_384
"""Pages in the write-ahead log at which a worker does the shipper's work, because that has not: 64 MiB."""

_WAL_BYTES = 64 * 1024**2
"""What the write-ahead log is cut back to when it begins anew."""

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The balance of a spool: accepted = stored + spooled + set_aside + dropped. Counts of exchanges.

    ``interrupted`` and ``salvaged`` (from a corrupted file) are among the others; ``unlogged_refusals`` are strangers
    beyond the rate at which they are logged.
    """

    accepted: int
    stored: int
    spooled: int
    set_aside: int
    dropped: int
    interrupted: int
    unlogged_refusals: int
    salvaged: int = 0

    @property
    def balanced(self) -> bool:
        """True where nothing is missing."""
        return self.accepted == self.stored + self.spooled + self.set_aside + self.dropped


class Spool:
    """One process's connection to the spool. Raises sqlite3.Error where the disk fails.

    A corrupted file is moved aside and a new one begun, by whichever process notices first; the others follow.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout: float = 5.0,
        synchronous: str = "NORMAL",
        checkpoints: bool = True,
    ) -> None:
        """Open or create the file.

        ``busy_timeout``: seconds to wait for another process's write. ``synchronous``: NORMAL or FULL, see SQLite's
        pragma of that name. ``checkpoints``: whether this connection pays for them; the workers leave them to the
        shipper.
        """
        self.path = path
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._checkpoints = checkpoints
        self._open_file()

    def close(self) -> None:
        """Close the connection; what was written stays."""
        self._connection.close()

    # What workers write

    def open(self, worker: str, created_at: int, request_id: str, document: bytes) -> tuple[int, int]:
        """Store a request as JSON; returns (seq, created_at), the latter moved on where the pair was taken."""
        return self._guarded(lambda: self._insert_request(worker, created_at, request_id, document))

    def finish(self, seq: int, document: bytes, ship_after: int) -> None:
        """Store what came of a request as JSON; to be shipped from ``ship_after`` on (microseconds since the epoch)."""
        self._guarded(
            lambda: self._connection.execute(
                f"INSERT OR IGNORE INTO outcomes SELECT ?, ?, ? WHERE {_BELONGS}",
                (seq, ship_after, document, seq, seq),
            )
        )

    def account(self, seq: int, document: bytes) -> None:
        """Store tokens and cost as JSON; an exchange that has its outcome may then be shipped."""
        self._guarded(
            lambda: self._connection.execute(
                # The shipper may have given up waiting: then there is nothing left to account for.
                f"INSERT OR IGNORE INTO accounting SELECT ?, ? WHERE {_BELONGS}",
                (seq, document, seq, seq),
            )
        )

    def write_together(self, writes: Iterable[Callable[[], None]]) -> None:
        """Do several of the above in one transaction: all or, where one fails, none."""
        with _Transaction(self._connection):
            for write in writes:
                write()

    def count(self, counter: str, number: int) -> None:
        """Add to one of the ledger's counters: dropped, unlogged_refusals."""
        self._guarded(lambda: self._add(counter, number))

    def free_bytes(self) -> int:
        """Bytes that the spool's file system has left for its user."""
        system = os.statvfs(self.path.parent)
        return system.f_bavail * system.f_frsize

    def used_bytes(self) -> int:
        """Bytes that the spool's exchanges take, free pages of its file not counted."""
        return self._guarded(
            lambda: (
                (self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count"))
                * self._number("PRAGMA page_size")
            )
        )

    # What the shipper reads and writes

    def ready(self, limit: int, grace: float = 0.0) -> list[Exchange]:
        """The oldest exchanges that are complete, or whose time to wait for their accounting is over.

        ``grace``: seconds that they wait at most, so that a clock that was set back does not make them wait longer.
        """
        now = time.time_ns() // 1000
        return self._guarded(lambda: self._read_ready(limit, now, now + round(grace * 1_000_000)))

    def _read_ready(self, limit: int, now: int, latest: int) -> list[Exchange]:
        found: list[Exchange] = []
        broken: list[tuple[int, str]] = []
        size = 0
        with contextlib.closing(
            self._connection.execute(
                """
                SELECT r.seq, r.created_at, r.request_id, r.document, o.document, a.document
                FROM outcomes o JOIN requests r USING (seq) LEFT JOIN accounting a USING (seq)
                WHERE a.seq IS NOT NULL OR o.ship_after NOT BETWEEN ? AND ?
                ORDER BY o.seq LIMIT ?
                """,
                (now + 1, latest, limit),
            )
        ) as rows:
            for seq, created_at, request_id, *documents in rows:
                size += sum(len(document or b"") for document in documents)
                if found and size > _READY_BYTES:
                    break
                try:
                    request, outcome, accounting = (_decode(document) for document in documents)
                    found.append(Exchange(seq, created_at, request_id, request or {}, outcome, accounting))
                except ValueError as error:
                    broken.append((seq, f"its document cannot be read: {error}"))
        for seq, reason in broken:
            self.set_aside(seq, reason)
        return found

    def forget_stored(self, seqs: Sequence[int]) -> None:
        """Delete exchanges that PostgreSQL has committed, and count them."""
        for some in self._portions(seqs):
            with _Transaction(self._connection):
                self._add("stored", self._delete(some))

    def set_aside(self, seq: int, error: str) -> None:
        """Move an exchange that PostgreSQL will not take out of the way, with the reason."""
        with _Transaction(self._connection):
            self._connection.execute(
                """
                INSERT OR REPLACE INTO set_aside
                SELECT r.seq, r.created_at, r.request_id, r.document, o.document, a.document, ?
                FROM requests r LEFT JOIN outcomes o USING (seq) LEFT JOIN accounting a USING (seq) WHERE r.seq = ?
                """,
                (error, seq),
            )
            self._delete([seq])

    def replay(self) -> int:
        """Put everything that was set aside back in line; returns how many."""
        with _Transaction(self._connection):
            rows = self._connection.execute("SELECT seq, created_at, request_id, request FROM set_aside").fetchall()
            for seq, created_at, request_id, document in rows:
                self._insert_request("replay", created_at, request_id, document, seq=seq)
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

    def salvage(self) -> int:
        """Take over what can be read of corrupted files that were moved aside; returns how many exchanges."""
        saved = 0
        files = corrupted_files(self.path)
        for path in filter(is_settled, files):
            count = sum(self._take_over(path, table, columns) for table, columns in _SALVAGED.items())
            done_with(path)
            logger.warning("%d exchanges were read from the corrupted spool %s", count, path)
            saved += count
        if not files:
            # Of an exchange that could not be read, its worker may still have told the outcome.
            for table in ("outcomes", "accounting"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE seq <= (SELECT value FROM counters WHERE name = 'first_seq')"  # noqa: S608
                    " AND seq NOT IN (SELECT seq FROM requests)"
                )
        return saved

    def _take_over(self, path: Path, table: str, columns: str) -> int:
        """Copy a table's readable rows in portions; returns how many exchanges that brought back."""
        statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({_marks(columns.split(','))})"  # noqa: S608
        saved = 0
        portion: list[tuple[Any, ...]] = []
        size = 0
        for row in itertools.chain(readable_rows(path, table, columns), [None]):
            if row is not None:
                portion.append(row)
                size += sum(len(value) for value in row if isinstance(value, bytes))
            if portion and (row is None or len(portion) >= _MOVED_AT_ONCE or size >= _MOVED_BYTES_AT_ONCE):
                with _Transaction(self._connection):
                    count = self._connection.executemany(statement, portion).rowcount
                    if table in ("requests", "set_aside"):
                        self._add("salvaged", count)
                        saved += count
                portion, size = [], 0
        return saved

    def workers(self) -> list[str]:
        """The workers that have open exchanges."""
        return [
            worker
            for (worker,) in self._connection.execute(
                "SELECT DISTINCT worker FROM requests WHERE seq NOT IN (SELECT seq FROM outcomes)"
            )
        ]

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, and give free pages back to the file system; blocks no writer."""
        # A script, because execute() would take the first step only, and free one page.
        self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # The balance

    def ledger(self) -> Ledger:
        """The balance at this moment, read in one transaction."""
        with _Transaction(self._connection, "DEFERRED"):
            counters = dict(self._connection.execute("SELECT name, value FROM counters").fetchall())
            accepted = self._number("SELECT seq FROM sqlite_sequence WHERE name = 'requests'") - counters.pop(
                "first_seq"
            )
            return Ledger(
                accepted=accepted + counters["dropped"] + counters["salvaged"],
                spooled=self._number("SELECT count(*) FROM requests"),
                set_aside=self._number("SELECT count(*) FROM set_aside"),
                **counters,
            )

    def oldest(self) -> int | None:
        """created_at of the oldest exchange in the spool, in microseconds since the epoch."""
        row = self._connection.execute("SELECT created_at FROM requests ORDER BY seq LIMIT 1").fetchone()
        return None if row is None else int(row[0])

    def set_aside_errors(self) -> list[tuple[int, str, str]]:
        """(seq, request_id, error) of everything set aside, oldest first."""
        return self._connection.execute("SELECT seq, request_id, error FROM set_aside ORDER BY seq").fetchall()

    # The file

    def _open_file(self) -> None:
        with FileLock(self.path.with_name(self.path.name + ".lock")):
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_corruption(error):
                    raise
                self._move_aside(error)
                self._connect()

    def _connect(self) -> None:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only heeded while the file is new
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            # Deleted exchanges are overwritten only where that costs no further write.
            connection.execute("PRAGMA secure_delete=FAST")
            pages = _SHIPPER_CHECKPOINT_PAGES if self._checkpoints else _WORKER_CHECKPOINT_PAGES
            connection.execute(f"PRAGMA wal_autocheckpoint={pages}")
            connection.executescript(_SCHEMA.replace(":now", str(time.time_ns() // 1000)))
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        self._inode = self.path.stat().st_ino

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        """Keep a corrupted file for whoever wants to look at it, under another name."""
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        logger.error("the spool %s is corrupted (%s); it is kept as %s and a new one is begun", self.path, error, aside)
        for suffix in ("", "-wal", "-shm"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))

    def _guarded(self, operation: Callable[[], Result]) -> Result:
        """Do it, once more on a new file where this one turns out to be corrupted or replaced."""
        try:
            return operation()
        except sqlite3.DatabaseError as error:
            self.recover(error)
            return operation()

    def recover(self, error: sqlite3.DatabaseError) -> None:
        """Begin a new file where the error says that this one is corrupted; raises the error where it does not."""
        if not _is_corruption(error):
            raise error
        self._connection.close()
        with FileLock(self.path.with_name(self.path.name + ".lock")):
            # Another process may have begun the new file already.
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                self._move_aside(error)
            self._connect()

    def follow(self) -> None:
        """Turn to the new file where another process has replaced this one."""
        if not self.path.exists() or self.path.stat().st_ino != self._inode:
            self._connection.close()
            self._open_file()

    def _insert_request(
        self, worker: str, created_at: int, request_id: str, document: bytes, seq: int | None = None
    ) -> tuple[int, int]:
        while True:
            try:
                cursor = self._connection.execute(
                    "INSERT INTO requests (seq, created_at, request_id, worker, document) VALUES (?, ?, ?, ?, ?)",
                    (seq, created_at, request_id, worker, document),
                )
            except sqlite3.IntegrityError:
                created_at += 1
            else:
                assert cursor.lastrowid is not None
                return cursor.lastrowid, created_at

    def _portions(self, seqs: Sequence[int]) -> Iterator[list[int]]:
        """The numbers in portions that are quick to delete."""
        for at in range(0, len(seqs), _MOVED_AT_ONCE):
            some = seqs[at : at + _MOVED_AT_ONCE]
            lengths = self._connection.execute(
                "SELECT r.seq, length(r.document) + coalesce(length(o.document), 0) + coalesce(length(a.document), 0)"  # noqa: S608
                " FROM requests r LEFT JOIN outcomes o USING (seq) LEFT JOIN accounting a USING (seq)"
                f" WHERE r.seq IN ({_marks(some)})",
                some,
            ).fetchall()
            portion: list[int] = []
            size = 0
            for seq, length in lengths:
                portion.append(seq)
                size += length
                if size >= _MOVED_BYTES_AT_ONCE:
                    yield portion
                    portion, size = [], 0
            if portion:
                yield portion

    def _delete(self, seqs: Sequence[int]) -> int:
        marks = _marks(seqs)
        for table in ("outcomes", "accounting"):
            self._connection.execute(f"DELETE FROM {table} WHERE seq IN ({marks})", seqs)  # noqa: S608
        return self._connection.execute(f"DELETE FROM requests WHERE seq IN ({marks})", seqs).rowcount  # noqa: S608

    def _add(self, counter: str, count: int) -> None:
        self._connection.execute("UPDATE counters SET value = value + ? WHERE name = ?", (count, counter))

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])


class _Transaction:
    """BEGIN … COMMIT, or ROLLBACK where the block raises."""

    def __init__(self, connection: sqlite3.Connection, mode: str = "IMMEDIATE") -> None:
        self._connection = connection
        self._mode = mode

    def __enter__(self) -> None:
        self._connection.execute(f"BEGIN {self._mode}")

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _is_corruption(error: sqlite3.DatabaseError) -> bool:
    # "malformed" and "not a database" come as the base class itself, everything else as one of its children.
    return type(error) is sqlite3.DatabaseError


def _marks(values: Sequence[object]) -> str:
    """Placeholders for that many values."""
    return ",".join("?" * len(values))


def _decode(document: bytes | None) -> Document | None:
    if document is None:
        return None
    value: Document = decode(document)
    return value
