"""Whether the lab's hosts are still there: the address of one that is gone may be somebody else's."""

import threading
from collections.abc import Callable

from faults.machine import CommandError, Machine


class Presence:
    """Notices at once when a host is gone, and takes nothing of it while it is there."""

    def __init__(self, machine: Machine, when_gone: Callable[[str], None]) -> None:
        """``when_gone`` is called from a thread, with the name of the host."""
        self._name = machine.container
        self._when_gone = when_gone
        self._closing = False
        self._held = machine.hold()
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def close(self) -> None:
        """Look no more."""
        self._closing = True
        self._held.close()
        self._waiter.join(timeout=10)

    def _wait(self) -> None:
        try:
            self._held.hear()
        except CommandError:
            if not self._closing:
                self._when_gone(self._name)
