"""Holds the spool's write lock for a moment, kills the shipper in it, and prints what is in the spool then.

The shipper commits what it has read and waits for the lock, to delete it. As JSON: [request_id, created_at] each.
"""

import json
import os
import signal
import sqlite3
import sys
import time

path, seconds, shipper = sys.argv[1:]
spool = sqlite3.connect(path, isolation_level=None, timeout=5)
spool.execute("BEGIN IMMEDIATE")
time.sleep(float(seconds))
os.kill(int(shipper), signal.SIGKILL)
held = spool.execute("SELECT r.request_id, r.created_at FROM requests r JOIN outcomes USING (seq)").fetchall()
spool.execute("ROLLBACK")
print(json.dumps(held))
