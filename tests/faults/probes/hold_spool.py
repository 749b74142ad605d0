"""Holds the spool's write lock for a moment, kills the shipper in it, and prints what is in the spool then.

The shipper, which has just committed a batch, waits for the lock, to delete that batch. Begins at a line on standard
input, answers with a line when it has the lock, and then with a list of [request_id, created_at], as JSON.
"""

import json
import os
import signal
import sqlite3
import sys
import time

path, seconds, shipper = sys.argv[1:]
spool = sqlite3.connect(path, isolation_level=None, timeout=5)
sys.stdin.readline()
spool.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(seconds))
os.kill(int(shipper), signal.SIGKILL)
held = spool.execute("SELECT r.request_id, r.created_at FROM requests r JOIN outcomes USING (seq)").fetchall()
spool.execute("ROLLBACK")
print(json.dumps(held))
