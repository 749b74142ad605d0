"""Prints the state of the spool four times a second, as JSON lines, until its standard input is closed.

It only reads, and opens the file anew each time: the file may be replaced, or be no database at all.
"""

import contextlib
import json
import select
import sqlite3
import sys
import time
from pathlib import Path

path = sys.argv[1]
while True:
    state: dict[str, object] = {"at": time.time(), "waiting": None, "oldest": None}
    try:
        if Path(f"{path}-shm").exists():
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)) as spool:
                found = spool.execute("SELECT count(*), min(created_at) FROM requests").fetchone()
                state["waiting"], state["oldest"] = found
    except sqlite3.Error as error:
        state["error"] = str(error)
    print(json.dumps(state), flush=True)
    if select.select([0], [], [], 0.25)[0]:
        break
