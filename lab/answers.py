#!/usr/bin/env python3
"""Exits 0 if the host at an address answers: a refused connection is an answer, silence is none."""

import errno
import socket
import sys

PORT = 22
PATIENCE = 5.0  # seconds


def main() -> int:
    """Connect once and judge by the error number."""
    address = sys.argv[1]
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        error = probe.connect_ex((address, PORT))
    if error in (0, errno.ECONNREFUSED):
        return 0
    print(f"{address} does not answer from this machine: {errno.errorcode.get(error, error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
