"""Leaves not a byte free on the file system of the spool, nor in the spool's write-ahead log.

Prints how many bytes it took.
"""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

LARGEST, SMALLEST = 64 * 1024**2, 4096

spool, filler = Path(sys.argv[1]), Path(sys.argv[2])
with contextlib.closing(sqlite3.connect(spool)) as connection, filler.open("wb") as file:
    # What was written to the log before, it can write to again; without it, each write needs new space.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    taken, piece = 0, LARGEST
    while piece >= SMALLEST:
        try:
            os.posix_fallocate(file.fileno(), taken, piece)
        except OSError:
            piece //= 2
        else:
            taken += piece
print(taken)
