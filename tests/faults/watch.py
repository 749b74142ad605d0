"""How full the spool is, seen four times a second for as long as a fault takes."""

import json
import threading
import time
from dataclasses import dataclass

from faults.gateway import SPOOL, USER, Gateway
from faults.machine import CommandError

_EMPTY_FOR = 1.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the epoch, how many exchanges wait (None: unreadable), the oldest one's moment."""

    at: float
    waiting: int | None
    oldest: int | None


class SpoolWatch:
    """Looks at the spool from a process of its own on the gateway, independently of the shipper."""

    def __init__(self, gateway: Gateway) -> None:
        self._samples: list[Sample] = []
        self._closing = False
        self._ended = False
        self._watcher = gateway.talk("spool_watch.py", SPOOL, user=USER)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Look no more."""
        self._closing = True
        self._watcher.close()
        self._reader.join(timeout=10)

    def wait_until_empty(self, patience: float) -> bool:
        """Wait until nothing has been waiting for a while; False where that does not come about."""
        deadline = time.monotonic() + patience
        since = time.time()
        while time.monotonic() < deadline:
            if self._ended:
                raise CommandError("nobody looks at the spool any more")
            recent = [sample for sample in self._samples if sample.at >= since]
            # The last stretch in which nothing waited
            start = next((n for n in range(len(recent), 0, -1) if recent[n - 1].waiting != 0), 0)
            empty = recent[start:]
            if empty and empty[-1].at - empty[0].at >= _EMPTY_FOR:
                return True
            time.sleep(0.2)
        return False

    def recovered_at(self, over: float) -> float | None:
        """When nothing was left in the spool of what had come in before a moment."""
        for sample in self._samples:
            if sample.at < over or sample.waiting is None:
                continue
            if sample.waiting == 0 or (sample.oldest or 0) >= over * 1_000_000:
                return sample.at
        return None

    def most_waiting(self) -> int:
        """The most exchanges that waited at once."""
        return max((sample.waiting or 0 for sample in self._samples), default=0)

    def _read(self) -> None:
        while True:
            try:
                seen = json.loads(self._watcher.hear())
            except (CommandError, ValueError):  # it has ended, in the middle of a line perhaps
                self._ended = not self._closing
                return
            self._samples.append(Sample(seen["at"], seen["waiting"], seen["oldest"]))
