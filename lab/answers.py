#!/usr/bin/env python3
"""Exits 0 if the host at an address answers: a refused connection is an answer, silence is none.

Before that, it sees that this machine is in the lab's network itself: without a route to it, calls and their keys would
leave by the default route, and whoever is there may well answer.
"""

import errno
import ipaddress
import socket
import sys

PORT = 22
PATIENCE = 5.0  # seconds


def main() -> int:
    """Look at the route, connect once and judge by the error number."""
    address, subnet = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((address, PORT))  # sends nothing
        own = route.getsockname()[0]
    if ipaddress.ip_address(own) not in ipaddress.ip_network(subnet):
        print(f"{address} would be reached from {own}, which is not in the lab's network {subnet}", file=sys.stderr)
        return 1
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        error = probe.connect_ex((address, PORT))
    if error in (0, errno.ECONNREFUSED):
        return 0
    print(f"{address} does not answer from this machine: {errno.errorcode.get(error, error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
