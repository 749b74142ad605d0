"""The hosts of an inventory, entered as Ansible enters them: what the benchmark runs there, and with what."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[1]
DIRECTORY = "/run/litellm-bench"
PROBE = f"{DIRECTORY}/probe"
"""Holds the process of the probe that is at work on the gateway, or was last."""
WATCH = f"{DIRECTORY}/watch"
LONGEST_SECONDS = 3 * 3600
PATIENCE = 120.0
"""Seconds that a command may take, unless its caller says otherwise."""

PROBES = (*sorted((ROOT / "bench/probes").glob("*.py")), ROOT / "scripts/evidence/probes/overhead.py")


class HostError(Exception):
    """A host cannot be entered, or a command on it failed."""


class Inventory:
    """An Ansible inventory with the repository's group_vars."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise HostError(f"there is no inventory {path}")
        init_plugin_loader()
        loader = DataLoader()
        loader.set_basedir(str(ROOT))
        self._path = path
        self._manager = InventoryManager(loader=loader, sources=[str(path)])
        self._variables = VariableManager(loader=loader, inventory=self._manager)
        self._loader = loader

    def names(self, group: str) -> list[str]:
        """The hosts of a group."""
        return [host.name for host in self._manager.get_hosts(group)]

    def first(self, group: str) -> str:
        """The first host of a group, which has to have one."""
        names = self.names(group)
        if not names:
            raise HostError(f"{self._path} has no host in the group {group}")
        return names[0]

    def value(self, host: str, name: str, default: Any = None) -> Any:
        """A variable as a play would see it; facts and role defaults are not known here."""
        variables = self._variables.get_vars(host=self._manager.get_host(host), include_hostvars=True)
        if name not in variables:
            return default
        return Templar(loader=self._loader, variables=variables).template(variables[name])

    def connect(self, host: str) -> Host:
        """A connection to a host, as Ansible makes it."""
        variables = self._variables.get_vars(host=self._manager.get_host(host), include_hostvars=True)
        options = {name: self.value(host, name) for name in variables if name.startswith("ansible_")}
        context = PlayContext()
        context.remote_addr = str(options.get("ansible_host", host))
        plugin = str(options.get("ansible_connection", "ssh"))
        connection = connection_loader.get(plugin, context, "/dev/null")
        if connection is None:
            raise HostError(f"{host}: Ansible has no connection named {plugin}")
        connection.set_options(var_options={**options, "inventory_hostname": host})
        return Host(host, connection)


@dataclass(frozen=True, slots=True)
class Host:
    """A host on which commands run as root."""

    name: str
    connection: Any

    def run(self, script: str, *arguments: str, data: bytes = b"", patience: float = PATIENCE) -> str:
        """Run a shell script with $1 … as arguments; what it prints. HostError where it fails."""
        limit = ["timeout", "--kill-after=10", f"{patience:.0f}"]
        command = [*limit, "sh", "-euc", script, "sh", *arguments]
        as_root = (
            f'if [ "$(id -u)" -eq 0 ]; then exec {shlex.join(command)}; else exec sudo -n {shlex.join(command)}; fi'
        )
        code, out, error = self.connection.exec_command(as_root, in_data=data, sudoable=False)
        if code != 0:
            said = bytes(error).decode(errors="replace").strip()[-1500:]
            raise HostError(f"{self.name}: {' '.join(arguments) or script}: exit {code}: {said}")
        return bytes(out).decode().strip()

    def install(self) -> None:
        """Put the scripts of this benchmark there."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for probe in PROBES:
                archive.add(probe, arcname=probe.name, filter=owned_by_root)
        unpack = f"rm -rf {DIRECTORY}; install -d -m 0755 {DIRECTORY}; tar -x -f - -C {DIRECTORY}"
        self.run(unpack, data=packed.getvalue())

    def remove(self) -> None:
        """Take them away."""
        self.run(f"rm -rf {DIRECTORY}")


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of the archive that everybody on the host may read and nobody change."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


class Watch:
    """Notices when a host is gone, and takes nothing of it meanwhile: its address may then be somebody else's."""

    def __init__(self, host: Host, when_gone: Callable[[str], None]) -> None:
        """``host``: by a connection of its own; ``when_gone`` is called from a thread, with the host's name."""
        self._host = host
        self._when_gone = when_gone
        self._closing = False
        threading.Thread(target=self._wait, daemon=True).start()

    def close(self, host: Host) -> None:
        """Look no more; ``host``: the same one, by another connection."""
        self._closing = True
        host.run(f'if [ -e {WATCH} ]; then kill "$(cat {WATCH})"; rm {WATCH}; fi')

    def _wait(self) -> None:
        with suppress(HostError, AnsibleError):
            self._host.run(f"echo $$ >{WATCH}; exec sleep {LONGEST_SECONDS}", patience=LONGEST_SECONDS)
        if not self._closing:
            self._when_gone(self._host.name)


class Gateway:
    """The gateway's host, as far as the benchmark needs it."""

    PYTHON = "/opt/litellm/venv/bin/python"

    def __init__(self, host: Host) -> None:
        self.host = host
        self.is_silent = False

    def as_root(self, probe: str, *arguments: str, patience: float = PATIENCE) -> Any:
        """Run a probe as root with the environment of the gateway; its JSON."""
        return self._probe("", probe, arguments, patience)

    def as_service(self, probe: str, *arguments: str, patience: float = PATIENCE) -> Any:
        """Run a probe as the user of the service, with the spool and the schema of the benchmark; its JSON."""
        return self._probe("runuser -u litellm --", probe, arguments, patience)

    def _probe(self, user: str, probe: str, arguments: tuple[str, ...], patience: float) -> Any:
        if self.is_silent:
            raise HostError(f"{self.host.name}: {probe} is not started: another host is gone")
        script = (
            "set -a; . /etc/litellm/settings.env; . /etc/litellm/litellm.env;"
            f" if [ -e {DIRECTORY}/environment ]; then . {DIRECTORY}/environment; fi; set +a; cd {DIRECTORY};"
            f" export PYTHONDONTWRITEBYTECODE=1; probe=$1; shift; echo $$ >{PROBE};"
            f' exec {user} {self.PYTHON} "$probe" "$@"'
        )
        printed = self.host.run(script, f"{DIRECTORY}/{probe}", *arguments, patience=patience)
        return json.loads(printed) if printed else None

    def fall_silent(self, host: Host) -> None:
        """End the probe at work, the gateways and the shipper: nothing is to be sent to another host any more.

        ``host``: this one, by another connection.
        """
        self.is_silent = True
        # The probe may have ended by itself meanwhile.
        host.run(f'if [ -e {PROBE} ]; then kill "$(cat {PROBE})" || true; fi; systemctl stop "litellm-bench-*"')


class Database:
    """The database host, as far as the benchmark needs it."""

    PYTHON = "/opt/litellm/schema-venv/bin/python"

    def __init__(self, host: Host, url: str, service: str) -> None:
        self.host = host
        self._url = url
        self.service = service

    def tables(self, *arguments: str, patience: float = PATIENCE) -> Any:
        """Run the probe tables.py as postgres; its JSON."""
        script = (
            f'cd {DIRECTORY}; export LITELLM_DB_URL="$1" PYTHONPATH=/opt/litellm/lib PYTHONDONTWRITEBYTECODE=1; shift;'
            f' exec runuser -u postgres -- {self.PYTHON} {DIRECTORY}/tables.py "$@"'
        )
        return json.loads(self.host.run(script, self._url, *arguments, patience=patience))

    def stop(self, seconds: int) -> None:
        """Stop PostgreSQL; it starts again after that many seconds, whatever becomes of this process."""
        self.host.run(
            'unit=$(pg_lsclusters --no-header | awk \'{ print "postgresql@" $1 "-" $2 ".service"; exit }\');'
            " systemctl stop litellm-bench-restart.timer 2>/dev/null || [ $? -eq 5 ];"  # 5: there is none
            ' systemd-run --quiet --unit=litellm-bench-restart --on-active="$1" systemctl start "$unit";'
            ' systemctl stop "$unit"',
            str(seconds),
        )

    def start(self) -> None:
        """Start PostgreSQL, if it does not run, and wait until it answers."""
        self.host.run(
            'unit=$(pg_lsclusters --no-header | awk \'{ print "postgresql@" $1 "-" $2 ".service"; exit }\');'
            ' systemctl start "$unit"; systemctl stop litellm-bench-restart.timer 2>/dev/null || [ $? -eq 5 ];'
            " until runuser -u postgres -- pg_isready --quiet; do sleep 0.2; done"
        )
