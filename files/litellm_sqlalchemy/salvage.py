"""What can still be read of a corrupted spool, row by row.

SQLite gives up a whole query at the first damaged page; single rows beside it can be read, and those that are still in
the write-ahead log have checksums.
"""

import contextlib
import logging
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_ERRORS = 10_000
_SETTLED_NS = 5_000_000_000
"""Nanoseconds after which every worker has turned to the new file; they look each second."""

logger = logging.getLogger(__name__)


def corrupted_files(spool: Path) -> list[Path]:
    """The files that were moved aside from a spool and not looked into yet, oldest first."""
    name = re.compile(re.escape(spool.name) + r"\.corrupt-\d+")
    return sorted(path for path in spool.parent.iterdir() if name.fullmatch(path.name))


def is_settled(path: Path) -> bool:
    """Whether nobody writes to a file any more that was moved aside."""
    return time.time_ns() - int(path.name.rpartition("-")[2]) > _SETTLED_NS


def readable_rows(path: Path, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table of a corrupted spool that can be read, by number; ``columns`` begin with seq."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        last, errors = -1, 0
        while errors < _MOST_ERRORS:
            try:
                query = f"SELECT {columns} FROM {table} WHERE seq > ? ORDER BY seq"  # noqa: S608
                for row in connection.execute(query, (last,)):
                    last = row[0]
                    yield row
            except sqlite3.Error as error:
                if last < 0:
                    first = _first(connection, table)
                    if first is None:
                        logger.warning("nothing of %s can be read: %s", table, error)
                        return
                    last = first
                else:
                    # The next number is on the damaged page, or is none: numbers are given without gaps.
                    last += 1
                    errors += 1
            else:
                return


def done_with(path: Path) -> None:
    """Give a file that was looked into another name; it is kept for whoever wants to look closer."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(file.with_name(file.name.replace(".corrupt-", ".salvaged-")))


def _first(connection: sqlite3.Connection, table: str) -> int | None:
    """A number from which on to look: the one before the first of the file."""
    for query in (f"SELECT min(seq) - 1 FROM {table}", "SELECT value FROM counters WHERE name = 'first_seq'"):  # noqa: S608
        with contextlib.suppress(sqlite3.Error):
            row = connection.execute(query).fetchone()
            if row and row[0] is not None:
                return int(row[0])
    return None
