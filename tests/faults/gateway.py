"""The gateway's host: its two services, its spool, and drop-ins that last for a fault."""

import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import httpx

from faults.machine import CommandError, Machine

GATEWAY = "litellm-gateway"
SHIPPER = "litellm-shipper"
BOTH = (GATEWAY, SHIPPER)
STATE = "/var/lib/litellm"
SPOOL = f"{STATE}/spool.sqlite3"
USER = "litellm"
BOOT_PATIENCE = 240.0
"""Seconds for a gateway to start; about ten on a machine that has nothing else to do."""

_INSTALL = """
name=$1; shift
text=$(cat)
for folder; do mkdir -p "$folder"; printf '%s\n' "$text" >"$folder/$name"; done
systemctl daemon-reload
"""
_REMOVE = """
name=$1 file=$2; shift 2
for folder; do rm -f "$folder/$name"; done
rm -f "$file"
systemctl daemon-reload
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What `litellm-db ledger` prints."""

    accepted: int
    stored: int
    spooled: int
    set_aside: int
    dropped: int
    interrupted: int
    unlogged_refusals: int
    balanced: bool


class Gateway(Machine):
    """A machine of the group litellm."""

    def __init__(self, podman: str, container: str, address: str, url: str, tls: ssl.SSLContext | bool) -> None:
        super().__init__(podman, container, address)
        self._client = httpx.Client(base_url=url, verify=tls, trust_env=False, timeout=5)

    def ledger(self) -> Ledger:
        """The balance, as the operator's command sees it; it exits 1 where the balance is off."""
        printed = json.loads(self.run("litellm-db ledger || [ $? -eq 1 ]"))
        return Ledger(**{name: printed[name] for name in Ledger.__slots__})

    def set_aside(self) -> dict[str, str]:
        """The request ids that were set aside, with the reasons."""
        lines = (line.split("\t") for line in self.run("litellm-db set-aside").splitlines())
        return {parts[1]: parts[2] for parts in lines if len(parts) == 3}

    def main_process(self, service: str = GATEWAY) -> int:
        """The process id of a service, 0 where it does not run."""
        return int(self.run('systemctl show --property=MainPID --value "$1"', service))

    def workers(self) -> list[int]:
        """The process ids of the gateway's workers."""
        return [int(line) for line in self.probe("workers.py", str(self.main_process())).split()]

    def wait_until_ready(self, *, other_than: int = 0) -> None:
        """Wait until the gateway answers, and is not the process of before."""
        deadline = time.monotonic() + BOOT_PATIENCE
        # The process first: where the host is gone, nothing is sent to its address.
        while self.main_process() in (0, other_than) or not self._answers():
            if time.monotonic() > deadline:
                raise CommandError(f"the gateway does not answer {BOOT_PATIENCE:.0f} s after its start")
            time.sleep(0.3)

    def wait_until_shipping(self) -> None:
        """Wait until the shipper runs."""
        deadline = time.monotonic() + BOOT_PATIENCE
        while self.run('systemctl is-active "$1" || [ $? -eq 3 ]', SHIPPER) != "active":
            if time.monotonic() > deadline:
                raise CommandError("the shipper does not run")
            time.sleep(0.2)

    def stop(self, services: Sequence[str] = BOTH) -> None:
        """Stop services."""
        self.run('systemctl stop "$@"', *services, patience=BOOT_PATIENCE)

    def start(self, services: Sequence[str] = BOTH) -> None:
        """Start services and wait until they are at work."""
        self.run('systemctl start "$@"', *services)
        if SHIPPER in services:
            self.wait_until_shipping()
        if GATEWAY in services:
            self.wait_until_ready()

    @contextmanager
    def stopped(self, services: Sequence[str] = BOTH) -> Iterator[None]:
        """Services are stopped within the block, whose changes they find when they start again."""
        self.stop(services)
        try:
            yield
        finally:
            self.start(services)

    @contextmanager
    def drop_in(
        self, name: str, environment: Mapping[str, str], service: str = "", services: Sequence[str] = BOTH
    ) -> Iterator[None]:
        """Further environment and lines of [Service] for units within the block; the caller restarts them.

        An EnvironmentFile= of ours, since those of the units win over any Environment=.
        """
        file = f"/run/litellm-faults-{name}.env"
        lines = "".join(f'{key}="{value}"\n' for key, value in environment.items())
        self.run('umask 077; cat >"$1"; chown "$2" "$1"', file, USER, data=lines)
        unit = f"[Service]\nEnvironmentFile={file}\n{service}"
        folders = [f"/run/systemd/system/{one}.service.d" for one in services]
        self.run(_INSTALL, f"faults-{name}.conf", *folders, data=unit)
        try:
            yield
        finally:
            self.run(_REMOVE, f"faults-{name}.conf", file, *folders)

    def journal(self, since: float, service: str) -> str:
        """What a service has said since a moment, in seconds since the epoch."""
        return self.run('journalctl --unit="$1" --since="@$2" --no-pager --output=cat', service, f"{since:.0f}")

    def exec_start(self) -> str:
        """The command of the gateway's unit, as its file has it."""
        return self.run("sed -n 's/^ExecStart=//p' \"$1\"", f"/etc/systemd/system/{GATEWAY}.service")

    def _answers(self) -> bool:
        try:
            return self._client.get("/health/readiness").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def beside_spool(name: str) -> str:
    """The path of a file next to the spool."""
    return str(PurePosixPath(STATE) / name)
