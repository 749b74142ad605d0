"""Spoils a SQLite file: `overwrite` pages of it in place, fill all of it with `garbage`, or `truncate` it.

Prints the size that it had.
"""

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

PAGES = 16 * 4096

path, how = Path(sys.argv[1]), sys.argv[2]
if how == "truncate":
    # The write-ahead log of a file has all of it while it is small: half a file would then be no loss.
    with contextlib.closing(sqlite3.connect(path)) as spool:
        spool.execute("PRAGMA wal_checkpoint(TRUNCATE)")
size = path.stat().st_size
with path.open("r+b") as file:
    if how == "overwrite":
        file.write(os.urandom(min(size, PAGES)))
    elif how == "garbage":
        file.write(os.urandom(size))
    else:
        file.truncate(size // 2 + 1)
    os.fsync(file.fileno())
print(size)
