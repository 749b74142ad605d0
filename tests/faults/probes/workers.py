"""Prints the process ids of the workers below a gateway's process: itself where it has no others."""

import sys
from pathlib import Path

main = sys.argv[1]
children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
workers = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
print("\n".join(workers or [main]))
