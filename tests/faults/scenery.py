"""What the gateway's host has to be like for a fault, changed only between faults that want different things."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from faults.gateway import GATEWAY, SHIPPER, STATE, USER, Gateway

FAKED_CLOCK = "/run/litellm-faults-clock"
"""The file from which libfaketime reads how far the clock is off."""

_FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
_INSTALL_FAKETIME = """
if [ ! -e "$1" ]; then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends libfaketime
fi
"""


@dataclass(frozen=True, slots=True)
class Scenery:
    """Workers, settings of both services, a small disk of its own for the spool, a clock that can be set."""

    workers: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    disk_megabytes: int | None = None
    clock: bool = False


DEPLOYED = Scenery()


class Scene:
    """The scenery that stands at the moment."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._standing = DEPLOYED
        self._stack = ExitStack()

    def change(self, wanted: Scenery) -> bool:
        """Restart the services in what is wanted; False where that stands already."""
        if wanted == self._standing:
            return False
        with self._gateway.stopped(), ExitStack() as building:
            self._stack.close()
            self._standing = DEPLOYED
            building.enter_context(_settings(self._gateway, wanted))
            if wanted.disk_megabytes:
                building.enter_context(_small_disk(self._gateway, wanted.disk_megabytes))
            self._stack = building.pop_all()
            self._standing = wanted
        return True


@contextmanager
def _settings(gateway: Gateway, wanted: Scenery) -> Iterator[None]:
    environment = dict(wanted.settings)
    lines = ""
    if wanted.clock:
        gateway.run(_INSTALL_FAKETIME, _FAKETIME, patience=180)
        gateway.run('echo +0 >"$1"; chmod 0644 "$1"', FAKED_CLOCK)
        # Who sets the clock of a machine does not touch its monotonic one.
        environment |= {
            "LD_PRELOAD": _FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": FAKED_CLOCK,
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its mending of waits that some C libraries get wrong makes Python's threads spin.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
    with ExitStack() as stack:
        if environment:
            stack.enter_context(gateway.drop_in("scenery", environment, services=[SHIPPER]))
        if wanted.workers:
            command = gateway.exec_start().rsplit("--num_workers", 1)[0] + f"--num_workers {wanted.workers}"
            lines = f"ExecStart=\nExecStart={command}\n"
        if environment or lines:
            stack.enter_context(gateway.drop_in("gateway", environment, service=lines, services=[GATEWAY]))
        yield


@contextmanager
def _small_disk(gateway: Gateway, megabytes: int) -> Iterator[None]:
    options = f"size={megabytes}m,mode=0750,uid=$(id -u {USER}),gid=$(id -g {USER})"
    gateway.run(f'mount -t tmpfs -o "{options}" tmpfs "$1"', STATE)
    try:
        yield
    finally:
        gateway.run('umount "$1"', STATE)
