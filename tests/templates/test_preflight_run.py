"""site.yml with mistakes in the inventory, for real: it stops before any host is touched.

The hosts have a connection that notes whoever opens it. One run has no mistakes: there the connection is opened, so
the others prove something.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_engine import PROJECT

TRIPWIRE = '''
DOCUMENTATION = """
name: tripwire
short_description: Notes that it was used, and fails
description: Notes that it was used, and fails.
"""
import os

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase


class Connection(ConnectionBase):
    transport = "tripwire"

    def _connect(self):
        with open(os.environ["TRIPWIRE"], "a") as touched:
            touched.write(self._play_context.remote_addr + "\\n")
        raise AnsibleConnectionFailure("touched")

    def exec_command(self, *arguments, **options):
        self._connect()

    put_file = fetch_file = exec_command

    def close(self):
        pass
'''
PASSWORD = "letmein-hunter2"
MAIN = {
    "litellm_models": [
        {"model_name": "chat", "litellm_params": {"model": "openai/gpt-4o", "api_key": "os.environ/OPENAI_API_KEY"}}
    ]
}
SECRETS = {
    "database_password": "Pq7rTn2vXw9yZb4cDf6g",
    "litellm_master_key": "sk-Hk3mNp5qRs8tVw2xYz4bCd6f",
    "litellm_salt_key": "sk-Zt8wBq3nLx6vRk1mJy5hGd9s",
    "litellm_ui_password": "Mf4kTz8pWc2xHv6b",
    "certificates_authority_passphrase": "Wd5hGk8jLm2nQp4rSt7v",
    "litellm_secrets": {"OPENAI_API_KEY": "a-real-key-1f9c27d3"},
}
HOSTS = {
    "postgresql": {"hosts": {"db1": {"ansible_host": "192.0.2.19"}}},
    "litellm": {"hosts": {"gateway1": {"ansible_host": "192.0.2.18"}}},
}

Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """An inventory without mistakes, whose hosts are tripwires."""
    (tmp_path / "connection_plugins").mkdir()
    (tmp_path / "connection_plugins" / "tripwire.py").write_text(TRIPWIRE)
    folder = tmp_path / "example"
    variables = folder / "group_vars" / "all"
    variables.mkdir(parents=True)
    hosts = {"all": {"vars": {"ansible_connection": "tripwire"}, "children": HOSTS}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    (variables / "main.yml").write_text(yaml.safe_dump(MAIN))
    (variables / "secrets.yml").write_text(yaml.safe_dump(SECRETS))
    return folder


@pytest.fixture
def touched(tmp_path: Path) -> Path:
    """The file that exists when a host was touched."""
    return tmp_path / "touched"


@pytest.fixture
def deploy(inventory: Path, touched: Path) -> Deploy:
    def deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
        playbook = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.run(
            [str(playbook), str(PROJECT / "site.yml"), f"--inventory={inventory}", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(inventory),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_CONNECTION_PLUGINS": str(inventory.parent / "connection_plugins"),
                "ANSIBLE_INVENTORY": str(inventory),
                "TRIPWIRE": str(touched),
            },
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return deploy


def test_environment_without_mistakes_goes_on_to_the_hosts(deploy: Deploy, touched: Path) -> None:
    done = deploy()
    assert "no host was touched" not in done.stdout
    assert set(touched.read_text().split()) == {"192.0.2.18", "192.0.2.19"}


def test_environment_without_secrets_stops_with_the_command_that_makes_them(
    deploy: Deploy, inventory: Path, touched: Path
) -> None:
    secrets = inventory / "group_vars" / "all" / "secrets.yml"
    secrets.unlink()
    done = deploy()
    assert done.returncode != 0
    assert f"no value in {secrets}: make one with `make secrets ENV={inventory}`" in done.stdout
    assert not touched.exists()


def test_weak_secret_stops_and_is_not_shown_in_the_most_verbose_output(
    deploy: Deploy, inventory: Path, touched: Path
) -> None:
    weak = {**SECRETS, "database_password": PASSWORD}
    (inventory / "group_vars" / "all" / "secrets.yml").write_text(yaml.safe_dump(weak))
    done = deploy("-vvv")
    assert done.returncode != 0
    assert "database_password is too short" in done.stdout
    for secret in (PASSWORD, SECRETS["litellm_master_key"], "a-real-key-1f9c27d3"):
        assert str(secret) not in done.stdout + done.stderr
    assert not touched.exists()


def test_check_mode_and_a_limit_stop_just_the_same(deploy: Deploy, inventory: Path, touched: Path) -> None:
    (inventory / "group_vars" / "all" / "main.yml").write_text(yaml.safe_dump({**MAIN, "litellm_port": 70000}))
    done = deploy("--check", "--limit=gateway1")
    assert done.returncode != 0
    assert "litellm_port is 70000" in done.stdout
    assert not touched.exists()


def test_inventory_without_hosts_stops_instead_of_doing_nothing(deploy: Deploy, inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("all: {}\n")
    done = deploy()
    assert done.returncode != 0
    assert "The inventory has no database host" in done.stdout
