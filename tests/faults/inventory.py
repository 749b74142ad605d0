"""What the harness has to know of an inventory: the hosts of a lab, and how clients reach the gateway."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("litellm", "postgresql", "upstream")
LAB_CONNECTIONS = ("lab_host", "containers.podman.podman")
UPSTREAM_PORT = 8080


class UnfitInventoryError(Exception):
    """The inventory is not one whose hosts may be broken."""


@dataclass(frozen=True, slots=True)
class Lab:
    """The first host of each group, as the container it runs in, and what clients and operators use."""

    podman: str
    containers: Mapping[str, str]
    addresses: Mapping[str, str]
    gateway_url: str
    upstream_url: str
    master_key: str
    database: str
    database_user: str
    database_port: int
    gateway_tls: ssl.SSLContext | bool = True


def read(path: Path) -> Lab:
    """Read an inventory with the repository's group_vars."""
    loader = DataLoader()
    loader.set_basedir(str(ROOT))
    manager = InventoryManager(loader=loader, sources=[str(path)])
    variables = VariableManager(loader=loader, inventory=manager)

    def value(group: str, name: str, default: Any = None) -> Any:
        found = variables.get_vars(host=manager.get_hosts(group)[0], include_hostvars=True)
        return Templar(loader=loader, variables=found).template(found[name]) if name in found else default

    for group in GROUPS:
        if not manager.get_hosts(group):
            raise UnfitInventoryError(f"{path} has no host in the group {group}: faults are for the lab only")
        if value(group, "ansible_connection") not in LAB_CONNECTIONS:
            raise UnfitInventoryError(f"{path}: the hosts of {group} are no lab hosts; faults kill services, lab only")
    addresses = {group: str(value(group, "address")) for group in GROUPS}
    return Lab(
        podman=str(value("litellm", "ansible_podman_executable", "podman")),
        containers={group: str(value(group, "ansible_host")) for group in GROUPS},
        addresses=addresses,
        gateway_url=str(value("litellm", "gateway_url")),
        gateway_tls=(
            ssl.create_default_context(cafile=value("litellm", "gateway_ca"))
            if value("litellm", "gateway_tls")
            else True
        ),
        upstream_url=f"http://{addresses['upstream']}:{UPSTREAM_PORT}",
        master_key=str(value("litellm", "litellm_master_key")),
        database=str(value("postgresql", "database_name")),
        database_user=str(value("postgresql", "database_user")),
        database_port=int(value("postgresql", "postgresql_port", 5432)),
    )
