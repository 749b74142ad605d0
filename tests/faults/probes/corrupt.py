"""Spoils a SQLite file: `overwrite` some of its pages in place, fill all of it with `garbage`, or `truncate` it."""

import os
import sys

path, how = sys.argv[1:]
size = os.path.getsize(path)
with open(path, "r+b") as file:
    if how == "overwrite":
        file.write(os.urandom(min(size, 16 * 4096)))
    elif how == "garbage":
        file.write(os.urandom(size))
    else:
        file.truncate(size // 2 + 1)
    os.fsync(file.fileno())
print(size)
