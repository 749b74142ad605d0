"""Ansible's own engine without a run: render a role's template, or evaluate an expression, for a host of an inventory.

No host is contacted and nothing is written. Variables count as in a run: the role's defaults, the inventory, the wiring
in group_vars/, the role's vars/, and on top of them whatever the test gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ansible reads its configuration when it is imported: the project's, whatever directory pytest was started in.
PROJECT = Path(__file__).resolve().parents[2]
os.environ["ANSIBLE_CONFIG"] = str(PROJECT / "ansible.cfg")

from ansible._internal._templating import _template_vars  # noqa: E402
from ansible.cli import CLI  # noqa: E402
from ansible.inventory.manager import InventoryManager  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import filter_loader, init_plugin_loader  # noqa: E402
from ansible.template import Templar, trust_as_template  # noqa: E402
from ansible.vars.hostvars import HostVars  # noqa: E402
from ansible.vars.manager import VariableManager  # noqa: E402

SECRETS = {
    "database_password": "Pq7rTn2vXw9yZb4cDf6g",
    "litellm_master_key": "sk-Hk3mNp5qRs8tVw2xYz4bCd6f",
    "litellm_salt_key": "sk-Zt8wBq3nLx6vRk1mJy5hGd9s",
    "litellm_ui_password": "Mf4kTz8pWc2xHv6b",
    "certificates_authority_passphrase": "Wd5hGk8jLm2nQp4rSt7v",
}
FACTS = {
    "architecture": "x86_64",
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_release": "trixie",
    "distribution_version": "13.1",
    "memtotal_mb": 4096,
    "os_family": "Debian",
    "pkg_mgr": "apt",
    "processor_vcpus": 2,
    "python": {"version": {"major": 3, "minor": 13, "micro": 5}},
    "service_mgr": "systemd",
}


class Deployment:
    """An inventory with the project's wiring, as the roles see it.

    The inventory is the name of one in inventory/ or the path of another; `facts` are those of every host, `extra` is
    what -e would give: by default secrets, since no environment in the repository has any.
    """

    def __init__(
        self,
        inventory: str | Path = "production",
        facts: Mapping[str, Any] = FACTS,
        extra: Mapping[str, Any] = SECRETS,
    ) -> None:
        self.loader = DataLoader()
        self.loader.set_basedir(str(PROJECT))
        self.inventory = InventoryManager(self.loader, sources=[str(PROJECT / "inventory" / inventory)])
        self.manager = VariableManager(self.loader, self.inventory, version_info=CLI.version_info(gitinfo=False))
        self.manager._extra_vars = dict(extra)  # the property is one dictionary for the whole process
        HostVars(self.inventory, self.manager, self.loader)  # the manager keeps it: hostvars for templates
        for host in self.inventory.get_hosts():
            self.manager.set_host_facts(host.name, dict(facts))

    def variables(self, role: str | None, host: str, **given: Any) -> dict[str, Any]:
        """Return the variables that a task of the role would see on the host."""
        found = self.inventory.get_host(host)
        assert found is not None, f"the inventory has no host {host}"
        path = PROJECT / "roles" / str(role)
        return {
            **self._file(path / "defaults" / "main.yml"),
            **self.manager.get_vars(host=found),
            "playbook_dir": str(PROJECT),
            "role_path": str(path),
            "role_name": role,
            **self._file(path / "vars" / "main.yml"),
            **given,
        }

    def evaluate(self, expression: str, host: str, role: str | None = None, **given: Any) -> Any:
        """Return the value of an expression (without braces) on the host."""
        templar = Templar(self.loader, self.variables(role, host, **given))
        return templar.template(trust_as_template("{{ " + expression + " }}"))

    def render(self, role: str, template: str, host: str, **given: Any) -> str:
        """Return a template of the role as ansible.builtin.template would write it to the host."""
        source = PROJECT / "roles" / role / "templates" / template
        variables = self.variables(role, host, **given)
        variables.update(
            _template_vars.generate_ansible_template_vars(
                path=template, fullpath=str(source), dest_path=None, include_ansible_managed=True
            )
        )
        templar = Templar(self.loader, variables).copy_with_new_env(
            searchpath=[str(source.parent)], available_variables=variables
        )
        return str(
            templar.template(
                trust_as_template(source.read_text(encoding="utf-8")),
                escape_backslashes=False,
                overrides={"trim_blocks": True},
            )
        )

    def _file(self, path: Path) -> dict[str, Any]:
        return self.loader.load_from_file(str(path), trusted_as_template=True) or {} if path.is_file() else {}


def load_plugins() -> None:
    """Make the filters of the project and of its roles known, as a run does."""
    init_plugin_loader()
    for folder in [PROJECT / "filter_plugins", *PROJECT.glob("roles/*/filter_plugins")]:
        filter_loader.add_directory(str(folder))
