"""The Python environments on a host: from the lock files, and nothing in them that runs by itself.

A `.pth` file is run at every start of Python; that is how the malicious releases of a package that this project
depends on worked. Hashes keep such a release out, and this looks whether something came in all the same.
"""

import json
from typing import Any

import pytest

LIST = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"


@pytest.fixture(scope="module")
def environments(host: Any) -> list[str]:
    """The environments of the host, by the links that are in use."""
    found = host.check_output("find /opt/litellm -maxdepth 1 -type l -name '*venv'").split()
    assert found
    return list(found)


def test_no_file_runs_at_the_start_of_python(host: Any, environments: list[str]) -> None:
    for environment in environments:
        assert host.check_output("find -L %s/lib -name '*.pth'", environment) == ""


def test_packages_are_whole(host: Any, environments: list[str]) -> None:
    for environment in environments:
        assert "No broken requirements found" in host.check_output("%s/bin/python -m pip check", environment)


def test_proprietary_packages_are_absent(host: Any, environments: list[str]) -> None:
    for environment in environments:
        packages = json.loads(host.check_output("%s/bin/python -c %s", environment, LIST))
        assert "litellm-enterprise" not in packages


def test_prisma_and_node_are_absent(host: Any, environments: list[str]) -> None:
    """Neither the package, nor an engine that it would download, nor what runs its command line."""
    for environment in environments:
        assert "prisma" not in json.loads(host.check_output("%s/bin/python -c %s", environment, LIST))
    assert host.run("command -v node nodejs npm prisma").stdout == ""
    names = r"\( -name '*query[-_]engine*' -o -name '*schema-engine*' -o -name node_modules \) -not -name '*.py*'"
    assert host.check_output(f"find / -xdev {names} -print -quit") == ""


def test_environments_belong_to_root(host: Any, environments: list[str]) -> None:
    """The services run from them and must not be able to change them."""
    for environment in environments:
        assert host.check_output("find -L %s -not -user root -o -perm /022 -not -type l", environment) == ""
