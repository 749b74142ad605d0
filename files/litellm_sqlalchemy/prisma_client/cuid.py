"""``cuid()``: https://github.com/paralleldrive/cuid, version 1, as Prisma makes it."""

import itertools
import os
import secrets
import socket
import time

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BLOCK = 4
_counter = itertools.count(secrets.randbelow(len(_DIGITS) ** _BLOCK))


def _base36(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")[-width:]


def cuid() -> str:
    """A key that grows with time: ``c``, milliseconds, a counter, the process, chance."""
    host = socket.gethostname()
    fingerprint = _base36(os.getpid(), 2) + _base36(len(host) + 36 + sum(map(ord, host)), 2)
    chance = _base36(secrets.randbelow(len(_DIGITS) ** (2 * _BLOCK)), 2 * _BLOCK)
    return f"c{_base36(int(time.time() * 1000), 8)}{_base36(next(_counter), _BLOCK)}{fingerprint}{chance}"
